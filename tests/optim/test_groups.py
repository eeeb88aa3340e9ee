"""Groups of parameters: weight decay by the role of a parameter, rules by its name."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from omegaconf import OmegaConf
from torch import nn

from nequip_like.errors import ConfigError
from nequip_like.model.checkpoint_format import CHECKPOINT_KEY
from nequip_like.model.finetuning import train_only
from nequip_like.optim.build import build_optimizer, check_optimizer
from nequip_like.optim.groups import check_groups, parameter_groups
from nequip_like.workflow.resume import Resumption, check_same_config

# All that the model can train.
TRAINABLE = {
    "bessel_trainable": True,
    "per_type_energy_scales_trainable": True,
    "per_type_energy_shifts_trainable": True,
}


def names(model: nn.Module, groups) -> list[set[str]]:
    """Names of the parameters of each group."""
    known = {id(parameter): name for name, parameter in model.named_parameters()}
    return [{known[id(parameter)] for parameter in group["params"]} for group in groups]


def of_no_map(name: str) -> bool:
    return name.endswith(("scale_shift.scales", "scale_shift.shifts", "radial.frequencies"))


def test_one_group_of_all(make_potential):
    model = make_potential()
    (group,) = parameter_groups(model)
    assert group.keys() == {"params"}
    assert [id(p) for p in group["params"]] == [id(p) for p in model.parameters()]


def test_no_bias_of_the_nequip_model(make_potential):
    """Embedding, linear maps, radial networks and readout are decayed; scales, shifts and frequencies are not."""
    model = make_potential(**TRAINABLE)
    groups = parameter_groups(model, decay="no_bias")
    every = {name for name, _ in model.named_parameters()}
    rest = {name for name in every if of_no_map(name)}
    assert len(rest) == 3
    assert names(model, groups) == [every - rest, rest]
    assert [group.get("weight_decay") for group in groups] == [None, 0.0]
    assert [group["name"] for group in groups] == ["main", "main-no_decay"]


def test_no_bias_of_other_modules():
    """Biases and normalisations by role; the weights that e3nn packs into one row are weights."""
    from e3nn.o3 import Linear

    model = nn.Module()
    model.first, model.norm, model.packed = nn.Linear(3, 2), nn.LayerNorm(2), Linear("2x0e", "3x0e", biases=True)
    decayed, others = names(model, parameter_groups(model, decay="no_bias"))
    assert decayed == {"first.weight", "packed.weight"}
    assert others == {"first.bias", "norm.weight", "norm.bias", "packed.bias"}


def test_decay_by_parts_of_names(make_potential):
    model = make_potential(**TRAINABLE)
    every = {name for name, _ in model.named_parameters()}
    out = {name for name in every if ".linear_out." in name}
    itself = {name for name in every if ".self_connection." in name}
    assert len(out) > 2
    assert len(itself) > 0
    assert names(model, parameter_groups(model, decay=["linear_out."])) == [out, every - out]
    for patterns in (["linear_out.", "self_connection."], [["products.", "self_connection.", "*.linear_out.*"]]):
        assert names(model, parameter_groups(model, decay=patterns)) == [out | itself, every - out - itself]
    with pytest.raises(ConfigError, match=r"groups\[1\]: no parameter .*'linear_uot'.*\n.*mean 'linear_out'"):
        parameter_groups(model, decay=["linear_out.", "linear_uot"])
    train_only(model, [name for name in every if "readout" in name])
    with pytest.raises(ConfigError, match=r"weight_decay_groups\[0\]: all that 'linear_out\.' fits to is frozen"):
        parameter_groups(model, decay=["linear_out."])


def test_words_of_earlier_versions(make_potential, compose):
    """mace and mlip, as they were before patterns could be given; optimizer=mlip says mlip's with patterns."""
    model = make_potential(**TRAINABLE)
    every = {name for name, _ in model.named_parameters()}
    out = {name for name in every if ".linear_out." in name}
    itself = {name for name in every if ".self_connection." in name}
    of_mlip = OmegaConf.to_container(compose("optimizer=mlip").training_module.optimizer)
    adamw = {"_target_": "torch.optim.AdamW", "lr": 0.1, "weight_decay": 0.5}
    for config, decayed in (
        (adamw | {"weight_decay_groups": "mace"}, out | itself),
        (adamw | {"weight_decay_groups": "mlip"}, out),
        (of_mlip | {"weight_decay": 0.5}, out),
        (of_mlip | {"weight_decay": 0.5, "weight_decay_groups": "mlip"}, out),
    ):
        check_optimizer(config)
        assert names(model, build_optimizer(config, model).param_groups) == [decayed, every - decayed]


