"""A folder belongs to one run: while it lives, and not a moment longer."""

from __future__ import annotations

import collections
import json
import os
import re
import subprocess
import sys
import threading
import time
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from nequip_like.errors import OutputError
from nequip_like.workflow.run_folder import claims
from nequip_like.workflow.run_folder.claims import Claim, check_free, check_still_held, claimed
from nequip_like.workflow.run_folder.processes import Process

HOLD = (
    "import sys\nfrom pathlib import Path\nfrom nequip_like.workflow.run_folder.claims import claimed\n"
    "with claimed(Path(sys.argv[1]), 'output_dir=FOLDER'):\n    print('held', flush=True)\n    sys.stdin.read()\n"
)
OPTION = "output_dir=FOLDER"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("SLURM_JOB_ID", "SLURM_RESTART_COUNT", "RANK", "LOCAL_RANK", "SLURM_PROCID"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path / "run"


@pytest.fixture
def hold():
    """Let another process hold a folder: ``hold(folder)`` gives the process."""
    children = []

    def hold(folder: Path) -> subprocess.Popen:
        command = [sys.executable, "-c", HOLD, str(folder)]
        environment = {k: v for k, v in os.environ.items() if k != "NEQUIP_LIKE_CLAIMS"}
        children.append(
            subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment)
        )
        assert children[-1].stdout.readline() == "held\n"
        return children[-1]

    yield hold
    for child in children:
        child.kill()
        child.communicate()


def leave(folder: Path, **changes: object) -> Path:
    """A claim of a run on another machine, whatever became of it."""
    folder.mkdir(exist_ok=True)
    elsewhere = replace(Process.current(), host="node7", machine="elsewhere", pid=1234)
    claim = replace(Claim.make(), process=elsewhere, token="node7-1234-0", **changes)
    path = folder / f".running-{claim.token}"
    path.write_text(json.dumps(asdict(claim)))
    return path


def age(path: Path, seconds: float) -> None:
    then = time.time() - seconds
    os.utime(path, (then, then))


def hidden(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.name.startswith("."))


# --- who holds it


def test_held_and_released(folder: Path) -> None:
    with claimed(folder, OPTION):
        assert len(hidden(folder)) == 1
        (folder / "result").touch()
    assert [path.name for path in folder.iterdir()] == ["result"]


def test_a_folder_for_nothing_is_taken_away(folder: Path) -> None:
    """It was made for the claim; one that was there stays."""
    with claimed(folder, OPTION):
        pass
    assert not folder.exists()
    folder.mkdir()
    with claimed(folder, OPTION):
        pass
    assert folder.exists()


def test_released_after_an_error(folder: Path) -> None:
    with pytest.raises(ValueError, match="broken"), claimed(folder, OPTION):
        raise ValueError("broken")
    assert not folder.exists()
    assert "NEQUIP_LIKE_CLAIMS" not in os.environ


def test_a_second_run_is_refused(folder: Path, hold) -> None:
    child = hold(folder)
    before = hidden(folder)
    with pytest.raises(OutputError) as caught, claimed(folder, OPTION):
        pass
    host = re.escape(Process.current().host)
    assert re.fullmatch(
        rf"{re.escape(str(folder))} belongs to a run that is going on: process {child.pid} on {host}, "
        r"since \d{4}-\d\d-\d\d \d\d:\d\d:\d\d",
        caught.value.message,
    )
    assert caught.value.advice == (
        f"wait until it has ended, stop it (kill {child.pid} on {Process.current().host}), "
        "or give another folder: output_dir=FOLDER"
    )
    assert hidden(folder) == before
    child.communicate()
    with claimed(folder, OPTION):
        assert hidden(folder) != before


def test_a_part_of_the_run_goes_on(folder: Path) -> None:
    """The same thread, and processes that are started from it, as Lightning starts those of a run."""
    code = HOLD.replace("sys.stdin.read()", "pass")
    with claimed(folder, OPTION):
        with claimed(folder, OPTION):
            pass
        assert len(hidden(folder)) == 1
        done = subprocess.run([sys.executable, "-c", code, str(folder)], capture_output=True, text=True, check=False)
        assert (done.stdout, done.returncode) == ("held\n", 0), done.stderr
        assert len(hidden(folder)) == 1


