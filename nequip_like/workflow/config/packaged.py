"""The packaged configs, as they are written: defaults to compare with, and choices to take."""

from __future__ import annotations

from importlib.resources import files
from typing import Any

from omegaconf import OmegaConf


def read_packaged(name: str) -> dict[str, Any]:
    """Read a file of ``conf`` as plain values, with interpolations as they are written.

    Args:
        name: Its path there.

    Example:
        >>> read_packaged("lr_scheduler/anneal.yaml")["warmup_length"]
        {'share': 0.02}
    """
    text = files("nequip_like.conf").joinpath(*name.split("/")).read_text(encoding="utf-8")
    return dict(OmegaConf.to_container(OmegaConf.create(text), resolve=False))  # type: ignore[arg-type] # a mapping
