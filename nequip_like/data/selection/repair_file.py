"""The file that says which frames are left out or labelled anew, and why: ``nequip-data inspect --audit`` writes it.

It is JSON (or the same as YAML), meant to be read and changed by hand. Each frame stands there by file and index, and
by a hash of its content, so that a frame that has changed since is never mistaken for the one that was judged.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
import yaml

from nequip_like.arguments import NotNegative, check, check_known_keys
from nequip_like.data import fields
from nequip_like.data.fields import Graph
from nequip_like.data.graph import frame_key, has_label
from nequip_like.errors import DataError, closest_hint
from nequip_like.whole_files import path_of, written_whole

FORMAT = "nequip_like label repair 1"

Action = Literal["drop", "exchange_forces", "exchange_species", "unlabel"]
ACTIONS: dict[Action, str] = {
    "drop": "leave the frame out",
    "exchange_forces": "exchange the forces of two atoms",
    "exchange_species": "exchange the species of two atoms",
    "unlabel": "keep the frame without the labels that are named",
}
_DECIMALS = 6  # eV, eV/Angstrom, eV/Angstrom^3; conversions of units round beyond
_ABSENT = 2**62  # stands for a value that is NaN
_ADVICE = "write it by nequip-data inspect FILES --audit --repair FILE, and change actions or take frames out by hand"


@dataclass(frozen=True)
class FrameRepair:
    """What is to be done with one frame.

    Attributes:
        file: The file that it was read from.
        index: Its number there, from 0.
        hash: Of its structure and labels, :func:`hash_content`.
        action: One of :data:`ACTIONS`.
        reason: Why, one sentence.
        atoms: The two atoms of an exchange; of ``unlabel``, atoms that lose their forces.
        labels: What ``unlabel`` takes away of the frame as a whole, such as ``total_energy``.
        evidence: Numbers that speak for it; they are for people.
    """

    file: str
    index: int
    hash: str
    action: Action
    reason: str = ""
    atoms: tuple[int, ...] = ()
    labels: tuple[str, ...] = ()
    evidence: Mapping[str, Any] = field(default_factory=dict)

    @property
    def origin(self) -> str:
        """File and index, as in messages."""
        return f"{self.file} frame {self.index}"

    def describe(self) -> str:
        """What is done, in words.

        Example:
            >>> FrameRepair("md.xyz", 3, "", "exchange_forces", atoms=(1, 4)).describe()
            'md.xyz frame 3: exchange the forces of two atoms (1, 4)'
        """
        details = ", ".join(map(str, (*self.atoms, *self.labels)))
        return f"{self.origin}: {ACTIONS[self.action]}{f' ({details})' if details else ''}"


def hash_content(frame: Graph, structure: str | None = None) -> str:
    """Hash of a frame: of its structure (:func:`~nequip_like.data.graph.frame_key`), a dash, and of its labels to 1e-6.

    Args:
        frame: The frame.
        structure: Hash of its structure, if it is known.

    Example:
        >>> from ase import Atoms
        >>> from nequip_like.data.io.structures import graph_from_atoms
        >>> hydrogen = graph_from_atoms(Atoms("H2", [[0, 0, 0], [0, 0, 0.74]]))
        >>> low, high = (hash_content({**hydrogen, "total_energy": torch.tensor([[e]])}) for e in (-31.7, -31.6))
        >>> low == high, low.partition("-")[0] == high.partition("-")[0]
        (False, True)
    """
    digest = hashlib.sha256()
    for name in fields.LABELS:
        if has_label(frame, name):
            digest.update(name.encode())
            scaled = torch.round(frame[name].to(torch.float64) * 10**_DECIMALS)
            digest.update(torch.nan_to_num(scaled, nan=_ABSENT).to(torch.int64).numpy().tobytes())
    return f"{structure or frame_key(frame)}-{digest.hexdigest()[:16]}"


def locate_frame(origin: str) -> tuple[str, int]:
    """File, as an absolute path, and index of a frame by its origin.

    Example:
        >>> locate_frame("/data/md.xyz frame 12"), locate_frame("Atoms 3")
        (('/data/md.xyz', 12), ('Atoms', 3))
    """
    file, _, index = origin.rpartition(" frame ")
    if file:
        return str(Path(file).absolute()), int(index)
    name, _, index = origin.rpartition(" ")  # a structure in memory
    return name, int(index)


def write_repairs(path: str | Path, repairs: Sequence[FrameRepair], about: Mapping[str, Any]) -> None:
    """Write the file, as YAML where its name ends so, else as JSON.

    Args:
        path: The file.
        repairs: What is to be done.
        about: What else it says, for people: how the frames were judged.

    Raises:
        OutputError: If it cannot be written.
    """
    entries = [{key: value for key, value in asdict(repair).items() if value not in ((), {}, "")} for repair in repairs]
    content = json.loads(json.dumps({"format": FORMAT, "about": dict(about), "frames": entries}))
    with written_whole(path) as partial:
        if _is_yaml(path_of(path)):
            text = yaml.safe_dump(content, sort_keys=False, allow_unicode=True, width=120)
        else:
            text = json.dumps(content, indent=1, ensure_ascii=False) + "\n"
        partial.write_text(text, encoding="utf-8")


def read_repairs(path: str | Path) -> list[FrameRepair]:
    """Read the file.

    Raises:
        DataError: If it is not there, or says something that cannot be meant.
    """
    path = path_of(path)
    try:
        text = path.read_text(encoding="utf-8")
        content = yaml.safe_load(text) if _is_yaml(path) else json.loads(text)
    except OSError as error:
        raise DataError(f"cannot read {path.absolute()}: {error.strerror or error}", _ADVICE) from error
    except (ValueError, RecursionError, yaml.YAMLError) as error:
        raise DataError(f"{path.absolute()} is no {'YAML' if _is_yaml(path) else 'JSON'}: {error}", _ADVICE) from error
    if not isinstance(content, Mapping) or content.get("format") != FORMAT:
        raise DataError(f"{path.absolute()} is no file of repairs: its format is not '{FORMAT}'", _ADVICE)
    entries = content.get("frames")
    if not isinstance(entries, list):
        raise DataError(f"{path.absolute()} has no list of frames", _ADVICE)
    repairs = [_read_entry(entry, f"{path.absolute()}: frames[{i}]") for i, entry in enumerate(entries)]
    hashes = [(repair.origin, repair.hash) for repair in repairs]
    if len(set(hashes)) < len(hashes):
        twice = next(origin for i, (origin, mark) in enumerate(hashes) if (origin, mark) in hashes[:i])
        raise DataError(f"{path.absolute()} names {twice} twice", "keep one of both")
    return repairs


_KINDS: dict[str, Any] = {
    "file": str,
    "index": NotNegative,
    "hash": str,
    "action": str,
    "reason": str,
    "atoms": list[int],
    "labels": list[str],
    "evidence": Mapping[str, Any],
}
_NEEDED = ("file", "index", "hash", "action")


def _read_entry(entry: Any, place: str) -> FrameRepair:
    if not isinstance(entry, Mapping):
        raise DataError(f"{place} is {entry!r}", "write a mapping with file, index, hash and action")
    check_known_keys(place, entry, list(_KINDS))
    if missing := [key for key in _NEEDED if key not in entry]:
        raise DataError(f"{place} has no {missing[0]}", _ADVICE)
    for key, value in entry.items():
        check(f"{place}.{key}", value, _KINDS[key])
    action = entry["action"]
    if action not in ACTIONS:
        actions = ", ".join(ACTIONS)
        raise DataError(f"{place}.action is '{action}'", f"{closest_hint(action, ACTIONS)}the actions are {actions}")
    atoms, labels = tuple(entry.get("atoms", ())), tuple(entry.get("labels", ()))
    if action.startswith("exchange") and (len(set(atoms)) != 2 or len(atoms) != 2):
        raise DataError(f"{place}: {action} has the atoms {list(atoms)}", "give two of them: atoms: [3, 7]")
    if action == "unlabel" and not (atoms or labels):
        raise DataError(f"{place}: unlabel says neither which labels nor of which atoms", "labels: [total_energy]")
    if unknown := [label for label in labels if label not in fields.LABELS]:
        hint = closest_hint(unknown[0], fields.LABELS)
        raise DataError(f"{place}: '{unknown[0]}' is no label", f"{hint}the labels are {', '.join(fields.LABELS)}")
    return FrameRepair(
        entry["file"],
        entry["index"],
        entry["hash"],
        action,
        entry.get("reason", ""),
        atoms,
        labels,
        entry.get("evidence", {}),
    )


def _is_yaml(path: Path) -> bool:
    return path.suffix.lower() in (".yaml", ".yml")
