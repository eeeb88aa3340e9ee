"""The reference of run files says each key of the code, and to what each key of ``train`` becomes."""

import re
from pathlib import Path

import pytest
import yaml

from nequip_like.errors import ConfigError
from nequip_like.workflow.runner import keys
from nequip_like.workflow.runner.built_in.error_metrics import compute_energy_errors
from nequip_like.workflow.runner.built_in.training_config import translate_training
from nequip_like.workflow.runner.requests import read_requests

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "run-yaml.md"
SECTIONS = {
    "": keys.RUN, "model": keys.MODEL, "model_in": keys.MODEL_IN, "data": keys.DATA, "data.*_indices": keys.SUBSET,
    "train": keys.TRAIN, "eval": keys.EVAL, "output": keys.OUTPUT, "export": keys.EXPORT,
}  # fmt: skip
# A value of each key of train that changes the config, and what it takes beside it.
SAMPLES = {
    "input_json": ("m.json", {}), "epochs": (3, {}), "batch_size": (2, {}), "num_workers": (1, {}), "seed": (4, {}),
    "lr": (0.1, {}), "weight_decay": (0.1, {}), "no_decay_keywords": (["x"], {"weight_decay": 0.1}),
    "optimizer": ("sgd", {}), "amp": (True, {}), "accum_steps": (2, {}), "drop_last": (True, {}),
    "cycle_steps": (3, {}), "max_grad_norm": (1.0, {}), "save_every": (2, {}), "log_every": (2, {}),
    "progress_bar": (False, {}), "freeze": ("head_only", {}), "scheduler": ("step", {}),
    "lr_factor": (0.5, {"scheduler": "plateau"}), "plateau_patience": (3, {"scheduler": "plateau"}),
    "patience": (3, {"scheduler": "plateau"}), "step_size": (7, {"scheduler": "step"}),
    "gamma": (0.3, {"scheduler": "step"}), "scheduler_step_unit": ("cycle", {"scheduler": "step", "cycle_steps": 2}),
    "energy_weight": (2.0, {}), "force_weight": (2.0, {}), "loss_energy": ("mae", {}), "loss_force": ("mae", {}),
    "early_stop_factor": (2, {"scheduler": "plateau"}),
}  # fmt: skip
# Keys without an equal: a value, and what is said of it.
WITHOUT_EFFECT = {"progress_mininterval": 0.5, "use_core": True, "force_core": True}
REFUSED = {"head_key": "a", "config_yml": "a.yml", "identifier": "a", "use_core": False, "force_core": False}


def read_rows():
    """First cell -> the cells of each row of the page's tables whose first cell is a key."""
    lines = re.findall(r"^\| `([^`]+)` \|(.*)\|$", PAGE.read_text(), re.MULTILINE)
    return {key: [cell.strip() for cell in re.split(r"(?<!\\)\|", row)] for key, row in lines}


def list_keys():
    return {f"{section}.{key}".lstrip(".") for section, entries in SECTIONS.items() for key in entries}


def test_each_key_has_a_row_and_each_row_is_a_key():
    metrics = {"force_rmse", "force_mae", "stress_rmse", "stress_mae"}
    metrics |= compute_energy_errors(*map(pytest.importorskip("torch").tensor, ([0.1], [2]))).keys()
    assert set(read_rows()) == list_keys() | metrics | set(keys.TASKS) - {"backend"} | {"backend"}


@pytest.fixture
def translate(tmp_path):
    """What keys of ``train`` become: the keys and choices of our config, and what is said."""

    def translate(**train):
        (tmp_path / "m.json").write_text('{"num_layers": 3}')
        task = "finetune" if "freeze" in train else "train"
        run = {"backend": "nequip", "task": task, "run_dir": "a", "device": "cuda", "data": {"train": "t.xyz"}}
        run |= {"train": train} | ({"model_in": "m.safetensors"} if task == "finetune" else {})
        (tmp_path / "run.yaml").write_text(yaml.safe_dump(run))
        changes = translate_training(read_requests(tmp_path / "run.yaml")[0])
        return {**changes.values, **dict.fromkeys(changes.choices, True)}, changes.notes

    return translate


@pytest.mark.parametrize("key", sorted(SAMPLES))
def test_a_key_becomes_what_its_row_says(translate, key):
    value, beside = SAMPLES[key]
    before, after = translate(**beside)[0], translate(**beside, **{key: value})[0]
    changed = {name for name in after if name not in before or before[name] != after[name]}
    told = re.findall(r"`([^`]+)`", read_rows()[f"train.{key}"][1])
    assert told
    for name in told:
        assert any(entry.startswith(name) for entry in changed), (name, changed)
    for entry in changed - {choice for choice in changed if choice.startswith("callbacks=")}:
        assert any(entry.startswith(name) for name in told), (entry, told)


def test_each_key_of_train_is_tried():
    assert set(keys.TRAIN) == SAMPLES.keys() | WITHOUT_EFFECT.keys() | REFUSED.keys()


@pytest.mark.parametrize("key", sorted(WITHOUT_EFFECT))
def test_a_key_without_effect(translate, key):
    assert "without effect" in read_rows()[f"train.{key}"][2] or read_rows()[f"train.{key}"][2] == "the same"
    after, notes = translate(**{key: WITHOUT_EFFECT[key]})
    assert after == translate()[0]
    assert bool(notes) == ("which is said" in read_rows()[f"train.{key}"][2])


@pytest.mark.parametrize("key", sorted(REFUSED))
def test_a_key_that_is_refused(translate, key):
    with pytest.raises(ConfigError, match=rf"^train\.{key} "):
        translate(**{key: REFUSED[key]})


def test_the_example_of_the_page_is_a_run_file(tmp_path):
    (example,) = re.findall(r"```yaml\n(.*?)```", PAGE.read_text(), re.DOTALL)
    (tmp_path / "run.yaml").write_text(example)
    requests = read_requests(tmp_path / "run.yaml")
    assert [(request.name, request.task) for request in requests] == [
        ("water", "train"), ("errors", "evaluate"), ("predict", "infer"), ("share", "export")
    ]  # fmt: skip


def test_backends_of_the_page():
    told = re.findall(r"`([^`]+)`", read_rows()["backend"][0])
    assert sorted(told) == sorted([*keys.list_families(), keys.NEQUIP_EXTERNAL, keys.EXTERNAL])
