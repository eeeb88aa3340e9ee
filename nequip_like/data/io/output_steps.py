"""Outputs of ORCA and Gaussian in which ASE's readers would join an energy with the forces of another calculation.

ASE takes the last positions and the last energy of what it takes for one step, and the first gradient (ORCA) or the
last forces (Gaussian) of it. The text is divided here so that one step holds one structure, and one calculation of it.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

# ASE's reader ends a step of ORCA at this banner, which stands between a gradient and the next structure.
_BANNER = b"ORCA GEOMETRY RELAXATION STEP"
_END = b"ORCA TERMINATED NORMALLY"
_COORDINATES = re.compile(rb"^(?:-+\n)?CARTESIAN COORDINATES \(ANGSTROEM\)", re.MULTILINE)
_NUMBER_OF_ATOMS = re.compile(rb"^.*Number of atoms +\.+ +\d+.*\n", re.MULTILINE)

_ORIENTATION = rb"^ *(?:Input|Z-Matrix|Standard) orientation: *\n(?:.*\n){4}(?:[ \t]+\d.*\n)+.*\n"
_EVENTS = re.compile(
    rb"(?P<orientation>%s)|(?P<energy>^ *SCF Done:)|(?P<forces>^ *Center +Atomic +Forces)" % _ORIENTATION, re.MULTILINE
)
_EXCITED = re.compile(rb"^ *(?=Total Energy, E\()", re.MULTILINE)


def divide_steps(content: bytes, name: str) -> bytes:
    """An output as ASE's reader is to see it: an energy and forces stand together only where they belong together.

    Args:
        content: The text of one output.
        name: ASE's name of its format.
    """
    divide = _DIVISIONS.get(name)
    return divide(content) if divide else content


def find_excited_states(content: bytes, path: Path) -> list[str]:
    """A note on energies of excited states, which :func:`divide_steps` takes instead of those of the ground state."""
    if not _EXCITED.search(content):
        return []
    return [f"{path}: energies are those of an excited state, 'Total Energy, E(...)', wherever Gaussian prints one"]


def _divide_orca(content: bytes) -> bytes:
    """One step for each structure: the last one of an optimisation has an energy, and no gradient."""
    begins = [match.start() for match in _COORDINATES.finditer(content)]
    if not begins:
        return content
    counts = _NUMBER_OF_ATOMS.findall(content)[-1:]  # ASE asks for the number of atoms in each step
    pieces = [content[first:last] for first, last in pairwise([0, *begins[1:], len(content)])]
    divided = []
    for piece in pieces[:-1]:
        end = _END if _END in piece else _BANNER  # of the first of several jobs
        divided += [_replace_ends(piece, (_BANNER, _END)), end + b"\n", *counts]
    last = pieces[-1]
    if _END in last:
        return b"".join([*divided, _replace_ends(last, (_BANNER,))])
    return b"".join([*divided, last[: last.find(_BANNER)] + _BANNER + b"\n" if _BANNER in last else last])


def _replace_ends(text: bytes, ends: tuple[bytes, ...]) -> bytes:
    for end in ends:
        text = text.replace(end, end.lower())
    return text


def _divide_gaussian(content: bytes) -> bytes:
    """Repeat the structure before an energy that follows upon forces, and take the energy of an excited state.

    That of an excited state is printed below the one of the ground state, and above the forces, which are its own.
    """
    content = _EXCITED.sub(b" SCF Done: ", content)
    pieces: list[bytes] = []
    position = 0
    structure, has_energy, has_forces = b"", False, False
    for event in _EVENTS.finditer(content):
        if event["orientation"]:
            if not structure or has_energy:  # ASE passes over a second one, of other axes
                structure, has_energy, has_forces = event["orientation"], False, False
        elif event["forces"]:
            has_forces = True
        else:
            if has_forces:
                pieces += [content[position : event.start()], structure]
                position, has_forces = event.start(), False
            has_energy = True
    return b"".join([*pieces, content[position:]])


_DIVISIONS: dict[str, Callable[[bytes], bytes]] = {"orca-output": _divide_orca, "gaussian-out": _divide_gaussian}
