"""What the section ``data`` says of its parts, read before any file is."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from nequip_like.data.batches.batch_size import check_batch_sizes
from nequip_like.data.reference_energies import has_conditions
from nequip_like.data.replay import Replay
from nequip_like.data.sampling.mixtures import Mixture, check_drawing
from nequip_like.data.sampling.policies import Sampling
from nequip_like.data.sources import file_source
from nequip_like.data.tables.conditions import Conditions
from nequip_like.workflow.config.values import is_known


def check_data_parts(data: Mapping[str, Any]) -> None:
    """Refuse entries that cannot be understood.

    Args:
        data: The values of the section.

    Raises:
        ConfigError: Naming the key.
    """
    common = (data.get("key_mapping"), data.get("units"))
    if Mixture.read(data["train"], *common) is None:
        file_source(data["train"], "train", *common)
    Replay.read(data.get("replay"), *common)
    check_batch_sizes({key: data.get(key) for key in ("batch_size", "val_batch_size") if is_known(data.get(key))})
    if is_known(sampling := data.get("sampling")):
        check_drawing(Sampling.read(sampling), data["train"])
    references = data.get("reference_energies")
    if isinstance(references, Mapping) and is_known(references) and has_conditions(references):
        Conditions.read(references)
