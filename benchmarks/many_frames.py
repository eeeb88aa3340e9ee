"""Write an extended XYZ file of any number of small frames, whose energies and forces belong together.

    python benchmarks/many_frames.py 1000000 frames.xyz

Each frame is an ethanol molecule (9 atoms) whose atoms were moved at random, with the energy and the forces of springs
between all pairs of atoms. Frames are made and written in blocks, so that no number of them needs more memory.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from ase.build import molecule

BLOCK = 10_000  # frames that are made at once
AMPLITUDE = 0.08  # Angstrom, standard deviation of a coordinate
STIFFNESS = 4.0  # eV/Angstrom^2
ATOMIC_ENERGY = {"H": -13.6, "C": -1030.0, "O": -2043.0}  # eV, about those of density functionals


def compute_labels(positions: np.ndarray, lengths: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Energies (frames,), eV, and forces (frames, atoms, 3), eV/Angstrom, of springs between all pairs.

    Args:
        positions: Of the atoms (frames, atoms, 3), Angstrom.
        lengths: At which the springs are at rest (atoms, atoms), Angstrom.
    """
    vectors = positions[:, :, None] - positions[:, None]
    distances = np.linalg.norm(vectors, axis=-1)
    stretched = distances - lengths
    energies = 0.25 * STIFFNESS * (stretched**2).sum(axis=(1, 2))  # each pair is there twice
    np.einsum("fii->fi", distances)[:] = 1.0
    forces = -STIFFNESS * (stretched[..., None] * vectors / distances[..., None]).sum(axis=2)
    return energies, forces


def write_frames(frames: int, path: Path, seed: int = 0) -> None:
    """Write so many frames to a file."""
    ethanol = molecule("CH3CH2OH")
    symbols, rest = ethanol.get_chemical_symbols(), ethanol.get_positions()
    lengths, offset = ethanol.get_all_distances(), sum(ATOMIC_ENERGY[symbol] for symbol in symbols)
    random = np.random.default_rng(seed)
    head = f'{len(symbols)}\nProperties=species:S:1:pos:R:3:forces:R:3 energy=%.8f pbc="F F F"\n'
    form = head + "".join(f"{symbol} " + " ".join(["%.6f"] * 6) + "\n" for symbol in symbols)
    with path.open("w") as file:
        for start in range(0, frames, BLOCK):
            positions = rest + random.normal(0.0, AMPLITUDE, (min(BLOCK, frames - start), *rest.shape))
            energies, forces = compute_labels(positions, lengths)
            rows = np.concatenate([positions, forces], axis=2).reshape(len(positions), -1)
            values = np.column_stack([energies + offset, rows])
            file.writelines(form % tuple(row) for row in values.tolist())


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("frames", type=int)
    parser.add_argument("output", type=Path)
    arguments = parser.parse_args()
    write_frames(arguments.frames, arguments.output)
