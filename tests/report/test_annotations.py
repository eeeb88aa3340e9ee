"""What frames carry beside their labels goes through a test: ASE reads it back, and errors are told by group."""

import json

import ase.io
import numpy as np
import pytest
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator

from nequip_like.data.datamodule import DataModule
from nequip_like.data.io.annotations import Annotations, group_key
from nequip_like.errors import ConfigError
from nequip_like.inference.evaluation import evaluate
from nequip_like.inference.predictor import Predictor
from nequip_like.report.comment_line import format_value
from nequip_like.report.files import write_metrics, write_predictions
from nequip_like.workflow.evaluate import report_test_sets
from tests.report.test_tables import printed

INFO = {
    "config_type": "bulk fcc",
    "description": 'said "so", a=b {c} [d] \\ and 5\'-GMP',
    "lines": "first\nsecond",
    "empty": "",
    "digits": "0300",
    "letter": "T",
    "word": "nan",
    "json": "_JSON [1]",
    "german": "Größe",
    "number": 0.1 + 0.2,
    "count": 7,
    "truth": False,
    "numpy": np.float64(1e-30),
    "mapping": {"a": [1, {"b": None}], "c": np.array([1.5, 2.5])},
    "list": ["x", "y"],
    "vector": np.array([0.1, 1e-17, 3.0]),
    "one": np.array([0.1]),
    "matrix": np.arange(6.0).reshape(2, 3) / 7,
    "truths": np.array([True, False]),
    "a key": "in words",
    "tensor": np.arange(9),
}
ARRAYS = {
    "charge_state": np.array([1, -2]),
    "large": np.array([2**40, -1]),
    "spread": np.array([0.1, 1e-300]),
    "both": np.array([[0.1, 0.2], [0.3, 0.4]]),
    "cubes": np.arange(18.0).reshape(2, 3, 3),
    "fixed": np.array([True, False]),
    "label": np.array(["C1", "Ox"]),
}


def carbon_monoxide(energy=-1.0, **info):
    atoms = Atoms("CO", [[0, 0, 0], [0, 0, 1.1]], info=info)
    atoms.calc = SinglePointCalculator(atoms, energy=energy)
    return atoms


@pytest.fixture
def written(tmp_path, make_potential):
    """Frames after a test of them, and what was left out."""

    def write(*frames):
        evaluation = evaluate(make_potential(), list(frames))
        left_out = write_predictions({"test": evaluation}, tmp_path / "p.extxyz")
        return ase.io.read(tmp_path / "p.extxyz", ":"), left_out

    return write


def test_info_comes_back(written):
    (atoms,), left_out = written(carbon_monoxide(**INFO))
    assert left_out == []
    for name, value in INFO.items():
        found = atoms.info[name]
        if isinstance(value, np.ndarray):
            assert isinstance(found, np.ndarray), name
            np.testing.assert_array_equal(found, value, strict=True)
        elif name == "mapping":
            assert found == {"a": [1, {"b": None}], "c": [1.5, 2.5]}
        else:
            assert found == value, name
            assert isinstance(found, bool) == isinstance(value, bool), name
    assert atoms.get_potential_energy() == -1.0
    assert atoms.info["origin"] == "Atoms 0"


def test_arrays_come_back(written):
    given = carbon_monoxide()
    given.arrays |= ARRAYS
    given.set_tags([3, 4])
    (atoms,), left_out = written(given)
    assert left_out == []
    for name, value in ARRAYS.items():
        np.testing.assert_array_equal(atoms.arrays[name], value.reshape(2, 9) if name == "cubes" else value)
    assert atoms.get_tags().tolist() == [3, 4]
    assert atoms.arrays["fixed"].dtype == bool


def test_what_a_file_cannot_hold_is_named(written):
    given = carbon_monoxide(maker=object(), kept=1)
    given.arrays["two words"] = np.array([1, 2])
    given.arrays["words"] = np.array(["a b", "c"])
    given.arrays["waves"] = np.array([1j, 2j])
    (atoms,), left_out = written(given)
    assert left_out == ["maker", "two words", "waves", "words"]
    assert atoms.info["kept"] == 1


def test_names_of_the_file_itself(written, tmp_path, make_potential):
    """What is tested may be the file of another test; a label that was not read keeps its value."""
    given = carbon_monoxide(pbc="x", origin="here", dipole="large", data_set="mine", predicted_energy=3.0)
    (atoms,), _ = written(given)
    assert {name: value for name, value in atoms.info.items() if name.startswith("input_")} == {
        "input_pbc": "x", "input_origin": "here", "input_dipole": "large",
        "input_data_set": "mine", "input_predicted_energy": 3.0,
    }  # fmt: skip
    assert not atoms.pbc.any()
    given.info["mine"] = -2.0
    evaluation = evaluate(make_potential(), given, key_mapping={"mine": "total_energy"})
    write_predictions({"test": evaluation}, tmp_path / "q.extxyz")
    atoms = ase.io.read(tmp_path / "q.extxyz")
    assert (atoms.get_potential_energy(), atoms.info["input_energy"], atoms.info["mine"]) == (-2.0, -1.0, -2.0)


