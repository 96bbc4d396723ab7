"""Work on blocks of items, on all processors: the result does not depend on how many there are."""

import os
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from digits.cli import progress


def in_blocks(make, items, size, rng, description):
    """Return the arrays that make(block, rng) makes of blocks of `size` items, one after the other.

    Each block has a random generator of its own. make() runs in threads, which share the processors as far as it
    spends its time in NumPy, SciPy and Pillow.
    """
    blocks = [items[start : start + size] for start in range(0, max(len(items), 1), size)]
    with ThreadPoolExecutor(os.cpu_count()) as threads:
        made = threads.map(make, blocks, rng.spawn(len(blocks)))
        return np.concatenate(list(progress(made, description, len(blocks))))
