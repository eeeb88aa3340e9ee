"""The parity plot: a picture of the expected size that leaves pyplot alone."""

import matplotlib.image
import matplotlib.pyplot
import pytest
import torch

from nequip_like.data.dataset import load_dataset
from nequip_like.errors import OutputError
from nequip_like.inference.evaluation import evaluate
from nequip_like.report import parity
from nequip_like.report.parity import plot_parity


def test_one_row_for_each_data_set(tmp_path, evaluations):
    plot_parity(evaluations, tmp_path / "new" / "parity.png")
    height, width, _ = matplotlib.image.imread(tmp_path / "new" / "parity.png").shape
    assert width == pytest.approx(3 * 4.2 * 150, abs=2)
    assert height == pytest.approx(2 * 4.0 * 150, abs=2)
    assert [file.name for file in (tmp_path / "new").iterdir()] == ["parity.png"]


def test_both_axes_have_a_unit(tmp_path, evaluations, monkeypatch):
    figures = []
    monkeypatch.setattr(parity, "save_figure", lambda figure, *_: figures.append(figure) or [])
    plot_parity({"mixed": evaluations["mixed [set]"]}, tmp_path / "parity.png")
    labels = [(axes.get_xlabel(), axes.get_ylabel()) for axes in figures[0].axes]
    assert labels == [
        (f"labelled {quantity}", f"predicted {quantity}")
        for quantity in ("energy (eV/atom)", "force component (eV/Å)", "stress component (GPa)")
    ]
    found = evaluations["mixed [set]"]
    points = figures[0].axes[0].collections[0].get_offsets()
    labelled, predicted = (x.flatten() / atoms(found) for x in found.pairs("total_energy"))
    assert sorted(points[:, 0]) == pytest.approx(sorted((labelled - labelled.mean()).tolist()), abs=1e-12)
    assert sorted(points[:, 1]) == pytest.approx(sorted((predicted - labelled.mean()).tolist()), abs=1e-12)
    words = figures[0].axes[0].texts[0].get_text()
    assert f"zero is −{-float(labelled.mean()):.4f} eV/atom,\nthe mean label" in words
    assert f"RMSE {found.metrics['per_atom_energy_rmse'] * 1e3:.4g}"[:8] in words


def atoms(evaluation):
    return torch.tensor([len(frame["pos"]) for frame in evaluation.dataset.frames])


def test_formats(tmp_path, evaluations):
    files = plot_parity({"a": evaluations["second"]}, tmp_path / "parity.png", ["svg", "pdf"])
    assert files == [tmp_path / "parity.svg", tmp_path / "parity.pdf"]
    assert sorted(file.name for file in tmp_path.iterdir() if "parity" in file.name) == ["parity.pdf", "parity.svg"]


def test_energies_only(tmp_path, make_potential, write_labelled):
    potential = make_potential(do_derivatives=False)
    dataset = load_dataset(write_labelled(tmp_path / "a.xyz", frames=1), potential.type_names, potential.cutoff)
    plot_parity({"$x_1$ set": evaluate(potential, dataset)}, tmp_path / "parity.png")
    height, width, _ = matplotlib.image.imread(tmp_path / "parity.png").shape
    assert width / height == pytest.approx(4.2 / 4.0, abs=0.01)


def test_perfect_predictions(tmp_path, evaluations):
    evaluation = evaluations["second"]
    frame, prediction = evaluation.dataset.frames[0], evaluation.predictions[0]
    for label in evaluation.compared:
        frame[label] = torch.zeros_like(prediction[label])
        prediction[label] = torch.zeros_like(prediction[label])
    plot_parity({"zeros": evaluation}, tmp_path / "parity.png")
    assert (tmp_path / "parity.png").stat().st_size > 1000


def test_unwritable(tmp_path, evaluations):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot write"):
        plot_parity(evaluations, tmp_path / "file" / "parity.png")


def test_no_global_state(tmp_path, evaluations):
    before = matplotlib.pyplot.get_fignums(), dict(matplotlib.rcParams)
    plot_parity(evaluations, tmp_path / "parity.png")
    assert (matplotlib.pyplot.get_fignums(), dict(matplotlib.rcParams)) == before
