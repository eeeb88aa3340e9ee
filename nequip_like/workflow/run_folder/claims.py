"""A folder belongs to one command at a time: who writes into it leaves a file that says so until its end.

The file, ``.running-HOST-PID-NUMBER``, is written first, and only then its writer looks for those of others. So of two
that begin at the same instant at least one sees the other, on any file system that shows what was written, also from
several machines. Both then step back, wait for a random time, and try again.

A file that was left by a crash is recognised: on the same machine by the process, which is gone; from another machine
by its age, for a living process touches its file again and again; and by SLURM, which starts a job again only after
its end.
"""

from __future__ import annotations

import json
import os
import random
import re
import secrets
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import asdict, dataclass
from pathlib import Path

from nequip_like.errors import OutputError
from nequip_like.process_settings import rank
from nequip_like.whole_files import check_writable, output_errors, written_whole
from nequip_like.workflow.run_folder import processes
from nequip_like.workflow.run_folder.processes import Process

BEAT = 15.0  # seconds between signs of life
SILENCE = 180.0  # seconds without one after which a process of another machine is taken for dead
DYING = 1.0  # seconds that a process which was just killed may take to end
_PREFIX = ".running-"
_VARIABLE = "NEQUIP_LIKE_CLAIMS"  # the claims that processes started from this one are part of
_LONGEST_STEP_BACK = 0.2  # seconds
_CHANCE = random.SystemRandom()  # not of a seed: two runs with one seed would step back alike
# The claims that this thread works under: two threads of a process are two runs.
_HELD: ContextVar[tuple[str, ...]] = ContextVar("held", default=())


@dataclass(frozen=True)
class Claim:
    """A claim on a folder, as the file says it.

    Attributes:
        token: A name for this claim that no other has.
        process: Who holds it.
        since: When it was made, for people.
        launch: What the processes of the run have in common.
        job: The SLURM job, empty outside of SLURM.
        restarts: How often SLURM has started the job again.
    """

    token: str
    process: Process
    since: str
    launch: str
    job: str
    restarts: int

    @classmethod
    def make(cls) -> Claim:
        """Make a claim of this process, now."""
        process, environment = Process.current(), os.environ
        host = re.sub(r"[^\w-]", "_", process.host)
        restarts = environment.get("SLURM_RESTART_COUNT", "")
        return cls(
            token=f"{host}-{process.pid}-{secrets.token_hex(4)}",
            process=process,
            since=time.strftime("%Y-%m-%d %H:%M:%S"),
            launch=processes.launch(),
            job=environment.get("SLURM_JOB_ID", ""),
            restarts=int(restarts) if restarts.isdigit() else 0,
        )

    @classmethod
    def read(cls, path: Path) -> Claim | None:
        """Read the claim of a file; None if it is gone.

        Raises:
            OutputError: If it is there and cannot be read.
        """
        try:
            content = json.loads(path.read_text())
            claim = cls(**(content | {"process": Process(**content["process"])}))
            claim._check_types()
        except FileNotFoundError:
            return None
        except (ValueError, TypeError, KeyError, RecursionError):
            raise OutputError(f"{path} is damaged", "delete it, if no run writes into this folder") from None
        return claim

    def _check_types(self) -> None:
        """Raise a TypeError if a value is not of its kind: a file may hold anything, and a dataclass takes it."""
        self.process.check_types()
        texts = (self.token, self.since, self.launch, self.job)
        if not all(isinstance(text, str) for text in texts) or type(self.restarts) is not int:
            raise TypeError(f"no claim: {self}")

    @property
    def is_ours(self) -> bool:
        """Whether this process is part of the run that holds it."""
        if self.process == Process.current():
            return self.token in _HELD.get()
        return self.token in os.environ.get(_VARIABLE, "").split()

    def refusal(self, folder: Path, way_out: str) -> OutputError:
        """The error for another command that asks for the folder."""
        process = self.process
        return OutputError(
            f"{folder} belongs to a run that is going on: process {process.pid} on {process.host}, since {self.since}",
            f"wait until it has ended, stop it (kill {process.pid} on {process.host}), or {way_out}",
        )


@contextmanager
def claimed(folder: Path, option: str) -> Iterator[None]:
    """Hold a folder; a part of the run that holds it already, and the further processes of a run, just go on.

    Args:
        folder: The folder; made if it is not there, and taken away at the end if nothing was written.
        option: How the user names another folder, for the message.

    Raises:
        OutputError: If another run holds it, or if it cannot be written.
    """
    way_out = f"give another folder: {option}"
    check_writable(folder.absolute(), way_out)
    with output_errors(folder):
        is_new_folder = not folder.exists()
        if rank() > 0:
            _check_followed(folder, way_out)
            claim = None
        else:
            claim = _take(folder, way_out)
    if claim is None:
        yield
        return
    path = _locate_file(folder, claim)
    end = threading.Event()
    beat = threading.Thread(target=_keep_alive, args=(path, end), name="claim", daemon=True)
    beat.start()
    earlier_tokens = os.environ.get(_VARIABLE)
    os.environ[_VARIABLE] = f"{earlier_tokens or ''} {claim.token}".strip()
    context_token = _HELD.set((*_HELD.get(), claim.token))
    try:
        yield
    finally:
        _HELD.reset(context_token)
        if earlier_tokens is None:
            del os.environ[_VARIABLE]
        else:
            os.environ[_VARIABLE] = earlier_tokens
        end.set()
        beat.join()
        path.unlink(missing_ok=True)
        if is_new_folder:
            with suppress(OSError):  # something was written
                folder.rmdir()


