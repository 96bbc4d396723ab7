"""Worker processes that segment pictures, since the network needs this process's GIL for itself."""

import multiprocessing
import os
import signal
import threading
from collections import deque
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool

from digits.cli import RunError

# One worker for each processor; 8 at most, since each takes about 100 MB, and more while it reads a large picture.
COUNT = min(os.cpu_count() or 1, 8)
AHEAD = 40  # results for each worker that are computed before they are needed, so that memory does not grow


def in_order(work, items, few):
    """Yield work(item) for each of a list of items, in their order: by all processors, or here if there are few.

    Raises RunError if a worker was killed.
    """
    if COUNT == 1 or len(items) <= few:
        yield from map(work, items)
        return
    workers, running = pool(), deque()
    try:
        for item in items:
            running.append(workers.submit(work, item))
            if len(running) > AHEAD * COUNT:
                yield running.popleft().result()
        yield from (one.result() for one in running)
    except BrokenProcessPool:
        raise RunError("a process that reads pictures was killed, probably out of memory; read fewer") from None
    finally:
        workers.shutdown(cancel_futures=True)


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
