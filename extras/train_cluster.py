"""One training by several processes, on one machine or many: Keras on JAX, which averages the gradients of all.

    python -m extras.train_cluster --cluster 192.168.1.5:4321 --processes 2 --process 0    # on that machine
    python -m extras.train_cluster --cluster 192.168.1.5:4321 --processes 2 --process 1    # on the other

All flags of train.py, the same in every process, can be added. Each process reads its shard of the images and takes its
share of each batch; all have the same weights after each step. Process 0 shows the progress and writes the files.

It needs one more package: pip install -r extras/requirements-distributed.txt
"""

import argparse
import dataclasses
import hashlib
import json
import os
import sys
from contextlib import contextmanager

import numpy as np

import train
from digits import checkpoint, model
from digits.cli import Parser, RunError, UsageError, first_line, hold_native_log, import_tensorflow, number, option, run

JOIN_SECONDS = 100  # until all processes must be there
HEARTBEAT_SECONDS = 60  # without a sign of life, after which a process counts as dead


def address(text):
    """The host:port that a flag names."""
    host, _, port = text.rpartition(":")
    if not host or not port.isdecimal() or not 0 < int(port) < 65536:
        raise argparse.ArgumentTypeError(f"{text!r} is not host:port, such as 192.168.1.5:4321")
    return text


@dataclasses.dataclass
class Settings(train.Settings):
    """Those of train.py, and which process this is."""

    cluster: str = option(None, "host:port at which process 0 waits for the others", address, recorded=False)
    processes: int = option(2, "number of processes", number(int, least=2, most=100_000), recorded=False)
    process: int = option(0, "which one this is, from 0", number(int, least=0, most=100_000), recorded=False)

    def __post_init__(self):
        super().__post_init__()
        if self.cluster is None:
            raise UsageError("--cluster: is needed, host:port at which process 0 waits for the others")
        if self.process >= self.processes:
            raise UsageError(f"--process: {self.process} is not one of {self.processes}, they are numbered from 0")
        if self.batch_size % self.processes:
            raise UsageError(f"--batch-size: {self.batch_size} cannot be divided among {self.processes} processes")


def join(settings):
    """Become one of the processes, before TensorFlow is imported. Raises UsageError, RunError."""
    os.environ["KERAS_BACKEND"] = "jax"
    try:
        import jax
    except ModuleNotFoundError:
        message = "the package jax is missing: pip install -r extras/requirements-distributed.txt (from Python 3.11 on)"
        raise UsageError(message) from None
    print(f"Waiting at {settings.cluster} for {settings.processes} processes", flush=True)
    from jax.experimental import multihost_utils

    jax.config.update("jax_enable_preemption_service", False)  # it would catch SIGTERM and continue
    try:
        jax.distributed.initialize(
            settings.cluster,
            settings.processes,
            settings.process,
            initialization_timeout=JOIN_SECONDS,
            heartbeat_timeout_seconds=HEARTBEAT_SECONDS,
        )
        with hold_native_log("stdout"):  # the library that connects the processes writes there
            multihost_utils.sync_global_devices("joined")  # connected later, none may be 30 s behind the others
    except Exception as error:  # JAX raises nearly any type
        advice = f"start all {settings.processes} within {JOIN_SECONDS} s, and see that they reach that address"
        raise RunError(f"--cluster {settings.cluster}: could not join ({first_line(error)}); {advice}") from error
    if jax.local_device_count() > 1:
        raise UsageError("--cluster: a process uses one GPU; start one for each, with CUDA_VISIBLE_DEVICES=0, 1, ...")
    import_tensorflow()
    import keras
    import tensorflow as tf

    tf.config.set_visible_devices([], "GPU")  # TensorFlow only reads the images
    keras.distribution.set_distribution(keras.distribution.DataParallel(auto_shard_dataset=False))


