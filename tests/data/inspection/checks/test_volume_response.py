import pytest
import torch
from ase.build import bulk
from ase.calculators.emt import EMT

from nequip_like.data.inspection.checks.agreement import find_stress_mismatch
from nequip_like.data.inspection.checks.findings import Subject
from nequip_like.data.inspection.checks.volume_response import measure_volume_response
from tests.data.labelled_sets import as_dataset, labelled

GPA = 160.21766208


def crystals(sizes):
    frames = []
    for size in sizes:
        atoms = bulk("Cu", a=3.6 * size)
        atoms.calc = EMT()
        frames.append(labelled(atoms))
    return frames


def test_bulk_modulus_of_copper():
    """EMT's own, by its energies: 134 GPa at equilibrium (K. W. Jacobsen et al., Surf. Sci. 366, 394, 1996)."""
    response = measure_volume_response(crystals([0.99, 0.995, 1.0, 1.005, 1.01]))
    assert response.frames == 5
    assert response.correlation > 0.99
    assert response.modulus == pytest.approx(134, abs=10)


def test_what_cannot_be_told(make_graph):
    assert measure_volume_response(crystals([0.9999, 1.0, 1.0, 1.0001])) is None  # hardly another volume
    assert measure_volume_response(crystals([0.99, 1.0, 1.01])) is None  # too few
    assert measure_volume_response([make_graph("H", [[0, 0, 0]])] * 5) is None


def test_a_stress_that_falls_as_the_volume_grows():
    """Energies and forces are left out: the volume alone tells."""
    frames = crystals([0.98 + 0.004 * i for i in range(11)])
    bare = [{key: value for key, value in frame.items() if key not in ("total_energy", "forces")} for frame in frames]
    flipped = [{**frame, "stress": -frame["stress"]} for frame in bare]
    assert next(find_stress_mismatch(Subject(as_dataset(bare)))).level == "ok"
    finding = next(find_stress_mismatch(Subject(as_dataset(flipped))))
    assert finding.level == "wrong"
    assert finding.text.startswith("stress falls as the volume grows (correlation -1.00, 11 frames)")
    assert torch.equal(flipped[0]["stress"], -frames[0]["stress"])
