"""Modules that are loaded when something in them is used, and not when they are imported."""

from __future__ import annotations

import importlib.util
import operator
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

_LOCK = threading.RLock()
_EXECUTED = "__executed__"


def defer(name: str, functions: Mapping[str, str] | None = None, meanwhile: Mapping[str, Any] | None = None) -> None:
    """Let a module be loaded when something in it is used for the first time.

    ``importlib.util.LazyLoader`` is the same, but loads a module as soon as anyone looks for any name in it.

    Args:
        name: The module. If it is loaded already, or is not there, nothing happens.
        functions: Names that are found in it before it is loaded, and the function of it that each calls, by its dotted
            name in the module. What the module has of its own under these names takes their place.
        meanwhile: What else is found in it before it is loaded, by its name there.
    """
    if name in sys.modules:
        return
    try:
        spec = importlib.util.find_spec(name)
    except ModuleNotFoundError:
        return
    if spec is None:
        return
    module = importlib.util.module_from_spec(spec)
    vars(module).update({called: _forward(module, function) for called, function in (functions or {}).items()})
    vars(module).update(meanwhile or {})
    module.__class__ = _Deferred
    sys.modules[name] = module
    parent, _, last = name.rpartition(".")
    if parent:
        setattr(sys.modules[parent], last, module)
    if not any(isinstance(finder, _ParentFirst) for finder in sys.meta_path):
        sys.meta_path.insert(0, _ParentFirst())


def is_deferred(module: ModuleType) -> bool:
    """Whether a module is one that is not loaded yet, or not wholly."""
    return isinstance(module, _Deferred)


def _forward(module: ModuleType, function: str) -> Callable[..., Any]:
    """A function that calls one of a module that is not loaded yet."""

    def forward(*arguments: Any, **options: Any) -> Any:
        load_deferred(module)
        return operator.attrgetter(function)(module)(*arguments, **options)

    forward.__name__ = forward.__qualname__ = function.rpartition(".")[2]
    forward.__module__ = module.__name__
    return forward


class _Deferred(ModuleType):
    """A module that is executed in place as soon as it is asked for a name that it lacks."""

    def __getattr__(self, name: str) -> Any:
        with _LOCK:  # another thread waits here until all of the module is there
            if _EXECUTED in vars(self):
                raise AttributeError(f"module '{self.__name__}' has no attribute '{name}'", name=name, obj=self)
            load_deferred(self)
        return getattr(self, name)


def load_deferred(module: ModuleType) -> ModuleType:
    """Execute a deferred module, if it is not done; from then on it is one like any other."""
    with _LOCK:
        spec = module.__spec__
        if not isinstance(module, _Deferred) or _EXECUTED in vars(module) or spec is None or spec.loader is None:
            return module
        vars(module)[_EXECUTED] = True
        try:
            spec.loader.exec_module(module)
        finally:
            del vars(module)[_EXECUTED]
        module.__class__ = ModuleType  # type: ignore[assignment]
    return module


class _ParentFirst(MetaPathFinder):
    """Loads a deferred module before a submodule of it is imported, as Python does with other modules."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Called by Python's import system."""
        parent = sys.modules.get(fullname.rpartition(".")[0])
        if isinstance(parent, _Deferred):
            load_deferred(parent)
            if (module := sys.modules.get(fullname)) is not None:
                # Python goes on with what the module itself says, and would execute it again.
                module.__spec__ = ModuleSpec(fullname, _Loaded(module))
                return module.__spec__
        return None


class _Loaded(Loader):
    """Stands for a module that its parent has imported meanwhile, and that must not be executed again."""

    def __init__(self, module: ModuleType) -> None:
        self._module, self._spec = module, module.__spec__

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        """Called by Python's import system."""
        return self._module

    def exec_module(self, module: ModuleType) -> None:
        """Called by Python's import system."""
        module.__spec__ = self._spec
