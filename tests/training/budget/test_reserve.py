"""Seconds that are set aside for what comes after the last step."""

from __future__ import annotations

import pytest

from nequip_like.training.budget.reserve import Reserve

SIZES = {"step_atoms": 50.0, "val_atoms": 500, "test_atoms": 10_000, "test_sets": 2}


def test_tasks_after_the_training_count():
    alone = Reserve.of(["train"], **SIZES)
    assert (alone.passes, alone.test_atoms, alone.test_sets) == (1, 0, 0)
    whole = Reserve.of(["val", "train", "val", "test"], **SIZES)
    assert (whole.passes, whole.test_atoms, whole.test_sets) == (2, 10_000, 2)


def test_seconds():
    """A step of 0.05 s for 50 atoms is 0.4 ms an atom without the gradients of weights."""
    reserve = Reserve.of(["train", "val", "test"], **SIZES)
    report = 2.5 + 2 * 0.5 + 0.5
    assert reserve.estimate(0.05, None) == pytest.approx(report + 2 * 0.2 + 2 * 4.0)
    # A validation that took longer than its atoms: what is around it does not grow with the test set.
    assert reserve.estimate(0.05, 1.0) == pytest.approx(report + 2 * 1.0 + 2 * 4.0)
    assert reserve.estimate(0.05, 0.1) == pytest.approx(report + 2 * 0.1 + 2 * 2.0)
    fitted = Reserve.of(["train", "val", "test"], **SIZES, uncertainty_atoms=1000)
    assert fitted.estimate(0.05, None) == pytest.approx(reserve.estimate(0.05, None) + 0.4)
    assert reserve.estimate(0.05, 0.1, contention=3.0) == pytest.approx(3 * report + 2 * 0.1 + 2 * 2.0)


def test_the_page_takes_time():
    """Its modules half a second, and its plots something for each atom that is tested."""
    sizes = {**SIZES, "page": True}
    for tasks, atoms in ((["train", "test"], 10_000), (["train"], 0)):
        without, whole = Reserve.of(tasks, **SIZES), Reserve.of(tasks, **sizes)
        difference = whole.estimate(0.05, None, contention=2.0) - without.estimate(0.05, None, contention=2.0)
        assert difference == pytest.approx(2.0 * (0.5 + 2.5e-5 * atoms))
