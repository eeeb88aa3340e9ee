"""A run file is understood or refused by an error of ours; nothing of it is called while it is read and planned."""

import os
import random
import sys

import pytest
import yaml

from nequip_like.composition.runs import compose_packaged
from nequip_like.errors import ConfigError, NequipLikeError
from nequip_like.workflow.runner.backends import choose_backend
from nequip_like.workflow.runner.built_in.context import RunContext
from nequip_like.workflow.runner.built_in.training_config import build_config, translate_training
from nequip_like.workflow.runner.reading import read_run_file
from nequip_like.workflow.runner.requests import read_requests

RUN = {
    "name": "water",
    "backend": "nequip",
    "task": "train",
    "run_dir": "models/water",
    "device": "cpu",
    "data": {"train": "water.xyz", "train_indices": {"max_samples": 5, "shuffle": True, "seed": 3}},
    "train": {"epochs": 2, "lr": 0.001, "optimizer": "adamw", "weight_decay": 0.01, "cycle_steps": 4},
}


@pytest.fixture
def read(tmp_path):
    def read(run=RUN, text=None):
        file = tmp_path / "run.yaml"
        file.write_text(yaml.safe_dump(run) if text is None else text)
        return read_requests(file)

    return read


def test_paths_are_those_of_the_folder_of_the_file(read, tmp_path, monkeypatch):
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    (request,) = read()
    assert request.run_dir == tmp_path / "models/water"
    assert request.section("data")["train"] == str(tmp_path / "water.xyz")


def test_keys_become_our_configuration(read, tmp_path):
    (request,) = read()
    config = build_config(request, translate_training(request), compose_packaged, ())
    assert config.data.train == {"file": str(tmp_path / "water.xyz"), "max_samples": 5, "shuffle": True, "seed": 3}
    assert (config.trainer.max_epochs, config.trainer.accelerator) == (2, "cpu")
    assert (config.validate_every_n_updates, config.callbacks.periodic_checkpoint.every_n_updates) == (4, 4)
    optimizer = config.training_module.optimizer
    assert (optimizer._target_, optimizer.lr, optimizer.weight_decay) == ("torch.optim.AdamW", 0.001, 0.01)
    assert (optimizer.weight_decay_groups, config.data.drop_last) == ("no_bias", True)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"taks": "train"}, "unknown key 'taks'"),
        ({"backend": "nequip_s"}, "no backend 'nequip_s'"),
        ({"task": "export"}, "data is given, which task: export has no use for"),
        ({"task": "finetune"}, "task: finetune needs a model"),
        ({"backend_args": "seed=1"}, "backend_args is 'seed=1'"),
        ({"task": "backend", "backend_command": ["ls"], "backend_script": "a.py"}, "are both given"),
        ({"train": {"epoch": 3}}, "train: unknown key 'epoch'"),
        ({"run_dir": "${oc.env:HOME}"}, "refers to something else"),
    ],
    ids=["key", "backend", "section", "model", "arguments", "command", "section_key", "reference"],
)
def test_mistakes_are_named(read, change, message):
    with pytest.raises(ConfigError) as error:
        read({**RUN, **change})
    assert message in error.value.message


@pytest.mark.parametrize(
    ("train", "message"),
    [
        ({"cycle_steps": 4, "drop_last": False}, "train.drop_last is false"),
        ({"head_key": "omat_pbe"}, "train.head_key"),
        ({"loss_force": "l2mae"}, "train.loss_force is l2mae"),
        ({"config_yml": "x.yml"}, "train.config_yml is for trainers of others"),
        ({"freeze": "head_only"}, "train.freeze is head_only"),
        ({"scheduler": "step", "patience": 3}, "train.patience is given"),
        ({"scheduler_step_unit": "cycle"}, "there are no cycles"),
        ({"step_size": 4, "early_stop_factor": 2}, "counts in patiences of a plateau"),
        ({"early_stop_factor": 2}, "train.early_stop_factor is given, but no scheduler"),
    ],
    ids=["drop_last", "head", "loss", "config_yml", "freeze", "scheduler", "unit", "stop", "no plateau"],
)
def test_what_has_no_equal_is_refused(read, train, message):
    (request,) = read({**RUN, "train": train})
    with pytest.raises(ConfigError) as error:
        translate_training(request)
    assert message in error.value.message


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("!!python/object/apply:os.system ['touch pwned']", "the tag"),
        ("a: !!binary aGk=", "the tag"),
        ("[" * 30 + "]" * 30, "nested more than 20 deep"),
        ("a: 1\n---\nb: 2", "several documents"),
        ("a: 1\na: 2", "duplicate"),
        ("1: 2", "which is no word"),
        ("a: " + "9" * 6000, "cannot read"),
        ("a: .inf", "inf"),
        ("runs: []", "no list of runs"),
        ("", "no mapping"),
    ],
    ids=["object", "binary", "deep", "documents", "twice", "number", "digits", "infinite", "empty_runs", "empty"],
)
def test_a_hostile_file_is_refused(read, text, message):
    with pytest.raises(ConfigError) as error:
        read(text=text)
    assert message in str(error.value)


