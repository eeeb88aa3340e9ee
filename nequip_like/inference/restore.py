"""From a config and tensors, as files hold them, to a potential that is ready to predict."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

import nequip_like
from nequip_like.errors import ModelFileError, NequipLikeError
from nequip_like.model.families import build
from nequip_like.model.potential import Potential

_OTHER_VERSION = "the file is damaged, or was written by another version of nequip_like; export the model again"


def restore(config: Any, tensors: Mapping[str, Any], where: str) -> Potential:
    """Build a potential and give it its weights.

    Nothing that the file names is imported: ``config`` names a family of :mod:`nequip_like.model.families`.

    Args:
        config: ``{"family": name, "arguments": {...}}``, not yet checked.
        tensors: The potential's ``state_dict``, not yet checked.
        where: The file, for messages.

    Returns:
        The potential on the CPU, in evaluation mode; its parameters do not require gradients.

    Raises:
        ModelFileError: If the config cannot be built, or tensors are missing, too many, or of another shape or type.
    """
    if not isinstance(config, Mapping) or not isinstance(config.get("arguments"), Mapping):
        raise ModelFileError(f"{where} does not describe its model", _OTHER_VERSION)
    try:
        potential = build(config)
    except ModelFileError as error:
        raise ModelFileError(f"{where}: {error.message}", error.advice) from error
    except NequipLikeError as error:
        raise ModelFileError(f"{where}: its model cannot be built: {error.message}", _OTHER_VERSION) from error
    except (TypeError, ValueError, KeyError, AttributeError, AssertionError, RuntimeError) as error:
        reason = " ".join(str(error).split())
        raise ModelFileError(f"{where}: its model cannot be built: {reason}", _OTHER_VERSION) from error
    _check(potential.state_dict(), tensors, where)
    potential.load_state_dict(dict(tensors))
    return potential.requires_grad_(False).eval()


def check_version(version: object, newest: int, path: Path) -> None:
    """Refuse a file of a format that is newer than this version of the package.

    Raises:
        ModelFileError: If so, or if the file does not tell.
    """
    if not isinstance(version, int) or version > newest:
        raise ModelFileError(
            f"{path} is of format version {version}; this nequip_like {nequip_like.__version__} reads versions up to "
            f"{newest}",
            "install a newer nequip_like",
        )


def _check(wanted: Mapping[str, Tensor], found: Mapping[str, Any], where: str) -> None:
    if missing := sorted(wanted.keys() - found.keys()):
        raise ModelFileError(
            f"{where} lacks {len(missing)} tensors of its model, such as '{missing[0]}'", _OTHER_VERSION
        )
    if extra := sorted(found.keys() - wanted.keys()):
        raise ModelFileError(f"{where} has tensors that its model does not, such as '{extra[0]}'", _OTHER_VERSION)
    for name, tensor in wanted.items():
        value = found[name]
        if not isinstance(value, Tensor) or value.shape != tensor.shape or value.dtype != tensor.dtype:
            is_now = f"{tuple(value.shape)} {value.dtype}" if isinstance(value, Tensor) else type(value).__name__
            raise ModelFileError(
                f"{where}: tensor '{name}' is {is_now}, but its model needs {tuple(tensor.shape)} {tensor.dtype}",
                _OTHER_VERSION,
            )
