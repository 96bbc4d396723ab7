"""Train with several seeds: which accuracy do settings of train.py give?

    python -m extras.accuracy                                        # plain train.py, mean of 3 seeds
    python -m extras.accuracy --repeats 5 --epochs 2                 # with flags of train.py
    python -m extras.accuracy --sizes --epochs 10                    # networks of 4,938 to 94,538 parameters
                                                                     # docs/sizes.png

Prints the machine, the versions and a Markdown table; ± is the standard deviation over the seeds 0, 1, 2, ...
"""

import json
import statistics
import sys
import tempfile
from pathlib import Path

import train
from digits.cli import Parser, import_tensorflow, number, run
from extras.bench import machine, print_row

FIGURE = Path("docs/sizes.png")
SIZES = ("7,14,28", "11,22,44", "16,32,64", "22,44,88", "27,54,108", "32,64,128")  # filters, in the shape of cnn
COLUMNS = ("n", "validation, %", "test, %", "training, s")


def work(args, flags):
    print(machine(), flush=True)
    if args.sizes:
        return sizes(args, flags)
    scores = trained(flags, args.repeats)
    print_row("train.py", *COLUMNS)
    print_row(*["---"] * 5)
    print_row(f"`{' '.join(['train.py', *flags])}`", *cells_of(scores))


def trained(flags, repeats):
    """The .json that train.py leaves, for the seeds 0 … repeats - 1."""
    scores = []
    with tempfile.TemporaryDirectory() as folder:
        for seed in range(repeats):
            model = Path(folder) / "model.keras"
            status = train.main([*flags, f"--seed={seed}", f"--model={model}"])
            if status:
                raise SystemExit(status)
            scores.append(json.loads(model.with_suffix(".json").read_text()))
    return scores


def cells_of(scores):
    cells = [len(scores)]
    for split in ("validation", "test"):
        accuracies = [score["accuracy"][split] for score in scores]
        cells.append("–" if None in accuracies else spread([100 * accuracy for accuracy in accuracies]))
    return *cells, spread([score["seconds"] for score in scores])


def spread(values):
    """Mean ± standard deviation."""
    return f"{statistics.mean(values):.2f}" + (f" ± {statistics.stdev(values):.2f}" if len(values) > 1 else "")


def sizes(args, flags):
    """Train networks of several sizes, each with several seeds; draw FIGURE."""
    import_tensorflow()
    from matplotlib import pyplot as plt

    from digits import model, plots

    rows, figure = [], plt.figure(figsize=(7, 4), layout="constrained")
    axis = figure.subplots()
    for filters in SIZES:
        scores = trained([*flags, f"--filters={filters}"], args.repeats)
        counts, classes = scores[0]["settings"]["filters"], len(scores[0]["classes"])
        parameters = model.build("cnn", classes, filters=counts).count_params()
        errors = [100 * (1 - score["accuracy"]["test"]) for score in scores]
        rows.append((f"`--filters {filters}`", f"{parameters:,}", *cells_of(scores)))
        axis.plot([parameters] * len(errors), errors, "o", color="tab:blue", alpha=0.35)
        axis.plot(parameters, statistics.mean(errors), "_", color="tab:orange", markersize=24, markeredgewidth=3)
        axis.annotate(f"{100 - statistics.mean(errors):.2f}%", (parameters, max(errors)), (0, 8),
                      textcoords="offset points", ha="center")  # fmt: skip
    axis.set(xscale="log", yscale="log", xlabel="parameters", ylabel="test error, %",
             title="Accuracy by size: each seed, and their mean")  # fmt: skip
    plots.label_plainly(axis.xaxis)
    plots.label_plainly(axis.yaxis)
    axis.margins(0.08, 0.2)
    axis.grid(alpha=0.3)
    for row in (("cnn with", "parameters", *COLUMNS), ["---"] * 6, *rows):
        print_row(*row)
    plots.save(figure, FIGURE)


def main(argv=None):
    parser = Parser(__doc__)
    parser.add_argument("--repeats", type=number(int, 1, 100), default=3, help="seeds (default: %(default)s)")
    parser.add_argument("--sizes", action="store_true", help=f"cnn in several sizes, with the figure {FIGURE}")
    args, flags = parser.parse_known_args(argv)
    of_train = train.parse_args(flags)  # a flag that train.py does not know ends it here
    own = {"seed": train.SEED, "model": train.MODEL, "resume": False, "cluster": None}
    for name, usual in (own | ({"filters": train.FILTERS} if args.sizes else {})).items():
        if getattr(of_train, name) != usual:
            parser.error(f"--{name}: is not for this script, which trains several networks from the start")
    if args.sizes and of_train.no_test:
        parser.error("--sizes: its figure is of test errors; leave --no-test out")
    return run(work, args, flags)


if __name__ == "__main__":
    sys.exit(main())
