"""The teacher of a pretraining: what the config names becomes a calculator of ASE."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from ase.calculators.calculator import Calculator
from ase.data import atomic_numbers

from nequip_like.errors import ConfigError, ModelFileError, NequipLikeError, closest_hint, first_line
from nequip_like.whole_files import path_of
from nequip_like.workflow.config import trust

_XTB = {"gfn1": "GFN1-xTB", "gfn2": "GFN2-xTB"}
_LAST_OF_XTB = 86  # radon: both methods have parameters up to it
_KEY = "pretrain.teacher"
_NAMES = (*_XTB, "emt")
_INSTALL = 'pip install "nequip-like[tblite]"'


@dataclass(frozen=True)
class Teacher:
    """What labels the structures of a pretraining.

    Attributes:
        name: As the config names it.
        calculator: A calculator of ASE with energy and forces.
        works_apart: Whether processes of their own can build it by its name alone, and it is worth their start.
    """

    name: str
    calculator: Any
    works_apart: bool = False

    @property
    def gives_stress(self) -> bool:
        """Whether it has the stress of a crystal."""
        return "stress" in self.calculator.implemented_properties


def describe_teacher(teacher: str | Mapping[str, Any]) -> str:
    """Name a teacher in one word, as the config does."""
    return teacher if isinstance(teacher, str) else str(teacher.get("_target_"))


def check_teacher(teacher: str | Mapping[str, Any], trusted: Sequence[str], key: str = _KEY) -> None:
    """Refuse a teacher that cannot be had, before any data are read.

    Args:
        teacher: What the config says.
        trusted: The user's packages.
        key: Where the config says it, for messages.

    Raises:
        ConfigError: If there is no such teacher, it is in no trusted package, or its package is not installed.
    """
    name = describe_teacher(teacher)
    if name in _NAMES:
        if name in _XTB and "tblite" not in sys.modules and find_spec("tblite") is None:
            raise ConfigError(f"{key} is {name}, which needs the package tblite; it is not installed", _INSTALL)
        return
    if _is_model_path(name):
        if not path_of(name).exists():
            raise ConfigError(f"{key}: there is no file {path_of(name).absolute()}", "give the path of a model")
        return
    if isinstance(teacher, str) and "." not in teacher:
        raise ConfigError(
            f"{key} is '{name}'",
            f"{closest_hint(name, _NAMES)}write one of {', '.join(_NAMES)}, a model file, or the dotted name of a "
            "calculator of ASE in a trusted package",
        )
    _look_up_calculator(name, trusted, key)


def build_teacher(
    teacher: str | Mapping[str, Any],
    trusted: Sequence[str],
    species: Sequence[str],
    key: str = _KEY,
    accuracy: float = 1.0,
) -> Teacher:
    """Build the calculator of a teacher.

    Args:
        teacher: What the config says; it was checked.
        trusted: The user's packages.
        species: Chemical symbols that it has to know.
        key: Where the config says it, for messages.
        accuracy: Of the self-consistent charges of tight binding, in tblite's measure: a
            larger one has larger thresholds.

    Raises:
        ConfigError: If it lacks a species, or cannot be built.
    """
    name = describe_teacher(teacher)
    if name in _XTB:
        from tblite.ase import TBLite

        known = [symbol for symbol, number in atomic_numbers.items() if number <= _LAST_OF_XTB]
        _check_species(name, species, known, key)
        return Teacher(name, TBLite(method=_XTB[name], verbosity=0, accuracy=accuracy), works_apart=True)
    if name == "emt":
        from ase.calculators.emt import EMT, parameters

        _check_species(name, species, list(parameters), key)
        return Teacher(name, EMT())
    if _is_model_path(name):
        return _load_model(name, species, key)
    arguments = {} if isinstance(teacher, str) else {key: value for key, value in teacher.items() if key != "_target_"}
    try:
        return Teacher(name, _look_up_calculator(name, trusted, key)(**arguments))
    except NequipLikeError:
        raise
    except Exception as error:  # code of the user's packages raises anything
        raise ConfigError(f"{key}: {name} cannot be built: {first_line(error)}", "give its arguments: "
                          f"{key}={{_target_: {name}, ARGUMENT: VALUE}}") from error  # fmt: skip


def _load_model(name: str, species: Sequence[str], key: str) -> Teacher:
    from nequip_like.integrations.ase import NequIPCalculator  # with torch, which processes that label do without

    try:
        calculator = NequIPCalculator(path_of(name))
    except ModelFileError as error:
        raise ConfigError(f"{key}: {error.message}", error.advice) from error
    _check_species(name, species, calculator.potential.type_names, key)
    return Teacher(name, calculator)


def _is_model_path(name: str) -> bool:
    return name.endswith((".safetensors", ".ckpt")) or "/" in name or Path(name).is_dir()


def _look_up_calculator(name: str, trusted: Sequence[str], key: str) -> Any:
    root = name.partition(".")[0]
    if root in trust.THIRD_PARTY and not trust.within(name, trusted):
        raise ConfigError(
            f"{key} is '{name}', and calculators of {root} are not for every config to call",
            f"if you know what this one does, write trusted_packages: [{name.rpartition('.')[0]}]",
        )
    definition = trust.look_up(key, name, trusted)
    if not (isinstance(definition, type) and issubclass(definition, Calculator)):
        raise ConfigError(f"{key} is '{name}', which is no calculator of ASE", "name a class of calculators")
    return definition


def _check_species(name: str, species: Sequence[str], known: Sequence[str], key: str) -> None:
    if lacking := [symbol for symbol in species if symbol not in known]:
        raise ConfigError(
            f"{key} is {name}, which does not know {', '.join(lacking)} of the training data",
            f"take another teacher, such as gfn2 (up to radon), or leave it out: {key}=null",
        )
