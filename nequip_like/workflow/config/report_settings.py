"""The section ``report`` of a config: how results are shown."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from nequip_like.arguments import shown
from nequip_like.errors import ConfigError, closest_hint
from nequip_like.report.pictures import read_formats

KEYS = ("format",)


def read_picture_formats(section: Any) -> list[str]:
    """Read the formats of the pictures of a run; PNG if the config names none.

    Args:
        section: The section as plain values; None if the config has none.

    Raises:
        ConfigError: If the section has another key, or a format is not known.
    """
    if section is None:
        return ["png"]
    if not isinstance(section, Mapping):
        raise ConfigError(f"report is {shown(section)}", "give a mapping: report: {format: [png, pdf]}")
    if unknown := [key for key in section if key not in KEYS]:
        raise ConfigError(
            f"report has the unknown key '{unknown[0]}'",
            f"{closest_hint(str(unknown[0]), KEYS)}known are {', '.join(KEYS)}",
        )
    return read_formats(section.get("format", ["png"]))
