"""Real processes on loopback."""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys

import pytest

import train
from extras import train_cluster
from tests.conftest import PROJECT, TINY, one_line

FLAGS = [*TINY, "--network", "cnn", "--learning-rate", "0.003", "--variety", "0"]


@pytest.fixture(scope="module")
def environment(tmp_path_factory):
    """What JAX has compiled once need not be compiled again."""
    cache = str(tmp_path_factory.mktemp("jax"))
    more = {"JAX_COMPILATION_CACHE_DIR": cache, "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0"}
    return os.environ | more | {"PYTHONPATH": str(PROJECT)}


def start(folder, environment, *flags, other=()):
    """Start two processes, the second one with some other flags."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    command = [sys.executable, "-m", "extras.train_cluster", "--data", folder, "--model", "two.keras", *FLAGS, *flags]
    command += ["--cluster", address, "--processes", "2"]
    options = {"env": environment, "text": True, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return [
        subprocess.Popen([*command, "--process", str(rank), *own], **options) for rank, own in ((0, ()), (1, other))
    ]


def finish(processes, status=0):
    """Wait for both; return the errors, and the digests of their weights."""
    outputs = [process.communicate(timeout=300) for process in processes]
    for process, (_, err) in zip(processes, outputs, strict=True):
        assert process.returncode == status, err
    return [err for _, err in outputs], [re.findall(r"with the weights (\w{16})", out) for out, _ in outputs]


@pytest.mark.slow
def test_two_processes_have_the_same_weights_also_after_a_kill_and_resume(drawn_folder, workplace, environment):
    pytest.importorskip("jax", reason="pip install -r extras/requirements-distributed.txt")
    errors, digests = finish(start(drawn_folder, environment))
    assert errors == ["", ""] and digests[0] == digests[1] and len(digests[0]) == 1
    about = json.loads((workplace / "two.json").read_text())
    assert about["settings"]["processes"] == 2 and about["versions"]["backend"] == "jax"
    assert len(about["history"]) == 3 and "val_accuracy" in about["history"][0]
    assert about["data"]["validation"] == 30 and about["data"]["test"] == 100
    for path in workplace.iterdir():
        path.unlink()

    processes = start(drawn_folder, environment)
    for line in processes[0].stdout:
        if line.startswith("epoch 1/3"):
            break
    processes[1].send_signal(signal.SIGKILL)
    _, err = processes[0].communicate(timeout=120)
    assert processes[0].returncode != 0 and "another process" in err.splitlines()[-1] and "--resume" in err, err
    assert not (workplace / "two.keras").exists() and (workplace / "two.checkpoint.npz").exists()
    _, resumed = finish(start(drawn_folder, environment, "--resume"))
    assert resumed == digests


@pytest.mark.slow
def test_a_process_that_differs_or_cannot_read_its_images_ends_both(drawn_folder, workplace, environment):
    pytest.importorskip("jax", reason="pip install -r extras/requirements-distributed.txt")
    errors, _ = finish(start(drawn_folder, environment, other=("--seed", "1")), status=2)
    for err in errors:
        assert err.splitlines()[-1].startswith("train_cluster.py: error: --cluster: the processes differ")
    bad = shutil.copytree(drawn_folder, workplace / "bad")
    for path in (bad / "train" / "3").iterdir():
        path.write_bytes(b"no image")
    processes = start(drawn_folder, environment, other=("--data", str(bad)))
    errors = [process.communicate(timeout=100)[1] for process in processes]
    assert [process.returncode for process in processes] == [1, 2]
    assert "another process" in errors[0] and errors[1].startswith(f"train_cluster.py: error: {bad}")


def test_wrong_flags(drawn_folder, monkeypatch, capsys):
    same = ["--data", str(drawn_folder), "--cluster", "127.0.0.1:9"]
    one_line(capsys, train_cluster.main([*same, "--processes", "2", "--process", "2"]), "--process")
    one_line(capsys, train_cluster.main(same[:2]), "--cluster")
    one_line(capsys, train_cluster.main([*same, "--processes", "3", "--batch-size", "64"]), "--batch-size", "3")
    one_line(capsys, train_cluster.main([*same, "--processes", "301", "--batch-size", "301"]), "--processes", "images")
    wrong = [["--cluster", text] for text in ("localhost", "a:0", "a:70000")]
    for flags in ([*same, "--processes", "1"], *wrong):
        with pytest.raises(SystemExit) as error:
            train_cluster.main(flags)
        one_line(capsys, error.value.code, flags[-2])
    monkeypatch.setitem(sys.modules, "jax", None)
    monkeypatch.setenv("KERAS_BACKEND", "tensorflow")
    one_line(capsys, train_cluster.main(same), "jax is missing", "requirements-distributed.txt")


def test_the_flags_of_train_say_that_they_moved(capsys):
    for flags in (["--cluster", "a:1", "--processes", "2"], ["--process", "1"]):
        with pytest.raises(SystemExit) as error:
            train.main(flags)
        one_line(capsys, error.value.code, f"{flags[0]}: moved to python -m extras.train_cluster")
