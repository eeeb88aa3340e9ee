"""What a run changes of the package's config."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass
class ConfigChanges:
    """What a run changes of the package's config.

    Attributes:
        choices: Overrides that choose groups of configs.
        values: Values by their keys.
        notes: What the user should know: keys without effect here.
    """

    choices: list[str] = field(default_factory=list)
    values: dict[str, Any] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
