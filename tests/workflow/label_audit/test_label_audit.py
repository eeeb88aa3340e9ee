"""Planted faults of a small set are found, told from each other, and mended by the file that is written."""

import json

import ase.io
import numpy as np
import pytest
from ase import Atoms
from ase.calculators.emt import EMT
from ase.calculators.singlepoint import SinglePointCalculator

from nequip_like.cli.data import main
from nequip_like.data.datamodule import DataModule
from nequip_like.data.inspection.audit import read_to_examine
from nequip_like.data.selection.repair_file import read_repairs
from nequip_like.errors import ConfigError, DataError
from nequip_like.workflow.label_audit.run import audit_labels
from nequip_like.workflow.label_audit.tables import describe_label_audit

STEPS = 300
OCTAHEDRON = 1.9 * np.array([[1, 0, 0], [-1, 0, 0], [0, 1, 0], [0, -1, 0], [0, 0, 1], [0, 0, -1]], dtype=float)
SWAPPED, REPLACED, ENERGY, EXCHANGED, OTHER, TWICE = 7, 11, 20, 31, (40, 41, 42), (50, 51)


def label(atoms, energy=0.0, scale=1.0):
    atoms = atoms.copy()
    atoms.calc = EMT()
    labels = {"energy": scale * atoms.get_potential_energy() + energy, "forces": scale * atoms.get_forces()}
    atoms.calc = SinglePointCalculator(atoms, **labels)
    return atoms


@pytest.fixture(scope="module")
def right():
    """Clusters of four copper and two gold atoms, shaken, with EMT's labels."""
    rng = np.random.default_rng(0)
    return [label(Atoms("Cu4Au2", OCTAHEDRON + rng.normal(scale=0.08, size=(6, 3)))) for _ in range(120)]


@pytest.fixture(scope="module")
def faulty(right):
    frames = [atoms.copy() for atoms in right]
    for atoms, original in zip(frames, right, strict=True):
        atoms.calc = SinglePointCalculator(atoms, **{k: np.copy(v) for k, v in original.calc.results.items()})
    forces = frames[SWAPPED].calc.results["forces"]
    forces[[0, 3]] = forces[[3, 0]]
    frames[REPLACED].calc.results["forces"][2] += [3.0, -2.0, 1.0]
    frames[ENERGY].calc.results["energy"] += 1.5
    exchanged = frames[EXCHANGED].copy()
    exchanged.numbers[[1, 4]] = exchanged.numbers[[4, 1]]
    exchanged.calc = SinglePointCalculator(exchanged, **right[EXCHANGED].calc.results)
    frames[EXCHANGED] = exchanged
    for i in OTHER:
        frames[i] = label(right[i], energy=-6.0, scale=1.05)
    # The same structure, turned, with its atoms in another order, and another energy.
    first, second = TWICE
    turned = right[first][[3, 2, 1, 0, 5, 4]]
    turned.rotate(40, (1, 2, 3))
    frames[second] = label(turned, energy=0.02)
    return frames


@pytest.fixture(scope="module")
def found(faulty):
    return audit_labels(read_to_examine(faulty, 5.0), steps=STEPS)


@pytest.mark.slow
def test_what_was_planted_is_found(found):
    kinds = {suspect.frame: (suspect.kind, suspect.action) for suspect in found.suspects}
    assert kinds.pop(TWICE[0], kinds.get(TWICE[1])) == ("contradiction", "drop")
    kinds.pop(TWICE[1], None)
    planted = {
        SWAPPED: ("exchanged forces", "exchange_forces"),
        REPLACED: ("force of an atom", "unlabel"),
        ENERGY: ("energy", "drop"),
        EXCHANGED: ("exchanged species", "exchange_species"),
        **dict.fromkeys(OTHER, ("level of theory", "drop")),
    }
    assert {frame: kinds.get(frame) for frame in planted} == planted
    # Models of a second do not know every close contact: of 111 right frames, some have forces that stand out.
    assert len(kinds.keys() - planted.keys()) <= 4
    atoms = {suspect.frame: suspect.atoms for suspect in found.suspects}
    assert (atoms[SWAPPED], atoms[REPLACED], atoms[EXCHANGED]) == ((0, 3), (2,), (1, 4))


@pytest.mark.slow
def test_other_level_of_theory(found, faulty, right):
    (level,) = found.levels
    assert level.frames == OTHER
    shifts = [(faulty[i].get_potential_energy() - right[i].get_potential_energy()) / 6 for i in OTHER]
    assert level.shift == pytest.approx(np.mean(shifts), abs=0.02)
    assert level.slope == pytest.approx(1.05, abs=0.03)
    assert level.describe().startswith("3 frames look like another level of theory: energies -")


