"""Trainers of others, with a stand-in: good runs, crashes, silence, garbage, limits of time, signals."""

import dataclasses
import hashlib
import json
import os
import signal
import sys
import threading
import time
from pathlib import Path

import pytest

from nequip_like.errors import BackendError, ConfigError
from nequip_like.workflow.run_folder.processes import Process
from nequip_like.workflow.runner.external import process
from nequip_like.workflow.runner.external.backends import ExternalBackend
from nequip_like.workflow.runner.requests import read_requests

STAND_IN = Path(__file__).with_name("stand_in.py")
NO_SCRIPT = {"backend_script": None, "backend_python": None, "backend_args": None}
COMMAND = {**NO_SCRIPT, "task": "backend", "backend": None}


@pytest.fixture
def request_of(tmp_path):
    """A run of the stand-in."""
    (tmp_path / "train.xyz").touch()

    def make(case, **keys):
        run = {
            "backend": "external",
            "task": "train",
            "run_dir": "run",
            "backend_python": sys.executable,
            "backend_script": str(STAND_IN),
            "backend_args": [case],
            "data": {"train": "train.xyz"},
            "train": {"epochs": 3},
            **keys,
        }
        file = tmp_path / "run.yaml"
        file.write_text(json.dumps({key: value for key, value in run.items() if value is not None}))
        return read_requests(file)[0]

    return make


@pytest.fixture
def do(request_of):
    """Does a run of the stand-in; what it told is in ``do.lines``."""
    backend = ExternalBackend()

    def run(case, goes_on=False, **keys):
        run.lines = []
        return backend.run(backend.plan(request_of(case, **keys)), run.lines.append, goes_on)

    return run