def test_results_beside_the_labels(written):
    given = carbon_monoxide()
    given.calc = SinglePointCalculator(
        given, energy=-1.0, free_energy=-1.25, dipole=np.array([0.1, 0.2, 0.3]), magmoms=np.array([0.5, -0.5])
    )
    (atoms,), _ = written(given)
    assert atoms.calc.results["free_energy"] == -1.25
    assert atoms.calc.results["dipole"].tolist() == [0.1, 0.2, 0.3]
    assert atoms.calc.results["magmoms"].tolist() == [0.5, -0.5]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("bulk", '"bulk"'),
        (True, "T"),
        (np.int64(3), "3"),
        (0.1, "0.1"),
        ("12", '"_JSON \\"12\\""'),
        (np.array([1, 2]), '"1 2"'),
        ([1, 2], '"_JSON [1, 2]"'),
        (2**70, '"_JSON 1180591620717411303424"'),
        ({1}, None),
        (b"x", None),
    ],
)
def test_text_of_a_value(value, text):
    assert format_value(value) == text


# --- groups


def shifted(make_potential, group, error, key="config_type"):
    """A frame whose energy is wrong by a known amount."""
    atoms = carbon_monoxide(**({} if group is None else {key: group}))
    atoms.calc.results["energy"] = Predictor(make_potential()).predict(atoms)["total_energy"].item() + error
    return atoms


def test_errors_by_group(make_potential, tmp_path):
    frames = [shifted(make_potential, *each) for each in [("bulk", 0.2), ("slab", 0.4), ("bulk", -0.6), (None, 0.8)]]
    evaluation = evaluate(make_potential(), frames, batch_size=2)
    groups = evaluation.groups
    assert groups.key == "config_type"
    assert groups.frames == {"(none)": 1, "bulk": 2, "slab": 1}
    energies = {name: metrics["total_energy_mae"] for name, metrics in groups.metrics.items()}
    assert energies == pytest.approx({"(none)": 0.8, "bulk": 0.4, "slab": 0.4}, rel=1e-12)
    assert groups.metrics["bulk"]["per_atom_energy_rmse"] == pytest.approx(np.sqrt(0.05), rel=1e-12)
    write_metrics({"test": evaluation}, tmp_path / "metrics.json")
    read = json.loads((tmp_path / "metrics.json").read_text())["test"]
    expected = {name: {"frames": groups.frames[name], **metrics} for name, metrics in groups.metrics.items()}
    assert read == {**evaluation.metrics, "groups": {"config_type": expected}}

    lines = [[cell.strip() for cell in line.split("│")[1:-1]] for line in printed({"test": evaluation}).splitlines()]
    assert "test by config_type" in printed({"test": evaluation})
    assert ["bulk", "2", "200.0", "223.6"] in lines
    assert ["(none)", "1", "400.0", "400.0"] in lines


def frames_with(**columns):
    return [Annotations(dict(zip(columns, values, strict=True))) for values in zip(*columns.values(), strict=True)]


@pytest.mark.parametrize(
    ("frames", "key"),
    [
        ([Annotations(), Annotations()], None),
        (frames_with(config_type=["a", "a"], group=[1, 2]), "group"),
        (frames_with(config_type=["a", "b"], group=[1, 2]), "config_type"),
        (frames_with(config_type=[f"frame {i}" for i in range(21)]), None),
        (frames_with(config_type=[f"frame {i}" for i in range(20)]), "config_type"),
        (frames_with(config_type=[["a"], ["b"]], group=["x", "y"]), "group"),
    ],
)
def test_the_key_that_tells_frames_apart(frames, key):
    assert group_key(frames) == key


def test_a_key_that_cannot_group(make_potential):
    frames = [carbon_monoxide(shape=np.eye(2)), carbon_monoxide()]
    with pytest.raises(ConfigError, match="frames cannot be grouped by 'shape', which is a ndarray"):
        evaluate(make_potential(), frames, group_by="shape")


def test_the_test_of_a_run_knows_its_groups(make_potential, tmp_path):
    """Frames that are tested hand on what they carry, held out of the training file or not; others do not."""
    frames = [carbon_monoxide(-1.0 - 0.1 * i, config_type="near" if i % 2 else "far", number=i) for i in range(8)]
    for i, atoms in enumerate(frames):
        atoms.positions[1, 2] += 0.02 * i
        atoms.calc.atoms.positions[:] = atoms.positions
    data = DataModule(frames, test=[4], cutoff_radius=3.0, species=["H", "C", "O"], reference_energies=None)
    assert data.train_set.annotations == [Annotations()] * 4
    (evaluation,) = report_test_sets(make_potential(), data.test_sets, tmp_path / "run").values()
    told = [atoms.info["number"] for atoms in ase.io.read(tmp_path / "run" / "predictions.extxyz", ":")]
    assert told == [int(data.test_sets["test"].origin(i).split()[-1]) for i in range(4)]
    expected = {"far": sum(i % 2 == 0 for i in told), "near": sum(i % 2 for i in told)}
    assert evaluation.groups.frames == expected
