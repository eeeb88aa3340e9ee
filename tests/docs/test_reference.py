"""The reference pages say what the code and the configs say: each key, default, statistic, metric and field."""

import importlib.util
import re
from pathlib import Path

import hydra.utils
import pytest
import torch
import yaml
from omegaconf import OmegaConf

import nequip_like.metrics
from nequip_like.data.dataset import load_dataset
from nequip_like.data.statistics import training_statistics
from nequip_like.inference import model_file
from nequip_like.metrics.elementwise import ErrorMetric
from nequip_like.metrics.terms import ENTRY_KEYS
from nequip_like.report.files import PREDICTED
from nequip_like.workflow.setup import register_statistics

ROOT = Path(__file__).parents[2]
REFERENCE = ROOT / "docs" / "reference"
CONF = ROOT / "conf"
PACKAGE = re.compile(r"# @package (\S+)")
# Files that give other values to keys of these groups, which their own pages or comments explain.
VARIANTS = ("tutorial.yaml", "data/3bpa.yaml", "experiment/", "optimizer/schedulefree.yaml")

# Keys whose default depends on the file of the group; the tables say so.
BY_GROUP = (
    "model.preset",
    "training_module.optimizer.lr",
    *(f"training_module.lr_scheduler.{key}" for key in ("schedule", "step_size", "gamma")),
)


def rows(page):
    """First cell of each row of the page's tables -> the row."""
    found = {}
    for line in (REFERENCE / page).read_text().splitlines():
        if match := re.match(r"\| `([^`]+)` \|", line):
            found[match[1]] = line
    return found


def leaves(value, prefix=""):
    """Dotted keys of a config file with their values as they are written there."""
    if isinstance(value, dict) and value:
        for key, entry in value.items():
            if key not in ("_target_", "defaults"):
                yield from leaves(entry, f"{prefix}.{key}" if prefix else key)
    else:
        yield prefix, in_line(value)


def in_line(value):
    return f"[{', '.join(map(in_line, value))}]" if isinstance(value, list) else value


def config_keys():
    for path in sorted(CONF.glob("**/*.yaml")):
        name = path.relative_to(CONF).as_posix()
        package = PACKAGE.match(path.read_text())
        group = package[1] if package else ("" if path.parent == CONF else path.parent.name)
        content = yaml.load(path.read_text(), Loader=yaml.BaseLoader)
        for key, value in leaves(content, "" if group == "_global_" else group):
            yield name, key, value


def test_each_key_of_the_configs_is_explained_with_its_default():
    table = rows("configuration.md")
    wrong = []
    for file, key, value in config_keys():
        if file.startswith("data/3bpa") and key == "data.path":
            assert f"`{key}` is `{value}`" in (REFERENCE / "configuration.md").read_text()
        elif key not in table:
            wrong.append(f"{file}: {key} is not explained")
        elif not file.startswith(VARIANTS) and key not in BY_GROUP:
            default = '""' if value == "" else value
            if table[key].split("|")[2].strip() != f"`{default}`":
                wrong.append(f"{file}: the default of {key} is {default}")
    assert wrong == []
    rates = {file: value for file, key, value in config_keys() if key == "training_module.optimizer.lr"}
    row = table["training_module.optimizer.lr"]
    assert f"| `{rates.pop('optimizer/soap.yaml')}` |" in row
    assert f"with `optimizer=adam` {rates.pop('optimizer/adam.yaml')}, with the others {min(rates.values())}," in row
    assert len(set(rates.values())) == 1


def test_explained_keys_exist():
    keys = {key for _, key, _ in config_keys()}
    sections = {key.rpartition(".")[0] for key in keys} | {"callbacks.progress_bar"}
    examples = {
        "trainer.max_epochs=100",
        "model=nequip_M",
        "+trainer.limit_val_batches=5",
        "~callbacks.progress_bar",
    }
    assert set(rows("configuration.md")) - keys - sections - examples == set()


def test_each_group_and_option_of_the_configs_is_named():
    page = (REFERENCE / "configuration.md").read_text()
    for path in CONF.glob("*/*.yaml"):
        assert path.parent.name in page
        assert path.stem in page, path


