"""Train with several seeds: which accuracy do settings of train.py give?

    python -m extras.seeds                           # plain train.py, mean of 3 seeds
    python -m extras.seeds --repeats 5 --epochs 2    # with flags of train.py
    python -m extras.seeds --sizes --epochs 10       # networks of 4,938 to 94,538 parameters, docs/sizes.png

Prints the machine, the versions and a Markdown table; ± is the standard deviation over the seeds 0, 1, 2, ...
"""

import dataclasses
import statistics
import sys
import tempfile
from pathlib import Path

import train
from digits import model
from digits.cli import Parser, UsageError, number, option, run
from digits.data import sources
from extras.bench import machine, print_row

FIGURE = Path("docs/sizes.png")
SIZES = ([7, 14, 28], [11, 22, 44], [16, 32, 64], [22, 44, 88], [27, 54, 108], [32, 64, 128])  # filters of cnn
COLUMNS = ("n", "validation, %", "test, %", "training, s")


@dataclasses.dataclass
class Settings(train.Settings):
    """Those of train.py, and two of its own."""

    repeats: int = option(3, "number of seeds", number(int, least=1, most=100), recorded=False)
    sizes: bool = option(False, f"cnn in several sizes, with the figure {FIGURE}", recorded=False)

    def __post_init__(self):
        for name in ("seed", "model", "resume", *["filters"] * self.sizes):
            if getattr(self, name):
                raise UsageError(f"--{name}: does not apply here, where several networks are trained from the start")
        if self.sizes and self.no_test:
            raise UsageError("--sizes: its figure is of test errors; leave --no-test out")
        super().__post_init__()


def train_seeds(settings, **changes):
    """The descriptions of the models that train.py makes with the seeds 0 … repeats - 1."""
    descriptions = []
    with tempfile.TemporaryDirectory() as folder:
        for seed in range(settings.repeats):
            own = {field.name: getattr(settings, field.name) for field in dataclasses.fields(train.Settings)}
            own |= {"seed": seed, "model": Path(folder) / "model.keras"} | changes
            descriptions.append(train.train(train.Settings(**own)))
    return descriptions


def cells(descriptions):
    scores = [[one["accuracy"][split] for one in descriptions] for split in ("validation", "test")]
    accuracies = ["–" if None in split else mean_and_deviation([100 * one for one in split]) for split in scores]
    return len(descriptions), *accuracies, mean_and_deviation([one["seconds"] for one in descriptions])


def mean_and_deviation(values):
    return f"{statistics.mean(values):.2f}" + (f" ± {statistics.stdev(values):.2f}" if len(values) > 1 else "")


def measure(settings):
    print(machine(), flush=True)
    settings.data = sources.make_available(settings.data)
    if settings.sizes:
        return measure_sizes(settings)
    descriptions = train_seeds(settings)
    flags = " ".join(sys.argv[1:])
    print_row("train.py", *COLUMNS)
    print_row(*["---"] * 5)
    print_row(f"`train.py {flags}`", *cells(descriptions))


def measure_sizes(settings):
    """Train networks of several sizes; print their table and draw FIGURE."""
    rows, errors = [], {}
    for filters in SIZES:
        descriptions = train_seeds(settings, filters=filters)
        parameters = model.build("cnn", len(descriptions[0]["classes"]), filters=filters).count_params()
        errors[parameters] = [100 * (1 - one["accuracy"]["test"]) for one in descriptions]
        rows.append((f"`--filters {','.join(map(str, filters))}`", f"{parameters:,}", *cells(descriptions)))
    for row in (("cnn with", "parameters", *COLUMNS), ["---"] * 6, *rows):
        print_row(*row)
    from digits import plots

    plots.save(plots.sizes(errors), FIGURE)


def main(argv=None):
    return run(measure, Parser(__doc__, Settings).settings(argv))


if __name__ == "__main__":
    sys.exit(main())