@pytest.mark.slow
def test_turned_frames_with_other_labels(found):
    (pair,) = found.contradictions
    assert (pair.first, pair.second) == TWICE
    assert pair.energy == pytest.approx(0.02 / 6, rel=0.05)  # what the models say of both is the same
    assert pair.force < 1e-3


@pytest.mark.slow
def test_evidence_and_words(found):
    suspect = next(suspect for suspect in found.suspects if suspect.frame == ENERGY)
    assert suspect.evidence["energy_residual"] == pytest.approx(0.25, abs=0.03)
    assert suspect.reason.startswith("the energy is +2")
    assert found.settings["steps"] == STEPS
    assert suspect.reason.endswith("its forces agree with the models")
    assert describe_label_audit(found)[-3] == f"label audit: {len(found.suspects)} of 120 frames stand out"
    json.dumps(found.as_json())


def test_the_same_steps_give_the_same_result(faulty):
    few = [audit_labels(read_to_examine(faulty[:30], 4.0), steps=10, seed=3).scores for _ in range(2)]
    assert np.array_equal(few[0].energy, few[1].energy)


def test_frames_without_labels_are_not_judged(right):
    frames = [right[i].copy() if i < 3 else right[i] for i in range(30)]
    frames += [Atoms("Cu"), Atoms("Cu2", [[0, 0, 0], [0, 0, 0.05]])]
    found = audit_labels(read_to_examine(frames, 4.0), steps=10)
    assert found.judged == 27
    assert describe_label_audit(found)[-3].endswith("; 5 frames without labels or neighbours were not judged")
    assert all(suspect.frame >= 3 for suspect in found.suspects)
    least = 6.5 * 1.4826 * 1000 * found.typical["energy"]  # ten steps: much is not seen, and that is said
    assert least > 100
    assert describe_label_audit(found)[-1].startswith(f"faults of an energy below {least:.3g} meV/atom and of a force ")


def test_energies_alone_and_forces_alone(right):
    for name in ("energy", "forces"):
        frames = [atoms.copy() for atoms in right[:24]]
        for atoms, original in zip(frames, right, strict=False):
            atoms.calc = SinglePointCalculator(atoms, **{name: original.calc.results[name]})
        found = audit_labels(read_to_examine(frames, 4.0), steps=10)
        assert list(found.typical) == [{"energy": "energy", "forces": "force"}[name]]
        assert found.judged == 24


def test_too_little(right):
    with pytest.raises(DataError, match="19 frames have labels that models can learn and judge"):
        audit_labels(read_to_examine(right[:19], 4.0), steps=10)
    with pytest.raises(ConfigError, match="give more of it: --minutes 10"):
        audit_labels(read_to_examine(right[:20], 4.0), minutes=1e-4)
    with pytest.raises(ConfigError, match="minutes is 0"):
        audit_labels(read_to_examine(right[:20], 4.0), minutes=0)


def test_as_typed(tmp_path, monkeypatch, capsys, faulty):
    """An audit of a few steps finds what is far off, and a config takes what it wrote."""
    monkeypatch.chdir(tmp_path)
    ase.io.write("all.xyz", faulty[:30], format="extxyz")
    command = ["inspect", "all.xyz", "--cutoff", "5", "--audit", "--steps", "120", "--repair", "repair.json"]
    assert main([*command, "--html", "page.html", "--json", "found.json"]) == 0
    printed, progress = capsys.readouterr()
    assert "label audit" in printed
    assert "label audit, second pass: 100 %" in progress
    assert f"written: {tmp_path / 'repair.json'}" in progress
    assert "<h2>label audit</h2>" in (tmp_path / "page.html").read_text()
    content = json.loads((tmp_path / "found.json").read_text())["label_audit"]
    repairs = read_repairs("repair.json")
    assert [f"all.xyz frame {repair.index}" for repair in repairs] == [s["frame"] for s in content["suspects"]]
    dropped = [repair for repair in repairs if repair.action == "drop"]
    assert f"{tmp_path / 'all.xyz'} frame {ENERGY}" in [repair.origin for repair in dropped]
    data = DataModule("all.xyz", cutoff_radius=4.0, repair="repair.json").prepare()
    assert len(data.train_set) == 30 - len(dropped)


def test_options_that_need_each_other(capsys):
    assert main(["inspect", "all.xyz", "--repair", "r.json"]) == 2
    assert "--repair is given without --audit" in capsys.readouterr().err
    assert main(["inspect", "all.xyz", "--audit", "--minutes", "1", "--steps", "9"]) == 2
    assert "--minutes and --steps are given" in capsys.readouterr().err
