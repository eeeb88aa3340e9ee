"""Settings of the process that decide its speed: whether memory is kept, and how threads wait for each other.

Whatever the user has set in the environment stays as it is. And what the environment tells of the process itself.
"""

from __future__ import annotations

import ctypes
import functools
import os
import platform
import sys
import warnings
from collections.abc import Mapping

# mallopt's names for what it sets, from malloc.h.
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
_LARGEST_INT = 2**31 - 1
_MOST_OF_OLD_VERSIONS = 32 * 2**20  # glibc before 2.35 takes no larger threshold
_OF_THE_USER = (
    "MALLOC_MMAP_THRESHOLD_",
    "MALLOC_TRIM_THRESHOLD_",
    "MALLOC_MMAP_MAX_",
    "MALLOC_TOP_PAD_",
    "GLIBC_TUNABLES",
)

SPIN_COUNT = 3000  # turns, some 90 microseconds, more than nearly all waits take; GNU OpenMP itself takes 300,000


def keep_memory() -> bool:
    """Let the C library keep memory that is freed, instead of giving it back and fetching it again in each step.

    glibc maps each block of more than 32 MB afresh and unmaps it when it is freed; the kernel then fills every page
    with zeros, ten times slower than the memory is. Afterwards blocks up to 2 GiB are kept. The price is memory: up to
    2 GiB that are free stay with the process, and blocks that do not fit into each other's places raise its peak, by
    40 % where a step of 4,000 atoms was measured.

    Only glibc on Linux is changed, and only where the environment sets none of ``MALLOC_MMAP_THRESHOLD_``,
    ``MALLOC_TRIM_THRESHOLD_``, ``MALLOC_MMAP_MAX_``, ``MALLOC_TOP_PAD_`` and ``GLIBC_TUNABLES``. Calling it again
    changes nothing.

    Returns:
        Whether the C library took the settings.
    """
    if not sys.platform.startswith("linux") or platform.libc_ver()[0] != "glibc":
        return False
    if any(name in os.environ for name in _OF_THE_USER):
        return False
    mallopt = ctypes.CDLL(None).mallopt
    mallopt.argtypes, mallopt.restype = (ctypes.c_int, ctypes.c_int), ctypes.c_int
    mapped = mallopt(_M_MMAP_THRESHOLD, _LARGEST_INT) or mallopt(_M_MMAP_THRESHOLD, _MOST_OF_OLD_VERSIONS)
    return bool(mapped and mallopt(_M_TRIM_THRESHOLD, _LARGEST_INT))


def shorten_waiting() -> bool:
    """Let threads that wait for each other sleep soon, so that a busy foreign process costs little.

    GNU OpenMP's threads spin at a barrier, and while one spins, the thread that it waits for may have no processor: one
    foreign process on one core then slows torch many times. The library reads its settings when it is loaded, so this
    has to be called before torch is imported. It sets ``GOMP_SPINCOUNT`` in the environment, which processes started
    from this one inherit, unless that or ``OMP_WAIT_POLICY`` is set already.

    Returns:
        Whether the setting was made. False after torch was imported: it would come too late.
    """
    if "torch" in sys.modules or "GOMP_SPINCOUNT" in os.environ or "OMP_WAIT_POLICY" in os.environ:
        return False
    os.environ["GOMP_SPINCOUNT"] = str(SPIN_COUNT)
    return True


# Where launchers tell a process its place among those of one run; NODE_RANK counts machines.
_RANKS = (
    *("RANK", "LOCAL_RANK", "NODE_RANK", "GROUP_RANK", "SLURM_PROCID", "JSM_NAMESPACE_RANK"),
    *("OMPI_COMM_WORLD_RANK", "PMI_RANK"),
)
# What libraries read as numbers while they are imported: a word there ends the command before it can say why.
READ_BY_LIBRARIES = ("RANK", "LOCAL_RANK", "NODE_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "MASTER_PORT")


def rank(environment: Mapping[str, str] = os.environ) -> int:
    """Place of this process among those that a launcher started as one run; 0 is the first, which owns the files.

    It is told before anything is set up between the processes.

    Args:
        environment: Where launchers tell it.
    """
    places = (environment.get(name, "") for name in _RANKS)
    return max((int(place) for place in places if place.isdigit()), default=0)


@functools.cache
def warn_once(text: str) -> None:
    """Warn, but once in a process, and of several processes of one run in the first only."""
    if rank() == 0:
        warnings.warn(text, stacklevel=3)


def count_usable_cores() -> int:
    """Number of processor cores that this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def available_memory() -> float | None:
    """Bytes that this process may still take: what the machine, its control group and ``ulimit -v`` leave.

    None if none of them says.

    Example:
        >>> available = available_memory()
        >>> available is None or available > 0
        True
    """
    limits = [
        _read_free_memory(),
        _read_group_memory("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current"),
        _read_free_addresses(),
    ]
    known = [limit for limit in limits if limit is not None]
    return min(known) if known else None


def _read_free_memory() -> float | None:
    try:
        with open("/proc/meminfo", encoding="ascii") as file:
            for line in file:
                if line.startswith("MemAvailable:"):
                    return 1024.0 * int(line.split()[1])
    except OSError:
        pass  # another system than Linux
    return None


def _read_group_memory(limit: str, used: str) -> float | None:
    try:
        with open(limit, encoding="ascii") as most, open(used, encoding="ascii") as now:
            text = most.read().strip()
            return None if text == "max" else float(text) - float(now.read())
    except OSError:
        return None  # no control group, or one of the old kind


def _read_free_addresses() -> float | None:
    """What is left of the limit of addresses (``ulimit -v``)."""
    try:
        import resource  # of Unix alone

        limit = resource.getrlimit(resource.RLIMIT_AS)[0]
        if limit == resource.RLIM_INFINITY:
            return None
        with open("/proc/self/statm", encoding="ascii") as file:
            return max(0.0, float(limit) - int(file.read().split()[0]) * resource.getpagesize())
    except (ImportError, OSError):
        return None  # another system than Linux
