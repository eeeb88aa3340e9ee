"""What fine-tuning does to descriptor networks: built again they are the same, and shifts go where they came from."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from nequip_like.data import fields
from nequip_like.errors import ConfigError
from nequip_like.inference import model_file
from nequip_like.model import DescriptorANNModel, Potential
from nequip_like.model.families import build
from nequip_like.model.finetuning import MEAN, change_shifts, chosen_parameters, find_tunable, rebuilt
from nequip_like.nn.lora import adapt
from nequip_like.testing.structures import batch_of, molecule

SIZE = 10
STATS = {"mean": [0.1 * i for i in range(SIZE)], "std": [0.5 + 0.1 * i for i in range(SIZE)]}
HEAD = [f"energy_model.networks.{name}.{part}" for name, number in (("H", 1), ("C", 2), ("O", 0))
        for part in (f"weights.{number}", f"biases.{number}")]  # fmt: skip


def make(**changes: Any) -> Potential:
    arguments = {
        "type_names": ["H", "C", "O"], "r_max": 3.0, "radial_order": 2, "angular_order": 1, "model_dtype": "float64",
        "networks": {"H": [[3, "tanh"]], "C": [[3, "tanh"], [2, "twist"]], "O": []}, "feature_stats": STATS,
        "E_shift": -0.7, "E_scaling": 0.3, "per_type_energy_shifts": {"H": -13.1, "C": -38.2, "O": -75.3},
    }  # fmt: skip
    return DescriptorANNModel(**{**arguments, **changes}).eval()


def predict(potential: Potential) -> dict[str, torch.Tensor]:
    batch = batch_of([molecule()], potential)
    return {name: potential(batch)[name] for name in (fields.TOTAL_ENERGY, fields.FORCES)}


def test_built_again_it_is_the_same_to_the_last_bit():
    source = make()
    with torch.no_grad():  # as a training leaves them
        for parameter in source.parameters():
            parameter.mul_(1.1)
    model = rebuilt(source, {"kernel": "reference", "frame_memory": 0.5}).eval()
    assert model.energy_model.store.limit == 0.5e9
    assert all(parameter.requires_grad for parameter in model.parameters())
    for name, value in predict(rebuilt(source, {}).eval()).items():
        assert torch.equal(value, predict(source)[name]), name


@pytest.mark.parametrize(("isolated", "offset"), [("learnt", -0.7), ("exact", 0.0)])
def test_changed_shifts_are_in_what_builds_it(isolated, offset, tmp_path):
    source = make(isolated_atoms=isolated)
    before, energies = source.energy_model.scale_shift.shifts.clone(), predict(source)
    change_shifts(source, {"H": 0.3, "O": 2.0})
    expected = {"H": -13.1 + 0.3, "C": -38.2, "O": -75.3 + 2.0}
    assert source.config["arguments"]["per_type_energy_shifts"] == expected
    assert source.config["arguments"]["E_shift"] == -0.7
    shifts = source.energy_model.scale_shift.shifts
    assert shifts.tolist() == [value + offset for value in expected.values()]
    assert shifts[1] == before[1]
    # The argument alone gives them again, and so does a file.
    assert torch.equal(build(source.config).energy_model.scale_shift.shifts, shifts)
    model_file.save(source, tmp_path / "m.safetensors")
    changed = predict(source)
    for name, value in predict(model_file.read_model(tmp_path / "m.safetensors").eval()).items():
        assert torch.equal(value, changed[name]), name
    counts = torch.bincount(batch_of([molecule()], source)[fields.ATOM_TYPES], minlength=3)
    added = 0.3 * int(counts[0]) + 2.0 * int(counts[2])
    difference = changed[fields.TOTAL_ENERGY] - energies[fields.TOTAL_ENERGY]
    assert float(difference) == pytest.approx(added, abs=1e-10)
    assert torch.equal(changed[fields.FORCES], energies[fields.FORCES])


def test_shifts_that_are_one_number():
    source = make(per_type_energy_shifts=None, E_shift=None)
    change_shifts(source, {"C": 1.5})
    assert source.config["arguments"]["per_type_energy_shifts"] == {"H": 0.0, "C": 1.5, "O": 0.0}


def test_the_head_is_the_last_layer_of_each_species():
    assert find_tunable(make()).list_head(make()) == HEAD


def test_patterns():
    model = make()
    assert chosen_parameters(model, ["networks.C.weights"], "m") == [
        f"energy_model.networks.C.weights.{i}" for i in range(3)
    ]
    with pytest.raises(
        ConfigError, match=r"'shifts' matches .*scale_shift.shifts, which is not trained\n  -> leave it"
    ):
        chosen_parameters(model, ["shifts"], "finetune.modules")


@pytest.mark.parametrize("start", ["O", MEAN])
def test_a_new_species_has_no_place(start):
    with pytest.raises(ConfigError, match="cannot learn S: the number and order of its species decide the spins"):
        rebuilt(make(), {}, {"S": start}, {"S": 0.0})


def test_adaptation_begins_as_the_model_and_spreads_as_its_weights():
    """Wide layers, so that the spread of the factors is seen: sqrt(2 / (inputs + outputs)) of the layer."""
    wide = {"networks": [[400, "tanh"], [400, "tanh"]]}
    plain, adapted = make(**wide), make(**wide)
    names = adapt(adapted, 50, 50.0, seed=0)
    assert len(names) == 9
    for name, value in predict(adapted).items():
        assert torch.equal(value, predict(plain)[name]), name
    factors = adapted.state_dict()["energy_model.networks.C.weights.lora_a_1"]
    assert factors.shape == (400, 50)
    assert float(factors.std()) == pytest.approx((2.0 / 800.0) ** 0.5, rel=0.03)
