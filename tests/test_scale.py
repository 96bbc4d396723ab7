"""The example of docs/scale.md runs as it stands there, on Ray's local mode."""

import csv
import os
import re
import subprocess
import sys

import pytest

from tests.conftest import PROJECT, digits

pytest.importorskip("ray", reason="ray is not installed: pip install -r extras/requirements-ray.txt")
from PIL import Image


@pytest.mark.slow
def test_ray_reads_a_folder(workplace):
    text = (PROJECT / "docs" / "scale.md").read_text(encoding="utf-8")
    (program,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    (workplace / "read_with_ray.py").write_text(program)
    for name in ("digits", "mnist_cnn.keras", "mnist_cnn.json"):
        (workplace / name).symlink_to(PROJECT / name)
    (workplace / "scans").mkdir()
    for index, (image, label) in enumerate(zip(*digits(30), strict=True)):
        Image.fromarray(image[..., 0]).save(f"scans/{label}_{index}.png")
    (workplace / "scans" / "bad.png").write_text("no picture")
    # A short path, since those of Ray's sockets have at most 107 characters; memory for a small machine.
    environment = os.environ | {"RAY_TMPDIR": "/tmp", "RAY_DEFAULT_OBJECT_STORE_MAX_MEMORY_BYTES": "200000000"}
    command = [sys.executable, "read_with_ray.py", "scans", "answers"]
    result = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=300)
    assert result.returncode == 0, result.stderr[-3000:]
    rows = [row for path in (workplace / "answers").iterdir() for row in csv.DictReader(path.open())]
    assert len(rows) == 31
    bad = [row for row in rows if row["error"]]
    assert [os.path.basename(row["path"]) for row in bad] == ["bad.png"]
    correct = sum(os.path.basename(row["path"])[0] == row["prediction"] for row in rows)
    assert correct >= 27  # some are hard to read for people, too
