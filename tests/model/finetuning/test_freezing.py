"""Which parameters patterns choose."""

from __future__ import annotations

import re

import pytest

from nequip_like.errors import ConfigError
from nequip_like.model.finetuning import chosen_parameters, train_only

READOUT = ["energy_model.readout.weights.0"]
LAYER = "energy_model.layers.1"


@pytest.mark.parametrize(
    ("patterns", "chosen"),
    [
        (["readout"], READOUT),
        (["readout", "type_embed"], ["energy_model.type_embedding", *READOUT]),
        (["layers.1.radial_mlp"], [f"{LAYER}.radial_mlp.weights.0", f"{LAYER}.radial_mlp.weights.1"]),
        (["*layers.1.radial_mlp.weights.?"], [f"{LAYER}.radial_mlp.weights.0", f"{LAYER}.radial_mlp.weights.1"]),
        (["*.layers.[1].radial_mlp.*.0"], [f"{LAYER}.radial_mlp.weights.0"]),
    ],
)
def test_patterns(patterns, chosen, make_potential):
    assert chosen_parameters(make_potential(), patterns, "modules") == chosen


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        ("read_out", "finetune.modules: no parameter of the model has 'read_out' in its name\n  -> did you mean "
         "'readout'?"),
        ("read*", "no parameter of the model has 'read*' in its name"),  # it has to match whole names
        ("shifts", "'shifts' matches energy_model.scale_shift.shifts, which is not trained\n  -> write "
         "model.per_type_energy_shifts_trainable=true"),
        ("sender_norm", "'sender_norm' matches energy_model.sender_norm, which is not trained\n  -> leave it out"),
    ],
)  # fmt: skip
def test_pattern_that_chooses_nothing(pattern, message, make_potential):
    with pytest.raises(ConfigError, match=re.escape(message)):
        chosen_parameters(make_potential(), ["readout", pattern], "finetune.modules")


def test_shifts_that_are_trained(make_potential):
    model = make_potential(per_type_energy_shifts_trainable=True)
    assert chosen_parameters(model, ["shifts"], "modules") == ["energy_model.scale_shift.shifts"]


def test_train_only(make_potential):
    model = make_potential()
    train_only(model, READOUT)
    assert [name for name, parameter in model.named_parameters() if parameter.requires_grad] == READOUT
