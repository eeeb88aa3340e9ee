"""How results show themselves: exact lines, and tables for notebooks."""

import io

import ase.io
import numpy as np
import pytest
import torch
from rich.console import Console

from nequip_like.data.datamodule import DataModule
from nequip_like.data.dataset import load_dataset
from nequip_like.data.inspection.report import inspect
from nequip_like.data.io.readers import read, read_frames
from nequip_like.data.sources import FileSource, HeldOut
from nequip_like.inference.evaluation import evaluate
from nequip_like.inference.predictor import Predictor
from nequip_like.summaries import html_table, print_line, short
from nequip_like.workflow.config.check import check_config
from nequip_like.workflow.evaluate import test_model as run_test
from nequip_like.workflow.train import TrainingResult

LABELS = "{total_energy: energy, stress: stress, forces: forces}"


@pytest.fixture
def path(tmp_path, write_labelled):
    return write_labelled(tmp_path / "a.xyz")


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.123456, "0.1235"),
        ("a", "a"),
        (7, "7"),
        (None, "None"),
        (np.zeros((2, 3)), "ndarray(2, 3)"),
        (torch.zeros(5), "Tensor(5,)"),
        ([1, 2.5], "[1, 2.5]"),
        (list(range(7)), "7 entries"),
        ([np.zeros(3)], "1 entries"),
        ({"a": 1, "b": "c"}, "{a: 1, b: c}"),
        ({"a": np.zeros(3)}, "1 entries"),
        (HeldOut(0.1), "HeldOut"),
    ],
)
def test_values_in_a_few_words(value, text):
    assert short(value) == text


def test_a_table_is_plain_text_in_html():
    assert html_table("a < b", ("", "x"), [("<row>", "1 & 2")]) == (
        "<table><caption>a &lt; b</caption><tr><th></th><th>x</th></tr>"
        '<tr><th style="text-align:left">&lt;row&gt;</th><td>1 &amp; 2</td></tr></table>'
    )


def test_data(path):
    reading = read(path)
    assert repr(reading) == f"Reading(frames=7, files=[{path}], labels={LABELS}, units=eV, Angstrom)"
    dataset = load_dataset(path, ["H", "C", "O"], 3.0)
    text = "labels={total_energy: 7, forces: 5, stress: 3}, species=H C O, cutoff=3 Å"
    assert repr(dataset) == f"GraphDataset(name=a, frames=7, atoms=48, {text})"
    assert repr(read_frames(path)).startswith("Graphs(graphs=7, atoms=48, fields=pos cell pbc ")
    assert (
        repr(FileSource(ase.io.read(path, ":"))) == "FileSource(files=7 entries, index=:, key_mapping=None, units=None)"
    )
    inspection = inspect(dataset)
    assert repr(inspection).startswith("Inspection(name=a, frames=7, atoms per frame=4 to 9, ")
    assert "<td>4 to 9</td>" in inspection._repr_html_()


def test_data_of_a_run_before_and_after_they_are_read(path):
    data = DataModule(path, val=2, cutoff_radius=3.0, reference_energies=None)
    asked = f"DataModule(train={path}, val=2, test=None, cutoff_radius=3, read=not yet)"
    assert (repr(data), str(data)) == (asked, asked)
    data.prepare()
    found = "train=5 frames, val={val: 2 frames}, test={}, species=H C O, reference=none"
    assert repr(data.data) == f"Prepared({found})"
    assert str(data) == f"DataModule({found}, cutoff_radius=3)"
    from_memory = DataModule(ase.io.read(path, ":"), cutoff_radius=3.0)
    assert repr(from_memory) == "DataModule(train=7 entries, val=None, test=None, cutoff_radius=3, read=not yet)"


def test_models(make_potential, path):
    potential = make_potential()
    number = sum(parameter.numel() for parameter in potential.parameters())
    text = f"Potential(family=nequip, species=H C O, cutoff=3 Å, parameters={number}, dtype=float64)"
    assert repr(potential) == text
    assert "<td>H C O</td>" in potential._repr_html_()
    predictor = Predictor(potential)
    assert repr(predictor) == f"Predictor(potential={text}, device=cpu, batch_size=16 frames)"
    expected = "Graphs(graphs=7, atoms=48, fields=num_atoms total_energy atomic_energy forces stress virial)"
    assert repr(predictor.predict(path)) == expected
    assert repr(predictor.predict([])) == "Graphs(graphs=0, atoms=0, fields=none)"


def test_results_of_a_test(make_potential, path, tmp_path):
    evaluations = run_test(make_potential(), path, tmp_path / "out")
    evaluation = evaluations["a"]
    energy, forces, stress = (evaluation.metrics[f"{name}_rmse"] for name in ("per_atom_energy", "forces", "stress"))
    errors = f"per_atom_energy_rmse={energy:.4g}, forces_rmse={forces:.4g}, stress_rmse={stress:.4g}"
    assert repr(evaluation) == f"Evaluation(name=a, frames=7, {errors})"
    assert repr(evaluations) == f"Evaluations(a=Evaluation(name=a, frames=7, {errors}))"
    assert str(evaluations) == repr(evaluations)
    table = evaluations._repr_html_()
    assert table == evaluation._repr_html_()
    assert table.startswith("<table><caption>a: 7 frames</caption><tr><th>error of</th><th>unit</th><th>MAE</th>")
    mae, largest = evaluation.metrics["forces_mae_H"], evaluation.metrics["forces_maxabserr_H"]
    rmse = evaluation.metrics["forces_rmse_H"]
    row = f"forces on H</th><td>eV/Å</td><td>{mae:.4g}</td><td>{rmse:.4g}</td><td>{largest:.4g}</td></tr>"
    assert row in table


def test_results_of_a_run(compose, tmp_path):
    metrics = {"val0_epoch/forces_rmse": 0.0123456, "val0_epoch/forces_mae": 0.01, "val0_epoch/weighted_sum": 2.0}
    result = TrainingResult(tmp_path, metrics, None, tmp_path / "model.safetensors")
    assert repr(result) == (
        f"TrainingResult(folder={tmp_path}, model_file={tmp_path}/model.safetensors, best_checkpoint=None, "
        "val0_epoch/forces_rmse=0.01235, val0_epoch/weighted_sum=2)"
    )
    checked = repr(check_config(compose()))
    assert checked.startswith("CheckedConfig(tasks=[train, val, test], sections=")
    assert len(checked) < 400


def test_nothing_shows_its_tensors(make_potential, path):
    """Whatever is printed, no result takes more than a few lines."""
    potential = make_potential()
    evaluation = evaluate(potential, path)
    for result in (
        read(path),
        read_frames(path),
        evaluation,
        evaluation.dataset,
        potential,
        inspect(evaluation.dataset),
    ):
        assert "tensor(" not in repr(result)
        assert len(repr(result)) < 900
        assert result._repr_html_().startswith("<table>")


def test_a_line_is_printed_as_it_is():
    console = Console(file=io.StringIO(), width=10, force_terminal=True)
    print_line(console, "[red] 12 of 3456 in /a/long/path")
    assert console.file.getvalue() == "[red] 12 of 3456 in /a/long/path\n"
