"""Pairs of processes that claim one folder, or name theirs, at the same instant: ``python claim_race.py 200``.

Prints a line of JSON: of each pair how many held the fixed folder, and how many folders two names of one second became.
Half of the fixed folders have a claim that a process left when it was killed.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import tempfile
import time
from pathlib import Path

from nequip_like.errors import OutputError
from nequip_like.workflow.run_folder import claims
from nequip_like.workflow.run_folder.claims import claimed
from nequip_like.workflow.run_folder.new_folders import make_new

HELD, REFUSED = 0, 1
claims.DYING = 0.02  # nobody is killed during a race, and two hundred of them are to be quick


def race(folder: Path, contenders: int) -> list[str]:
    """Statuses of processes that begin at one instant; who holds the folder keeps it until all have tried."""
    start = time.monotonic() + 0.01
    left, right = os.pipe()
    children = []
    for _ in range(contenders):
        child = os.fork()
        if child == 0:
            os.close(right)
            contend(folder, start, left)
        children.append(child)
    os.close(left)
    statuses = []
    deadline = time.monotonic() + 60
    while len(statuses) < contenders - 1 and time.monotonic() < deadline:
        child, status = os.waitpid(-1, os.WNOHANG)
        if child:
            statuses.append(os.waitstatus_to_exitcode(status))
            children.remove(child)
        time.sleep(0.001)
    os.close(right)  # lets the holder go
    statuses += [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
    return [{HELD: "held", REFUSED: "refused"}.get(status, f"status {status}") for status in statuses]


def contend(folder: Path, start: float, wait: int) -> None:
    while time.monotonic() < start:
        pass
    status = 3
    try:
        with claimed(folder / "fixed", "output_dir=FOLDER"):
            os.read(wait, 1)  # until the other end is closed
            status = HELD
    except OutputError as error:
        status = REFUSED if "belongs to a run that is going on" in error.message else 2
    finally:
        os._exit(status)


def name(folder: Path) -> int:
    """How many folders two processes of one instant make of one name."""
    start = time.monotonic() + 0.005
    children = []
    for _ in range(2):
        child = os.fork()
        if child == 0:
            while time.monotonic() < start:
                pass
            make_new(folder / "outputs" / "12-00-00")
            os._exit(0)
        children.append(child)
    for child in children:
        os.waitpid(child, 0)
    return len(list((folder / "outputs").iterdir()))


def leave_claim(folder: Path) -> None:
    """What a killed process leaves."""
    child = os.fork()
    if child == 0:
        with claimed(folder / "fixed", "output_dir=FOLDER"):
            os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(child, 0)


def main(pairs: int, contenders: int) -> None:
    outcome = {"held": [], "others": [], "left": 0, "names": []}
    with tempfile.TemporaryDirectory() as top:
        for i in range(pairs):
            folder = Path(top) / str(i)
            (folder / "fixed").mkdir(parents=True)
            if i % 2:
                leave_claim(folder)
                outcome["left"] += len(list((folder / "fixed").iterdir()))
            statuses = race(folder, contenders)
            outcome["held"].append(statuses.count("held"))
            outcome["others"] += [status for status in statuses if status not in ("held", "refused")]
            outcome["others"] += [path.name for path in (folder / "fixed").iterdir()]
            outcome["names"].append(name(folder))
    print(json.dumps(outcome))


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 2)