def agree(this_run, splits, resume):
    """The SHA-256 of the images of all processes. Raises UsageError if they differ in anything but their shards."""
    from jax.experimental import multihost_utils

    labels = [hashlib.sha256(images.labels.tobytes()).hexdigest() for images in splits[:2]]
    same = json.dumps([this_run | {"data_sha256": None}, splits[0].classes, labels, resume and resume.history])
    own = hashlib.sha256(same.encode()).digest() + bytes.fromhex(this_run["data_sha256"])
    everyone = multihost_utils.process_allgather(np.frombuffer(own, np.uint8))
    if (everyone[:, :32] != everyone[0, :32]).any():
        raise UsageError("--cluster: the processes differ in flags, images or checkpoint; start all with the same ones")
    return hashlib.sha256(everyone[:, 32:].tobytes()).hexdigest()


@contextmanager
def report_lost_process():
    """Turn what JAX raises when another process has gone into a RunError."""
    try:
        yield
    except (RuntimeError, ValueError) as error:
        if isinstance(error, UsageError):
            raise
        message = f"the training cannot continue, since another process or this one failed ({first_line(error)})"
        raise RunError(f"{message}; {checkpoint.HOW_TO_CONTINUE}") from error


def leave(network, settings):
    """Leave the process group; the network is then this process's own."""
    import jax
    import keras

    digest = hashlib.sha256(b"".join(array.tobytes() for array in network.get_weights())).hexdigest()
    who = f"Process {settings.process} of {settings.processes}"
    print(f"{who} ends with the weights {digest[:16]}", flush=True)
    keras.distribution.set_distribution(None)
    jax.distributed.shutdown()


def train_together(argv):
    settings = train.read_settings(Parser(__doc__, Settings), argv)
    rank, world_size = settings.process, settings.processes
    splits = train.load_splits(settings)
    if len(splits.training.labels) < world_size:
        raise UsageError(f"--processes: there are only {len(splits.training.labels)} images to train; use fewer")
    resume = checkpoint.read(settings.path) if settings.resume else None
    join(settings)
    from digits.data import pipeline

    settings = dataclasses.replace(settings, precision=model.choose_precision(settings.precision))
    folder = settings.path.with_suffix(f".cache{rank}")
    with pipeline.open_cache(settings.cache, splits.training, folder) as cache:
        with report_lost_process():
            network, history, this_run = fit(settings, splits, cache, resume)
            leave(network, settings)
        if rank == 0:
            validation_set = pipeline.decode(splits.validation, cache, "all_validation")
            train.finish(settings, splits, validation_set, cache, network, history, this_run)


def fit(settings, splits, cache, resume):
    """Train on this process's shard; return (network, history, settings of the run)."""
    from digits import training
    from digits.data import pipeline

    rank, world_size, classes = settings.process, settings.processes, splits.training.classes
    training_set = pipeline.decode(splits.training.shard(rank, world_size), cache, "training")
    validation_set = pipeline.decode(splits.validation.shard(rank, world_size), cache, "validation")
    this_run = settings.recorded() | {"processes": world_size}
    this_run["data_sha256"] = pipeline.fingerprint(training_set, validation_set)
    this_run["data_sha256"] = agree(this_run, splits, resume)
    training_set = training.mix_in_handwriting(training_set, classes, settings.variety, settings.seed + rank)
    network, save_epoch = training.new_network(settings, classes), None
    if rank == 0:
        checkpoint.start(settings.path, this_run, resume)
        save_epoch = training.epoch_saver(settings.path, this_run)
        network.summary()
    history = training.fit(
        network, training_set, validation_set, settings, resume, save_epoch, rank > 0, rank, world_size
    )
    return network, history, this_run


def main(argv=None):
    status = run(train_together, argv)
    jax = sys.modules.get("jax")
    if status and jax and jax.distributed.is_initialized():
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)  # JAX would wait for the others
    return status


if __name__ == "__main__":
    sys.exit(main())
