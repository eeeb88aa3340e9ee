"""torch's own compiler, ``torch._dynamo``: loaded when something is compiled, not whenever Lightning is imported.

Loading it takes more than a second, and two who never compile anything ask for it. Lightning wants to know of each
module whether it is a compiled one. Optimisers keep some of their methods from being compiled, and others from being
compiled together with what is around them. All of these have an exact answer without the compiler: as long as it is not
loaded nothing is compiled, and a function may be called as it is.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from types import FunctionType, ModuleType
from typing import Any

from nequip_like.cli.starting.deferred import defer, is_deferred, load_deferred

_NAME = "torch._dynamo"


def defer_compiler() -> None:
    """Let ``torch._dynamo`` be loaded with the first use of anything but what is answered here; torch is imported."""
    answers = {"OptimizedModule": _OptimizedModule, "disable": _disable, "graph_break": _break_graph}
    defer(_NAME, meanwhile=answers)


def _compiler() -> ModuleType:
    return sys.modules[_NAME]


class _AsCompiled(type):
    """Decides what is a compiled module: nothing, before there is a compiler."""

    def __instancecheck__(cls, instance: Any) -> bool:
        return not is_deferred(_compiler()) and isinstance(instance, _compiler().OptimizedModule)

    def __subclasscheck__(cls, subclass: type) -> bool:
        return not is_deferred(_compiler()) and issubclass(subclass, _compiler().OptimizedModule)


class _OptimizedModule(metaclass=_AsCompiled):
    """Stands for ``torch._dynamo.OptimizedModule`` where that was imported before the compiler was loaded."""


def _disable(fn: Callable[..., Any] | None = None, recursive: bool = True, **options: Any) -> Callable[..., Any]:
    """Keep a function from being compiled, as ``torch._dynamo.disable`` does, from the time that anything can be."""
    if not isinstance(fn, FunctionType):  # a module, a class, or a decorator to be: the compiler knows how
        return load_deferred(_compiler()).disable(fn, recursive, **options)
    function = fn
    disabled: list[Callable[..., Any]] = []

    @functools.wraps(function)
    def call(*arguments: Any, **keywords: Any) -> Any:
        if is_deferred(_compiler()):
            return function(*arguments, **keywords)
        if not disabled:
            disabled.append(_compiler().disable(function, recursive, **options))
        return disabled[0](*arguments, **keywords)

    return call


def _break_graph(msg: str = "") -> None:
    """End one compiled part of a function here and begin another, as ``torch._dynamo.graph_break`` does."""
    if not is_deferred(_compiler()):
        _compiler().graph_break(msg)
