"""What a module consists of, to be compared with what it consists of later."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from operator import is_
from typing import Any

from torch import Tensor, nn

_KINDS = ("_modules", "_parameters", "_buffers")


class ModuleContent:
    """The modules and tensors that a module consisted of when this was made.

    A walk through a module takes as long as a tenth of a step of a small model; to see that nothing was replaced takes
    a tenth of that.

    Args:
        module: The module.

    Attributes:
        parameters: Parameters of all modules, each once.
        buffers: Buffers of all modules, each once.

    Example:
        >>> layer = nn.Linear(2, 1)
        >>> content = ModuleContent(layer)
        >>> content.is_of(layer)
        True
        >>> layer.bias = nn.Parameter(layer.bias.detach().clone())
        >>> content.is_of(layer)
        False
    """

    def __init__(self, module: nn.Module) -> None:
        self._module = module
        modules = list(module.modules())
        # The dictionaries in which modules keep what belongs to them: a module may replace what is in one.
        self._kept = [getattr(each, kind) for kind in _KINDS for each in modules]
        self._filled = [kept for kept in self._kept if kept]
        self._content = self._list()
        self.parameters, self.buffers = (_collect(modules, kind) for kind in ("_parameters", "_buffers"))

    def _list(self) -> list[Any]:
        return list(chain.from_iterable(map(dict.values, self._filled)))

    def is_of(self, module: nn.Module) -> bool:
        """Whether this is still what the module consists of: nothing was replaced, added or taken out."""
        content = self._list()
        return (
            self._module is module
            and sum(map(len, self._kept)) == len(content) == len(self._content)
            and all(map(is_, content, self._content))  # == would compare tensors number by number
        )


def _collect(modules: Sequence[nn.Module], kind: str) -> list[Tensor]:
    kept = chain.from_iterable(getattr(module, kind).values() for module in modules)
    return list({id(tensor): tensor for tensor in kept if tensor is not None}.values())
