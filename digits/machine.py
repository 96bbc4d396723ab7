"""What this machine has, as far as Linux says it."""

import math
from pathlib import Path


def computes_bfloat16():
    """Whether the processor computes in bfloat16."""
    try:
        return not {"avx512_bf16", "amx_bf16"}.isdisjoint(Path("/proc/cpuinfo").read_text().split())
    except OSError:  # not Linux
        return False


def free_memory():
    """Bytes of memory that programs can still have; infinite where the system does not say."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        return next(1024 * int(line.split()[1]) for line in lines if line.startswith("MemAvailable"))
    except (OSError, StopIteration):  # not Linux
        return math.inf
