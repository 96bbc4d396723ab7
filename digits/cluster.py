"""One training by several processes, on one machine or many: Keras on JAX, which shares each batch out among them.

Each process reads its share of the images, and all have the same weights: in each step the gradients of all are
averaged. Process 0 leads: it writes the files and shows the progress.
"""

import hashlib
import json
import os
import sys
from contextlib import contextmanager

import numpy as np

from digits.cli import RunError, UsageError, first_line, hold_native_log, import_tensorflow

HOW_TO_GO_ON = "with --resume the same command goes on from the last finished epoch"
PATIENCE = 100  # seconds until all processes must be there
SILENCE = 60  # seconds without a sign of life after which a process counts as dead


def join(address, processes, process):
    """Become one of the processes, numbered from 0; before TensorFlow is imported. Raises UsageError, RunError.

    address: host:port of process 0, at which it waits for the others.
    """
    os.environ["KERAS_BACKEND"] = "jax"
    try:
        import jax
    except ModuleNotFoundError:
        missing = "the package jax is missing: pip install -r extras/requirements-distributed.txt (from Python 3.11 on)"
        raise UsageError(missing) from None
    print(f"Waiting at {address} for {processes} processes", flush=True)
    from jax.experimental import multihost_utils

    jax.config.update("jax_enable_preemption_service", False)  # which takes SIGTERM, and goes on
    try:
        jax.distributed.initialize(
            address, processes, process, initialization_timeout=PATIENCE, heartbeat_timeout_seconds=SILENCE
        )
        with hold_native_log("stdout"):  # the library that connects the processes says so there
            multihost_utils.sync_global_devices("joined")  # else connected later, when no one may be 30 s behind
    except Exception as error:  # JAX raises nearly any type
        what_to_do = f"start all {processes} within {PATIENCE} s, and see that they reach that address"
        raise RunError(f"--cluster {address}: did not come together ({first_line(error)}); {what_to_do}") from error
    import_tensorflow()
    import keras
    import tensorflow as tf

    if keras.backend.backend() != "jax":
        raise RunError("--cluster: Keras runs on another backend in this process already; start train.py by itself")
    if jax.local_device_count() > 1:
        raise UsageError("--cluster: a process takes one GPU; start one for each, with CUDA_VISIBLE_DEVICES=0, 1, ...")
    tf.config.set_visible_devices([], "GPU")  # TensorFlow only reads the images
    keras.distribution.set_distribution(keras.distribution.DataParallel(auto_shard_dataset=False))


def agree(settings, more):
    """Make sure that all processes have the same settings and `more`, for JSON; return the SHA-256 of all their images.

    Only settings["data_sha256"] differs, it is that of each one's share. Raises UsageError.
    """
    from jax.experimental import multihost_utils

    same = json.dumps([{**settings, "data_sha256": None}, more])
    mine = hashlib.sha256(same.encode()).digest() + bytes.fromhex(settings["data_sha256"])
    everyones = multihost_utils.process_allgather(np.frombuffer(mine, np.uint8))
    if (everyones[:, :32] != everyones[0, :32]).any():
        raise UsageError("--cluster: the processes differ in flags, images or checkpoint; start all with the same ones")
    return hashlib.sha256(everyones[:, 32:].tobytes()).hexdigest()


@contextmanager
def loss_of_others():
    """Turn what JAX raises, which it does when another process has gone, into a RunError."""
    try:
        yield
    except (RuntimeError, ValueError) as error:
        if not joined() or isinstance(error, UsageError):
            raise
        message = f"the training cannot go on, since another process has ended or this one failed ({first_line(error)})"
        raise RunError(f"{message}; {HOW_TO_GO_ON}") from error


def leave(network):
    """Take leave of the others; the network is then this process's own."""
    import jax
    import keras

    weights = network.get_weights()
    digest = hashlib.sha256(b"".join(array.tobytes() for array in weights)).hexdigest()
    who = f"Process {jax.process_index()} of {jax.process_count()}"
    print(f"{who} ends with the weights {digest[:16]}", file=sys.__stdout__, flush=True)
    keras.distribution.set_distribution(None)
    jax.distributed.shutdown()


def joined():
    return "jax" in sys.modules and sys.modules["jax"].distributed.is_initialized()


def end(status):
    """Return the exit status; a process that failed ends at once, since JAX would wait for the others."""
    if status and joined():
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)
    return status
