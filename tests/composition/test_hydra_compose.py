"""Composing before Hydra does. What is refused, word for word, is in tests/mistakes/configs.py."""

from __future__ import annotations

import sys

import pytest
from hydra.core.global_hydra import GlobalHydra
from hydra.core.plugins import Plugins
from hydra.plugins.search_path_plugin import SearchPathPlugin

from nequip_like.cli.train import main
from nequip_like.composition.arguments import move_overrides_last, parse
from nequip_like.composition.hydra_compose import PackagedConfigs, compose_arguments, register_configs
from nequip_like.errors import ConfigError


def test_configs_are_registered_once():
    register_configs()
    register_configs()
    assert Plugins.instance().discover(SearchPathPlugin).count(PackagedConfigs) == 1


def test_composed_as_hydra_will(tmp_path):
    (tmp_path / "mine.yaml").write_text("defaults: [train, _self_]\ncutoff_radius: 3.5\n")
    config = compose_arguments(parse(["--config-name", "mine", "seed=3", "hydra.run.dir=out"]), str(tmp_path))
    assert (config.cutoff_radius, config.seed) == (3.5, 3)
    assert config.output_dir == str(tmp_path.cwd() / "out")
    assert not GlobalHydra.instance().is_initialized()


def test_more_folders(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "mine.yaml").write_text("defaults: [train, _self_]\ncutoff_radius: 3.5\n")
    for options in (["--config-path", str(tmp_path / "a")], ["--config-dir", str(tmp_path / "a")]):
        assert compose_arguments(parse([*options, "--config-name", "mine"]), str(tmp_path)).cutoff_radius == 3.5
    with pytest.raises(ConfigError, match=r"there is no folder .*nowhere"):
        compose_arguments(parse(["--config-dir", "nowhere"]), str(tmp_path))


def test_values_that_vary_are_left_out(tmp_path):
    (tmp_path / "mine.yaml").write_text("defaults: [train, _self_]\n")
    for options in (["--multirun"], ["hydra.mode=MULTIRUN"]):
        config = compose_arguments(
            parse(["--config-name", "mine", "seed=1,2", "cutoff_radius=4.5", *options]), str(tmp_path)
        )
        assert (config.seed, config.cutoff_radius) == (0, 4.5)


@pytest.mark.parametrize("option", ["--config-dir", "--config-path"])
def test_searched_packages_are_judged_wherever_the_config_is(option, tmp_path, monkeypatch, capsys):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "mine.yaml").write_text("defaults: [train, _self_]\nhydra: {searchpath: [pkg://antigravity]}\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["nequip-train", option, "a", "--config-name", "mine"])
    with pytest.raises(SystemExit) as end:
        main()
    assert end.value.code == 2
    assert "'pkg://antigravity', which is in no trusted package" in capsys.readouterr().err
    assert "antigravity" not in sys.modules


@pytest.mark.parametrize(
    ("typed", "passed"),
    [
        ("a=1 --multirun b=2", "--multirun a=1 b=2"),
        ("a=1 -cn config b=2 -m", "-cn config -m a=1 b=2"),
        ("--config-name=config a=1 --cfg job b=2", "--config-name=config --cfg job a=1 b=2"),
        ("a=1 b=2 --info", "a=1 b=2 --info"),
        ("a=1 --info defaults b=2", "--info defaults a=1 b=2"),
        ("~a +b=1", "~a +b=1"),
    ],
)
def test_overrides_may_stand_anywhere(typed, passed):
    assert move_overrides_last(typed.split()) == passed.split()
    assert parse(move_overrides_last(typed.split())).overrides == [word for word in typed.split() if word[0] in "ab~+"]


@pytest.mark.parametrize("arguments", [[], ["--check"]])
def test_a_folder_that_no_disk_can_have(arguments, tmp_path, monkeypatch, capsys):
    (tmp_path / "config.yaml").write_text("defaults: [train, _self_]\ndata: {train: molecules.xyz}\n")
    monkeypatch.chdir(tmp_path)
    name = 300 * "a"
    monkeypatch.setattr("sys.argv", ["nequip-train", "config.yaml", *arguments, f"hydra.run.dir={name}"])
    with pytest.raises(SystemExit) as end:
        main()
    assert end.value.code == 2
    written = f"error: cannot write {tmp_path / name}: File name too long\n  -> give a shorter name\n"
    assert capsys.readouterr().err == written