def check_free(folder: Path, way_out: str) -> None:
    """Refuse a folder that a run which goes on holds, without claiming it; one that is not there is free.

    Args:
        folder: The folder.
        way_out: What else the user can do, for the message.

    Raises:
        OutputError: Naming the run.
    """
    with output_errors(folder):
        for path, claim in _read_claims(folder):
            if not claim.is_ours and _is_live(folder, path, claim):
                raise claim.refusal(folder, way_out)


def check_still_held(folder: Path) -> None:
    """Make sure that nobody took the folder over meanwhile.

    Raises:
        OutputError: If this process holds claims, but none on this folder any more.
    """
    tokens = _HELD.get()
    if tokens and not any((folder / f"{_PREFIX}{token}").exists() for token in tokens):
        raise OutputError(
            f"{folder} does not belong to this run any more: its file {_PREFIX}* is gone",
            f"it was deleted, or another run took this process for dead after {SILENCE:.0f} s without a sign of life",
        )


def _take(folder: Path, way_out: str) -> Claim | None:
    """Claim a folder; None if this process is part of the run that holds it."""
    folder.mkdir(parents=True, exist_ok=True)
    while True:
        stale = []
        for path, claim in _read_claims(folder):
            if claim.is_ours:
                return None
            if _is_live(folder, path, claim):
                raise claim.refusal(folder, way_out)
            stale.append(path)
        for path in stale:
            path.unlink(missing_ok=True)
        mine = Claim.make()
        path = _locate_file(folder, mine)
        with written_whole(path) as partial:
            partial.write_text(json.dumps(asdict(mine)) + "\n")
        if all(claim_path == path for claim_path, _ in _read_claims(folder)):
            return mine
        path.unlink()
        time.sleep(_CHANCE.uniform(0, _LONGEST_STEP_BACK))


def _locate_file(folder: Path, claim: Claim) -> Path:
    return folder / f"{_PREFIX}{claim.token}"


def _read_claims(folder: Path) -> list[tuple[Path, Claim]]:
    """Read all claims on a folder."""
    claims = ((path, Claim.read(path)) for path in sorted(folder.glob(f"{_PREFIX}*")))
    return [(path, claim) for path, claim in claims if claim is not None]


def _check_followed(folder: Path, way_out: str) -> None:
    """A further process of a run leaves if another run holds the folder: the first process is refused, too."""
    for _, claim in _read_claims(folder):
        if claim.process.is_alive() and not claim.is_ours and claim.launch != processes.launch():
            raise claim.refusal(folder, way_out)


def _is_live(folder: Path, path: Path, claim: Claim) -> bool:
    """Whether the holder of a claim still lives; for one of another machine it may take a while to see."""
    end = time.monotonic() + DYING
    while (lives := claim.process.is_alive()) and path.exists() and time.monotonic() < end:
        time.sleep(DYING / 50)
    if lives is not None:
        return lives and path.exists()
    mine = Claim.make()
    if claim.job and claim.job == mine.job and claim.restarts < mine.restarts:
        return False  # SLURM starts a job again when it has ended
    return _wait_for_sign(folder, path, claim)


def _wait_for_sign(folder: Path, path: Path, claim: Claim) -> bool:
    """Wait for the next sign of life, or until it is due for too long."""
    first = _read_touch_time(path)
    is_announced = False
    while (latest := _read_touch_time(path)) is not None and latest == first:
        if _read_clock(folder) - latest > SILENCE:
            return False
        if not is_announced:
            is_announced = True
            print(
                f"{folder} was claimed by process {claim.process.pid} on {claim.process.host}; "
                f"waiting for a sign of life, {SILENCE:.0f} s at most",
                file=sys.stderr,
                flush=True,
            )
        time.sleep(min(1.0, BEAT / 2))
    return latest is not None


def _read_touch_time(path: Path) -> float | None:
    """Read when a file was touched; it is opened first, since network file systems answer from memory otherwise."""
    try:
        with path.open() as file:
            return os.fstat(file.fileno()).st_mtime
    except FileNotFoundError:
        return None


def _read_clock(folder: Path) -> float:
    """Read the time of the file system, whose clock may differ from ours."""
    probe = folder / f".clock-{secrets.token_hex(4)}"
    try:
        probe.touch()
    except PermissionError:
        return time.time()  # a folder that is only read
    try:
        return probe.stat().st_mtime
    finally:
        probe.unlink(missing_ok=True)


def _keep_alive(path: Path, end: threading.Event) -> None:
    """Touch a file again and again until the end: signs of life of this process."""
    while not end.wait(BEAT):
        try:
            os.utime(path)
        except FileNotFoundError:
            return  # the run notices it by check_still_held
        except OSError:
            continue  # a file system that does not answer now may do so next time
