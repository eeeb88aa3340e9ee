"""Mistakes that users make, each with what they are told. Tests and docs/troubleshooting.md are made of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal


@dataclass(frozen=True)
class Mistake:
    """One mistake.

    Attributes:
        title: What the user did.
        example: The lines that the user wrote, as far as they matter.
        error: What is said, in one line; ``{folder}`` stands for the user's folder.
        advice: What is advised, in one line; empty for warnings.
        remedy: What to do, for the documentation, where the message has no advice.
        kind: Whether the run is refused, or goes on after a warning.
        command: What the user ran; ``DataModule`` is the data part of ``nequip-train`` alone.
        files: Files in the user's folder, by name.
        settings: The config's section ``data``, as far as it is not the default of the table.
        overrides: Overrides on the command line of ``nequip-train``.
        arguments: Arguments of the command line, where they are not the usual ones.
        environment: Variables of the environment.
    """

    title: str
    example: str
    error: str
    advice: str = ""
    remedy: str = ""
    kind: Literal["error", "warning"] = "error"
    command: Literal["nequip-train", "nequip-test", "DataModule"] = "nequip-train"
    files: Mapping[str, str | bytes] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)
    overrides: tuple[str, ...] = ()
    arguments: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