def test_another_thread_is_another_run(folder: Path) -> None:
    refused = []

    def claim() -> None:
        try:
            with claimed(folder, OPTION):
                pass
        except OutputError as error:
            refused.append(error.message)

    with claimed(folder, OPTION):
        thread = threading.Thread(target=claim)
        thread.start()
        thread.join()
    assert [message.split(":")[0] for message in refused] == [f"{folder} belongs to a run that is going on"]


def test_it_ends_at_that_moment(folder: Path, hold) -> None:
    """A process that was killed a moment ago is not dead yet; one that ends now makes room."""
    child = hold(folder)
    timer = threading.Timer(0.3, child.stdin.close)
    timer.start()
    with claimed(folder, OPTION):
        assert len(hidden(folder)) == 1
    timer.join()
    child.stdin = None


def test_looking_claims_nothing(folder: Path, hold) -> None:
    check_free(folder, "wait")
    assert not folder.exists()
    hold(folder)
    with pytest.raises(OutputError, match="belongs to a run that is going on"):
        check_free(folder, "wait")


# --- what a crash leaves


def test_killed_on_this_machine(folder: Path, hold) -> None:
    child = hold(folder)
    child.kill()
    assert len(hidden(folder)) == 1
    with claimed(folder, OPTION):
        assert len(hidden(folder)) == 1
    assert hidden(folder) == []


def test_silent_on_another_machine(folder: Path) -> None:
    path = leave(folder)
    age(path, claims.SILENCE + 1)
    with claimed(folder, OPTION):
        assert not path.exists()


