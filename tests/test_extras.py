import re

from PIL import Image

from extras import bench, samples


def test_samples_are_drawn(workplace):
    (workplace / "docs").mkdir()
    samples.main()
    pictures = sorted((workplace / "samples").iterdir())
    assert all(sum(path.name[0] == str(digit) for path in pictures) >= 2 for digit in range(10))
    assert len({Image.open(path).size for path in pictures}) >= 4
    assert Image.open(workplace / "docs" / "drawn.png").size == (840, 280)


def test_bench_accuracy(drawn_folder, capsys):
    flags = ["--data", str(drawn_folder), "--epochs", "1", "--repeats", "2", "--network", "dense64"]
    assert bench.main(["accuracy", *flags]) == 0
    row = capsys.readouterr().out.splitlines()[-1]
    assert re.match(r"\| dense64 \| 1 \| 2 \| \d+\.\d\d ± \d+\.\d\d \| \d+", row)


def test_bench_epoch(drawn_folder, capsys):
    assert bench.main(["epoch", "--data", str(drawn_folder), "--repeats", "1", "--precision", "float32"]) == 0
    assert capsys.readouterr().out.splitlines()[-1].startswith("| float32 | 1 | ")
