"""What a file of NequIP's holds of its model, whoever opened it: what builds it, its weights, and predictions of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from nequip_like.errors import ModelFileError
from nequip_like.summaries import Summarized

# Files that a config may name one after the other; more are a circle.
_LONGEST_CHAIN = 8
_MOST_VALUES, _DEEPEST = 100_000, 50
_SCALE_SHIFT = "modify_PerTypeScaleShift"
# What other modifiers change in the config; those that only choose a kernel change nothing.
_CHANGES: dict[str, dict[str, Any]] = {
    "enable_ForceStressOutput": {"do_derivatives": True},
    "disable_ForceStressOutput": {"do_derivatives": False},
    "enable_OpenEquivariance": {},
    "enable_CuEquivariance": {},
}


@dataclass(frozen=True, repr=False)
class NequIPContent(Summarized):
    """A model of NequIP's, as its file has it.

    Attributes:
        file: Where it stands.
        model: What builds it: a ``_target_`` of NequIP's and its arguments.
        state: Its tensors under NequIP's names, those that NequIP evaluates.
        facts: What else the file tells: ``weights`` (``ema`` or ``raw``), ``epoch``, ``step``, ``versions``, ...
        structures: Graphs by name, that NequIP was asked about; none where it was not there.
        predicted: What it said of each of them: ``total_energy``, ``atomic_energy``, ``forces``, ``stress``.
    """

    file: Path
    model: Mapping[str, Any]
    state: Mapping[str, Tensor]
    facts: Mapping[str, Any]
    structures: Mapping[str, dict[str, Tensor]] = field(default_factory=dict)
    predicted: Mapping[str, dict[str, Tensor]] = field(default_factory=dict)

    def summary(self) -> dict[str, Any]:
        """What it is, without its tensors."""
        return {"file": str(self.file), "model": str(self.model.get("_target_")), **self.facts}


def follow_config(file: Path, module: Any, read_module: Callable[[Path], Any]) -> dict[str, Any]:
    """Find what builds the model: a model that began with another one names its file, and that one's config is taken.

    Args:
        file: Where the config stands, for messages.
        module: The section ``training_module``.
        read_module: Reads this section of a checkpoint or package.

    Returns:
        A ``_target_`` of NequIP's and its arguments, with what modifiers changed.

    Raises:
        ModelFileError: If there is no such section, a file that it names is not there, or a modifier is not known.
    """
    modifiers: list[Any] = []
    _check_size(module, file)
    for _ in range(_LONGEST_CHAIN):
        model = module.get("model") if isinstance(module, Mapping) else None
        while isinstance(model, Mapping) and _name_class(model) == "modify":
            modifiers = [*_list_modifiers(model, file), *modifiers]
            model = model.get("model")
        if not isinstance(model, Mapping) or not isinstance(model.get("_target_"), str):
            raise ModelFileError(f"{file} does not say what builds its model", "it is none of NequIP 0.19's")
        keys = {"ModelFromPackage": "package_path", "ModelFromCheckpoint": "checkpoint_path"}
        if _name_class(model) not in keys:
            return _apply_modifiers({str(key): value for key, value in model.items()}, modifiers, file)
        named = Path(str(model.get(keys[_name_class(model)])))
        if not named.is_file():
            raise ModelFileError(
                f"{file} was trained from {named}, which is not there and says what builds the model",
                "put that file there",
            )
        module = read_module(named)
        _check_size(module, named)
    raise ModelFileError(f"{file}: the files that its model began with name each other in a circle")


def _check_size(module: Any, file: Path) -> None:
    """Refuse a config whose parts stand in each other, or for more values than any config has."""
    if _count_values(module, {}, 0) > _MOST_VALUES:
        raise ModelFileError(f"{file}: its config has too many values, or they stand in each other", "copy it again")


def _count_values(value: Any, sizes: dict[int, int], depth: int) -> int:
    """Number of values in a value; each is counted once and added as often as it is referred to."""
    if depth > _DEEPEST:
        return _MOST_VALUES + 1
    children = value.values() if isinstance(value, Mapping) else value if isinstance(value, list | tuple) else ()
    if id(value) not in sizes:
        sizes[id(value)] = 1 + sum(_count_values(child, sizes, depth + 1) for child in children)
    return sizes[id(value)]


def _name_class(model: Mapping[str, Any]) -> str:
    return str(model.get("_target_")).rsplit(".", 1)[-1]


def _list_modifiers(model: Mapping[str, Any], file: Path) -> Sequence[Any]:
    modifiers = model.get("modifiers")
    if not isinstance(modifiers, Sequence) or isinstance(modifiers, str):
        raise ModelFileError(f"{file}: the modifiers of its model are {modifiers!r}", "one model is expected")
    return modifiers


def _apply_modifiers(model: dict[str, Any], modifiers: Sequence[Any], file: Path) -> dict[str, Any]:
    for modifier in modifiers:
        name = modifier.get("modifier") if isinstance(modifier, Mapping) else None
        if name == _SCALE_SHIFT:  # the values themselves are among the tensors
            for kind in ("scales", "shifts"):
                model[f"per_type_energy_{kind}_trainable"] = bool(modifier.get(f"{kind}_trainable", False))
        elif name in _CHANGES:
            model |= _CHANGES[name]
        else:
            raise ModelFileError(f"{file}: its model was changed by '{name}', which there is not here")
    return model
