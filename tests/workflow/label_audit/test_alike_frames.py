"""Frames that are the same structure are found however they stand, and others are not."""

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule

from nequip_like.data.inspection.audit import read_to_examine
from nequip_like.workflow.label_audit.alike_frames import EQUAL, NEAR, find_alike_pairs, group_equal

RIGHT_ANGLE = np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0]])


def test_turned_moved_and_reordered():
    ethanol = molecule("CH3CH2OH")
    turned = ethanol[::-1]
    turned.rotate(70, (1, 2, 3))
    turned.translate([3.0, -1.0, 2.0])
    near, far = ethanol.copy(), ethanol.copy()
    near.positions[2, 0] += 0.003
    far.positions[2, 0] += 0.2
    pairs = find_alike_pairs(read_to_examine([ethanol, far, turned, near, molecule("CH3OCH3")], 4.0))
    assert [(first, second) for first, second, _ in pairs] == [(0, 2), (0, 3), (2, 3)]
    distances = [distance for *_, distance in pairs]
    assert distances[0] < EQUAL < distances[1] < NEAR
    assert group_equal(5, pairs).tolist() == [0, 1, 0, 3, 4]


def test_other_cells_of_a_crystal():
    cubic = bulk("Cu", cubic=True)
    moved = cubic.copy()
    moved.translate([0.3, 0.2, 0.1])
    moved.wrap()
    strained = cubic.copy()
    strained.set_cell(1.01 * cubic.cell, scale_atoms=True)
    pairs = find_alike_pairs(read_to_examine([cubic, strained, moved], 4.0))
    assert pairs == [(0, 2, pytest.approx(0.0, abs=1e-6))]


def test_shaken_frames_are_no_pairs():
    rng = np.random.default_rng(0)
    frames = [Atoms("OH2", rng.normal(scale=0.05, size=(3, 3)) + RIGHT_ANGLE) for _ in range(40)]
    assert find_alike_pairs(read_to_examine(frames, 3.0)) == []
