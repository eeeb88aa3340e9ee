"""How many threads compiled code may use: those of torch, or fewer in a thread that works beside others."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import torch

_OF_THREAD = threading.local()


def count_threads() -> int:
    """Threads for a calculation of the calling thread; asked at each one, for the user may change it in between."""
    limit: int | None = getattr(_OF_THREAD, "limit", None)
    return torch.get_num_threads() if limit is None else limit


@contextmanager
def limit_threads(limit: int) -> Iterator[None]:
    """Let calculations of the calling thread use so many threads, whatever torch is set to.

    ``torch.set_num_threads`` is no substitute: what one thread sets there holds for threads that begin later, too.

    Example:
        >>> with limit_threads(1):
        ...     count_threads()
        1
        >>> count_threads() == torch.get_num_threads()
        True
    """
    earlier = getattr(_OF_THREAD, "limit", None)
    _OF_THREAD.limit = limit
    try:
        yield
    finally:
        _OF_THREAD.limit = earlier
