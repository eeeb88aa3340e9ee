"""Units that frames state beside their labels: ``energy_unit=Hartree``, ``units="eV, Angstrom"``, ``force_units=...``.

There is no standard for it. Everything that is called a unit and can be understood is compared with the units that the
labels are read in (:mod:`nequip_like.data.labels.unit_checks`); nothing is converted because of it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any

import numpy as np

from nequip_like.data import fields
from nequip_like.data.labels.names import guess_label, normalise_name
from nequip_like.data.labels.unit_checks import STYLES, Stated, is_same_unit, parse_unit_factor
from nequip_like.data.labels.unit_expressions import parse_unit
from nequip_like.data.labels.units_in_names import find_units_in_names
from nequip_like.errors import DataError

_UNIT_NAME = re.compile(r"(.*?)_?units?|units?_?(?:of_|for_)?(?!_*cell)(.+)")  # a unit cell is no unit
_OF_POSITIONS = {
    "r", "length", "lengths", "distance", "distances", "pos", "position", "positions", "coord", "coords", "coordinate",
    "coordinates", "cell", "lattice",
}  # fmt: skip
_SHORT = {"e": fields.TOTAL_ENERGY, "en": fields.TOTAL_ENERGY, "ene": fields.TOTAL_ENERGY, "f": fields.FORCES}
_BY_POWERS = {
    (1, 0): fields.TOTAL_ENERGY,
    (0, 1): fields.POSITIONS,
    (1, -1): fields.FORCES,
    (1, -3): fields.STRESS,
}


@lru_cache(maxsize=256)  # asked for each name of each frame
def is_unit_name(name: str) -> bool:
    """Whether a value is called a unit."""
    return bool(_UNIT_NAME.fullmatch(normalise_name(name)))


def read_unit_text(name: str, value: object) -> str | Mapping[str, Any] | None:
    """The value of a frame as a unit, or as units by name, if it is called one; None otherwise."""
    if not is_unit_name(name):
        return None
    if isinstance(value, str | Mapping):
        return value or None
    if isinstance(value, np.ndarray | list | tuple) and np.asarray(value).dtype.kind == "U":
        return ", ".join(map(str, np.ravel(value)))
    return None


def collect_units_of_frames(
    frames: Sequence[Mapping[str, Any]], names_by_label: Mapping[str, str], file: str, by: str = ""
) -> list[Stated]:
    """Units that frames state of the labels that are read.

    Args:
        frames: What each frame holds per structure; or one entry, the metadata of a database.
        names_by_label: ``{label: name in the file}`` of what is read.
        file: Its name, for messages.
        by: Who says so, ``its metadata say that``; by default the key of the frames.

    Raises:
        DataError: If frames state different units, or some do and the others do not say theirs.
    """
    stated = [] if by else find_units_in_names(names_by_label)
    for name, text in _collect_unit_texts(frames, file).items():
        for label, unit in _assign_units(name, text, names_by_label, frames):
            if label != fields.POSITIONS and label not in names_by_label:
                continue
            statement = Stated(label, names_by_label.get(label, "positions"), unit, by or f"its '{name}' says that")
            having = sum(name in frame for frame in frames)
            if having < len(frames) and parse_unit_factor(statement.meaning) not in (None, 1.0):
                raise DataError(
                    f"{file}: {having} of its {len(frames)} frames say with '{name}' that '{statement.name}' is in "
                    f"{unit}, the others do not say theirs",
                    "give the frames of each unit as one file, and declare the units of each",
                )
            stated.append(statement)
    return list(dict.fromkeys(stated))


def _collect_unit_texts(frames: Sequence[Mapping[str, Any]], file: str) -> dict[str, str | Mapping[str, Any]]:
    """The units by the name that they stand under."""
    texts: dict[str, str | Mapping[str, Any]] = {}
    for frame in frames:
        for name, value in frame.items():
            text = read_unit_text(name, value)
            if text is not None and not is_same_unit(texts.setdefault(name, text), text):
                raise DataError(
                    f"{file}: '{name}' is {texts[name]} in one frame and {text} in another",
                    "give the frames of each unit as one file, and declare the units of each",
                )
    return texts


def _assign_units(
    name: str, text: str | Mapping[str, Any], names_by_label: Mapping[str, str], frames: Sequence[Mapping[str, Any]]
) -> Iterator[tuple[str, str]]:
    """``(label, unit)`` of what stands under one name."""
    match = _UNIT_NAME.fullmatch(normalise_name(name))
    subject = "" if match is None else (match[1] or match[2] or "").strip("_")
    if isinstance(text, Mapping):
        for inner, unit in text.items():
            if isinstance(unit, str) and (label := _find_subject(normalise_name(str(inner)), names_by_label, frames)):
                yield label, unit
    elif subject in ("", "system", "style", "all", "default"):
        yield from _assign_general_units(text, names_by_label, frames)
    elif label := _find_subject(subject, names_by_label, frames):
        yield label, text


def _find_subject(subject: str, names_by_label: Mapping[str, str], frames: Sequence[Mapping[str, Any]]) -> str | None:
    """The label, or ``pos``, that a unit is of; None if it is of something that is not read."""
    for label, name in names_by_label.items():
        if subject == normalise_name(name):
            return label
    if subject in _OF_POSITIONS:
        return fields.POSITIONS
    if any(subject == normalise_name(name) for frame in frames for name in frame):
        return None  # of another value, which stands beside
    guess = _SHORT.get(subject) or guess_label(subject)
    if guess == fields.PER_ATOM_ENERGY and guess not in names_by_label:
        return fields.TOTAL_ENERGY  # the unit of "energies"
    return guess


def _assign_general_units(
    text: str, names_by_label: Mapping[str, str], frames: Sequence[Mapping[str, Any]]
) -> Iterator[tuple[str, str]]:
    """``(label, unit)`` of what is only called units: a system of units, one unit, or a list of them."""
    if style := STYLES.get(normalise_name(text).strip()):
        energy, length = style
        yield from ((fields.TOTAL_ENERGY, energy), (fields.FORCES, f"{energy}/{length}"), (fields.POSITIONS, length))
        return
    if _label_of_unit(text) is not None:
        yield from _assign_single_unit(text)
        return
    pieces = [piece.strip() for piece in re.split(r"[,;]|\band\b", text) if piece.strip()]
    if len(pieces) == 1 and ":" not in text and "=" not in text:
        pieces = text.split()
    parts = [_split_subject(piece) for piece in pieces]
    if not any(_is_understood(unit) for _, unit in parts):
        # Of what it is cannot be told; one note says so, and names the first label.
        yield next(iter(names_by_label), fields.POSITIONS), text
        return
    for subject, unit in parts:
        if not subject:
            yield from _assign_single_unit(unit)
        elif label := _find_subject(normalise_name(subject.strip()), names_by_label, frames):
            yield label, unit.strip()


def _split_subject(piece: str) -> tuple[str, str]:
    """``("energy", "eV")`` of ``energy: eV``, ``energy=eV``, ``energy in eV`` or ``energy eV``; a unit stands alone."""
    if _is_understood(piece):
        return "", piece
    for sign in ("=", ":", " in ", " "):
        subject, separator, unit = piece.partition(sign) if sign == "=" else piece.rpartition(sign)
        if separator:
            return subject, unit.strip()
    return "", piece


def _is_understood(unit: str) -> bool:
    return _label_of_unit(unit) is not None or normalise_name(unit).strip() in STYLES


def _assign_single_unit(unit: str) -> Iterator[tuple[str, str]]:
    """``(label, unit)`` of one unit, by what it measures. Energies by a length are of forces, and of energies, too."""
    label = _label_of_unit(unit)
    if label is None:
        return
    energy, slash, _ = unit.rpartition("/")
    if label == fields.FORCES and slash and _label_of_unit(energy) == fields.TOTAL_ENERGY:
        yield fields.TOTAL_ENERGY, energy.strip()
    yield label, unit


def _label_of_unit(unit: str) -> str | None:
    if parse_unit_factor(unit) is None:
        return None
    parsed = parse_unit(unit, "the file")
    return _BY_POWERS.get((parsed.energy, parsed.length))


def is_stated_unit(name: str, value: object) -> bool:
    """Whether a value says in which units others are; it is no longer right where these were converted."""
    return read_unit_text(name, value) is not None
