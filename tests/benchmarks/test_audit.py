"""The faults that the benchmark of the label audit plants are what it says they are."""

import numpy as np
import pytest
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator


@pytest.fixture
def images():
    rng = np.random.default_rng(0)
    frames = []
    for _ in range(30):
        atoms = Atoms("C2H4", rng.normal(size=(6, 3)))
        atoms.calc = SinglePointCalculator(atoms, energy=-30.0 + rng.normal(), forces=rng.normal(size=(6, 3)))
        frames.append(atoms)
    return frames


def test_each_kind_changes_what_it_is_named_for(load, images):
    audit = load("audit")
    before = [(a.numbers.copy(), a.get_potential_energy(), a.get_forces().copy()) for a in images]
    faults = audit.plant(images, seed=1)
    counts = {kind: sum(fault.kind == kind for fault in faults) for kind in audit.COUNTS}
    assert counts == audit.COUNTS
    assert len({fault.frame for fault in faults}) == 10
    for frame, (numbers, energy, forces) in enumerate(before):
        fault = next((fault for fault in faults if fault.frame == frame), None)
        kind = "" if fault is None else fault.kind
        after = images[frame]
        assert (not np.array_equal(after.numbers, numbers)) == (kind == "species")
        assert (after.get_potential_energy() != energy) == (kind in ("energy", "functional"))
        changed = np.flatnonzero((after.get_forces() != forces).any(axis=1)).tolist()
        expected = {"swapped": fault and list(fault.atoms), "replaced": fault and list(fault.atoms)}
        assert changed == expected.get(kind, list(range(6)) if kind == "functional" else [])
        if kind == "energy":
            assert 0.02 <= abs(fault.size) <= 0.06
            assert (after.get_potential_energy() - energy) / 6 == pytest.approx(fault.size)


def test_the_same_seed_plants_the_same(load, images):
    audit = load("audit")
    copies = [atoms.copy() for atoms in images]
    for copy, atoms in zip(copies, images, strict=True):
        copy.calc = SinglePointCalculator(copy, **{name: np.copy(v) for name, v in atoms.calc.results.items()})
    assert audit.plant(images, seed=2) == audit.plant(copies, seed=2)
