"""Give the scripts and the service bad input, and kill them at work: is anything lost, or said badly?

    python -m extras.hostile                        # 120 bad inputs and 50 kills, about 15 minutes
    python -m extras.hostile --inputs 300 --kills 0 --seed 1

A bad input must end within 5 seconds with one line and status 2 (an HTTP request with a 4xx status and a reason), and
change none of the files that were there. After kill -9, all files must be whole; rerun, the same command must end with
exactly the weights, images or results of a run that was not killed, and leave no temporary files.
"""

import dataclasses
import sys

import numpy as np

from digits.cli import Parser, number, option, run
from extras.hostile import inputs, kills, requests

REQUESTS = 0.3  # share of HTTP requests in the bad inputs


@dataclasses.dataclass
class Settings:
    """Each setting is also a flag."""

    inputs: int = option(120, "bad inputs to try", number(int, least=0, most=100_000))
    kills: int = option(50, "programs to kill", number(int, least=0, most=100_000))
    seed: int = option(
        0, "of all random numbers: the same inputs and kills again", number(int, least=0, most=2**31 - 1)
    )


def measure(settings):
    requested = round(REQUESTS * settings.inputs)
    parts = {"bad inputs": {inputs: settings.inputs - requested, requests: requested}, "kills": {kills: settings.kills}}
    faults = 0
    for name, counts in parts.items():
        rng, count = np.random.default_rng(settings.seed), sum(counts.values())
        failed = sum(part.try_out(number, rng) for part, number in counts.items() if number)
        faults += failed
        if count:
            print(f"{name}: {count}, of which {count - failed} were handled as they should be", flush=True)
    return 1 if faults else 0


def main(argv=None):
    return run(measure, Parser(__doc__, Settings).settings(argv))


if __name__ == "__main__":
    sys.exit(main())
