"""``nequip-report`` as a user types it."""

import json
import subprocess
import sys

import pytest

from tests.processes import run_python


@pytest.fixture
def folder(tmp_path):
    for name, rmse in (("a", 0.2), ("b", 0.1)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "metrics.json").write_text(json.dumps({"test": {"forces_rmse": rmse}}))
    return tmp_path


def typed(folder, *arguments):
    return run_python("-W", "error", "-m", "nequip_like.cli.report", *arguments, cwd=folder)


def test_one_run_and_several(folder):
    one = typed(folder, "a")
    assert (one.returncode, one.stdout, one.stderr) == (0, f"report: {folder}/a/report.html\n", "")
    assert "0.2 eV/Å" in (folder / "a" / "report.html").read_text()
    both = typed(folder, "a", "b", "--sort", "test/forces_rmse", "--output", "both.html")
    assert (both.returncode, both.stdout, both.stderr) == (0, "report: both.html\n", "")
    text = (folder / "both.html").read_text()
    assert text.index('title="0.1 eV/Å"') < text.index('title="0.2 eV/Å"')


def test_user_error(folder):
    done = typed(folder, "nothing")
    assert done.returncode == 2
    assert done.stderr.splitlines() == [
        f"error: {folder}/nothing is no folder",
        "  -> give the folder of a run, or what nequip-test wrote to its --output",
    ]


def test_help_is_quick():
    code = (
        "import sys; from nequip_like.cli.report import main\n"
        "try: main(['--help'])\n"
        "finally: print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.splitlines()[-1] == "False"
    assert "--sort" in done.stdout
