"""A run that gives its model file an uncertainty, and what testing such a model and a committee writes."""

import io
import json
from pathlib import Path
from types import SimpleNamespace

import ase.io
import pytest
import torch
from rich.console import Console

import nequip_like as nl
from nequip_like.data.dataset import load_dataset
from nequip_like.errors import ConfigError, ModelError
from nequip_like.inference import read_card, save
from nequip_like.inference.last_layer_fit import fit_uncertainty
from nequip_like.model.committee import CommitteePotential
from nequip_like.workflow.config.check import check_config
from nequip_like.workflow.evaluate import test_model as check_model
from nequip_like.workflow.train import train
from nequip_like.workflow.uncertainty.last_layer import add_uncertainty

DRAWN = ("model.kernel=batched", "report.format=[png]")


def test_a_run_fits_it(compose, capsys):
    result = train(compose("run=[train,test]", "uncertainty=llpr", "trainer.max_epochs=1", *DRAWN))
    assert "uncertainty: last-layer features of 14 training frames, scaled to the errors of 5 validation frames" in (
        capsys.readouterr().out
    )
    assert read_card(result.model_file)["uncertainty"]["frames"] == 5
    metrics = json.loads((result.folder / "metrics.json").read_text())
    (of_set,) = metrics.values()
    assert of_set["uncertainty"]["per_atom_energy"]["count"] == 5
    assert (result.folder / "uncertainty.png").stat().st_size > 1000
    assert "energy_uncertainty" in nl.load(result.model_file).predicted_fields


def test_by_default_where_it_is_possible(compose, capsys):
    """A run that asks for nothing gets one; without energies to tell the scale by it says why not."""
    result = train(compose("run=[train]", "uncertainty=auto", "trainer.max_epochs=1"))
    assert read_card(result.model_file)["uncertainty"]["method"] == "scale"  # of five errors
    assert packaged_default() == "auto"
    result = train(compose("run=[train]", "uncertainty=auto", "trainer.max_epochs=1", "data.val=1"))
    assert "uncertainty: none, for 1 validation frames have an energy to tell its scale by, of 2 at least" in (
        capsys.readouterr().out
    )
    assert "uncertainty" not in read_card(result.model_file)


def packaged_default():
    return nl.compose("train", ["data.train=a.xyz", "cutoff_radius=4.0"]).uncertainty


def test_a_member_has_none_of_its_own(compose, capsys):
    result = train(compose("run=[train]", "uncertainty=committee", "trainer.max_epochs=1"))
    assert (
        "uncertainty: that of a committee, which nequip-committee makes of several such runs" in capsys.readouterr().out
    )
    assert "uncertainty" not in read_card(result.model_file)


def test_mistakes_are_said_before_the_run(compose):
    with pytest.raises(ConfigError, match="uncertainty is 'lpr'"):
        check_config(compose("uncertainty=lpr"))
    with pytest.raises(ConfigError, match=r"uncertainty has the unknown key 'coverge'"):
        check_config(compose("uncertainty={coverge: 0.9}"))


def test_a_committee_is_not_fine_tuned(compose, tmp_path, make_potential):
    save(CommitteePotential([make_potential(seed=seed) for seed in (1, 2)]), tmp_path / "committee.safetensors")
    with pytest.raises(ConfigError, match="is a committee, which cannot be fine-tuned"):
        check_config(compose(f"finetune.source={tmp_path / 'committee.safetensors'}"))


def test_testing_a_committee(tmp_path, make_potential, molecule_file):
    committee = CommitteePotential([make_potential(seed=seed) for seed in (1, 2, 3)]).eval()
    printed = io.StringIO()
    evaluations = check_model(
        committee, {"a": molecule_file}, tmp_path / "out", console=Console(file=printed, width=200)
    )
    qualities = evaluations["a"].uncertainty
    assert (qualities["per_atom_energy"].count, qualities["forces"].count) == (24, 24 * 12)
    assert "a: uncertainty" in printed.getvalue()
    assert "written to" in printed.getvalue()
    assert "uncertainty.png" in printed.getvalue()
    values = json.loads((tmp_path / "out" / "metrics.json").read_text())["a"]["uncertainty"]["forces"]
    assert values["coverage_90"] == qualities["forces"].coverage[0.9]
    assert len(values["calibration_curve"]) == 101
    assert len(values["rejection_curve"]) == 10
    frame = ase.io.read(tmp_path / "out" / "predictions.extxyz", 3)
    assert frame.info["energy_uncertainty"] == evaluations["a"].predictions[3]["energy_uncertainty"].item()
    assert frame.arrays["forces_uncertainty"].shape == (4, 3)


def test_without_uncertainties_nothing_is_new(tmp_path, make_potential, molecule_file):
    printed = io.StringIO()
    evaluations = check_model(
        make_potential(), {"a": molecule_file}, tmp_path / "out", console=Console(file=printed, width=200)
    )
    assert evaluations["a"].uncertainty == {}
    assert "uncertainty" not in printed.getvalue()
    assert not (tmp_path / "out" / "uncertainty.png").exists()


def test_a_finished_training_keeps_its_model(compose, monkeypatch):
    """An uncertainty that was asked for and cannot be had is an error, after the model was written without it."""

    def fail(potential, *arguments):
        assert not potential.training
        raise ModelError("it is not finite")

    monkeypatch.setattr("nequip_like.workflow.uncertainty.last_layer.fit_uncertainty", fail)
    config = compose("run=[train]", "uncertainty=llpr", "trainer.max_epochs=1")
    with pytest.raises(ModelError, match="it is not finite"):
        train(config)
    assert "uncertainty" not in read_card(Path(config.output_dir) / "model.safetensors")


@pytest.mark.parametrize(
    ("method", "error", "line"),
    [
        ("auto", torch.OutOfMemoryError("CUDA out of memory"), "uncertainty: none, for there was not enough memory\n"),
        ("auto", ModelError("it is not finite"), "uncertainty: none, for it is not finite\n"),
        ("auto", RuntimeError("a bug"), None),
        ("llpr", torch.OutOfMemoryError("CUDA out of memory"), None),
    ],
)
def test_what_keeps_it_from_being_made(method, error, line, make_potential, molecule_file, monkeypatch):
    """Where nobody asked for it by name that is said; a bug is one in any case."""

    def fail(*arguments):
        raise error

    monkeypatch.setattr("nequip_like.workflow.uncertainty.last_layer.fit_uncertainty", fail)
    potential, printed = make_potential().train(), io.StringIO()
    dataset = load_dataset(molecule_file, potential.type_names, potential.cutoff)
    data = SimpleNamespace(train_set=dataset, val_sets={"val": dataset}, val_batch_size=4)
    arguments = (Console(file=printed, width=200), potential, data, {"uncertainty": method}, None)
    if line is None:
        with pytest.raises(type(error)):
            add_uncertainty(*arguments)
    else:
        add_uncertainty(*arguments)
        assert printed.getvalue() == line
    assert potential.training


def test_features_that_are_not_finite(make_potential, molecule_file):
    potential = make_potential()
    with torch.no_grad():
        potential.energy_model.scale_shift.scales.fill_(torch.nan)
    dataset = load_dataset(molecule_file, potential.type_names, potential.cutoff)
    with pytest.raises(ModelError, match=r"energies that the potential predicts for .* are not finite"):
        fit_uncertainty(potential, dataset)
    assert potential.uncertainty is None
