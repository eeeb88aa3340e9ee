"""``nequip-predict`` as a user types it."""

import os
import signal
import subprocess
import sys
import time
from types import SimpleNamespace

import pytest

from nequip_like.cli.predict import main
from nequip_like.inference import save
from tests.processes import run_python


@pytest.fixture
def folder(tmp_path, make_potential, write_labelled):
    save(make_potential(kernel="batched"), tmp_path / "model.safetensors")
    write_labelled(tmp_path / "one.xyz", frames=5)
    write_labelled(tmp_path / "two.xyz", frames=3, seed=1)
    return tmp_path


def typed(folder, *arguments):
    command = [sys.executable, "-W", "error", "-m", "nequip_like.cli.predict", *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True)


def test_command(folder):
    run = typed(folder, "model.safetensors", "one.xyz", "two.xyz", "--output", "out.csv", "--energy-only")
    assert (run.returncode, run.stderr) == (0, "")
    (line,) = run.stdout.splitlines()  # no bar without a terminal
    assert line.startswith("written: out.csv, 8 frames, ")
    assert len((folder / "out.csv").read_text().splitlines()) == 9


def test_broken_frames(folder):
    text = (folder / "one.xyz").read_text()
    (folder / "one.xyz").write_text(text[: text.rstrip().rfind("\n") + 1])
    run = typed(folder, "model.safetensors", "one.xyz", "two.xyz", "--output", "out.csv")
    assert run.returncode == 2
    error, advice = run.stderr.splitlines()
    assert error.startswith("error: one.xyz frame 4 is cut off: ")
    assert advice.endswith("; or leave out what is broken: --on-error skip (eval: {on_error: skip} of a run file)")
    run = typed(folder, "model.safetensors", "one.xyz", "two.xyz", "--output", "out.csv", "--on-error", "skip")
    assert (run.returncode, run.stderr) == (3, "")
    written, warning, listed = run.stdout.splitlines()
    assert written.startswith("written: out.csv, 7 frames, ")
    assert warning.startswith("warning: frames left out: 1, first: one.xyz frame 4 is cut off: ")
    assert listed == "  all of them: out.csv.skipped.csv"


def test_user_error(folder):
    (folder / "out.csv").touch()
    arguments = ("model.safetensors", "one.xyz", "--output", "out.csv")
    run = run_python("-W", "error", "-m", "nequip_like.cli.predict", *arguments, cwd=folder)
    assert run.returncode == 2
    error, advice = run.stderr.splitlines()
    assert error.endswith("out.csv is there already")
    assert advice == "  -> give another name, or --overwrite"


def test_help_is_quick():
    code = (
        "import sys; from nequip_like.cli.predict import main\n"
        "try: main(['--help'])\n"
        "finally: print('torch' in sys.modules)"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert run.returncode == 0
    assert run.stdout.splitlines()[-1] == "False"
    assert "--energy-only" in run.stdout


def test_options_reach_the_library(monkeypatch):
    from nequip_like.workflow.prediction import printing

    given = {}

    def predict_and_print(*arguments, **options):
        given.update(options, of=arguments)
        return SimpleNamespace(skipped=0)

    monkeypatch.setattr(printing, "predict_and_print", predict_and_print)
    assert main(["m", "a", "b", "--output", "o.npz", "--batch-size", "edges=70", "--amp", "--resume", "--device", "cpu",
                 "--trust-pickle", "--overwrite"]) == 0  # fmt: skip
    assert given["of"] == ("m", ["a", "b"], "o.npz")
    assert given["batch_size"] == {"edges": 70}
    assert given["energy_only"] is False
    assert all(given[name] is True for name in ("amp", "resume", "trust_pickle", "overwrite"))
    assert given["device"] == "cpu"
    assert given["on_error"] == "stop"


@pytest.mark.slow
def test_killed_and_resumed(folder, write_labelled):
    """SIGKILL at whatever moment, then --resume: byte for byte the file of a run that nobody stopped."""
    write_labelled(folder / "many.xyz", frames=20_000, seed=2)
    arguments = ("model.safetensors", "many.xyz", "--device", "cpu", "--output")
    assert typed(folder, *arguments, "whole.extxyz").returncode == 0
    command = [sys.executable, "-m", "nequip_like.cli.predict", *arguments, "out.extxyz", "--resume"]
    for _ in range(3):
        progress = folder / "out.extxyz.part" / "progress.jsonl"
        lines = progress.read_text().count("\n") if progress.exists() else 1
        with subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
            while process.poll() is None and (not progress.exists() or progress.read_text().count("\n") <= lines):
                time.sleep(0.05)
            os.kill(process.pid, signal.SIGKILL)
    assert not (folder / "out.extxyz").exists()
    run = typed(folder, *arguments, "out.extxyz", "--resume")
    assert "of them before" in run.stdout
    assert (folder / "out.extxyz").read_bytes() == (folder / "whole.extxyz").read_bytes()
