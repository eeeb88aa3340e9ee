"""Optimizers by name: the class of each, and arguments that it does not take."""

from __future__ import annotations

from pathlib import Path

import pytest
import schedulefree
import torch
from omegaconf import OmegaConf
from torch import nn

from nequip_like.errors import ConfigError
from nequip_like.optim.build import Optimizer, build_optimizer, check_optimizer
from nequip_like.optim.muon import MuonAndAdamW
from nequip_like.optim.optax_amsgrad import OptaxAMSGrad
from nequip_like.optim.soap import SOAPAndAdamW
from nequip_like.workflow.config.check import check_config

NAMES = {
    "Adam": torch.optim.Adam,
    "adamw": torch.optim.AdamW,
    "NADAM": torch.optim.NAdam,
    "radam": torch.optim.RAdam,
    "Sgd": torch.optim.SGD,
    "AMSGrad": torch.optim.Adam,
    "rms_prop": torch.optim.RMSprop,
    "LBFGS": torch.optim.LBFGS,
    "muon": MuonAndAdamW,
    "soap": SOAPAndAdamW,
    "MLIP": OptaxAMSGrad,
    "ScheduleFreeAdamW": schedulefree.AdamWScheduleFree,
    "schedule_free_sgd": schedulefree.SGDScheduleFree,
    "RAdamScheduleFree": schedulefree.RAdamScheduleFree,
}


def named(name: str, **arguments):
    return {"_target_": "nequip_like.optim.Optimizer", "name": name, **arguments}


@pytest.mark.parametrize("name", NAMES)
def test_class_of_each_name(name):
    optimizer = build_optimizer(named(name, lr=0.01), nn.Linear(3, 2))
    assert isinstance(optimizer, NAMES[name])
    assert type(optimizer).__name__ == NAMES[name].__name__
    assert all(group["lr"] == 0.01 for group in optimizer.param_groups)
    assert bool(optimizer.defaults.get("amsgrad")) == (name == "AMSGrad")


def test_arguments_are_those_of_the_group():
    config = named("AdamW", lr=0.1, betas=[0.8, 0.9], weight_decay=0.01, weight_decay_groups="no_bias")
    weights, biases = build_optimizer(config, nn.Linear(3, 2)).param_groups
    assert (weights["betas"], weights["weight_decay"], biases["weight_decay"]) == ((0.8, 0.9), 0.01, 0.0)
    assert weights["fused"] is True


@pytest.mark.parametrize(("changes", "fused"), [({"fused": False}, False), ({"foreach": True}, None)])
def test_form_is_the_users_to_choose(changes, fused):
    assert build_optimizer(named("Adam", **changes), nn.Linear(2, 1)).param_groups[0]["fused"] is fused


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (
            named("AdmaW"),
            r"optimizer\.name is 'AdmaW'\n  -> did you mean 'AdamW'\? known are Adadelta, .*, mlip, .*SOAP",
        ),
        (named("SparseAdam"), r"optimizer\.name is 'SparseAdam'\n.*known are "),
        (
            named("NAdam", weight_deacy=0.1),
            r"optimizer\.weight_deacy: NAdam takes no .*\n.*mean 'weight_decay'",
        ),
        (named("SGD", betas=[0.9, 0.99]), r"optimizer\.betas: SGD takes no 'betas'\n  -> it takes lr, momentum"),
        (named("AMSGrad", amsgrad=False), r"optimizer\.amsgrad: AMSGrad takes no 'amsgrad'"),
        (named("RAdam", eps="small"), r"optimizer\.eps is 'small'\n.*a number"),
        (named("Adam", betas=[0.9]), r"optimizer\.betas is \[0\.9\]"),
        (named("Adam", betas=[0.9, 2.0]), r"optimizer: Adam cannot be built: Invalid beta parameter at index 1: 2\.0"),
        (named("Muon", momentum=1.5), r"momentum is 1\.5\n.*below 1"),
        (named("SOAP", precondition_frequency=0), r"precondition_frequency is 0\n.*1 or more"),
        (named("mlip", grad_norm=0), r"grad_norm is 0\n.*above 0"),
    ],
)
def test_mistakes(config, message):
    with pytest.raises(ConfigError, match=message):
        check_optimizer(config)


def test_library_that_is_not_there(monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "schedulefree", None)
    with pytest.raises(ConfigError, match=r"schedulefree\n  -> pip install nequip_like\[schedulefree\]"):
        Optimizer([nn.Parameter(torch.zeros(1))], "ScheduleFreeAdamW")


OPTIONS = sorted(path.stem for path in (Path(__file__).parents[2] / "conf" / "optimizer").glob("*.yaml"))


@pytest.mark.parametrize("option", OPTIONS)
def test_each_option_of_the_configs(option, compose, make_potential):
    name = ["training_module.optimizer.name=AdamW"] if option == "named" else []
    config = compose(f"optimizer={option}", *name, "training_module=default")
    check_config(config)
    optimizer = build_optimizer(OmegaConf.to_container(config.training_module.optimizer), make_potential())
    assert optimizer.param_groups[0]["lr"] == 0.005


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (("+training_module.optimizer.weight_decay_groups=nobias",), r"weight_decay_groups is 'nobias'"),
        (("+training_module.optimizer.param_groups=[{match:readout,rate:1}]",), r"unknown key 'rate'"),
        (
            ("optimizer=named", "training_module.optimizer.name=adamw", "+training_module.optimizer.beta=1"),
            r"optimizer\.beta: AdamW takes no .*\n.*'betas'",
        ),
        (
            ("optimizer=named",),
            r"training_module\.optimizer\.name is not given\n.*training_module\.optimizer\.name=VALUE",
        ),
        (("optimizer=named", "training_module.optimizer.name=adamm"), r"name is 'adamm'\n.*did you mean 'Adam'"),
        (("optimizer=muon", "+training_module.optimizer.moment=1"), r"MuonAndAdamW takes no 'moment'\n.*'momentum'"),
        (("optimizer=mlip", "training_module.optimizer.grad_norm=-1"), r"optimizer\.grad_norm is -1\n.*above 0"),
        (("training_module.gradient_clip={norm: 0}",), r"training_module\.gradient_clip\.norm is 0\n"),
        (("training_module.gradient_clip={nrm: 1}",), r"unknown key 'nrm'\n.*'norm'"),
        (
            ("training_module.gradient_clip={norm: 1}", "trainer.gradient_clip_val=1"),
            r"gradient_clip and trainer\.gradient_clip_val are both given",
        ),
    ],
)
def test_mistakes_are_found_before_anything_starts(overrides, message, compose):
    with pytest.raises(ConfigError, match=message):
        check_config(compose(*overrides))
