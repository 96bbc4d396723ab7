"""Two real processes on loopback, once; the errors with a stub of JAX."""

import json
import os
import re
import signal
import socket
import sys
from subprocess import PIPE, Popen
from types import SimpleNamespace

import keras  # before JAX is stubbed
import numpy as np
import pytest
import tensorflow as tf

import train
from extras import train_cluster
from tests.conftest import PROJECT, TINY, one_line


def start(folder, environment, *flags):
    with socket.create_server(("127.0.0.1", 0)) as free:
        address = f"127.0.0.1:{free.getsockname()[1]}"
    command = [sys.executable, "-m", "extras.train_cluster", "--data", folder, "--model", "two.keras", *TINY, *flags]
    command += ["--filters", "2,2", "--cluster", address, "--processes", "2", "--process"]
    return [Popen([*command, str(rank)], env=environment, text=True, stdout=PIPE, stderr=PIPE) for rank in range(2)]


def digest_of_weights(processes):
    (out, err), (other_out, other_err) = (process.communicate(timeout=300) for process in processes)
    assert (processes[0].returncode, processes[1].returncode, err, other_err) == (0, 0, "", "")
    (digest,) = re.findall(r"Process 0 of 2 ends with the weights (\w{16})\n", out)
    assert other_out == f"Process 1 of 2 ends with the weights {digest}\n"
    return digest


@pytest.mark.slow
def test_two_processes_have_the_same_weights_also_after_a_kill_and_resume(small_folder, workplace):
    pytest.importorskip("jax", reason="pip install -r extras/requirements-distributed.txt")
    cache = {"JAX_COMPILATION_CACHE_DIR": str(workplace / "jax"), "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0"}
    environment = os.environ | cache | {"PYTHONPATH": str(PROJECT)}
    digest = digest_of_weights(start(small_folder, environment))
    about = json.loads((workplace / "two.json").read_text())
    assert about["settings"]["processes"] == 2 and about["versions"]["backend"] == "jax"
    assert about["data"]["validation"] == 30 and about["data"]["test"] == 100
    assert about["history"][2]["val_loss"] < about["history"][0]["val_loss"]
    (workplace / "two.keras").unlink()
    processes = start(small_folder, environment)
    next(line for line in processes[0].stdout if line.startswith("epoch 1/3"))
    processes[1].terminate()
    _, err = processes[0].communicate(timeout=120)
    assert (processes[0].returncode, processes[1].wait()) == (1, -signal.SIGTERM)
    assert "another process" in err and "--resume" in err, err
    assert not (workplace / "two.keras").exists() and (workplace / "two.checkpoint.npz").exists()
    assert digest_of_weights(start(small_folder, environment, "--resume")) == digest


def test_wrong_flags(small_folder, capsys):
    flags = ["--data", str(small_folder), "--cluster", "127.0.0.1:9"]
    one_line(capsys, train_cluster.main([*flags, "--process", "2"]), "--process: 2")
    one_line(capsys, train_cluster.main([*flags, "--processes", "3", "--batch-size", "64"]), "--batch-size", "64", "3")
    one_line(capsys, train_cluster.main([*flags, "--processes", "301", "--batch-size", "301"]), "--processes", "images")
    for address in ([], ["--cluster", "localhost"], ["--cluster", "a:0"], ["--cluster", "a:70000"]):
        one_line(capsys, train_cluster.main([*flags[:2], *address]), "--cluster", "host:port")
    for moved in (["--cluster", "a:1"], ["--processes", "2"], ["--process", "1"]):
        with pytest.raises(SystemExit) as error:
            train.main(moved)
        one_line(capsys, error.value.code, f"{moved[0]}: moved to python -m extras.train_cluster")


def test_a_process_exits_at_once(folder, monkeypatch, capsys):
    """Without JAX, if it differs from the others, if they have gone, and if it cannot read its images."""
    exits, utils, distributed = [], SimpleNamespace(), SimpleNamespace(is_initialized=lambda: True)
    jax = SimpleNamespace(distributed=distributed, experimental=SimpleNamespace(multihost_utils=utils))
    monkeypatch.setattr(os, "_exit", exits.append)
    monkeypatch.setenv("KERAS_BACKEND", "tensorflow")  # for the tests after this one
    monkeypatch.setattr(keras, "distribution", SimpleNamespace(set_distribution=id, DataParallel=dict))
    monkeypatch.setattr(tf.config, "set_visible_devices", lambda *arguments: None)
    modules = {"jax": jax, "jax.experimental": jax.experimental, "jax.experimental.multihost_utils": None}
    for name, module in modules.items():
        monkeypatch.setitem(sys.modules, name, module)
    flags = ["--data", str(folder), "--cluster", "127.0.0.1:9"]
    one_line(capsys, train_cluster.main(flags), "jax is missing", "extras/requirements-distributed.txt")
    monkeypatch.setitem(sys.modules, "jax.experimental.multihost_utils", utils)
    monkeypatch.setattr(train_cluster, "join", lambda *arguments: None)
    utils.process_allgather = lambda own: np.stack([own, 255 - own])
    one_line(capsys, train_cluster.main(flags), "the processes differ in flags, images or checkpoint")
    utils.process_allgather = lambda own: own.reshape(-1, 1000)
    assert train_cluster.main(flags) == 1
    assert "another process or this one failed (cannot reshape" in capsys.readouterr().err
    image = next((folder / "train" / "3").iterdir())
    image.write_bytes(b"no image")
    one_line(capsys, train_cluster.main(flags), image.name)
    assert exits == [2, 2, 1, 2]
