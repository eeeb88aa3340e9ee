"""What all commands have in common."""

from __future__ import annotations

import importlib
import tomllib
from pathlib import Path

import pytest

from nequip_like.cli.starting.command import Command
from nequip_like.errors import DataError

ROOT = Path(__file__).parents[3]


def refuse(arguments):
    raise DataError("no frames", "give some")


greet = Command("greet", "Greet: politely.", lambda parser: parser.add_argument("name"), lambda arguments: 1)
parent = Command("say", "Say.", epilog="the\n  end", subcommands=(greet, Command("no", "Refuse.", None, refuse)))


def test_status_is_what_it_gives():
    assert greet(["you"]) == 1
    assert Command("nothing", "", None, lambda arguments: None)([]) == 0


@pytest.mark.parametrize("argv", [["no"], ["no", "--debug"]])
def test_errors_of_the_user(argv, capsys):
    if "--debug" in argv:
        with pytest.raises(DataError):
            parent(argv)
        return
    assert parent(argv) == 2
    assert capsys.readouterr().err == "error: no frames\n  -> give some\n"


def test_environment_is_checked_first(monkeypatch, capsys):
    monkeypatch.setenv("RANK", "first")
    assert parent(["greet", "you"]) == 2
    assert "RANK is 'first'" in capsys.readouterr().err


def test_help_lists_commands_up_to_their_colon(capsys):
    with pytest.raises(SystemExit) as end:
        parent(["--help"])
    printed = capsys.readouterr().out
    assert end.value.code == 0
    assert "greet     Greet\n" in printed
    assert printed.endswith("the\n  end\n")
    with pytest.raises(SystemExit):
        parent(["greet", "--help"])
    assert "Greet: politely." in capsys.readouterr().out


SCRIPTS = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]


@pytest.mark.parametrize("script", sorted(SCRIPTS.keys() - {"nequip-train"}))  # which is Hydra's
def test_scripts_say_their_own_names(script):
    module, _, name = SCRIPTS[script].partition(":")
    assert getattr(importlib.import_module(module), name).name == script
