"""Fine-tuning on other data: new species, energies of another level of theory, replay."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ase.build import molecule

from nequip_like.data import fields
from nequip_like.data.graph import collate
from nequip_like.errors import ConfigError
from nequip_like.inference import read_card
from nequip_like.integrations.ase import NequIPCalculator
from nequip_like.workflow.finetune.agreement import compare_with_source
from nequip_like.workflow.train import train
from tests.workflow.test_resume import last
from tests.workflow.tuning import (
    EXACT,
    MOVED,
    REFERENCES,
    as_source,
    begun,
    nothing,
    shaken,
    write,
)

# --- species


def test_a_new_species_is_refused(tune: Any, with_sulphur: Path) -> None:
    with pytest.raises(
        ConfigError, match=r"the training data have S, which the model of .* does not know\n.*new_species="
    ):
        begun(tune(f"data.train={with_sulphur}"))


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        ("{S:Cl}", r"finetune.new_species.S is 'Cl', which is no species of .*\n.*its species are O, H, C, N"),
        ("{H:O,S:O}", "finetune.new_species names H, which .* has already"),
        ("{S:O,Br:C}", "finetune.new_species names Br, which no training frame has"),
        ("{Br:C}", "finetune.new_species names Br, which no training frame has"),
    ],
)
def test_wrong_starts(rule: str, message: str, tune: Any, with_sulphur: Path) -> None:
    with pytest.raises(ConfigError, match=message):
        begun(tune(f"data.train={with_sulphur}", f"finetune.new_species={rule}"))


@pytest.mark.parametrize("rule", ["{S:O}", "mean"])
def test_a_new_species(rule: str, tune: Any, with_sulphur: Path) -> None:
    """Trained, exported, and loaded by a calculator; the shift is the reference energy of the new data."""
    options = (f"data.train={with_sulphur}", REFERENCES, f"finetune.new_species={rule}", "run=[train]")
    tuning, data, module = begun(tune(*options))
    assert data.type_names == module.model.type_names == ["O", "H", "C", "N", "S"]
    assert module.model.energy_model.scale_shift.shifts.tolist() == [-3.0, -1.0, -2.0, -4.0, -8.0]
    assert compare_with_source(tuning, module.model, data).energy < EXACT
    result = train(tune(*options))
    atoms = molecule("SH2")
    atoms.calc = NequIPCalculator(result.model_file)
    assert np.isfinite(atoms.get_potential_energy())
    assert read_card(result.model_file)["type_names"] == ["O", "H", "C", "N", "S"]
    assert read_card(result.model_file)["provenance"]["finetune"]["new_species"] == {"S": rule[3:-1] or rule}


def test_species_given_in_another_order(tune: Any, with_sulphur: Path) -> None:
    """The source's come first."""
    options = (f"data.train={with_sulphur}", REFERENCES, "finetune.new_species=mean", "chemical_species=[H,C,O,S,N]")
    _, data, module = begun(tune(*options))
    assert data.type_names == module.model.type_names == ["O", "H", "C", "N", "S"]


def test_a_new_species_needs_its_energy(tune: Any, with_sulphur: Path) -> None:
    with pytest.raises(ConfigError, match=r"no reference energy of S, .*\n.*data.reference_energies"):
        begun(tune(f"data.train={with_sulphur}", "data.reference_energies=null", "finetune.new_species=mean"))


# --- shifts


def test_refitted_shifts(tune: Any, source: Path, tmp_path: Path) -> None:
    """Labels of the source at another level of theory: the refit finds the differences; N is not there and stays."""
    frames = shaken(["H2O", "CH4", "CO2", "H2", "CO", "CH3OH"], 4)
    file = write(tmp_path / "moved.xyz", frames, as_source(source, MOVED))
    options = (f"data.train={file}", "finetune.shifts=refit")
    tuning, data, module = begun(tune(*options))
    assert tuning.info["shift_changes"] == pytest.approx(MOVED, abs=1e-9)
    shifts = module.model.energy_model.scale_shift.shifts
    assert shifts.tolist() == pytest.approx([0.0, -0.5, -22.0, -4.0], abs=1e-9)
    assert tuning.refit.residual_rms < 1e-9
    found = compare_with_source(tuning, module.evaluation_model, data)
    assert found.energy < 1e-9
    assert found.forces < EXACT
    batch = collate(list(data.train_set))
    assert (module.model.eval()(batch)[fields.TOTAL_ENERGY] - batch[fields.TOTAL_ENERGY]).abs().max() < 1e-9


