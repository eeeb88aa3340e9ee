"""What makes a command begin sooner: fewer passes of the garbage collector, and nothing loaded that is not used."""

from __future__ import annotations

import gc
import importlib
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace

from nequip_like.cli.deferred import defer, defer_with


@contextmanager
def quick_start() -> Iterator[None]:
    """Import torch and Lightning in less time.

    - The garbage collector rests meanwhile, and never looks at what is made: 600,000 objects that live as long as the
      process. Looking through them for garbage, time and again while they are made, takes a fifth of the start, and
      each later pass would begin with them. So this is for imports and for checking a config, not for reading data:
      cycles that are made meanwhile are never freed.
    - Two packages load large parts of SciPy and use none of it: ``import torchmetrics``, which Lightning needs, gives
      ``scipy.signal`` a ``hamming``, which it had once and another package looks for; ``import ase.io`` takes
      ``trapezoid`` from ``scipy.integrate``, and all of ``scipy.spatial``. These are loaded when they are used.
    - ``import torchmetrics`` loads all of ``matplotlib.pyplot`` for its ``plot`` methods. It is loaded when one is
      called.
    """
    enabled, modules = gc.isenabled(), len(sys.modules)
    gc.disable()
    defer("scipy.signal", {"hamming": "windows.hamming"})
    defer("scipy.integrate", {"trapezoid": "trapezoid"})
    defer("scipy.spatial", {})
    try:
        _import_torchmetrics()
        yield
    finally:
        if len(sys.modules) > modules:  # not in the second job of a multirun: what the first one left would stay
            gc.freeze()
        if enabled:
            gc.enable()


def _import_torchmetrics() -> None:
    """Import it, which Lightning and the metrics need, with names for its annotations in place of matplotlib's."""
    style = SimpleNamespace(context=lambda style: lambda function: function)
    axes, pyplot = {"Axes": object}, {"Figure": object, "style": style}
    with defer_with("matplotlib.axes", axes), defer_with("matplotlib.pyplot", pyplot):
        importlib.import_module("torchmetrics")
