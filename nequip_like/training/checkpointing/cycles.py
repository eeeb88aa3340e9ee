"""How often checkpoints are written, in our own words, and the newest of many that stay."""

from __future__ import annotations

import re
from datetime import timedelta
from pathlib import Path
from typing import Any

from nequip_like.arguments import Count, Positive, check
from nequip_like.errors import ConfigError


def take_cycle(arguments: dict[str, Any], updates: int | None, minutes: float | None) -> None:
    """Turn our own cycles into Lightning's."""
    check("every_n_updates", updates, Count | None)
    check("every_n_minutes", minutes, Positive | None)
    ours = {
        "every_n_train_steps": ("every_n_updates", updates),
        "train_time_interval": ("every_n_minutes", None if minutes is None else timedelta(minutes=minutes)),
    }
    for name, (our_name, value) in ours.items():
        if value is not None and arguments.get(name) is not None:
            raise ConfigError(f"{our_name} and {name} of a checkpoint are both given", f"leave out {name}")
        if value is not None:
            arguments[name] = value
    cycles = ("every_n_train_steps", "train_time_interval", "every_n_epochs")
    if len([name for name in cycles if arguments.get(name)]) > 1:
        raise ConfigError(
            "a checkpoint is to be written by epochs, by updates or by minutes",
            "keep one of every_n_epochs, every_n_updates and every_n_minutes, and set the others to null",
        )


def take_newest(arguments: dict[str, Any], keep_newest: int) -> None:
    """Let Lightning keep all files: we remove them."""
    check("keep_newest", keep_newest, Count)
    if arguments.get("monitor") is not None or arguments.get("save_top_k", -1) not in (1, -1):
        raise ConfigError(
            "keep_newest of a checkpoint goes without monitor and save_top_k",
            "the best k are kept by save_top_k; the newest by another callback, without monitor",
        )
    arguments["save_top_k"] = -1


def list_matching_files(folder: Path, filename: str, ending: str) -> list[str]:
    """Files with the names that a callback gives, the newest last.

    The state of a callback does not have them all: some were written after the checkpoint that it is in.
    """
    parts = re.split(r"\{(\w+)[^}]*\}", filename)
    pattern = "".join(
        rf"({re.escape(part)}=)?[-+.\deE]+" if i % 2 else re.escape(part) for i, part in enumerate(parts)
    ) + re.escape(ending)
    paths = [path for path in folder.glob(f"*{ending}") if re.fullmatch(pattern, path.name)]
    return [path.name for path in sorted(paths, key=lambda path: path.stat().st_mtime_ns)]
