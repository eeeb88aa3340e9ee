"""Structures out of frames, and those that are none."""

from __future__ import annotations

import time

import pytest
from ase import Atoms

from nequip_like.workflow.pretrain.geometries import is_too_close

COVALENT = 1.32  # Angstrom, of copper


@pytest.mark.parametrize(("distance", "close"), [(0.699, True), (0.701, False)])
def test_how_close_is_too_close(distance: float, close: bool) -> None:
    """0.7 of the sum of covalent radii, through the boundary of a cell, too."""
    pair = Atoms("Cu2", [[0, 0, 0], [0, 0, distance * 2 * COVALENT]])
    assert is_too_close(pair) is close
    through = Atoms("Cu2", [[0, 0, 0.1], [0, 0, 10.1 - distance * 2 * COVALENT]], cell=[10, 10, 10], pbc=True)
    assert is_too_close(through) is close


def test_a_box_around_a_molecule_costs_nothing() -> None:
    """ASE's list of neighbours takes half a second for this box, more than a cheap teacher for the label."""
    boxed = Atoms("H2", [[0, 0, 0], [0, 0, 0.74]], cell=[50.0, 50.0, 50.0])
    began = time.process_time()
    assert not any(is_too_close(boxed) for _ in range(20))
    assert time.process_time() - began < 1.0  # 10 s with ASE's
