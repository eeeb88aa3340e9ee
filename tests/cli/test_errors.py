"""How commands end."""

import sys
import warnings

import pytest

import nequip_like
from nequip_like.cli.errors import run_cli
from nequip_like.errors import DataError

OURS = nequip_like.__file__


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


@pytest.mark.filterwarnings("default")
def test_warnings_of_the_package_are_a_line(capsys, monkeypatch):
    """With the place in the code for whoever asks for it; of libraries always."""
    monkeypatch.setattr(warnings, "_showwarnmsg_impl", _print_warning)

    def warn():
        warnings.warn_explicit("the first\nset is empty", UserWarning, OURS, 7)
        warnings.warn_explicit("old name", DeprecationWarning, OURS, 8)
        warnings.warn_explicit("slow", UserWarning, "/torch/nn.py", 9)

    assert run_cli(warn) == 0
    first, *rest = capsys.readouterr().err.splitlines()
    assert first == "warning: the first set is empty"
    assert [line for line in rest if not line.startswith(" ")] == [
        f"{OURS}:8: DeprecationWarning: old name",
        "/torch/nn.py:9: UserWarning: slow",
    ]
    run_cli(warn, debug=True)
    assert capsys.readouterr().err.startswith(f"{OURS}:7: UserWarning: the first\n")


def _print_warning(message):
    """As Python does it where warnings are not recorded, as pytest records them."""
    text = warnings.formatwarning(message.message, message.category, message.filename, message.lineno, message.line)
    sys.stderr.write(text)
