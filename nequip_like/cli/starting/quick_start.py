"""What makes a command begin sooner: fewer passes of the garbage collector, and nothing loaded that is not used."""

from __future__ import annotations

import gc
import importlib
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType, SimpleNamespace
from typing import Any

from nequip_like.cli.starting.compiler import defer_compiler
from nequip_like.cli.starting.deferred import defer


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
    - Lightning and each optimiser load torch's compiler, which nothing here uses: see
      :mod:`nequip_like.cli.starting.compiler`.
    - ``import torchmetrics`` loads all of ``matplotlib.pyplot`` for its ``plot`` methods. It is loaded when one is
      called.
    """
    enabled, modules = gc.isenabled(), len(sys.modules)
    gc.disable()
    defer("scipy.signal", {"hamming": "windows.hamming"})
    defer("scipy.integrate", {"trapezoid": "trapezoid"})
    defer("scipy.spatial")
    defer_compiler()
    try:
        _import_torchmetrics()
        yield
    finally:
        if len(sys.modules) > modules:  # not in the second job of a multirun: what the first one left would stay
            gc.freeze()
        if enabled:
            gc.enable()


def _import_torchmetrics() -> None:
    """Import it, which Lightning and the metrics need, without ``matplotlib.pyplot``.

    It takes two types for annotations and a decorator from there, and functions for its ``plot`` methods. It gets
    something for the former; the latter import pyplot when they are called.
    """
    if any(name in sys.modules for name in ("torchmetrics", "matplotlib.axes", "matplotlib.pyplot")):
        importlib.import_module("torchmetrics")
        return
    matplotlib = importlib.import_module("matplotlib")
    axes, pyplot = ModuleType("matplotlib.axes"), ModuleType("matplotlib.pyplot")
    vars(axes)["Axes"] = vars(pyplot)["Figure"] = object
    vars(pyplot)["style"] = SimpleNamespace(context=lambda style: lambda function: function)
    for module in (axes, pyplot):
        sys.modules[module.__name__] = module
        setattr(matplotlib, module.__name__.rpartition(".")[2], module)
    try:
        importlib.import_module("torchmetrics")
    finally:  # whoever imports them from now on gets matplotlib's own
        for module in (axes, pyplot):
            del sys.modules[module.__name__]
            delattr(matplotlib, module.__name__.rpartition(".")[2])
    vars(sys.modules["torchmetrics.utilities.plot"])["plt"] = _Pyplot()


class _Pyplot:
    """Stands for ``matplotlib.pyplot`` in one module, and imports it when something in it is used."""

    def __getattr__(self, name: str) -> Any:
        return getattr(importlib.import_module("matplotlib.pyplot"), name)