def test_refitted_shifts_leave_no_mean_error_of_a_species(tune: Any, tmp_path: Path) -> None:
    """Labels that no shifts reproduce: what is left has no component along any species."""
    rng = np.random.default_rng(0)
    frames = shaken(["H2O", "CH4", "CO2", "H2", "CO", "CH3OH"], 4)
    file = write(tmp_path / "noisy.xyz", frames, lambda atoms: (rng.normal() * len(atoms), np.zeros((len(atoms), 3))))
    _, data, module = begun(tune(f"data.train={file}", "finetune.shifts=refit"))
    composition, rest = [], []
    for frame in data.train_set.frames:
        atoms = len(frame[fields.ATOM_TYPES])
        difference = frame[fields.TOTAL_ENERGY] - module.model.eval()(collate([frame]))[fields.TOTAL_ENERGY]
        composition.append(torch.bincount(frame[fields.ATOM_TYPES], minlength=4).double() / atoms)
        rest.append(difference.flatten() / atoms)
    assert (torch.stack(composition).T @ torch.cat(rest)).abs().max() < 1e-9
    assert torch.cat(rest).abs().max() > 0.1


def test_one_composition_moves_all_species_alike(tune: Any) -> None:
    tuning, _, module = begun(tune("finetune.shifts=refit"))
    changes = tuning.info["shift_changes"]
    assert set(changes) == {"H", "C", "O"}
    assert len(set(changes.values())) == 1
    assert tuning.refit.rule == "per_atom_energy_mean"
    assert module.model.energy_model.scale_shift.shifts[3] == -4.0


def test_replayed_labels_move_with_the_shifts(tune: Any, source: Path, tmp_path: Path) -> None:
    """Old labels are the source's: they have to stay right for the model with other shifts."""
    names = ["H2O", "CH4", "CO2", "H2", "CO", "CH3OH"]
    file = write(tmp_path / "moved.xyz", shaken(names, 4), as_source(source, MOVED))
    old = write(tmp_path / "old.xyz", shaken(names, 2, seed=1), as_source(source, {}))
    replay = f"data.replay={{file:'{old}',fraction:0.25}}"
    _, data, module = begun(tune(f"data.train={file}", "finetune.shifts=refit", replay))
    batch = collate(list(data.trained_on))
    assert len(data.trained_on) == len(data.train_set) + 12
    assert (module.model.eval()(batch)[fields.TOTAL_ENERGY] - batch[fields.TOTAL_ENERGY]).abs().max() < 1e-9


def test_the_weight_of_replay_in_the_loss(tune: Any, tmp_path: Path) -> None:
    """A quarter of the weight: squared errors of forces, weighted, over the sum of weights."""
    old = write(tmp_path / "old.xyz", shaken(["H2O", "CH4", "CO2"], 2), nothing)
    _, data, module = begun(tune(f"data.replay={{file:'{old}',fraction:0.25,weight:0.25}}"))
    batch = next(iter(data.train_dataloader()))
    new = batch[fields.FRAME_INDEX] < len(data.train_set)
    assert 0 < int(new.sum()) < len(new)
    prediction = module.model(batch)
    value = module.loss.step(prediction, batch)["forces_mse"].detach()
    weights = torch.where(new, 1.0, 0.25).double()[batch[fields.BATCH]]
    squares = (prediction[fields.FORCES].detach() - batch[fields.FORCES]).square().mean(dim=1)
    assert float(value) == pytest.approx(float((weights * squares).sum() / weights.sum()), rel=EXACT)


@pytest.mark.slow
def test_accumulated_batches_of_replay_are_one(tune: Any, tmp_path: Path) -> None:
    """14 frames and 2 old ones of a quarter of the weight: 2 batches of 2 are 1 of 4."""
    old = write(tmp_path / "old.xyz", shaken(["H2O", "CH4", "CO2"], 2), nothing)
    replay = f"data.replay={{file:'{old}',fraction:0.125,weight:0.25}}"
    states = []
    for name, size, steps in (("one", 4, 1), ("two", 2, 2)):
        sizes = (f"data.batch_size={size}", f"trainer.accumulate_grad_batches={steps}", f"output_dir={tmp_path / name}")
        states.append(last(train(tune("run=[train]", replay, *sizes)).folder)["state_dict"])
    for name, tensor in states[0].items():
        if isinstance(tensor, torch.Tensor) and tensor.is_floating_point():
            assert torch.allclose(states[1][name], tensor, rtol=0, atol=1e-9), name
