"""Prepared sets that runs make of their files by themselves, and find again: ``data.cache_dir``.

A set is found by the content of its files and by everything that it was made with. It is written under a name of its
own and then moved, so runs that begin together each make it, and the last one's stays: there is never half a set.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import socket
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import nequip_like
from nequip_like.data.io.given import Index, expand
from nequip_like.data.io.reading import Reading
from nequip_like.data.prepared.files import FrameFile
from nequip_like.data.prepared.preparing import prepare_set
from nequip_like.data.prepared.provenance import describe_source
from nequip_like.data.prepared.sets import open_prepared
from nequip_like.data.prepared.tasks import PreparationRequest
from nequip_like.errors import DataError
from nequip_like.whole_files import output_errors

_SUFFIX = ".frames"
_ABANDONED = 7 * 86400.0  # seconds after which what a killed run has left goes


@dataclass(frozen=True)
class SetCache:
    """A folder of prepared sets.

    Attributes:
        folder: The folder.
        size: Bytes that its sets may take; those go that have not been used for longest, never the one just opened.
    """

    folder: Path
    size: float

    def open(
        self,
        files: Sequence[str],
        cutoff: float,
        index: Index = ":",
        key_mapping: Mapping[str, str] | None = None,
        units: Mapping[str, str] | None = None,
        trust_pickle: bool = False,
    ) -> Reading:
        """The frames of files from their prepared set, which is made now if it is not there.

        Args:
            files: Files or patterns.
            cutoff: Cutoff radius of the neighbour lists, Angstrom.
            index: Which frames, of each file.
            key_mapping: As for :func:`nequip_like.data.io.readers.read`.
            units: As there.
            trust_pickle: As there.

        Raises:
            ConfigError: As there.
            DataError: As there, and where a frame cannot be right.
            OutputError: If the folder cannot be written to.
        """
        request = PreparationRequest(
            [str(path) for path in expand(files)], cutoff, key_mapping or None, units or None, trust_pickle=trust_pickle
        )
        target = self.folder / f"{_compute_name(request)}{_SUFFIX}"
        damage = None
        if target.exists():
            try:
                return _open(target, index)
            except DataError:
                damage = _find_damage(target)
                if damage is None:  # it is what is chosen of it that cannot be
                    raise
        partial = self.folder / f"{target.stem}-{socket.gethostname()}-{os.getpid()}"
        prepare_set(request, partial, overwrite=True)
        with output_errors(target):
            partial.replace(target)
        self._remove_old(target)
        reading = _open(target, index)
        return reading if damage is None else replace(reading, notes=[*reading.notes, f"{damage}: it was made anew"])

    def _remove_old(self, newest: Path) -> None:
        """Remove the sets that have not been used for longest, until the others fit, and what killed runs have left."""
        with output_errors(self.folder):
            sets = _read_states(self.folder.glob(f"*{_SUFFIX}"))
            total = sum(state.st_size for state in sets.values())
            for path, state in sorted(sets.items(), key=lambda item: item[1].st_mtime):
                if total > self.size and path != newest:
                    path.unlink(missing_ok=True)
                    total -= state.st_size
            for path, state in _read_states(self.folder.glob("*.part")).items():
                if time.time() - state.st_mtime > _ABANDONED:
                    shutil.rmtree(path, ignore_errors=True)


def _open(target: Path, index: Index) -> Reading:
    with output_errors(target):
        os.utime(target)
    return open_prepared([target], index)


def _find_damage(target: Path) -> str | None:
    """What is wrong with a set, whatever is chosen of it; None if nothing is."""
    try:
        FrameFile(target)
    except DataError as error:  # what it was made of is at hand
        return error.message
    return None


def _read_states(paths: Iterable[Path]) -> dict[Path, os.stat_result]:
    """Sizes and times of those that another run has not removed meanwhile."""
    states = {}
    for path in paths:
        with suppress(FileNotFoundError):
            states[path] = path.stat()
    return states


def _compute_name(request: PreparationRequest) -> str:
    """A hash of the content of the files, their names, and of all that a set is made with."""
    sources = [describe_source(Path(path).absolute()) for path in request.files]
    content = {
        "version": nequip_like.__version__,
        "sources": [[source["path"], source["sha256"]] for source in sources],
        "cutoff": request.cutoff,
        "key_mapping": dict(request.key_mapping or {}),
        "units": {name: str(unit) for name, unit in dict(request.units or {}).items()},
        "trust_pickle": request.trust_pickle,
    }
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:32]
