"""Ctrl-C ends a run and leaves the process, which may be that of a notebook, as it was."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def interruptible() -> Iterator[None]:
    """Let an interrupt end what is run here, and nothing else.

    While batches are trained, a first Ctrl-C ends training after the batch
    (:class:`~nequip_like.training.graceful_stop.GracefulStop`). At any other time, or the second time, Lightning would
    end the whole process, and have it ignore further ones meanwhile.

    Raises:
        KeyboardInterrupt: In place of the end of the process.
    """
    handler = signal.getsignal(signal.SIGINT)
    try:
        yield
    except SystemExit as end:
        if isinstance(end.__context__, KeyboardInterrupt):
            raise end.__context__ from None
        raise
    finally:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGINT, handler)
