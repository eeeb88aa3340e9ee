"""Are the files of the section ``data`` there? None of them is opened."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nequip_like.data.io.given import expand
from nequip_like.data.published import cache_folder
from nequip_like.data.reference_energies import check_reference_file, is_rule
from nequip_like.data.replay import Replay
from nequip_like.data.sampling.mixtures import Mixture
from nequip_like.data.sources import HeldOut, below, file_source, held_out_sources
from nequip_like.errors import DataError


def check_data_files(data: Mapping[str, Any]) -> None:
    """Refuse files that are not there or may not be read; those of a set that will be downloaded may be missing.

    Args:
        data: The values of the section.

    Raises:
        DataError: Naming the file.
    """
    folder, references = data.get("path"), data.get("reference_energies")
    if folder is not None and cache_folder() in Path(folder).parents and not Path(folder).exists():
        return  # it will be downloaded
    entries: list[Any] = []
    if (mixture := Mixture.read(below(folder, data.get("train")))) is not None:
        entries += [source.files for source in mixture.sources.values()]
    for stage in ("val", "test") if mixture is not None else ("train", "val", "test"):
        sources = held_out_sources(below(folder, data.get(stage)), stage, None, None)
        entries += [source.files for source in sources.values() if not isinstance(source, HeldOut)]
    if isinstance(references, Mapping) and {"file", "path"} & set(references):
        entries.append(file_source(below(folder, references), "reference_energies", None, None).files)
    elif not is_rule(references):
        check_reference_file(below(folder, references))
    if (replay := Replay.read(below(folder, data.get("replay")))) is not None:
        entries.append(replay.source.files)
    for path in [path for files in entries for path in expand(files)]:
        if not os.access(path, os.R_OK):
            raise DataError(f"cannot read {path}: Permission denied", "check the path and its permissions")
