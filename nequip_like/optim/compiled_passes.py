"""What passes over weights in C have in common: their files of C, their library, and which tensors they can take."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from importlib.resources import files
from operator import attrgetter

import torch
from torch import Tensor

from nequip_like.nn.native.compiler import compile_or_warn

SUFFIXES = {torch.float32: "float", torch.float64: "double"}  # of the functions of C
_ROOTS = {"float": "sqrtf", "double": "sqrt"}
_PLAIN = {Tensor, torch.nn.Parameter}
_get_kind = attrgetter("dtype", "layout", "is_cpu")
# O3 makes vectors of loops whose length is known at run time only. It comes first: a function of another level is not
# put into those that call it.
_UNIT = """\
#pragma GCC optimize("O3")
#include <math.h>
#include <stdint.h>
{constants}#define REAL {real}
#define NAME(name) name##_{real}
static inline {real} root_{real}({real} x) {{ return {root}(x); }}
#include "{file}"
"""


def write_units(file: str, *included: str, **constants: int) -> tuple[list[str], dict[str, str]]:
    """Write translation units, one for each type of numbers, beside the files of this folder that they include.

    Args:
        file: Name of the file.
        *included: Names of those that it includes itself.
        **constants: What it wants to be told.
    """
    defined = "".join(f"#define {name} {value}\n" for name, value in constants.items())
    units = [_UNIT.format(constants=defined, real=real, root=root, file=file) for real, root in _ROOTS.items()]
    return units, {name: files(__package__).joinpath(name).read_text(encoding="utf-8") for name in (file, *included)}


def load_passes(units: tuple[list[str], dict[str, str]], what: str) -> ctypes.CDLL | None:
    """Compile passes; None if they cannot be had, and then a warning says why, unless there is no compiler.

    Args:
        units: What :func:`write_units` gave.
        what: What torch has to update then, in the plural.
    """
    return compile_or_warn(*units, otherwise=f"{what} are updated by torch operations, which are slower")


def can_be_passed(tensors: Sequence[Tensor]) -> bool:
    """Whether C can work on tensors: dense ones without gaps, of one type that there is code for, on the CPU.

    Classes derived from torch's may have no memory of their own, and sparse ones another kind of it.
    """
    dtype = tensors[0].dtype if tensors else None
    return (
        dtype in SUFFIXES
        and set(map(type, tensors)) <= _PLAIN
        and set(map(_get_kind, tensors)) == {(dtype, torch.strided, True)}
        and all(map(Tensor.is_contiguous, tensors))
    )