@pytest.mark.parametrize("now", ["optimizer=mlip", "training_module.optimizer.weight_decay_groups=mlip"])
def test_a_run_begun_with_a_word_is_resumed(now, compose):
    values = OmegaConf.to_container(compose("optimizer=mlip", now))
    earlier = {"optimizer": {**values["training_module"]["optimizer"], "weight_decay_groups": "mlip"}}
    content = {CHECKPOINT_KEY: {"config": {"training_module": earlier}}}
    current = {"training_module": {"optimizer": values["training_module"]["optimizer"]}}
    resumption = Resumption(Path("last.ckpt"), content)
    check_same_config(resumption, current)
    current["training_module"]["optimizer"]["weight_decay_groups"] = "mace"
    with pytest.raises(ConfigError, match=r"weight_decay_groups was \[\['linear_out"):
        check_same_config(resumption, current)


@pytest.mark.parametrize(("word", "decayed"), [("mlip", "linear_down"), ("mace", "linear")])
def test_words_for_models_of_these_packages(word, decayed):
    class Layer(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear_down, self.linear, self.linear_up = (nn.Linear(2, 2, bias=False) for _ in range(3))

    model = nn.ModuleDict({"interactions": Layer()})
    config = {"_target_": "torch.optim.AdamW", "weight_decay_groups": word}
    groups = build_optimizer(config, model).param_groups
    assert names(model, groups)[0] == {f"interactions.{decayed}.weight"}
    with pytest.raises(
        ConfigError, match=r"weight_decay_groups\[0\]: no parameter of the model has 'linear_out\.' in its name"
    ):
        build_optimizer(config, nn.Sequential(nn.Linear(2, 2)))


def test_rules_by_name(make_potential):
    """The first rule that fits counts; its weight decay is for all of its parameters, without one the kind decides."""
    model = make_potential(**TRAINABLE)
    rules = [
        {"match": "readout", "lr": 1e-4},
        {"match": ["*.shifts", "*.scales"], "weight_decay": 0.5},
        {"match": "scale_shift", "lr": 1.0},
    ]
    with pytest.raises(ConfigError, match=r"param_groups\[2\]\.match: all that 'scale_shift' .* rules before it"):
        parameter_groups(model, rules)
    groups = parameter_groups(model, [*rules[:2], {"match": "radial", "lr": 2.0}], "no_bias")
    found = names(model, groups)
    labels = [group["name"] for group in groups]
    assert labels == ["main", "readout", "*.shifts+*.scales", "radial", "radial-no_decay"]
    assert found[1] == {name for name, _ in model.named_parameters() if "readout" in name}
    assert found[2] == {"energy_model.scale_shift.scales", "energy_model.scale_shift.shifts"}
    assert found[4] == {"energy_model.radial.frequencies"}
    assert sum(map(len, found)) == len(list(model.parameters()))
    options = [{key: group[key] for key in ("lr", "weight_decay") if key in group} for group in groups]
    assert options == [{}, {"lr": 1e-4}, {"weight_decay": 0.5}, {"lr": 2.0}, {"lr": 2.0, "weight_decay": 0.0}]


def test_optimizer_takes_them(make_potential):
    config = {
        "_target_": "torch.optim.AdamW",
        "lr": 0.01,
        "weight_decay": 0.1,
        "weight_decay_groups": "no_bias",
        "param_groups": [{"match": "readout", "lr": 1e-4}],
    }
    model = make_potential(**TRAINABLE)
    optimizer = build_optimizer(config, model)
    found = [(group["name"], group["lr"], group["weight_decay"]) for group in optimizer.param_groups]
    assert found == [("main", 0.01, 0.1), ("main-no_decay", 0.01, 0.0), ("readout", 1e-4, 0.1)]
    assert all(group["fused"] for group in optimizer.param_groups)


def test_frozen_parameters_are_in_no_group(make_potential, monkeypatch):
    import sys
    import types

    model = make_potential()
    frozen = {name for name, parameter in model.named_parameters() if "layers" in name}
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name not in frozen)
    for groups in (None, [{"match": "readout", "lr": 1.0}]):
        assert not frozen & set().union(*names(model, parameter_groups(model, groups)))
    with pytest.raises(ConfigError, match=r"param_groups\[0\]\.match: all that 'linear_out' fits to is frozen"):
        parameter_groups(model, [{"match": "linear_out", "lr": 1.0}])

    own = types.ModuleType("groups_of_a_user")
    own.whole = lambda model: [{"params": model.parameters(), "lr": 0.5}, {"params": []}]
    own.frozen = lambda model: model.energy_model.layers.parameters()
    monkeypatch.setitem(sys.modules, "groups_of_a_user", own)
    (group,) = parameter_groups(model, {"_target_": "groups_of_a_user.whole"})
    assert group["lr"] == 0.5
    assert not frozen & names(model, [group])[0]
    with pytest.raises(ConfigError, match=r"groups_of_a_user\.frozen gives no trainable parameters"):
        parameter_groups(model, {"_target_": "groups_of_a_user.frozen"})