def lives(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except FileNotFoundError:
        return False


def wait_for(path):
    limit = time.monotonic() + 60
    while not path.exists():
        assert time.monotonic() < limit, f"{path} did not come"
        time.sleep(0.02)


def test_a_good_run(do, tmp_path):
    outcome = do("train")
    home = tmp_path / "run"
    assert outcome.files == {"checkpoint": home / "last.txt", "model": home / "model.bin"}
    assert outcome.metrics == {"val0_epoch/forces_mae": 1 / 3}
    assert outcome.stopped_by is None
    assert do.lines[0] == "stand-in 7 begins"
    assert "3 of 3 epochs" in do.lines
    assert "epoch 2: val0_epoch/forces_mae 0.333333" in do.lines
    files = json.loads((home / "artifacts" / "files.json").read_text())
    digest = hashlib.sha256(b"weights").hexdigest()
    assert files["model"] == {"path": "model.bin", "bytes": 7, "sha256": digest}
    log = (home / "logs" / "trainer.log").read_text()
    assert "a word on the error stream" in log
    assert "of what a bar prints" in log
    kinds = [json.loads(line)["message"] for line in (home / "logs" / "messages.jsonl").read_text().splitlines()]
    assert kinds == ["start", *["progress", "metrics", "artifacts"] * 3, "artifacts", "end"]


def test_a_run_that_was_stopped_goes_on_from_the_last_checkpoint_that_was_named(do, tmp_path):
    home = tmp_path / "run"
    (home / "logs").mkdir(parents=True)
    (home / "last.txt").write_text("2")
    lines = [{"message": "artifacts", "files": {"checkpoint": name}, "run": "run"} for name in ("gone.txt", "last.txt")]
    lines.append({**lines[0], "run": "another in the same folder"})
    text = "".join(json.dumps(line) + "\n" for line in lines)
    (home / "logs" / "messages.jsonl").write_text(text + '{"message": "metr')  # killed while it wrote
    do("train", goes_on=True)
    assert [line for line in do.lines if line.startswith("epoch")] == ["epoch 2: val0_epoch/forces_mae 0.333333"]
    assert json.loads((home / "logs" / "request.json").read_text())["go_on_from"] == str(home / "last.txt")
    do("train")
    assert json.loads((home / "logs" / "request.json").read_text())["go_on_from"] is None


def test_what_a_trainer_finds(do, tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", "/of/this/interpreter")
    monkeypatch.setenv("NEQUIP_RUN_OLD", "of another run")
    environment = {"COLOUR": "red; $(touch broken) `id`", "NUMBER": 3, "SWITCH": True, "EMPTY": None}
    arguments = ["echo", "--rate", 0.5, "; touch broken", "$HOME"]
    do("", backend_args=arguments, backend_env=environment, device="cuda:1", backend_cwd=".", name="my-run")
    told = json.loads((tmp_path / "run" / "told.json").read_text())
    assert told["environment"] == {
        "COLOUR": "red; $(touch broken) `id`",
        "NUMBER": "3",
        "SWITCH": "true",
        "EMPTY": "",
        "PYTHONPATH": None,
        "PYTHONUNBUFFERED": "1",
        "NEQUIP_RUN_OLD": None,
    }
    assert told["arguments"] == ["--rate", "0.5", "; touch broken", "$HOME"]
    assert told["cwd"] == str(tmp_path)
    assert not list(tmp_path.rglob("broken"))
    assert told["request"] == {
        "protocol": 1,
        "name": "my-run",
        "task": "train",
        "run_dir": str(tmp_path / "run"),
        "device": "cuda:1",
        "model": {},
        "go_on_from": None,
        "data": {"train": str(tmp_path / "train.xyz")},
        "train": {"epochs": 3},
        "eval": {},
        "output": {},
        "export": {},
    }


@pytest.mark.parametrize(
    ("case", "says"),
    [
        ("crash", ["failed (exit status 1); it said last:", "ZeroDivisionError", "all of it: "]),
        ("import", ["No module named 'no_such_package'", "-m pip install no_such_package", "backend_python"]),
        ("memory", ["give a smaller train.batch_size"]),
        ("killed", ["ended by SIGKILL", "the system kills what takes too much memory", "it printed nothing"]),
        ("failed", ["stand-in 7 failed: no [31m atoms", "-> give some; all that it printed: "]),
        ("silent", ["ended without a message", "write task: backend"]),
        ("no end", ["ended without its message 'end'"]),
        ("no start", ["a message 'progress' before its 'start'"]),
        ("two starts", ["a second message 'start'"]),
        ("behind end", ["a message 'progress' behind its 'end'"]),
        ("other protocol", ["speaks the protocol 2, not 1"]),
        ("stopped", ["was stopped, but not by nequip-run"]),
        ("done but fails", ["exit status 3"]),
        ("outside", ["no file"]),
        ("absolute", ["'/etc/passwd' as its model, which is outside"]),
        ("absent", ["'nothing' as its model, which is no file"]),
        ("a link", ["as its model, which is outside"]),
        ("middle", ["print a newline before it"]),
    ],
)
def test_what_goes_wrong(do, tmp_path, case, says):
    if case == "outside":
        (tmp_path / "outside").touch()
        says = ["'../outside' as its model, which is outside"]
    with pytest.raises(BackendError) as caught:
        do(case)
    for text in says:
        assert text in str(caught.value)
    assert "\x1b" not in str(caught.value)
    assert str(tmp_path / "run" / "logs" / "trainer.log") in str(caught.value)


def test_only_the_lines_of_this_run_are_shown(do, tmp_path):
    (tmp_path / "run" / "logs").mkdir(parents=True)
    (tmp_path / "run" / "logs" / "trainer.log").write_text("ModuleNotFoundError: No module named 'earlier'\n")
    with pytest.raises(BackendError) as caught:
        do("crash")
    assert "earlier" not in str(caught.value)


def test_garbage_is_for_the_log_alone(do, tmp_path):
    outcome = do("much")
    assert outcome.files == {}
    assert (tmp_path / "run" / "logs" / "trainer.log").stat().st_size > 30_000_000
    assert do.lines == ["stand-in 7 begins"]


def test_no_process_stays_behind_when_a_trainer_ends(do, tmp_path, monkeypatch):
    monkeypatch.setattr(process, "_LAST_PATIENCE", 0.3)
    do("child")
    assert not lives(int((tmp_path / "run" / "child").read_text()))


@pytest.mark.parametrize("limit", ["backend_time_limit", "backend_silence_limit"])
def test_limits_of_time(do, tmp_path, monkeypatch, limit):
    monkeypatch.setattr(process, "_LAST_PATIENCE", 0.3)
    with pytest.raises(BackendError, match=f"{limit}: 2 s"):
        do("chatty" if limit == "backend_time_limit" else "hang", **{limit: 2})
    if limit == "backend_silence_limit":
        assert not lives(int((tmp_path / "run" / "child").read_text()))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGUSR1])
