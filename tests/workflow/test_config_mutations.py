"""Configs with random changes: each is let pass or refused by an error of ours, and nothing else ever happens."""

from __future__ import annotations

import copy
import math
import random
import warnings

import pytest
from hydra import compose, initialize_config_module
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from nequip_like.errors import ConfigError
from nequip_like.workflow.config.check import check_config
from nequip_like.workflow.config.values import register_resolvers

METRIC = (
    "{metric:{_target_:nequip_like.metrics.HuberLoss,delta:0.1},field:forces,per_type:true,per_type_coeffs:{H:1,C:2}}"
)
BASES = (
    [],
    ["model=nequip_S", "targets=energy_force_stress", "chemical_species=[H,C]", "lr_scheduler=cosine"],
    [
        f"+training_module.val_metrics.extra_metrics=[{METRIC}]",
        "model.pair_potential={name:zbl}",
        "model.per_edge_type_cutoff={H:{C:3}}",
    ],
)
ODD = [
    *(None, [], {}, "x", "", -1, 0, 1.5, True, 10**30, 1e300, math.nan, math.inf, "é\x00\n", {1: 2}, [[]], [{}]),
    *([1, "a", None], {"a": {"b": 1}}, {"_target_": 3}, {"_target_": None}, {"_target_": "os.system"}, {"file": 3}),
    *({"_target_": "nequip_like.metrics.HuberLoss"}, {"_target_": "nequip_like.metrics.EnergyForceLoss", "coeffs": 3}),
    *("???", "${nowhere}", "${training_data_stats:x}", "${data}", ["${seed}"], "auto", "val0_epoch/", "lr-"),
    *("nequip_like.training", "torch.optim.Adam", "os.system"),
]


@pytest.fixture(scope="module")
def bases() -> list[dict]:
    register_resolvers()
    with initialize_config_module("nequip_like.conf", version_base="1.3"):
        common = ["data.train=a.xyz", "data.test=0.1", "output_dir=nowhere"]
        return [OmegaConf.to_container(compose("train", [*common, *base])) for base in BASES]


def places(value, above=()):
    entries = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, entry in entries:
        yield (*above, key)
        yield from places(entry, (*above, key))


def mutate(config: dict, rng: random.Random) -> None:
    """Change, delete or rename one entry."""
    *above, key = rng.choice(list(places(config)))
    node = config
    for part in above:
        node = node[part]
    kind = rng.random()
    if kind < 0.75:
        node[key] = copy.deepcopy(rng.choice(ODD))
    elif kind < 0.9 or isinstance(node, list):
        del node[key]
    else:
        node[f"{key}x"] = node.pop(key)


@pytest.mark.parametrize("seed", [0, *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(1, 40))])
def test_mutated_configs(seed, bases, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rng = random.Random(seed)
    refused: list[ConfigError] = []
    for _ in range(50):
        content = copy.deepcopy(rng.choice(bases))
        for _ in range(rng.choice([1, 1, 2])):
            mutate(content, rng)
        try:
            config = OmegaConf.create(content)
        except OmegaConfBaseException:
            continue  # Hydra refuses it before
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*r_max is")
            try:
                check_config(config)
            except ConfigError as error:
                refused.append(error)
    assert len(refused) > 25
    assert [error for error in refused if not error.message or "\n" in error.advice] == []
    assert list(tmp_path.iterdir()) == []
