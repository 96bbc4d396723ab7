"""Train with several seeds and print the mean accuracy of these settings of train.py.

    python -m extras.seeds                           # plain train.py, mean of 3 seeds
    python -m extras.seeds --repeats 5 --epochs 2    # with flags of train.py
    python -m extras.seeds --sizes --epochs 10       # networks of 4,938 to 94,538 parameters, docs/sizes.png

Prints the machine, the versions and a Markdown table; ± is the standard deviation over the seeds 0, 1, 2, ...
"""

import statistics
import sys
import tempfile
from pathlib import Path

import train
from digits import model, plots
from digits.cli import Parser, flag, number, run
from digits.data import sources
from extras.bench import machine, print_row

FIGURE = Path("docs/sizes.png")
SIZES = ([7, 14, 28], [11, 22, 44], [16, 32, 64], [22, 44, 88], [27, 54, 108], [32, 64, 128])  # filters of cnn


def mean_and_deviation(values, scale=1):
    if None in values:  # no images to validate or to test
        return "–"
    deviation = f" ± {scale * statistics.stdev(values):.2f}" if len(values) > 1 else ""
    return f"{scale * statistics.mean(values):.2f}{deviation}"


def measure(flags, repeats, sizes):
    flags = flags | {"data": sources.make_available(train.Settings(**flags).data)}  # a wrong flag is reported first
    print(machine(), flush=True)
    variants = [flags | {"filters": filters} for filters in SIZES] if sizes else [flags]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.keras"
        runs = [
            [train.train(train.Settings(**variant, seed=seed, model=path)) for seed in range(repeats)]
            for variant in variants
        ]
    print_row("settings", "parameters", "n", "validation, %", "test, %", "training, s")
    print_row(*["---"] * 6)
    errors = {}
    for variant, descriptions in zip(variants, runs, strict=True):
        s, classes = train.Settings(**variant), descriptions[0]["classes"]
        parameters = model.build(s.network, len(classes), filters=s.filters, kernel_size=s.kernel_size).count_params()
        validation, test = ([one["accuracy"][split] for one in descriptions] for split in ("validation", "test"))
        seconds = mean_and_deviation([one["seconds"] for one in descriptions])
        scores = mean_and_deviation(validation, 100), mean_and_deviation(test, 100)
        settings = ", ".join(f"{name} {value}" for name, value in variant.items())
        print_row(settings, f"{parameters:,}", repeats, *scores, seconds)
        if sizes:
            errors[parameters] = [100 - 100 * accuracy for accuracy in test]
    if sizes:
        plots.save(plots.sizes(errors), FIGURE)


def main(argv=None):
    parser = Parser(__doc__, train.Settings)
    parser.add_argument(
        "--repeats", type=number(int, least=1, most=100), default=3, help="how many seeds are trained (default: 3)"
    )
    parser.add_argument("--sizes", action="store_true", help=f"train cnn in several sizes, and draw {FIGURE}")
    flags = vars(parser.parse_args(argv))
    repeats, sizes = flags.pop("repeats"), flags.pop("sizes")
    for name in ("seed", "model", "resume", *["network", "filters", "no_test"] * sizes):
        if name in flags:
            parser.error(f"{flag(name)}: cannot be given with {'--sizes' if sizes else 'several seeds'}; leave it out")
    return run(measure, flags, repeats, sizes)


if __name__ == "__main__":
    sys.exit(main())
