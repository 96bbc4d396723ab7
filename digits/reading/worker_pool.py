"""Worker processes that segment pictures, since the network needs this process's GIL for itself."""

import multiprocessing
import os
import signal
import threading
from concurrent.futures import ProcessPoolExecutor

# One worker for each processor; 8 at most, since each takes about 100 MB, and more while it reads a large picture.
COUNT = min(os.cpu_count() or 1, 8)


def pool():
    """Start the workers; return their executor.

    End it by shutdown(cancel_futures=True), which waits for running work: a worker killed while it answers would leave
    the reader of its answer waiting.
    """
    spawn = multiprocessing.get_context("spawn")  # TensorFlow, once running, does not survive a fork
    executor = ProcessPoolExecutor(COUNT, spawn, _end_with_parent)
    if hasattr(signal, "pthread_sigmask"):  # Ctrl-C is blocked in the workers
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    executor.submit(int)  # starts them all
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    return executor


def _end_with_parent():
    """First in each worker: leave Ctrl-C to the parent, and end when it is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)

    def wait():
        multiprocessing.parent_process().join()
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()
