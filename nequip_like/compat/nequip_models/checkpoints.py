"""NequIP's checkpoints, read without NequIP: tensors and plain values only, nothing that they hold is run.

NequIP 0.19 itself reads them with ``weights_only=False``; its own, however, hold nothing that needs it.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from nequip_like.compat.nequip_models.contents import NequIPContent
from nequip_like.errors import ModelFileError

# Training modules whose evaluated weights are the raw ones, or the averages that stand beside them.
_MODULES = ("NequIPLightningModule", "EMALightningModule", "ConFIGLightningModule", "EMAConFIGLightningModule")
_MODEL, _AVERAGE = "model.sole_model.", "ema.ema_weight_"
_WITH_CODE = "with --nequip-python PYTHON NequIP itself opens it, which runs its code: do so for files that you trust"
# Suffixes of the names of tensors that are buffers of e3nn's and NequIP's, and never averaged.
_BUFFERS = ("_empty", "_rmax_recip", "output_mask", "atomic_numbers", "_qqr2exesquare", ".bias", "norm_const")


class ForeignFileError(ModelFileError):
    """A file is no checkpoint of NequIP's that can be read without running anything in it."""


def read_checkpoint_module(path: Path) -> Any:
    """Read the section ``training_module`` of the config that a checkpoint carries.

    Raises:
        ModelFileError: If it is none of NequIP's, is damaged, or holds code.
    """
    return _describe_module(_load(path), path)


def read_nequip_checkpoint(path: Path, follow: Callable[[Path, Any], dict[str, Any]]) -> NequIPContent:
    """Read a checkpoint.

    Args:
        path: The file.
        follow: Finds what builds the model; see :func:`~nequip_like.compat.nequip_models.contents.follow_config`.

    Returns:
        Its content: of one with EMA the averaged weights, as NequIP takes them.

    Raises:
        ForeignFileError: If it is none of NequIP's, is damaged, or holds code.
        ModelFileError: If it cannot be evaluated here, or holds several models.
    """
    try:
        content = _load(path)
        module = _describe_module(content, path)
    except ModelFileError as error:
        raise ForeignFileError(error.message, error.advice) from error
    name = str(module.get("_target_")).rsplit(".", 1)[-1]
    if name not in _MODULES:
        raise ModelFileError(f"{path} was trained by {name}, whose weights only NequIP can evaluate", _WITH_CODE)
    tensors = {str(key): value for key, value in content["state_dict"].items() if isinstance(value, Tensor)}
    models = sorted({key.split(".")[1] for key in tensors if key.startswith("model.") and key.count(".") > 1})
    if models != ["sole_model"]:
        raise ModelFileError(f"{path} holds the models {', '.join(models) or 'none'}", "one model is expected")
    state = {key.removeprefix(_MODEL): value for key, value in tensors.items() if key.startswith(_MODEL)}
    model = follow(path, module)
    has_average = f"{_AVERAGE}0" in tensors
    if has_average:
        _check_holds_average(content["state_dict"], path)
        averages = [tensors[f"{_AVERAGE}{i}"] for i in range(sum(key.startswith(_AVERAGE) for key in tensors))]
        state |= _name_averages(state, averages, model, path)
    facts = {
        "kind": "checkpoint",
        "weights": "ema" if has_average else "raw",
        "epoch": content.get("epoch"),
        "step": content.get("global_step"),
        "versions": dict(content["hyper_parameters"]["info_dict"].get("versions") or {}),
    }
    return NequIPContent(path, model, state, facts)


def _load(path: Path) -> Mapping[str, Any]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about foreign files, which are refused below
            content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises anything, from KeyError to UnpicklingError, for a foreign file
        text = str(error).lower()
        if "unsupported global" in text or "unsupported class" in text:
            raise ModelFileError(
                f"{path} holds more than tensors and plain values, so loading it might run code; it was not read",
                _WITH_CODE,
            ) from error
        raise ModelFileError(
            f"{path} is no checkpoint, or is cut off or damaged: {type(error).__name__}", "copy it again"
        ) from error
    if not isinstance(content, dict) or not isinstance(content.get("state_dict"), Mapping):
        raise ModelFileError(f"{path} is no checkpoint of NequIP's", "give a .ckpt or .nequip.zip file")
    return content


def _describe_module(content: Mapping[str, Any], path: Path) -> Mapping[str, Any]:
    place: Any = content
    for key in ("hyper_parameters", "info_dict", "training_module"):
        place = place.get(key) if isinstance(place, Mapping) else None
    if not isinstance(place, Mapping):
        raise ModelFileError(f"{path} is no checkpoint of NequIP's", "give a .ckpt or .nequip.zip file")
    return place


def _check_holds_average(state: Mapping[str, Any], path: Path) -> None:
    extra = state.get("ema._extra_state")
    if not isinstance(extra, Mapping) or extra.get("is_holding_ema_weights") is not True:
        raise ModelFileError(f"{path} was written while weights and averages were exchanged", "give another checkpoint")


def _name_averages(
    state: Mapping[str, Tensor], averages: list[Tensor], model: Mapping[str, Any], path: Path
) -> dict[str, Tensor]:
    """The averages by the names of their weights: they stand in the order of the model's parameters."""
    names = [name for name, value in state.items() if value.numel() and _is_parameter(name, model)]
    shapes = [tuple(state[name].shape) for name in names]
    if shapes != [tuple(average.shape) for average in averages]:
        raise ModelFileError(f"{path}: its averaged weights are not those of its model", _WITH_CODE)
    return dict(zip(names, averages, strict=True))


def _is_parameter(name: str, model: Mapping[str, Any]) -> bool:
    if name.endswith(("per_type_energy_scale_shift.scales", "per_type_energy_scale_shift.shifts")):
        return bool(model.get(f"per_type_energy_{name.rsplit('.', 1)[-1]}_trainable", False))
    if name.endswith("bessel_weights"):
        return bool(model.get("bessel_trainable", False))
    return not name.endswith(_BUFFERS)
