"""Each mistake is told to the user in exactly the words of the table, and nothing is trained."""

import importlib.util
from pathlib import Path

import pytest

from tests.mistakes.configs import CONFIG_MISTAKES, run_config_mistake
from tests.mistakes.data import DATA_MISTAKES, run_data_mistake

ROOT = Path(__file__).parents[2]


def run(mistake, folder):
    """Exit status, error stream and warnings."""
    if mistake in CONFIG_MISTAKES:
        return (*run_config_mistake(mistake, folder), [])
    return run_data_mistake(mistake, folder)


@pytest.mark.parametrize("mistake", [*CONFIG_MISTAKES, *DATA_MISTAKES], ids=lambda mistake: mistake.title)
def test_mistake(mistake, tmp_path):
    status, stream, warnings = run(mistake, tmp_path)
    assert "Traceback" not in stream
    error, advice = (text.replace("{folder}", str(tmp_path)) for text in (mistake.error, mistake.advice))
    if mistake.kind == "error":
        assert stream == f"error: {error}\n" + (f"  -> {advice}\n" if advice else "")
        assert status == 2
    else:
        assert (status, stream) == (0, "")
        assert error in warnings


def test_there_are_enough_and_each_is_told_once():
    assert len(CONFIG_MISTAKES) >= 40
    assert sum(mistake.kind == "error" for mistake in DATA_MISTAKES) >= 40
    assert sum(mistake.command != "DataModule" for mistake in DATA_MISTAKES) >= 12
    titles = [mistake.title for mistake in (*CONFIG_MISTAKES, *DATA_MISTAKES)]
    assert len(set(titles)) == len(titles)


def test_each_says_what_to_do():
    for mistake in (*CONFIG_MISTAKES, *DATA_MISTAKES):
        assert mistake.advice or mistake.remedy, mistake.title
        assert "\n" not in mistake.error + mistake.advice, mistake.title


def test_page_is_up_to_date():
    spec = importlib.util.spec_from_file_location("make_troubleshooting", ROOT / "docs" / "make_troubleshooting.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert module.PAGE.read_text() == module.page(), "run: python docs/make_troubleshooting.py"
