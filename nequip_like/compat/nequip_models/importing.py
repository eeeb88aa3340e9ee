"""A potential from a model of NequIP's."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import nequip_like.model
from nequip_like.compat.nequip_models.checkpoints import read_checkpoint_module, read_nequip_checkpoint
from nequip_like.compat.nequip_models.contents import NequIPContent, follow_config
from nequip_like.compat.nequip_models.dumps import dump_with_nequip
from nequip_like.compat.nequip_models.packages import SUFFIX, read_package, read_package_module
from nequip_like.compat.nequip_parts import translate_model
from nequip_like.compat.nequip_weights import load_nequip_weights
from nequip_like.data import fields
from nequip_like.data.published import compute_checksum
from nequip_like.errors import ModelFileError, NequipLikeError
from nequip_like.inference.restore import check_model_size
from nequip_like.model.potential import Potential
from nequip_like.whole_files import path_of

#: How far a prediction may be from NequIP's, as a share of the largest number of its kind (1 at least).
LIMITS = {"float64": 1e-6, "float32": 1e-5}
_PER_TYPE = "per_type_energy_scale_shift"


def import_nequip_model(source: str | Path, python: str | Path | None = None) -> tuple[Potential, dict[str, Any]]:
    """Make a potential of a checkpoint or a package of NequIP's, with the weights that NequIP evaluates.

    Args:
        source: A ``.ckpt`` or ``.nequip.zip`` file of NequIP 0.19.
        python: An interpreter that has NequIP. Without one, the file is read here: tensors and plain values only, and
            nothing in it is run. With one, NequIP opens the file in a process of its own, which runs the code in it,
            and its predictions for two structures are compared with the potential's.

    Returns:
        The potential, in evaluation mode, and what a model file's card should tell: ``provenance`` with the file, its
        SHA-256, versions, epoch, kind of weights, and the largest differences where NequIP was asked.

    Raises:
        ConfigError: If there is no such interpreter, or it has no NequIP.
        ModelFileError: If the file cannot be read, its model cannot be built here, or predicts something else.
    """
    path = path_of(source)
    if not path.is_file():
        raise ModelFileError(f"no such file: {path.absolute()}", "give a checkpoint or a package of NequIP's")
    if python is not None:
        content = dump_with_nequip(path, python, follow)
    elif path.name.endswith(SUFFIX):
        content = read_package(path, follow)
    else:
        content = read_nequip_checkpoint(path, follow)
    potential = build_from_content(content)
    differences = compare_predictions(potential, content)
    provenance = {
        "imported_from": {"path": str(path.absolute()), "sha256": compute_checksum(path), "package": "nequip"},
        **{key: value for key, value in content.facts.items() if value is not None},
        "compared_with_nequip": differences or None,
    }
    return potential, {"provenance": provenance}


def follow(path: Path, module: Any) -> dict[str, Any]:
    """Find what builds a model; see :func:`~nequip_like.compat.nequip_models.contents.follow_config`."""
    return follow_config(path, module, _read_module)


def _read_module(path: Path) -> Any:
    return (read_package_module if path.name.endswith(SUFFIX) else read_checkpoint_module)(path)


def build_from_content(content: NequIPContent) -> Potential:
    """Build the potential with the same hyper-parameters, and give it the weights.

    Raises:
        ModelFileError: If there is no such model here, or the weights do not fit.
    """
    try:
        arguments = translate_model(content.model, [])
        check_model_size(arguments, content.state, str(content.file))
        builder = getattr(nequip_like.model, str(arguments.pop("_target_")).rsplit(".", 1)[-1])
        for kind in ("scales", "shifts"):
            arguments[f"per_type_energy_{kind}"] = _read_per_type(content, arguments["type_names"], kind)
        potential: Potential = builder(**arguments)
        load_nequip_weights(potential, content.state)
    except ModelFileError as error:
        named = error.message.startswith(str(content.file))
        raise ModelFileError(f"{'' if named else f'{content.file}: '}{error.message}", error.advice) from error
    except NequipLikeError as error:
        raise ModelFileError(f"{content.file}: {error.message}", error.advice) from error
    except (
        TypeError,
        ValueError,
        KeyError,
        AttributeError,
        RuntimeError,
        ArithmeticError,
        AssertionError,
        MemoryError,
    ) as error:
        reason = " ".join(str(error).split())
        raise ModelFileError(
            f"{content.file}: its model cannot be built here: {reason}", "it is none of NequIP 0.19's"
        ) from error
    return potential.requires_grad_(False).eval()


def _read_per_type(content: NequIPContent, type_names: list[str], kind: str) -> dict[str, float] | float | None:
    """Scales or shifts as the tensors have them: a modifier may have changed what the config says."""
    values = next((value for name, value in content.state.items() if name.endswith(f"{_PER_TYPE}.{kind}")), None)
    if values is None or not values.numel():
        return None
    numbers = values.double().reshape(-1).tolist()
    if len(numbers) == 1 and len(type_names) > 1:
        return float(numbers[0])
    return dict(zip(type_names, numbers, strict=True))


def compare_predictions(potential: Potential, content: NequIPContent) -> dict[str, float]:
    """Compare with what NequIP predicted, if it was asked.

    Returns:
        For each quantity the largest difference, as a share of the largest number of its kind (1 at least).

    Raises:
        ModelFileError: If one is above :data:`LIMITS`.
    """
    largest: dict[str, float] = {}
    for name, structure in content.structures.items():
        predicted = potential(_complete(structure))
        for key, expected in content.predicted.get(name, {}).items():
            difference = (predicted[key].detach().reshape(expected.shape) - expected).abs().max()
            # Written so that NaN is not the least.
            share = float(difference) / max(1.0, float(expected.abs().max()))
            largest[key] = share if share != share else max(share, largest.get(key, 0.0))
    limit = LIMITS[str(content.model.get("model_dtype"))] if largest else 0.0
    if beyond := [key for key, value in largest.items() if not value <= limit]:
        raise ModelFileError(
            f"{content.file}: the model that was built here has another {beyond[0]}: the largest difference is "
            f"{largest[beyond[0]]:.1e}",
            "please report this model's config",
        )
    return largest


def _complete(structure: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The structure as a graph of ours."""
    periodic = bool(structure[fields.CELL].any())
    return {
        **structure,
        fields.PBC: torch.tensor([[periodic] * 3]),
        fields.NUM_ATOMS: torch.tensor([len(structure[fields.POSITIONS])]),
    }
