import re

import pytest
from PIL import Image

import train
from extras import seeds
from tests.conftest import TINY, one_line


@pytest.mark.slow
def test_mean_and_deviation_over_seeds(small_folder, capsys):
    assert seeds.main(["--repeats", "2", "--data", str(small_folder), *TINY, "--epochs", "1"]) == 0
    row = capsys.readouterr().out.splitlines()[-1]
    assert re.search(r"filters \[4, 8\] \| 498 \| 2 \| \d+\.\d\d ± \d+\.\d\d \| \d+\.\d\d ± \d+\.\d\d \| \d+", row)


def test_sizes(workplace, monkeypatch, capsys):
    (workplace / "docs").mkdir()
    description = {"accuracy": {"validation": None, "test": 0.99}, "seconds": 1.0, "classes": list("0123456789")}
    used = []
    monkeypatch.setattr(train, "train", lambda s: used.append(s) or description | {"settings": s.recorded()})
    assert seeds.main(["--sizes", "--repeats", "2", "--data", "handwriting"]) == 0
    assert [(s.seed, s.filters) for s in used] == [(seed, filters) for filters in seeds.SIZES for seed in (0, 1)]
    assert "filters [32, 64, 128] | 94,538 | 2 | – | 99.00 ± 0.00 | 1.00 ± 0.00 |" in capsys.readouterr().out
    assert Image.open("docs/sizes.png").width > 500


@pytest.mark.parametrize("flags", ["--seed 5", "--model a.keras", "--resume", "--filters 8 --sizes", "--epoch-count"])
def test_flags_that_cannot_be_used(flags, capsys):
    with pytest.raises(SystemExit) as error:
        seeds.main(flags.split())
    one_line(capsys, error.value.code, flags.split()[0])
