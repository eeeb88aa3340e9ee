"""How commands end."""

import pytest

from nequip_like.cli.errors import run_cli
from nequip_like.errors import DataError


def fail(error):
    raise error


def test_success(capsys):
    assert run_cli(lambda: None) == 0
    assert capsys.readouterr() == ("", "")


def test_user_error(capsys):
    assert run_cli(lambda: fail(DataError("frame 3\nis wrong", "remove it"))) == 2
    assert capsys.readouterr() == ("", "error: frame 3 is wrong\n  -> remove it\n")
    assert run_cli(lambda: fail(DataError("frame 3 is wrong"))) == 2
    assert capsys.readouterr().err == "error: frame 3 is wrong\n"


def test_debug_shows_the_traceback():
    with pytest.raises(DataError):
        run_cli(lambda: fail(DataError("frame 3 is wrong")), debug=True)


def test_own_errors_are_not_hidden():
    with pytest.raises(ZeroDivisionError):
        run_cli(lambda: 1 / 0)


def test_interrupt(capsys):
    assert run_cli(lambda: fail(KeyboardInterrupt())) == 130
    assert capsys.readouterr().err == "interrupted\n"
