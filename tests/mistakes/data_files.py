"""Small data files for the tables of mistakes: good ones, and what changes them."""

from __future__ import annotations

import io
import json
from collections.abc import Callable

import ase.io
import numpy as np
from ase import Atoms
from ase.build import bulk
from ase.calculators.emt import EMT
from ase.calculators.singlepoint import SinglePointCalculator

CONFIG = "defaults: [train, _self_]\ncutoff_radius: 4.0\ntrainer: {accelerator: cpu}\n"
HEAD = 'Properties=species:S:1:pos:R:3:forces:R:3 pbc="F F F" energy={energy}'


def water(frames: int = 6, head: str = HEAD, first: int = 0) -> str:
    """Water molecules of which one bond is stretched, with the energies and forces of a spring."""
    text = ""
    for i in range(first, first + frames):
        stretch = 0.01 * i
        force = round(-2.0 * stretch, 6)
        text += f"3\n{head.format(energy=round(-14.0 + stretch**2, 6), i=i)}\n"
        text += f"O 0.0 0.0 0.0 {-force} 0.0 0.0\nH {0.95 + stretch:.2f} 0.0 0.0 {force} 0.0 0.0\n"
        text += "H -0.24 0.93 0.0 0.0 0.0 0.0\n"
    return text


def model_of_family(family: str) -> bytes:
    """A model file without weights, of some family."""
    config = {"family": family, "arguments": {}}
    card = {"format": "nequip_like/potential", "format_version": 1, "config": config}
    header = json.dumps({"__metadata__": {"nequip_like": json.dumps(card), "format": "pt"}}).encode()
    return len(header).to_bytes(8, "little") + header


def changed(old: str, new: str, frame: int = 3, text: str | None = None) -> str:
    """The water molecules with one thing changed, in one frame."""
    frames = (water() if text is None else text).splitlines(keepends=True)
    start = 5 * frame
    part = "".join(frames[start : start + 5])
    if old not in part:
        raise ValueError(f"{old!r} is not in frame {frame}")
    return "".join(frames[:start]) + part.replace(old, new, 1) + "".join(frames[start + 5 :])


def copper(change: Callable[[Atoms, dict], None], repeat: int = 1) -> str:
    """Shaken copper with the labels of a simple potential, each frame changed."""
    rng = np.random.default_rng(0)
    frames = []
    for _ in range(16):
        atoms = bulk("Cu", cubic=True).repeat((repeat, 1, 1))
        atoms.rattle(0.1, rng=rng)
        atoms.calc = EMT()
        labels = {"energy": atoms.get_potential_energy(), "forces": atoms.get_forces(), "stress": atoms.get_stress()}
        change(atoms, labels)
        atoms.calc = SinglePointCalculator(atoms, **labels)
        frames.append(atoms)
    text = io.StringIO()
    ase.io.write(text, frames, format="extxyz")
    return text.getvalue()


def times(label: str, factor: float) -> Callable[[Atoms, dict], None]:
    """A change that multiplies a label."""

    def change(atoms: Atoms, labels: dict) -> None:
        labels[label] = labels[label] * factor

    return change


def in_bohr(atoms: Atoms, labels: dict) -> None:
    """A change that writes lengths in Bohr, and nothing else."""
    atoms.set_cell(atoms.cell[:] / 0.529177, scale_atoms=True)


def as_vasp(atoms: Atoms, labels: dict) -> None:
    """A change that writes the stress in the order xx yy zz xy yz zx."""
    labels["stress"] = labels["stress"][[0, 1, 2, 5, 3, 4]]


def crystal(lattice: str, extra: str = "", frames: int = 1) -> str:
    """Two atoms in a cell."""
    rows = "Na 0.0 0.0 0.0\nCl 2.8 0.0 0.0\n"
    return "".join(
        f"2\nProperties=species:S:1:pos:R:3 energy=-{7 + i}.0 {lattice}{extra}\n{rows}" for i in range(frames)
    )


def rare_element() -> str:
    """Diatomic molecules, each of one element: hydrogen, carbon and oxygen in five frames, neon in one."""
    text, head = "", 'Properties=species:S:1:pos:R:3 pbc="F F F"'
    for symbol, per_atom in (("H", -2.0), ("C", -4.0), ("O", -6.0)):
        for i, off in enumerate((1.0, -1.0, 0.0, 0.0, 0.0)):
            energy, length = 2 * (per_atom + off), 1.0 + 0.1 * i
            text += f"2\n{head} energy={energy}\n{symbol} 0 0 0\n{symbol} {length} 0 0\n"
    return text + f"2\n{head} energy=12.0\nNe 0 0 0\nNe 1.5 0 0\n"


CUBE = 'Lattice="5.6 0 0 0 5.6 0 0 0 5.6"'
ATOM = 'Properties=species:S:1:pos:R:3:forces:R:3 pbc="F F F"'


def file(text: str | bytes, name: str = "train.xyz", **more: str | bytes) -> dict[str, str | bytes]:
    """The user's folder: the training file, and others by name (``test_xyz`` for ``test.xyz``)."""
    return {name: text, **{other.replace("_", "."): content for other, content in more.items()}}
