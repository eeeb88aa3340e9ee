"""The benchmarks themselves: what they build from a case, and whole runs without peers (slow)."""

import json

import numpy as np
import pytest
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io import write


@pytest.fixture
def data(tmp_path):
    frames = []
    for i in range(2):
        atoms = Atoms("OHH", [[0, 0, 0], [0.96, 0, 0], [-0.3, 0.9 + 0.1 * i, 0]])
        atoms.calc = SinglePointCalculator(atoms, energy=-100.0 + 4 * i, forces=np.full((3, 3), 0.5 * i))
        frames.append(atoms)
    write(tmp_path / "data.xyz", frames)
    return tmp_path / "data.xyz"


@pytest.mark.parametrize(
    ("case", "features"),
    [("l1", "32x0e + 32x1o"), ("l1_parity", "32x0e + 32x0o + 32x1e + 32x1o"), ("l2", "32x0e + 32x1o + 32x2e")],
)
def test_features_of_a_case(load, case, features):
    assert load("cases").features(case) == features


def test_batch_is_the_same_for_every_code(load, data):
    worker = load("train_worker")
    batch = worker.joined(worker.read_batch(str(data), 3))  # the file has two frames: the third is the first again
    assert batch["num_atoms"].tolist() == [3, 3, 3]
    assert batch["batch"].tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2]
    assert batch["atom_types"].tolist() == [3, 0, 0] * 3
    assert batch["total_energy"].flatten().tolist() == [-2.0, 2.0, -2.0]
    assert batch["forces"][:, 0].tolist() == [0, 0, 0, 0.5, 0.5, 0.5, 0, 0, 0]
    assert batch["edge_index"].shape == (2, 18)
    assert (batch["edge_index"] // 3 == np.repeat([0, 1, 2], 6)).all()


def test_losses_of_the_same_weights_are_compared(load):
    train_step = load("train_step")

    class Crew:
        workers = {  # noqa: RUF012
            "ours": type("W", (), {"info": {"parameters": 7, "value": 2.0, "warmup": [1.0, 0.5, 0.25]}}),
            "nequip": type(
                "W", (), {"info": {"parameters": 7, "value": 2.0, "warmup": [1.0, 0.4, 0.25], "our_weights": True}}
            ),
            "mlip": type("W", (), {"info": {"parameters": 3, "value": 5.0, "warmup": [4.0, 3.0, 2.0]}}),
        }

    assert train_step.against_peer(Crew, "nequip") == {
        "same_parameters": True,
        "peer_parameters": 7,
        "same_loss": True,
        "loss_difference": 0.0,
        "loss_difference_4": pytest.approx(0.25),
    }
    assert train_step.against_peer(Crew, "mlip") == {"same_parameters": False, "peer_parameters": 3}


def test_curves_of_a_plot(load):
    scaling = load("scaling")
    rows = [
        {"case": "l1", "atoms": 96, "ours_us": 5.0, "peer": "nequip", "peer_us": 9.0},
        {"case": "l1", "atoms": 8, "ours_us": 6.0, "peer": "nequip", "peer_us": 8.0},
        {"case": "l1", "atoms": 1000, "ours_us": 4.0},
    ]
    assert scaling.curves(rows, "atoms", "ours_us", "peer_us") == {
        "l1 ours": [(8, 6.0), (96, 5.0), (1000, 4.0)],
        "l1 nequip": [(8, 8.0), (96, 9.0)],
    }


def test_flatness(load, capsys):
    rows = [{"case": "l1", "atoms": n, "ours_us_per_atom": t} for n, t in [(96, 50.0), (1000, 10.0), (9680, 12.0)]]
    load("scaling").print_flatness(rows)
    assert capsys.readouterr().out == "l1: time per atom from 1,000 atoms on: largest / smallest = 1.200\n"


def test_steps_of_a_round(load):
    steps_of = load("inference").steps_of
    assert [steps_of(atoms, 40) for atoms in (27, 192, 1029, 3993)] == [40, 31, 8, 8]
    assert steps_of(3993, 2) == 2


SMALL = ("--rounds", 2, "--steps", 1, "--threads", 1, "--cases", "l1", "--kernel", "reference", "--json", "out.json")


@pytest.mark.slow
def test_training_step_runs(run, data, tmp_path):
    lines = run("train_step.py", "--data", data, "--batches", 1, 2, *SMALL)
    assert [line.split()[0] for line in lines] == ["case=l1", "roofline=l1"] * 2
    rows = json.loads((tmp_path / "out.json").read_text())["cases"]
    assert [row["batch"] for row in rows] == [1, 2]
    assert all(row["ours_ms"] > 0 and row["parameters"] == 297120 for row in rows)
    assert [row["roofline"]["atoms"] for row in rows] == [3, 6]


@pytest.mark.slow
def test_inference_runs(run, data, tmp_path):
    run("inference.py", "--molecule", data, *SMALL)
    (row,) = json.loads((tmp_path / "out.json").read_text())["cases"]
    assert (row["system"], row["atoms"]) == ("molecule", 3)
    assert row["ours_ms"] > 0
    assert row["ours_peak_mb"] > row["ours_step_mb"] >= 0


@pytest.mark.slow
def test_scaling_runs(run, data, tmp_path):
    lines = run("scaling.py", "--sizes", 10, 100, "--plot", "out.png", *SMALL)
    assert [line.split()[2] for line in lines] == ["atoms=8", "atoms=96"]
    assert (tmp_path / "out.png").read_bytes().startswith(b"\x89PNG")
    run("scaling.py", "--train", data, "--batches", 1, *SMALL)
    (row,) = json.loads((tmp_path / "out.json").read_text())["cases"]
    assert row["ours_frames_per_s"] == pytest.approx(1e3 / row["ours_ms"])


def test_what_chance_makes_of_a_coverage(load, capsys):
    """Of 9 that calibrate the interval is up to the largest; of one more it holds 9 of 10 on average."""
    divisions = load("uncertainty_divisions")
    divisions.print_expected(9, 1)
    assert capsys.readouterr().out == (
        "expected of energies: 90.0 % within the interval of 90 %, 30.0 from one division to the next; 0 % of the "
        "divisions are within 2 points\n"
    )
    divisions.print_expected(200, 200)
    assert "90.0 % within the interval of 90 %, 3.0 from one division to the next; 55 %" in capsys.readouterr().out
    divisions.print_shares("LLPR, energy", [0.88, 0.91, 0.95])
    assert capsys.readouterr().out == (
        "LLPR, energy          91.3 % within, 3.5 from one division to the next, 88.0 to 95.0; within 2 points 67 %\n"
    )