def test_a_signal_ends_all_processes(do, tmp_path, monkeypatch, number):
    monkeypatch.setattr(process, "_LAST_PATIENCE", 0.3)
    before = signal.getsignal(number)
    child = tmp_path / "run" / "child"

    def send():
        wait_for(tmp_path / "run" / "hangs")
        os.kill(os.getpid(), number)

    threading.Thread(target=send).start()
    outcome = do("hang")
    assert outcome.stopped_by == number
    assert outcome.files == {"checkpoint": tmp_path / "run" / "last.txt"}
    assert not lives(int(child.read_text()))
    assert signal.getsignal(number) is before


def test_a_terminal_that_is_closed_is_heeded_but_not_under_nohup():
    before = signal.getsignal(signal.SIGHUP)
    try:
        for handler, expected in ((signal.SIG_IGN, []), (signal.SIG_DFL, [signal.SIGHUP])):
            signal.signal(signal.SIGHUP, handler)
            with process._receiving() as received:
                assert signal.getsignal(signal.SIGHUP) is not signal.SIG_DFL  # it would end this process
                os.kill(os.getpid(), signal.SIGHUP)
            assert received == expected
            assert signal.getsignal(signal.SIGHUP) is handler
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_second_signal_kills_what_does_not_end(do, tmp_path, monkeypatch):
    monkeypatch.setattr(process, "_LAST_PATIENCE", 0.3)
    code = "import signal, time; signal.signal(2, signal.SIG_IGN); open('ready', 'w'); time.sleep(120)"

    def send():
        wait_for(tmp_path / "ready")
        for _ in range(2):
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.5)

    threading.Thread(target=send).start()
    begin = time.monotonic()
    assert do("", **COMMAND, backend_command=[sys.executable, "-c", code]).stopped_by == signal.SIGINT
    assert time.monotonic() - begin < process.PATIENCE


def test_a_command_need_not_speak(do, tmp_path):
    code = "import sys; print('hello'); print('::nequip-run:: {}'); sys.exit(int(sys.argv[1]))"
    do("", **COMMAND, backend_command=[sys.executable, "-c", code, "0"])
    assert "hello" in (tmp_path / "run" / "logs" / "trainer.log").read_text()
    with pytest.raises(BackendError, match=r"failed \(exit status 4\)"):
        do("", **COMMAND, backend_command=[sys.executable, "-c", code, "4"])


@pytest.mark.parametrize(
    ("keys", "says"),
    [
        ({"backend_env": {"NEQUIP_RUN_REQUEST": "mine"}}, "which nequip-run sets itself"),
        ({"backend_python": "none"}, "none, which is not there"),
        ({"backend_python": "."}, "a folder"),
        ({"backend_python": "train.xyz"}, "which may not be run"),
        ({"backend_script": "none.py"}, "none.py, which is not there"),
        (
            {**NO_SCRIPT, "backend_command": ["no-such-program"]},
            "which is no program",
        ),
        ({**NO_SCRIPT, "backend_command": ["./train.xyz"]}, "which is no program"),
        ({"backend_cwd": "none"}, "backend_cwd"),
    ],
)
def test_what_a_plan_refuses(do, keys, says):
    with pytest.raises(ConfigError) as caught:
        do("train", **keys)
    assert says in str(caught.value)


def test_a_trainer_that_survived_its_runner_is_not_joined_by_another(do, tmp_path):
    logs = tmp_path / "run" / "logs"
    logs.mkdir(parents=True)
    own = Process.current()
    (logs / "process.json").write_text(json.dumps(dataclasses.asdict(own)))
    with pytest.raises(BackendError, match=f"process {own.pid}.*still runs"):
        do("train")
    (logs / "process.json").write_text(json.dumps({**dataclasses.asdict(own), "began": "0"}))  # its number is another's
    do("train")
    assert not (logs / "process.json").exists()
