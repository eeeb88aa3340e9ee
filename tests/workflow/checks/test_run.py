"""Each planted fault is found by the check that names it, and by it alone; a sound model passes."""

import numpy as np
import pytest
from ase.build import bulk

from nequip_like.errors import ConfigError
from nequip_like.inference.predictor import Predictor
from nequip_like.workflow.checks.run import check_potential
from tests.workflow.checks.models import build_morse

QUICK = ["references", "stress", "cutoff", "dimers"]


@pytest.fixture(scope="module")
def frames():
    rng = np.random.default_rng(0)
    made = []
    for factor in (0.98, 1.0, 1.02):
        atoms = bulk("Cu", cubic=True)
        atoms.set_cell(factor * atoms.cell.array, scale_atoms=True)
        atoms.rattle(0.05, rng=rng)
        made.append(atoms)
    return Predictor(build_morse()).predict_atoms(made)


@pytest.mark.parametrize(
    ("fault", "failed"),
    [({}, []), ({"turned_stress": True}, ["stress"]), ({"shifts": [0.0]}, ["references"])],
    ids=["sound", "stress", "shift"],
)
def test_a_fault_is_found_by_its_check_alone(frames, fault, failed):
    verdicts = check_potential(build_morse(**fault), frames, QUICK, frames=1)
    assert verdicts.failed == failed
    assert all(verdict.advice for verdict in verdicts if verdict.level == "fail")


def test_a_cutoff_without_envelope_is_found(frames):
    verdicts = check_potential(build_morse(envelope=False), frames, ["cutoff", "dimers"], frames=1)
    assert verdicts.failed == ["cutoff"]


def test_unknown_checks_are_refused():
    with pytest.raises(ConfigError, match="only"):
        check_potential(build_morse(), only=["strees"])
