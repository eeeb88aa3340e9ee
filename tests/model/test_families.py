"""Families of other packages: named by the caller, or announced by an installed package; never by a file."""

import sys

import pytest
import torch

from nequip_like.errors import ConfigError, ModelError, ModelFileError
from nequip_like.inference import load, load_any, save
from nequip_like.inference.predictor import Predictor
from nequip_like.integrations.ase import NequIPCalculator
from nequip_like.model import Potential
from nequip_like.model.families import build
from nequip_like.workflow.finetune.source import read_source

MODULE = """
import torch
from nequip_like.data import fields
from nequip_like.model import Potential

class Constant(torch.nn.Module):
    def __init__(self, energy):
        super().__init__()
        self.energy = torch.nn.Parameter(torch.tensor(energy, dtype=torch.float64))

    def forward(self, graph, vectors):
        return self.energy * torch.ones(len(graph[fields.ATOM_TYPES]), dtype=torch.float64) + 0.0 * vectors.sum()

def model(energy=0.0, points=100000):
    return Potential(Constant(energy), ["H"], 3.0, {"family": "constant", "arguments": {"points": points}})

def another(**arguments):
    potential = model()
    potential.config = {"family": "others", "arguments": {}}
    return potential

FAMILIES = {"constant": model}
"""


@pytest.fixture
def module(tmp_path, monkeypatch):
    """A module with a family, in a folder where Python finds it."""
    (tmp_path / "constant_family.py").write_text(MODULE)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "constant_family", raising=False)
    yield "constant_family"
    sys.modules.pop("constant_family", None)


@pytest.fixture
def install(tmp_path):
    """Writes what pip leaves of a package that announces a family."""

    def install(package, line):
        folder = tmp_path / f"{package}-1.0.dist-info"
        folder.mkdir()
        (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n")
        (folder / "entry_points.txt").write_text(f"[nequip_like.families]\n{line}\n")

    return install


@pytest.fixture
def model_file(module, tmp_path):
    """A model file of the family, with the energy -1.25 as its weight; the module is then forgotten."""
    save(sys.modules.setdefault(module, __import__(module)).model(-1.25), tmp_path / "model.safetensors")
    del sys.modules[module]
    return tmp_path / "model.safetensors"


def test_a_file_imports_nothing(model_file):
    with pytest.raises(ModelFileError) as caught:
        load(model_file)
    assert str(caught.value) == (
        f"{model_file}: the model is of the family 'constant', which is neither built in nor installed\n"
        "  -> install its package, or name it: nequip-test --trusted-packages PACKAGE; in Python "
        "load(path, families={'constant': builder}); built in: nequip, descriptor_ann"
    )
    assert "constant_family" not in sys.modules


def test_family_of_the_caller(model_file):
    import constant_family

    for potential in (
        load(model_file, families=constant_family.FAMILIES),
        load_any(model_file, families=constant_family.FAMILIES)[0],
        Predictor(model_file, families=constant_family.FAMILIES).potential,
        NequIPCalculator(model_file, families=constant_family.FAMILIES).potential,
    ):
        assert potential.energy_model.energy.item() == -1.25
        assert potential.config == {"family": "constant", "arguments": {"points": 100000}}


def test_installed_family_is_imported_when_it_is_asked_for(model_file, install, make_potential, tmp_path):
    install("constants", "constant = constant_family:model")
    save(make_potential(), tmp_path / "own.safetensors")
    load(tmp_path / "own.safetensors")
    assert "constant_family" not in sys.modules
    assert load(model_file).energy_model.energy.item() == -1.25
    assert "constant_family" in sys.modules


def test_the_callers_family_comes_before_an_installed_one(model_file, install):
    install("constants", "constant = nowhere_at_all:model")
    import constant_family

    assert load(model_file, families=constant_family.FAMILIES).energy_model.energy.item() == -1.25


def test_a_family_of_ours_is_not_replaced(module, install, make_potential, tmp_path):
    install("constants", f"nequip = {module}:model")
    own = make_potential()
    save(own, tmp_path / "own.safetensors")
    assert type(load(tmp_path / "own.safetensors").energy_model) is type(own.energy_model)
    with pytest.raises(ConfigError, match=r"^families has 'nequip', a family of nequip_like itself\n  -> give it anot"):
        load(tmp_path / "own.safetensors", families={"nequip": Potential})


@pytest.mark.parametrize(
    ("families", "text"),
    [
        ([Potential], "[<class 'nequip_like.model.potential.Potential'>]"),
        ([], "[]"),
        ("pair", "'pair'"),
        (Potential, "<class 'nequip_like.model.potential.Potential'>"),
        ({"pair": "package.PairModel"}, "{'pair': 'package.PairModel'}"),
    ],
)
def test_what_is_no_table_of_families(model_file, families, text):
    with pytest.raises(ConfigError) as caught:
        load(model_file, families=families)
    advice = "give builders of model families by name, such as {'pair': PairModel}"
    assert (caught.value.message, caught.value.advice) == (f"families is {text}", advice)


def test_two_packages_with_one_family(model_file, install):
    install("constants", "constant = constant_family:model")
    install("further", "constant = constant_family:another")
    with pytest.raises(ModelFileError, match=r"'constant' is announced by several packages: constants, further\n"):
        load(model_file)


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ("nowhere_at_all:model", "'constant' of the package constants cannot be imported: No module named 'nowhere_at"),
        ("constant_family:nothing", "'constant' of the package constants cannot be imported: .*'nothing'"),
        ("constant_family:another", "the builder of the family 'constant' gives 'others'"),
        ("constant_family:Constant", "the builder of the family 'constant' gives 'Constant'"),
    ],
)
def test_installed_family_that_cannot_be_used(entry, message, module, install):
    install("constants", f"constant = {entry}")
    arguments = {"energy": 1.0} if entry.endswith("Constant") else {}
    with pytest.raises(ModelFileError, match=message):
        build({"family": "constant", "arguments": arguments})


def test_it_cannot_be_fine_tuned(model_file, install):
    install("constants", "constant = constant_family:model")
    with pytest.raises(ConfigError) as caught:
        read_source(str(model_file))
    assert str(caught.value) == (
        f"finetune.source: {model_file} is of the family 'constant', which cannot be fine-tuned\n"
        "  -> fine-tuning is for nequip, descriptor_ann; to go on with a run give resume=auto or ckpt_path"
    )


@pytest.mark.parametrize("value", [torch.tensor(1.0), float("nan"), {1, 2}])
def test_arguments_that_no_file_can_hold(value):
    with pytest.raises(ModelError, match=r"^the config of a model of the family 'odd' cannot be written to a file: "):
        Potential(torch.nn.Module(), ["H"], 3.0, {"family": "odd", "arguments": {"value": value}})