def test_it_falls_silent(folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    """A sign of life a moment ago: whether there is a next one has to be seen."""
    path = leave(folder)
    monkeypatch.setattr(claims, "SILENCE", 1.0)
    monkeypatch.setattr(claims, "BEAT", 0.1)
    with claimed(folder, OPTION):
        assert not path.exists()
    assert capsys.readouterr().err == (
        f"{folder} was claimed by process 1234 on node7; waiting for a sign of life, 1 s at most\n"
    )


def test_alive_on_another_machine(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = leave(folder)
    age(path, 100)
    monkeypatch.setattr(claims, "BEAT", 0.1)
    end = threading.Event()
    beat = threading.Thread(target=claims._keep_alive, args=(path, end))
    beat.start()
    try:
        with pytest.raises(OutputError, match=r"process 1234 on node7, since "), claimed(folder, OPTION):
            pass
    finally:
        end.set()
        beat.join()
    assert path.exists()


@pytest.mark.parametrize(("job", "restarts", "waits"), [("17", "1", False), ("17", "0", True), ("18", "1", True)])
def test_requeued_by_slurm(job, restarts, waits, folder, monkeypatch) -> None:
    """The same job begins again, wherever that is, only when it has ended."""
    path = leave(folder, job="17", restarts=0)
    monkeypatch.setenv("SLURM_JOB_ID", job)
    monkeypatch.setenv("SLURM_RESTART_COUNT", restarts)
    waited = []
    monkeypatch.setattr(claims, "_wait_for_sign", lambda *_: bool(waited.append(1)))
    with claimed(folder, OPTION):
        assert not path.exists()
    assert bool(waited) is waits


def test_damaged(folder: Path) -> None:
    folder.mkdir()
    path = folder / ".running-x"
    path.write_text("{")
    with pytest.raises(OutputError) as caught, claimed(folder, OPTION):
        pass
    assert (caught.value.message, caught.value.advice) == (
        f"{path} is damaged",
        "delete it, if no run writes into this folder",
    )


DAMAGES = {
    "no mapping": lambda content: [content],
    "no process": lambda content: content | {"process": [1, 2]},
    "a key too many": lambda content: content | {"more": 1},
    "a key too few": lambda content: {key: value for key, value in content.items() if key != "since"},
    "a token that is a list": lambda content: content | {"token": []},
    "restarts that are a word": lambda content: content | {"restarts": "no"},
    **{
        f"a process with {change}": lambda content, change=change: content | {"process": content["process"] | change}
        for change in (
            *({"pid": pid} for pid in ("abc", 1.5, 10**30, 2**31, 0, -1, True, None, [1])),
            *({name: 5} for name in ("host", "machine", "began")),
        )
    },
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_values(damage: str, folder: Path) -> None:
    folder.mkdir()
    path = folder / ".running-x"
    path.write_text(json.dumps(DAMAGES[damage](asdict(Claim.make()))))
    for way in (lambda: claimed(folder, OPTION).__enter__(), lambda: check_free(folder, OPTION)):
        with pytest.raises(OutputError) as caught:
            way()
        assert caught.value.message == f"{path} is damaged"
        assert caught.value.advice == "delete it, if no run writes into this folder"


@pytest.mark.parametrize("rank", ["0", "1"])
@pytest.mark.parametrize(
    ("name", "message", "advice"),
    [
        (300 * "a", "cannot write {folder}: File name too long", "give a shorter name"),
        ("a\0b", "cannot write {folder!r}: a name has no NUL character", "give another name"),
    ],
    ids=["long", "NUL"],
)
def test_a_folder_that_no_disk_can_have(name, message, advice, rank, folder, monkeypatch) -> None:
    folder.mkdir()
    monkeypatch.setenv("RANK", rank)
    with pytest.raises(OutputError) as caught, claimed(folder / name, OPTION):
        pass
    assert caught.value.message == message.format(folder=str(folder / name))
    assert caught.value.advice == advice


def test_signs_of_life(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(claims, "BEAT", 0.05)
    with claimed(folder, OPTION):
        (path,) = folder.iterdir()
        age(path, 100)
        deadline = time.monotonic() + 30
        while time.time() - path.stat().st_mtime > 50:
            assert time.monotonic() < deadline
            time.sleep(0.02)


def test_taken_over(folder: Path) -> None:
    with claimed(folder, OPTION):
        check_still_held(folder)
        (path,) = folder.iterdir()
        path.unlink()
        with pytest.raises(OutputError, match="does not belong to this run any more"):
            check_still_held(folder)
    check_still_held(folder)  # who holds nothing has nothing to lose


# --- further processes of a run


def test_a_further_process_claims_nothing(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK", "1")
    with claimed(folder, OPTION):
        assert not folder.exists()


def test_a_further_process_leaves_a_foreign_folder(folder: Path, hold, monkeypatch: pytest.MonkeyPatch) -> None:
    hold(folder)
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("MASTER_PORT", "4711")
    with pytest.raises(OutputError, match="belongs to a run that is going on"), claimed(folder, OPTION):
        pass


def test_a_further_process_of_the_launch_that_holds_it(folder: Path, hold, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MASTER_PORT", "4711")
    hold(folder)
    monkeypatch.setenv("RANK", "1")
    with claimed(folder, OPTION):
        assert len(hidden(folder)) == 1


# --- races


def race(*arguments: str) -> dict:
    script = Path(__file__).with_name("claim_race.py")
    done = subprocess.run([sys.executable, str(script), *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return {
        key: collections.Counter(value) if isinstance(value, list) else value
        for key, value in json.loads(done.stdout).items()
    }


def test_a_few_pairs_at_the_same_instant() -> None:
    assert race("10") == {"held": {1: 10}, "others": {}, "left": 5, "names": {2: 10}}


@pytest.mark.slow
def test_two_hundred_pairs_at_the_same_instant() -> None:
    """One of each pair holds the folder, also where a killed run left its claim, and names become two folders."""
    assert race("200") == {"held": {1: 200}, "others": {}, "left": 100, "names": {2: 200}}
    assert race("20", "8") == {"held": {1: 20}, "others": {}, "left": 10, "names": {2: 20}}
