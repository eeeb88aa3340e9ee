"""Config files and folders of the user's: names as they are spelt, and folders of data that are no groups."""

from __future__ import annotations

import io
from contextlib import nullcontext

import pytest
import yaml
from omegaconf import OmegaConf

from nequip_like.composition.arguments import parse
from nequip_like.composition.config_files import check_config_file, load_config
from nequip_like.composition.hydra_compose import compose_arguments
from nequip_like.errors import ConfigError

CONFIG = "defaults: [train, _self_]\ndata: {train: molecules.xyz}\n"

# --- names in YAML


def content(text):
    return OmegaConf.to_container(load_config(io.StringIO(text)))


@pytest.mark.parametrize(
    "name",
    [
        *("NO", "No", "no", "Y", "N", "y", "n", "on", "ON", "off", "yes", "true", "FALSE"),
        *("012", "0x10", "1_000", "12:30", "1e5", "1.50", "0.5", ".inf", ".nan", "null", "~", "2020-01-01", "CO"),
    ],
)
def test_a_name_stays_as_it_is_spelt(name):
    assert content(f"test: {{{name}: a.xyz}}") == {"test": {name: "a.xyz"}}
    assert content(f"test:\n  {name}: a.xyz\n") == {"test": {name: "a.xyz"}}


def test_values_and_whole_numbers_are_read_as_ever():
    text = "{300: a, parity: no, lr: 1e-3, seed: 012, list: [on, 1.5], 'NO': b, none: ~}"
    assert content(text) == {
        300: "a",
        "parity": False,
        "lr": 1e-3,
        "seed": 10,
        "list": [True, 1.5],
        "NO": "b",
        "none": None,
    }


@pytest.mark.parametrize("names", [("NO", "NO"), ("300", "300"), ("1e5", "1e5"), ("NO", "'NO'")])
def test_a_name_twice_is_refused(names):
    with pytest.raises(yaml.YAMLError, match="found duplicate key"):
        content(f"{{{names[0]}: a, {names[1]}: b}}")


def test_merged_mappings_and_empty_files():
    assert content("base: &b {NO: 1}\nall: {<<: *b, off: 2}\n")["all"] == {"NO": 1, "off": 2}
    assert content("") == {}
    assert content("word") == {"word": None}


def test_names_reach_the_config(tmp_path):
    (tmp_path / "mine.yaml").write_text(
        CONFIG + "model: {per_type_energy_shifts: {Y: 1, N: 2, No: 3}}\nchemical_species: [Y, N, 'No']\n"
    )
    config = compose_arguments(parse(["--config-name", "mine", "data.test={NO: no.xyz, on: on.xyz}"]), str(tmp_path))
    assert dict(config.data.test) == {"NO": "no.xyz", "on": "on.xyz"}
    assert dict(config.model.per_type_energy_shifts) == {"Y": 1, "N": 2, "No": 3}
    assert list(config.chemical_species) == ["Y", "N", "No"]


# --- folders


@pytest.mark.parametrize("file", [None, "water.xyz", "config.yaml"])
@pytest.mark.parametrize("name", ["run", "finetune", "trusted_packages"])
def test_a_folder_is_no_group_where_the_config_has_a_value(name, file, tmp_path):
    (tmp_path / name).mkdir()
    if file is not None:
        (tmp_path / name / file).write_text("seed: 1\n")
    (tmp_path / "mine.yaml").write_text(CONFIG)
    config = compose_arguments(parse(["--config-name", "mine", "run=[train]", "finetune=null"]), str(tmp_path))
    assert (list(config.run), config.finetune) == (["train"], None)


@pytest.mark.parametrize("file", [None, "water.xyz", "mine.yaml"])
@pytest.mark.parametrize("name", ["data", "model", "callbacks", "optimizer"])
def test_a_folder_of_data_hides_no_group(name, file, tmp_path):
    (tmp_path / name).mkdir()
    if file is not None:
        (tmp_path / name / file).write_text("seed: 1\n")
    (tmp_path / "mine.yaml").write_text(CONFIG)
    typed = ["data=default", "data.train=a.xyz", "model=nequip_S", "callbacks=[default,loss_log]", "optimizer=sgd"]
    config = compose_arguments(parse(["--config-name", "mine", *typed]), str(tmp_path))
    assert (config.data.train, config.model.preset) == ("a.xyz", "S")
    assert "loss_log" in config.callbacks
    assert config.training_module.optimizer._target_ == "torch.optim.SGD"


def test_a_group_of_ones_own(tmp_path):
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "small.yaml").write_text("defaults: [nequip, _self_]\nnum_layers: 1\n")
    (tmp_path / "system").mkdir()
    (tmp_path / "system" / "water.yaml").write_text("# @package data\ntrain: water.xyz\n")
    (tmp_path / "mine.yaml").write_text(CONFIG)
    config = compose_arguments(parse(["--config-name", "mine", "model=small", "+system=water"]), str(tmp_path))
    assert (config.model.num_layers, config.data.train) == (1, "water.xyz")


@pytest.mark.parametrize(
    ("defaults", "base", "refused"),
    [
        ("[_self_, base]", "defaults: [train, _self_]\nseed: 1\n", True),
        ("[_self_, base]", "seed: 1\n", False),  # a few values that come last on purpose
        ("[train, _self_, base]", "seed: 1\n", False),
        ("[_self_, {override optimizer: sgd}]", "seed: 1\n", False),
    ],
)
def test_values_that_all_would_be_replaced(defaults, base, refused, tmp_path):
    (tmp_path / "base.yaml").write_text(base)
    (tmp_path / "mine.yaml").write_text(f"defaults: {defaults}\nseed: 2\n")
    words = "have _self_ before base, which would replace what the file says of seed"
    with pytest.raises(ConfigError, match=words) if refused else nullcontext():
        check_config_file(tmp_path / "mine.yaml")
