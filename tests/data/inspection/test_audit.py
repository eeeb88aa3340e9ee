"""What is planted into clean data is found, by the check that it belongs to; nothing is found in clean data."""

import json

import ase.io
import pytest

from nequip_like.data.inspection.audit import audit
from tests.data.inspection.planted import exchange, flip_stress, frames_of, fuse, in_kcal, mix_units, repeat

MGO, ETHANOL = "mgo/train.xyz", "ethanol/train.xyz"


def write(path, frames):
    ase.io.write(path, frames, format="extxyz")
    return str(path)


def levels(result):
    return {verdict.check: verdict.level for verdict in result.verdicts if verdict.level != "ok"}


@pytest.mark.parametrize("name", [MGO, "mgo/test.xyz", ETHANOL, "ethanol/test_600K.xyz"])
def test_bundled_data_are_sound(name):
    result = audit(frames_of(name))
    assert levels(result) == {}
    assert result.level == "ok"


@pytest.mark.parametrize(
    ("name", "plant", "check", "sentence"),
    [
        (MGO, flip_stress, "stress", "its sign looks wrong"),
        (MGO, mix_units, "mixed units", "energies of 55 of 110 frames are 23.06 times as large as the others'"),
        (ETHANOL, mix_units, "mixed units", "energies of 250 of 500 frames are 23.06 times as"),
        (MGO, exchange, "exchanged labels", "labels of 2 frames are exchanged; first: those of Atoms 3 and Atoms 40"),
        pytest.param(
            *(
                ETHANOL,
                exchange,
                "exchanged labels",
                "labels of 2 frames are exchanged; first: those of Atoms 3 and Atoms",
            ),
            marks=pytest.mark.slow,
        ),
        (MGO, fuse, "distances", "two atoms are only 0.300 Angstrom apart: Atoms 11"),
        pytest.param(
            *(ETHANOL, fuse, "distances", "two atoms are only 0.300 Angstrom apart: Atoms 11"), marks=pytest.mark.slow
        ),
    ],
    ids=["sign", "units", "units of molecules", "labels", "labels of molecules", "fused", "fused molecule"],
)
def test_planted_faults_are_found(name, plant, check, sentence):
    result = audit(plant(frames_of(name)))
    verdict = result.find_verdict(check)
    assert (verdict.level, result.level) == ("wrong", "wrong")
    assert sentence in verdict.text
    assert verdict.advice


def test_repeated_frames():
    result = audit(repeat(frames_of(MGO)))
    assert levels(result) == {"repeated frames": "look"}
    verdict = result.find_verdict("repeated frames")
    assert verdict.text == "2 frames repeat an earlier one; first: Atoms 110 is Atoms 5"
    assert verdict.frames == (110, 111)


def test_repeated_frames_with_other_labels():
    frames = frames_of(MGO, 20)
    result = audit([*frames, *in_kcal(frames[:1])])
    verdict = result.find_verdict("repeated frames")
    assert verdict.level == "wrong"
    assert "1 frames are the same structure as another one but have other energies" in verdict.text
    # One frame of several is found as well as half of them.
    assert result.find_verdict("mixed units").text.endswith("the others in eV: Atoms 20")


def test_atoms_at_one_place():
    result = audit(fuse(frames_of(MGO), distance=0.0))
    assert "only 0.000 Angstrom apart: Atoms 11" in result.find_verdict("distances").text
    assert result.find_verdict("stress").level == "ok"


def test_faults_of_one_file_are_laid_to_it(tmp_path):
    """Of two files, one is in another unit, and the stress of the other has another sign."""
    frames = frames_of(MGO)
    whole = write(tmp_path / "a.xyz", frames[:60])
    kcal = write(tmp_path / "b.xyz", in_kcal(frames[60:]))
    verdict = audit([whole, kcal]).find_verdict("mixed units")
    assert verdict.text.endswith(f"in kcal/mol and the others in eV: all of {kcal}")
    assert verdict.frames == tuple(range(60, 110))
    flipped = write(tmp_path / "c.xyz", flip_stress(frames[60:]))
    verdict = audit([whole, flipped]).find_verdict("stress")
    assert verdict.level == "wrong"


def test_shared_frames(tmp_path):
    frames = frames_of(MGO, 30)
    train, test = write(tmp_path / "train.xyz", frames[:20]), write(tmp_path / "test.xyz", frames[17:])
    verdict = audit([train, test]).find_verdict("shared frames")
    assert verdict.level == "look"
    assert verdict.text == (f"3 frames of {test} are in {train}, too; first: {test} frame 0 is {train} frame 17")
    assert audit([train]).find_verdict("shared frames").level == "ok"


def test_facts(tmp_path):
    result = audit(frames_of(MGO))
    assert [(c.symbol, c.frames, c.atoms) for c in result.coverage] == [("O", 110, 880), ("Mg", 110, 880)]
    assert result.pairs[0].species == ("O", "Mg")
    assert result.pairs[0].distance == pytest.approx(1.70, abs=0.005)
    assert result.references.reference.residual_rms == pytest.approx(0.0467, abs=1e-4)
    titles = [histogram.title for histogram in result.histograms]
    assert titles == [
        "energy without that of the species, eV/atom",
        "force on an atom, eV/Å",
        "nearest neighbour over bond length",
        "neighbours of an atom",
        "largest stress, eV/Å³",
    ]
    assert [sum(histogram.counts) for histogram in result.histograms] == [110, 1760, 1760, 1760, 110]
    values = json.loads(json.dumps(result.as_json(), allow_nan=False))
    assert values["files"] == {"structures": 110}
    assert len(values["verdicts"]) == 17
