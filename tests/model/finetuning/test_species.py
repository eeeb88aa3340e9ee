"""New species: old numbers stay bit for bit, new ones begin as they are told."""

from __future__ import annotations

import pytest
import torch

from nequip_like.data import fields
from nequip_like.inference import model_file
from nequip_like.model.finetuning import MEAN, change_shifts, rebuilt
from nequip_like.testing.structures import batch_of, molecule

PER_TYPE = {
    "avg_num_neighbors": {"H": 3.0, "C": 4.0, "O": 5.0},
    "per_type_energy_scales": {"H": 1.0, "C": 2.0, "O": 3.0},
    "per_type_energy_shifts": {"H": -13.0, "C": -38.0, "O": -75.0},
    "per_edge_type_cutoff": {"H": 2.0, "C": {"O": 2.5}, "O": {"H": 1.5}},
}


@pytest.fixture
def source(make_potential):
    return make_potential(**PER_TYPE, pair_potential="zbl")


def test_old_numbers_stay(source):
    model = rebuilt(source, {}, {"S": "O", "Na": MEAN}, {"S": -400.0, "Na": -160.0})
    assert model.type_names == ["H", "C", "O", "S", "Na"]
    state = model.state_dict()
    for name, tensor in source.state_dict().items():
        old = state[name][tuple(slice(0, length) for length in tensor.shape)]
        assert torch.equal(old, tensor), name


def test_new_numbers(source):
    energy_model = rebuilt(source, {}, {"S": "O", "Na": MEAN}, {"S": -400.0, "Na": -160.0}).energy_model
    rows = source.energy_model.type_embedding
    assert torch.equal(energy_model.type_embedding[3], rows[2])
    assert torch.allclose(energy_model.type_embedding[4], (rows[0] + rows[1] + rows[2]) / 3, rtol=1e-14, atol=0)
    assert energy_model.scale_shift.scales.tolist() == [1.0, 2.0, 3.0, 3.0, 2.0]
    assert energy_model.scale_shift.shifts.tolist() == [-13.0, -38.0, -75.0, -400.0, -160.0]
    assert energy_model.sender_norm.square().reciprocal().tolist() == pytest.approx([3.0, 4.0, 5.0, 5.0, 4.0])
    cutoffs = energy_model.inverse_cutoffs.reciprocal()
    # S has the cutoffs of O on both sides; Na, a mean of species, has r_max = 3 except where H is the centre.
    assert cutoffs[3].tolist() == pytest.approx([1.5, 3.0, 3.0, 3.0, 3.0])
    assert cutoffs[:, 3].tolist() == pytest.approx([2.0, 2.5, 3.0, 3.0, 3.0])
    assert cutoffs[4].tolist() == pytest.approx([3.0] * 5)
    assert energy_model.pair_potential.numbers.tolist() == [1.0, 6.0, 8.0, 16.0, 11.0]


def test_one_number_for_all_species_stays_one(make_potential):
    model = rebuilt(make_potential(), {}, {"S": "O"}, {"S": 0.0})
    assert model.config["arguments"]["avg_num_neighbors"] == 5.0
    assert model.config["arguments"]["per_edge_type_cutoff"] is None


def test_elements_of_types_that_are_none(make_potential):
    pair = {"name": "zbl", "chemical_species": ["H", "C", "O"]}
    model = rebuilt(make_potential(pair_potential=pair), {}, {"S": "O"}, {"S": 0.0})
    assert model.energy_model.pair_potential.numbers.tolist() == [1.0, 6.0, 8.0, 16.0]


def test_predictions_of_old_species_stay(source):
    batch = batch_of([molecule()], source)
    model = rebuilt(source, {}, {"S": "O"}, {"S": -400.0}).eval()
    for name in (fields.TOTAL_ENERGY, fields.FORCES):
        assert (model(batch)[name] - source(batch)[name]).abs().max() < 1e-12, name


def test_switches(source):
    model = rebuilt(source, {"kernel": "batched", "per_type_energy_shifts_trainable": True})
    assert isinstance(model.energy_model.scale_shift.shifts, torch.nn.Parameter)
    assert torch.equal(model.energy_model.scale_shift.shifts, source.energy_model.scale_shift.shifts)
    assert model.kernel_in_use == "batched: torch"
    assert all(parameter.requires_grad for parameter in model.parameters())
    batch = batch_of([molecule()], source)
    assert torch.allclose(model.eval()(batch)["forces"], source(batch)["forces"], rtol=0, atol=1e-11)


def test_changed_shifts_are_in_files(source, tmp_path):
    batch = batch_of([molecule()], source)
    before = source(batch)[fields.TOTAL_ENERGY]
    count = int((batch[fields.ATOM_TYPES] == 0).sum())
    change_shifts(source, {"H": 0.5})
    assert source.energy_model.scale_shift.shifts.tolist() == [-12.5, -38.0, -75.0]
    assert source.config["arguments"]["per_type_energy_shifts"] == {"H": -12.5, "C": -38.0, "O": -75.0}
    assert (source(batch)[fields.TOTAL_ENERGY] - before).item() == pytest.approx(0.5 * count, rel=1e-12)
    model_file.save(source, tmp_path / "m.safetensors")
    again = model_file.read_model(tmp_path / "m.safetensors")
    assert torch.equal(again(batch)[fields.TOTAL_ENERGY], source(batch)[fields.TOTAL_ENERGY])
