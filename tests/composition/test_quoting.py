"""Names of files that Hydra's grammar cannot read."""

from __future__ import annotations

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser

from nequip_like.composition.quoting import quote_values


def value_of(argument: str):
    return OverridesParser.create().parse_override(argument).value()


@pytest.mark.parametrize(
    "value", ["~/a.xyz", "Größe.xyz", "a=b.xyz", "a#b.xyz", "~user/ä =1.xyz", "日本.xyz", "a;b.xyz", "a<b>.xyz", "a&b~"]
)
def test_words_that_cannot_be_read_are_quoted(value):
    (argument,) = quote_values([f"data.train={value}"])
    assert argument == f'data.train="{value}"'
    assert value_of(argument) == value


@pytest.mark.parametrize(
    "name",
    [
        "it's.xyz",
        'a"b.xyz',
        "a,b.xyz",
        "a(1).xyz",
        "[a.xyz",
        "{a.xyz",
        "a\\b ü.xyz",
        "a\\\"'.xyz",
        "a${b}'.xyz",
        "end'\\",
    ],
)
def test_names_of_files_are_quoted(name, tmp_path, monkeypatch):
    """With letters that could mean something else, if there is such a file."""
    monkeypatch.chdir(tmp_path)
    assert quote_values([f"data.train={name}"]) == [f"data.train={name}"]
    (tmp_path / name).write_text("")
    (argument,) = quote_values([f"data.train={name}"])
    assert value_of(argument).replace("\\${", "${") == name


def test_names_of_folders_to_come_are_quoted(tmp_path):
    assert quote_values([f"hydra.run.dir={tmp_path}/it's (1)"]) == [f'hydra.run.dir="{tmp_path}/it\'s (1)"']
    assert quote_values([f"hydra.run.dir={tmp_path}/no/it's"]) == [f"hydra.run.dir={tmp_path}/no/it's"]


def test_file_in_the_home_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "a,b.xyz").write_text("")
    assert quote_values(["data.train=~/a,b.xyz"]) == ['data.train="~/a,b.xyz"']


@pytest.mark.parametrize(
    "argument",
    [
        "data.train=a.xyz", "data.train=a b.xyz", "run=[train,test]", "run=[train", "seed", "seed=", "trainer={a: 1",
        "training_module.loss.coeffs={total_energy: 1.0}", 'data.train="ä"', "data.train='ä", "a=1,2", "~callbacks.x",
        "--config-name=ä", "-cn", "+a=1", "a=${b}", "a=$x ü", "a=f(1", "a.b=ü,ö", "1=ü",
    ],
)  # fmt: skip
def test_all_else_stays(argument, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert quote_values([argument]) == [argument]


def test_several_values_stay_several(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "1,2").write_text("")
    assert quote_values(["a=1,2"]) == ['a="1,2"']
    assert quote_values(["a=1,2", "-m"]) == ["a=1,2", "-m"]
