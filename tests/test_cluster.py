"""Real processes on loopback."""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time

import pytest

import train
from tests.conftest import PROJECT, one_line

pytest.importorskip("jax", reason="jax is not installed: pip install -r extras/requirements-distributed.txt")
FLAGS = ["--network", "dense64", "--epochs", "12", "--batch-size", "20", "--learning-rate", "0.003", "--variety", "0"]


@pytest.fixture(scope="module")
def environment(tmp_path_factory):
    """What JAX has compiled once need not be compiled again."""
    cache = str(tmp_path_factory.mktemp("jax"))
    return os.environ | {"JAX_COMPILATION_CACHE_DIR": cache, "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0"}


def start(folder, model, processes, environment, *flags, extra=("", "", "", "")):
    """Start all processes of a cluster; return them."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    command = [sys.executable, PROJECT / "train.py", "--data", folder, "--model", model, "--cluster", address]
    command += ["--processes", str(processes), *FLAGS, *flags]
    return [
        subprocess.Popen([*command, "--process", str(process), *extra[process].split()], env=environment, text=True,
                         stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        for process in range(processes)
    ]  # fmt: skip


def ended(cluster, status=0):
    """Wait for all; return what each one printed, and the digests of their weights."""
    outputs = [process.communicate(timeout=300) for process in cluster]
    for process, (_, err) in zip(cluster, outputs, strict=True):
        assert process.returncode == status, err
    return outputs, [re.findall(r"with the weights (\w{16})", out) for out, _ in outputs]


@pytest.fixture(scope="module")
def two(drawn_folder, tmp_path_factory, environment):
    """The model of two processes, and the digest of its weights."""
    model = tmp_path_factory.mktemp("two") / "two.keras"
    outputs, digests = ended(start(drawn_folder, model, 2, environment))
    assert digests[0] == digests[1] and len(digests[0]) == 1
    (out, err), (other_out, other_err) = outputs
    assert err == other_err == "" and len(out.splitlines()) > 10
    assert other_out.splitlines() == [f"Process 1 of 2 ends with the weights {digests[1][0]}"]
    assert {path.suffix for path in model.parent.iterdir()} == {".keras", ".json", ".csv", ".png"}
    return model, digests[0]


def accuracy_of(model):
    return json.loads(model.with_suffix(".json").read_text())["accuracy"]["test"]


def test_two_and_four_processes_learn_what_one_does(two, drawn_folder, workplace, environment):
    four = workplace / "four.keras"
    _, digests = ended(start(drawn_folder, four, 4, environment))
    assert digests[0] and all(digest == digests[0] for digest in digests)
    one = workplace / "one.keras"
    assert train.main(["--data", str(drawn_folder), "--model", str(one), *FLAGS, "--precision", "float32"]) == 0
    assert accuracy_of(one) > 0.8
    for model in (two[0], four):
        assert accuracy_of(model) == pytest.approx(accuracy_of(one), abs=0.1)  # of 100 images
    about = json.loads(four.with_suffix(".json").read_text())
    assert about["settings"]["processes"] == 4 and about["versions"]["backend"] == "jax"
    assert len(about["history"]) == 12 and "val_accuracy" in about["history"][0]


def test_a_process_that_dies_ends_the_others_and_resume_goes_on(two, drawn_folder, workplace, environment):
    model = workplace / "two.keras"
    cluster = start(drawn_folder, model, 2, environment, "--epochs", "400")
    for line in cluster[0].stdout:
        if line.startswith("epoch   3/400"):
            break
    cluster[1].send_signal(signal.SIGKILL)
    begin = time.monotonic()
    _, err = cluster[0].communicate(timeout=120)
    assert time.monotonic() - begin < 120 and cluster[0].returncode != 0
    assert "another process has ended" in err.splitlines()[-1] and "--resume" in err, err
    assert not model.exists() and model.with_suffix(".checkpoint.npz").exists()
    cluster = start(drawn_folder, model, 2, environment)
    for line in cluster[0].stdout:
        if line.startswith("epoch  3/12"):
            break
    cluster[0].terminate()  # the one that leads
    cluster[1].communicate(timeout=120)
    assert cluster[0].wait(timeout=10) == -signal.SIGTERM and cluster[1].returncode != 0
    _, digests = ended(start(drawn_folder, model, 2, environment, "--resume"))
    assert digests == [two[1], two[1]]  # the very weights of the uninterrupted run


def test_a_process_that_cannot_read_its_images_ends_the_others(drawn_folder, workplace, environment):
    bad = shutil.copytree(drawn_folder, workplace / "bad")
    for path in (bad / "train" / "3").iterdir():
        path.write_bytes(b"no image")
    cluster = start(drawn_folder, workplace / "two.keras", 2, environment, extra=("", f"--data {bad}"))
    errors = [process.communicate(timeout=100)[1] for process in cluster]
    assert [process.returncode for process in cluster] == [1, 2]
    assert "another process has ended" in errors[0] and "timed out" not in errors[0], errors[0]
    assert errors[1].startswith(f"train.py: error: {bad}")


def test_processes_that_differ(drawn_folder, workplace, environment):
    cluster = start(drawn_folder, workplace / "two.keras", 2, environment, extra=("", "--seed 1"))
    outputs, _ = ended(cluster, status=2)
    for _, err in outputs:
        assert err.splitlines()[-1].startswith("train.py: error: --cluster: the processes differ")


def test_wrong_flags(drawn_folder, capsys):
    same = ["--data", str(drawn_folder), "--cluster", "127.0.0.1:9"]
    for flags in (["--processes", "2", "--process", "2"], [], ["--processes", "0"]):
        with pytest.raises(SystemExit) as error:
            train.main([*same, *flags])
        one_line(capsys, error.value.code, "--process")
    wrong = (["--cluster", address] for address in ("localhost", "a:0", "a:70000"))
    for flags in ([], *wrong):
        with pytest.raises(SystemExit) as error:
            train.main(["--data", str(drawn_folder), "--processes", "2", *flags])
        one_line(capsys, error.value.code, "--cluster")
    one_line(capsys, train.main([*same, "--processes", "3", "--batch-size", "64"]), "--batch-size", "3 processes")
    one_line(capsys, train.main([*same, "--processes", "301", "--batch-size", "301"]), "--processes", "images")