def test_statistics_are_those_that_there_are(write_labelled, tmp_path):
    dataset = load_dataset(write_labelled(tmp_path / "data.xyz"), ["H", "C", "O"], cutoff=3.0)
    known = training_statistics(dataset)
    references = {"reference_energies": {"H": 0.0}, "isolated_atom_energies": {"H": 0.0}}
    table = set(rows("statistics.md"))
    derived = {"energy_scale", "atom_face_area", "atom_face_area_squared"}
    assert table == {*known, *references, *derived}
    register_statistics(known | references)
    for name in table:
        assert OmegaConf.create({"value": f"${{training_data_stats:{name}}}"}).value is not None


def test_statistics_in_examples_exist():
    for page in REFERENCE.glob("*.md"):
        used = set(re.findall(r"\$\{training_data_stats:(\w+)\}", page.read_text())) - {"NAME"}
        assert used <= set(rows("statistics.md"))


def test_presets_and_their_values():
    table = rows("metrics.md")
    presets = [name for name in nequip_like.metrics.__all__ if re.fullmatch(r"Energy\w+(Loss|Metrics)", name)]
    assert len(presets) == 6
    for name in presets:
        manager = getattr(nequip_like.metrics, name)()
        cells = table[name].split("|")
        text = table["EnergyForceMetrics"].split("|")[2] + cells[2]
        for term in manager.terms:
            field, _, metric = term.name.rpartition("_")
            assert f"`{term.name}`" in text or (f"`{field}`" in text and f"`_{metric}`" in text), term.name
        for term in manager.terms:
            if term.coeff is not None:
                label = term.modifier.field if name.endswith("Loss") else term.name
                words = cells[3] + (table["EnergyForceMetrics"].split("|")[3] if cells[3].startswith(" and") else "")
                assert f"{label} {term.coeff:g}" in words, (name, label)


def test_metrics_and_keys_of_terms():
    table = rows("metrics.md")
    metrics = [
        name
        for name in nequip_like.metrics.__all__
        if isinstance(getattr(nequip_like.metrics, name), type)
        and issubclass(getattr(nequip_like.metrics, name), ErrorMetric)
    ]
    assert set(metrics) | set(ENTRY_KEYS) | {"coeffs", "per_atom_energy", "per_type_forces_coeffs"} <= set(table)


def test_example_of_terms_builds():
    block = re.search(r"```yaml\n(.*?)```", (REFERENCE / "metrics.md").read_text(), re.DOTALL)
    config = yaml.safe_load(block[1])["training_module"]["val_metrics"]
    manager = hydra.utils.instantiate({**config, "type_names": ["H", "C"]}, _convert_="all")
    names = {name for term in manager.terms for name in term.log_names}
    assert {"forces_mae_of_H", "forces_mae_of_C", "energy_huber", "forces_rmse"} <= names


def test_fields_page_is_up_to_date():
    spec = importlib.util.spec_from_file_location("make_reference", ROOT / "docs" / "make_reference.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert module.PAGE.read_text() == module.page(), "run: python docs/make_reference.py"


def test_keys_of_the_model_file(make_potential, tmp_path):
    model_file.save(make_potential(), tmp_path / "model.safetensors", {"metrics": {}, "provenance": {}})
    card = model_file.read_card(tmp_path / "model.safetensors")
    table = rows("files.md")
    assert set(card) <= set(table)
    assert f"`{card['format']}`" in table["format"]
    assert table["format_version"].split("|")[2].strip().startswith(str(card["format_version"]))


@pytest.mark.slow
def test_keys_of_the_checkpoint_and_files_of_the_folder(compose):
    from nequip_like.workflow.train import train

    result = train(compose())
    table = rows("files.md")
    named = "".join(table)
    checkpoint = torch.load(result.best_checkpoint, weights_only=True)
    text = (REFERENCE / "files.md").read_text()
    for key in (*checkpoint, *checkpoint["nequip_like"]):
        assert f"`{key}`" in text, key
    for path in result.folder.rglob("*"):
        assert path.is_dir() or path.relative_to(result.folder).as_posix() in named
    assert set(model_file.read_card(result.model_file)) <= set(table)
    assert PREDICTED == "predicted_"


def test_index_lists_the_pages():
    index = (ROOT / "docs" / "index.md").read_text()
    assert "reference/*" in index
    assert {page.stem for page in REFERENCE.glob("*.md")} == {
        "auto",
        "check",
        "configuration",
        "data-tools",
        "external-trainers",
        "fields",
        "files",
        "formats",
        "gpu",
        "metrics",
        "model-files",
        "predict",
        "prepared-sets",
        "sampling",
        "pretrain",
        "python",
        "report",
        "resuming",
        "run-yaml",
        "statistics",
        "training",
        "uncertainty",
    }