@pytest.mark.parametrize(
    ("groups", "decay", "message"),
    [
        ({"match": "readout"}, "all", r"mapping without _target_\n.*\[\{match: readout"),
        ("readout", "all", r"param_groups is 'readout'\n"),
        ([{"lr": 1.0}], "all", r"param_groups\[0\] has no 'match'"),
        ([{"match": "readout"}], "all", r"param_groups\[0\] changes nothing\n.*lr or weight_decay"),
        ([{"match": "readout", "lr": -1}], "all", r"param_groups\[0\]\.lr is -1\n.*above 0"),
        ([{"match": "readout", "weight_decay": "no"}], "all", r"param_groups\[0\]\.weight_decay is 'no'"),
        ([{"match": 3, "lr": 1.0}], "all", r"param_groups\[0\]\.match is 3"),
        ([{"match": "readout", "learning_rate": 1}], "all", r"unknown key 'learning_rate'\n.*match, lr, weight_decay"),
        (None, "no_biases", r"weight_decay_groups is 'no_biases'\n  -> did you mean 'no_bias'\?"),
        (None, [], r"weight_decay_groups has an empty pattern"),
        (None, [["a", ""]], r"weight_decay_groups has an empty pattern"),
        (None, [1], r"weight_decay_groups is \[1\]"),
        ({"_target_": "a.b"}, "no_bias", r"weight_decay_groups is 'no_bias', but param_groups names a function"),
    ],
)
def test_mistakes(groups, decay, message):
    with pytest.raises(ConfigError, match=message):
        check_groups(groups, decay)
    with pytest.raises(ConfigError, match=message):
        check_optimizer({"_target_": "torch.optim.AdamW", "param_groups": groups, "weight_decay_groups": decay})


def test_a_name_that_fits_to_nothing(make_potential):
    with pytest.raises(ConfigError, match=r"param_groups\[0\]\.match: .*'raedout'.*\n.*did you mean 'readout'\?"):
        parameter_groups(make_potential(), [{"match": "raedout", "lr": 1.0}])


@pytest.mark.parametrize(
    "changes", [{"weight_decay_groups": "no_bias"}, {"param_groups": [{"match": "weight", "weight_decay": 0.1}]}]
)
def test_optimizer_without_weight_decay(changes):
    config = {"_target_": "torch.optim.Rprop", **changes}
    with pytest.raises(ConfigError, match="Rprop has no weight_decay, so no group can have its own"):
        check_optimizer(config)
    with pytest.raises(ConfigError, match="Rprop has no weight_decay, so no group can have its own"):
        build_optimizer(config, nn.Linear(2, 2))


def test_decay_acts_on_its_groups_only(make_potential):
    """Gradients of zero: what is left of a step is the decay."""
    model = make_potential(**TRAINABLE)
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    config = {"_target_": "torch.optim.AdamW", "lr": 0.1, "weight_decay": 0.5, "weight_decay_groups": "no_bias"}
    build_optimizer(config, model).step()
    for name, parameter in model.named_parameters():
        expected = before[name] if of_no_map(name) else before[name] * (1 - 0.1 * 0.5)
        torch.testing.assert_close(parameter.detach(), expected, rtol=1e-14, atol=0, msg=name)
