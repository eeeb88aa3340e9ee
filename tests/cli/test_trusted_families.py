"""What ``--trusted-packages`` of ``nequip-test`` may name."""

import sys

import pytest

from nequip_like.cli.trusted_families import trusted_families
from nequip_like.errors import ConfigError

MODULES = {
    "families_one": "FAMILIES = {'one': int}",
    "families_two": "FAMILIES = {'two': int, 'one': float}",
    "families_own": "FAMILIES = {'nequip': int}",
    "families_none": "one = int",
    "families_list": "FAMILIES = ['one']",
    "families_needy": "import nowhere_at_all",
    "families_broken": "from os import nothing_of_this_name",
}


@pytest.fixture
def modules(tmp_path, monkeypatch):
    for name, text in MODULES.items():
        (tmp_path / f"{name}.py").write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    yield
    for name in MODULES:
        sys.modules.pop(name, None)


def test_tables_are_joined(modules):
    assert trusted_families([], "--trusted-packages") == {}
    assert trusted_families(["families_one"], "--trusted-packages") == {"one": int}


@pytest.mark.parametrize(
    ("packages", "message"),
    [
        ("families_none", "option: families_none has no table of model families\n  -> write FAMILIES = {'name': buil"),
        ("families_list", "option: families_list has no table of model families\n"),
        ("families_own", "FAMILIES of families_own has 'nequip', a family of nequip_like itself\n"),
        ("families_one families_two", "option: two of families_one, families_two have the family 'one'\n"),
        ("families_nosuch", "option: there is no package 'families_nosuch'\n  -> install it; .* with PYTHONPATH=.$"),
        ("families_needy", "option: there is no package 'nowhere_at_all'\n"),
        ("families_broken", "option: families_broken cannot be imported: cannot import name 'nothing_of_this_name'"),
        ("os", "trusted_packages has 'os', whose functions run anything\n"),
    ],
)
def test_errors(packages, message, modules):
    with pytest.raises(ConfigError, match=f"^{message}"):
        trusted_families(packages.split(), "option")