@pytest.mark.parametrize("number", [40, pytest.param(400, marks=pytest.mark.slow)])
def test_mutated_files_are_plans_or_errors_of_ours(tmp_path, monkeypatch, number):
    """The whole way to a plan, by the command's own backends: nothing is called, and nothing written."""
    monkeypatch.setattr(os, "system", lambda *_: pytest.fail("called"))
    for name in ("water.xyz", "m.ckpt", "t.py"):
        (tmp_path / name).touch()
    file, context = tmp_path / "run.yaml", RunContext(compose_packaged)
    before = sorted(tmp_path.rglob("*"))

    def plan(text):
        file.write_text(text)
        requests = read_requests(file)
        return [choose_backend(request, context).plan(request) for request in requests]

    other = {"name": "a", "backend": "nequip", "run_dir": "a", "device": "cpu", "model_in": "water.xyz"}
    data = {"path": "water.xyz", "batch_size": 4}
    runs = [
        RUN,
        {**other, "task": "evaluate", "data": {**data, "indices": [0, 1]}, "output": {"metrics_csv": "m.csv"}},
        {**other, "task": "infer", "data": data, "eval": {"energy_only": True}, "output": {"predictions": "p.npz"}},
        {**other, "task": "export"},
    ]
    theirs = {"backend": "nequip_external", "backend_python": sys.executable, "run_dir": "b", "device": "cpu"}
    train = {"epochs": 2, "lr": 0.001, "optimizer": "adamw", "weight_decay": 0.01}
    runs += [
        {**theirs, "task": "train", "data": RUN["data"], "train": train, "backend_env": {"A": 1}},
        {
            **theirs,
            "task": "infer",
            "model_in": "m.ckpt",
            "data": {"path": "water.xyz"},
            "output": {"predictions": "p.xyz"},
        },
        {**other, "backend": "external", "backend_script": "t.py", "data": RUN["data"], "task": "finetune"},
        {"task": "backend", "run_dir": "d", "backend_command": [sys.executable, "t.py"], "backend_time_limit": 5},
    ]
    assert len(plan(yaml.safe_dump({"runs": [{**run, "name": f"run{i}"} for i, run in enumerate(runs)]}))) == 8
    values = [None, True, -1, 0, 1e300, "", "x" * 300, "../../etc", [], {}, [[1]], {"a": {"_target_": "os.system"}}]
    further = {
        "run": {
            "backend_args": ["++callbacks.x._target_=os.system"],
            "device": "cuda:7",
            "model_in": "../x",
            "task": "export",
            "backend": "external",
            "backend_env": {"NEQUIP_RUN_REQUEST": "x"},
            "backend_cwd": "none",
        },
        "data": {
            "sampling": {"_target_": "os.system"},
            "repair": "/etc/passwd",
            "filters": {"max_forces": "x"},
            "val": 0.5,
        },
        "train": {"optimizer": "named", "input_json": "run.yaml", "scheduler": "step", "freeze": "head_only"},
    }
    random_state, outcomes = random.Random(number), {"plan": 0, "refused": 0}
    for _ in range(number):
        run = yaml.safe_load(yaml.safe_dump(random_state.choice(runs)))
        for _ in range(random_state.randint(1, 2)):
            name = random_state.choice(["run", "data", "train", "output"])
            section = run if name == "run" else run.get(name)
            if name in further and isinstance(section, dict) and random_state.random() < 0.3:
                key = random_state.choice(sorted(further[name]))
                section[key] = further[name][key]
            elif isinstance(section, dict) and section:
                key = random_state.choice(sorted(section))
                section[key if random_state.random() < 0.8 else key + "x"] = random_state.choice(values)
        text = yaml.safe_dump(run)
        if random_state.random() < 0.2:
            place = random_state.randrange(len(text))
            text = text[:place] + random_state.choice(["[", "}", "!!x ", "&a ", "*a", ":", "\t"]) + text[place + 1 :]
        try:
            plan(text)
            outcomes["plan"] += 1
        except NequipLikeError:
            outcomes["refused"] += 1
    assert outcomes["plan"] > number / 20
    assert outcomes["refused"] > number / 2
    file.unlink()
    assert sorted(tmp_path.rglob("*")) == before


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(ConfigError, match="cannot read"):
        read_run_file(tmp_path / "none.yaml")
