"""The model families that a model file can name. A file never names code: it names a row of this table."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from nequip_like.errors import ModelFileError
from nequip_like.model.builders import FullNequIPGNNModel
from nequip_like.model.potential import Potential

FAMILIES: dict[str, Callable[..., Potential]] = {"nequip": FullNequIPGNNModel}


def build(config: Mapping[str, Any]) -> Potential:
    """Build a potential from the ``config`` of another one (``{"family": name, "arguments": {...}}``).

    Raises:
        ModelFileError: If this version of the package does not know the family.
    """
    family = config.get("family")
    if family not in FAMILIES:
        raise ModelFileError(
            f"the model is of the family '{family}', which this version does not know",
            f"known families are {', '.join(FAMILIES)}; a newer version of nequip_like may read the file",
        )
    return FAMILIES[family](**config["arguments"])
