"""Train one network in several processes, on one machine or many: Keras on JAX, which averages their gradients.

    python -m extras.train_cluster --cluster 192.168.1.5:4321 --processes 2 --process 0    # on 192.168.1.5
    python -m extras.train_cluster --cluster 192.168.1.5:4321 --processes 2 --process 1    # on the other

It also takes all flags of train.py; give the same ones to every process. Each reads its shard of the images and takes
its share of each batch. Process 0 shows the progress and writes the files. All have the same weights after each step.
It needs JAX: pip install -r extras/requirements-distributed.txt
"""

import dataclasses
import hashlib
import os
import sys
import time

import numpy as np

import train
from digits import checkpoint, model
from digits.cli import (
    Parser,
    RunError,
    UsageError,
    hold_native_log,
    import_tensorflow,
    in_one_line,
    number,
    option,
    run,
)
from digits.data import sources


@dataclasses.dataclass
class Settings(train.Settings):
    """Those of train.py, and which process this is."""

    cluster: str = option(None, "host:port at which process 0 waits for the others", recorded=False)
    processes: int = option(2, "number of processes", number(int, least=2, most=100_000), recorded=False)
    process: int = option(0, "rank of this process, from 0", number(int, least=0, most=100_000), recorded=False)

    def __post_init__(self):
        super().__post_init__()
        host, _, port = (self.cluster or "").rpartition(":")
        if not (host and port.isdecimal() and 0 < int(port) < 65536):
            raise UsageError("--cluster: give host:port at which process 0 waits, such as 192.168.1.5:4321")
        if self.process >= self.processes:
            raise UsageError(f"--process: {self.process} is not one of {self.processes}, they are numbered from 0")
        if self.batch_size % self.processes:
            raise UsageError(f"--batch-size: {self.batch_size} cannot be divided among {self.processes} processes")


def join(address, world_size, rank):
    """Become one of the processes, before TensorFlow is imported. Raises UsageError, RunError."""
    os.environ["KERAS_BACKEND"] = "jax"
    try:
        import jax.experimental.multihost_utils
    except ModuleNotFoundError:
        advice = "pip install -r extras/requirements-distributed.txt, with Python 3.11 or later"
        raise UsageError(f"the package jax is missing: {advice}") from None
    if rank == 0:
        print(f"Waiting at {address} for {world_size} processes", flush=True)
    jax.config.update("jax_enable_preemption_service", False)  # it would catch SIGTERM and continue
    try:
        jax.distributed.initialize(address, world_size, rank, initialization_timeout=100, heartbeat_timeout_seconds=60)
        with hold_native_log("stdout"):  # of Gloo, which connects the processes; later, none may be 30 s behind
            jax.experimental.multihost_utils.sync_global_devices("joined")
    except Exception as error:  # JAX raises nearly any type
        advice = f"start all {world_size} within 100 s, and see that they reach that address"
        raise RunError(f"--cluster {address}: could not join ({in_one_line(error)}); {advice}") from error
    if jax.local_device_count() > 1:
        raise UsageError("--cluster: a process uses one GPU; start one for each, with CUDA_VISIBLE_DEVICES=0, 1, ...")


def fit(settings, splits, cache, resume):
    """Train on this process's shard and leave the process group; return (network, history, settings of the run)."""
    import jax.experimental.multihost_utils
    import keras
    import tensorflow as tf

    from digits import training
    from digits.data import pipeline

    tf.config.set_visible_devices([], "GPU")  # TensorFlow only reads the images
    keras.distribution.set_distribution(keras.distribution.DataParallel(auto_shard_dataset=False))
    rank, world_size, classes = settings.process, settings.processes, splits.training.classes
    training_set = pipeline.decode(splits.training.shard(rank, world_size), cache, "training")
    validation_set = pipeline.decode(splits.validation.shard(rank, world_size), cache, "validation")
    this_run = settings.recorded() | {"processes": world_size}
    same = repr([this_run, classes, *(images.labels.tolist() for images in splits[:2]), resume and resume.history])
    own = hashlib.sha256(same.encode()).digest() + bytes.fromhex(pipeline.fingerprint(training_set, validation_set))
    everyone = jax.experimental.multihost_utils.process_allgather(np.frombuffer(own, np.uint8))
    if (everyone[:, :32] != everyone[0, :32]).any():
        raise UsageError("--cluster: the processes differ in flags, images or checkpoint; start all with the same ones")
    this_run["data_sha256"] = hashlib.sha256(everyone[:, 32:].tobytes()).hexdigest()
    if rank == 0 or resume:
        checkpoint.start(settings.path, this_run, resume)
    training_set = training.mix_in_handwriting(training_set, classes, settings, rank)
    network, saver = training.new_network(settings, classes), None
    if rank == 0:
        saver = training.epoch_saver(settings.path, this_run)
        training.describe(network, settings)
    history = training.fit(network, training_set, validation_set, settings, resume, saver, rank > 0, rank, world_size)
    digest = hashlib.sha256(b"".join(array.tobytes() for array in network.get_weights())).hexdigest()
    print(f"Process {rank} of {world_size} ends with the weights {digest[:16]}", flush=True)
    keras.distribution.set_distribution(None)
    jax.distributed.shutdown()
    return network, history, this_run


def train_together(settings):
    """What train.train() does, in one of several processes. Raises UsageError, RunError."""
    start = time.monotonic()
    splits = sources.load_splits(settings.data, settings.validation_split, tested=not settings.no_test)
    if len(splits.training.labels) < settings.processes:
        raise UsageError(f"--processes: there are only {len(splits.training.labels)} images to train; use fewer")
    resume = checkpoint.read(settings.path) if settings.resume else None
    join(settings.cluster, settings.processes, settings.process)
    import_tensorflow()
    from digits.data import pipeline

    settings = dataclasses.replace(settings, precision=model.choose_precision(settings.precision))
    with checkpoint.running(settings.path, settings.process) as folder:
        cache = pipeline.choose_cache(settings.cache, splits.training, folder)
        try:
            network, history, this_run = fit(settings, splits, cache, resume)
        except UsageError:
            raise
        except (RuntimeError, ValueError) as error:  # of JAX, when another process has gone
            reason = f"another process or this one failed ({in_one_line(error)})"
            raise RunError(f"the training cannot continue: {reason}; {checkpoint.HOW_TO_CONTINUE}") from error
        if settings.process == 0:
            validation_set = pipeline.decode(splits.validation, cache, "all_validation")
            train.finish(settings, splits, validation_set, cache, network, history, this_run, start)


def main(argv=None):
    status = run(lambda: train_together(train.read_settings(Parser(__doc__, Settings), argv)), keep_going=True)
    if status and "jax" in sys.modules and sys.modules["jax"].distributed.is_initialized():
        sys.stdout.flush()
        os._exit(status)  # JAX would wait for the others
    return status


if __name__ == "__main__":
    sys.exit(main())
