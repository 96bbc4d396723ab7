"""Processes beside this one that look for digits in pictures: the network needs the Python of this one to itself."""

import multiprocessing
import os
import signal
import threading
from concurrent.futures import ProcessPoolExecutor

MOST = 8  # each takes about 100 MB, and more while it reads a large picture


def count():
    """How many there are: one for each processor, MOST at most."""
    return min(os.cpu_count() or 1, MOST)


def pool():
    """Start them; return the executor, which is ended by shutdown(cancel_futures=True).

    That waits for what they do just then. Killed in the middle of an answer, one would leave its reader waiting.
    """
    spawn = multiprocessing.get_context("spawn")  # TensorFlow, once running, does not survive a fork
    executor = ProcessPoolExecutor(count(), spawn, _end_with_parent)
    if hasattr(signal, "pthread_sigmask"):  # what is blocked here, Ctrl-C, stays so in them
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    executor.submit(int)  # starts them all
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    return executor


def _end_with_parent():
    """Called first in each: leave Ctrl-C to the parent, and end when it is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)

    def wait():
        multiprocessing.parent_process().join()
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()
