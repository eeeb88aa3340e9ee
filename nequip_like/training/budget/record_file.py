"""``budget.json``: the plans of a run with a budget, from which it can be repeated without a clock."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from nequip_like.errors import ConfigError, naming
from nequip_like.optim.schedules.progress import Progress
from nequip_like.whole_files import path_of, written_whole

BUDGET_FILE = "budget.json"
_FORMAT = 1


def write_records(path: Path, progress: Progress, **more: Any) -> None:
    """Write the records of a run.

    Args:
        path: The file.
        progress: The records.
        **more: What else is of interest, plain values.

    Raises:
        OutputError: If it cannot be written.
    """
    content = {"format": _FORMAT, "steps": progress.end, **more, "records": progress.to_lists()}
    with written_whole(path) as partial:
        partial.write_text(json.dumps(content) + "\n")


def read_records(path: str) -> Progress:
    """Read the records of a run.

    Raises:
        ConfigError: If the file is not there, or holds no records.
    """
    try:
        content = json.loads(path_of(path).read_text())
    except OSError as error:
        raise ConfigError(f"budget.repeat is {path}, which cannot be read: {error.strerror}", _ADVICE) from None
    except ValueError:
        content = None
    if not isinstance(content, dict) or content.get("format") != _FORMAT:
        raise ConfigError(f"budget.repeat is {path}, which is not a file of the plans of a run", _ADVICE)
    with naming(f"budget.repeat is {path}"):
        return Progress.from_lists(content.get("records"))


_ADVICE = f"give the {BUDGET_FILE} of a run with a budget, from its output folder"
