"""Structures and files that the tests of the data layer are made of."""

from pathlib import Path

import ase.io
import numpy as np
import pytest
import torch
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator

from nequip_like.data.io.structures import graph_from_atoms


def _labelled(atoms: Atoms, **results) -> Atoms:
    atoms = atoms.copy()
    atoms.calc = SinglePointCalculator(atoms, **results)
    return atoms


@pytest.fixture
def labelled():
    """Attach results to a structure: ``labelled(atoms, energy=..., forces=...)``."""
    return _labelled


@pytest.fixture
def write(tmp_path):
    """Write structures to a file in the test's folder: ``write("a.xyz", [atoms, ...])``."""

    def write(name: str, frames: list[Atoms]) -> Path:
        ase.io.write(tmp_path / name, frames)
        return tmp_path / name

    return write


@pytest.fixture
def write_text(tmp_path):
    def write_text(name: str, text: str) -> Path:
        (tmp_path / name).write_text(text)
        return tmp_path / name

    return write_text


@pytest.fixture
def molecules():
    """Slightly shaken water molecules with made-up labels: energy -1 * index, forces 0.1 * index on the oxygen."""

    def molecules(number: int, seed: int = 0) -> list[Atoms]:
        rng = np.random.default_rng(seed)
        frames = []
        for i in range(number):
            positions = np.array([[0, 0, 0], [0.96, 0, 0], [-0.24, 0.93, 0]]) + rng.normal(size=(3, 3)) * 0.05
            forces = np.zeros((3, 3))
            forces[0] = 0.1 * i
            frames.append(_labelled(Atoms("OH2", positions), energy=-1.0 * i, forces=forces))
        return frames

    return molecules


@pytest.fixture
def make_graph():
    """A graph from symbols and positions, with labels: ``make_graph("H2", positions, total_energy=[[1.0]])``."""

    def make_graph(symbols, positions, cell=None, pbc=False, **labels):
        graph = graph_from_atoms(Atoms(symbols, np.array(positions, dtype=float), cell=cell, pbc=pbc))
        return graph | {name: torch.tensor(value, dtype=torch.float64) for name, value in labels.items()}

    return make_graph
