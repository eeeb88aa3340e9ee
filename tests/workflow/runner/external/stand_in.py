"""Stands in for a trainer of others: ``python stand_in.py CASE`` behaves as the case says."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

REQUEST = json.loads(Path(os.environ["NEQUIP_RUN_REQUEST"]).read_text())
HOME = Path(REQUEST["run_dir"])


def send(message, **content):
    print(f"::nequip-run:: {json.dumps({'message': message, **content})}", flush=True)


def start(**content):
    send("start", **{"protocol": 1, "trainer": "stand-in", "version": "7", **content})


def leave_child():
    """A process that ignores what can be ignored, and keeps the other end of the pipe open."""
    code = "import signal, time; [signal.signal(s, signal.SIG_IGN) for s in (2, 10, 15)]; time.sleep(120)"
    child = subprocess.Popen([sys.executable, "-c", code])
    Path(HOME, "child").write_text(str(child.pid))


def train():
    start()
    first = int(Path(REQUEST["go_on_from"]).read_text()) if REQUEST["go_on_from"] else 0
    for epoch in range(first, REQUEST["train"]["epochs"]):
        print(f"\r{epoch} of what a bar prints", end="", flush=True)
        print("\n", end="")
        send("progress", done=epoch + 1, of=REQUEST["train"]["epochs"], unit="epochs")
        send("metrics", values={"val0_epoch/forces_mae": 1.0 / (epoch + 1), "val0_epoch/stress_mae": None}, epoch=epoch)
        Path(HOME, "last.txt").write_text(str(epoch + 1))
        send("artifacts", files={"checkpoint": "last.txt"})
    print("a word on the error stream", file=sys.stderr)
    Path(HOME, "model.bin").write_bytes(b"weights")
    send("artifacts", files={"model": "model.bin"})
    send("end", status="done")


def hang():
    start()
    Path(HOME, "last.txt").write_text("1")
    send("artifacts", files={"checkpoint": "last.txt"})
    leave_child()
    Path(HOME, "hangs").touch()
    time.sleep(120)


def echo():
    start()
    names = ("COLOUR", "NUMBER", "SWITCH", "EMPTY", "PYTHONPATH", "PYTHONUNBUFFERED", "NEQUIP_RUN_OLD")
    told = {
        "environment": {name: os.environ.get(name) for name in names},
        "arguments": sys.argv[2:],
        "cwd": os.getcwd(),
    }
    Path(HOME, "told.json").write_text(json.dumps({**told, "request": REQUEST}))
    send("end", status="done")


def print_much():
    start()
    for _ in range(300):
        sys.stdout.write("x" * 100_000)  # 30 MB on one line
    sys.stdout.write("\n" + "\x1b[2J\0\xff garbage \r" * 1000 + "\n")
    sys.stdout.buffer.write(bytes(range(256)) * 100 + b"\n")
    sys.stdout.flush()
    send("end", status="done")


CASES = {
    "train": train,
    "hang": hang,
    "echo": echo,
    "much": print_much,
    "crash": lambda: (start(), print("before", file=sys.stderr), 1 / 0),
    "import": lambda: __import__("no_such_package.inner"),
    "memory": lambda: (_ for _ in ()).throw(MemoryError()),
    "killed": lambda: (start(), os.kill(os.getpid(), 9)),
    "failed": lambda: (
        start(),
        send("end", status="failed", reason="no\x1b[31m atoms", advice="give some"),
        sys.exit(1),
    ),
    "silent": lambda: None,
    "endless": lambda: (start(), time.sleep(120)),
    "chatty": lambda: (start(), [(print("still here"), time.sleep(0.2)) for _ in range(600)]),
    "no end": lambda: start(),
    "no start": lambda: send("progress", done=1),
    "two starts": lambda: (start(), start()),
    "behind end": lambda: (start(), send("end", status="done"), send("progress", done=1)),
    "other protocol": lambda: start(protocol=2),
    "stopped": lambda: (start(), send("end", status="stopped")),
    "done but fails": lambda: (start(), send("end", status="done"), sys.exit(3)),
    "outside": lambda: (start(), send("artifacts", files={"model": "../outside"}), send("end", status="done")),
    "absolute": lambda: (start(), send("artifacts", files={"model": "/etc/passwd"}), send("end", status="done")),
    "absent": lambda: (start(), send("artifacts", files={"model": "nothing"}), send("end", status="done")),
    "a link": lambda: (
        start(),
        Path(HOME, "link").symlink_to("/etc/passwd"),
        send("artifacts", files={"model": "link"}),
        send("end", status="done"),
    ),
    "middle": lambda: (start(), print("step 3 ", end=""), send("progress", done=1), send("end", status="done")),
    "child": lambda: (start(), leave_child(), send("end", status="done")),
}

if __name__ == "__main__":
    CASES[sys.argv[1]]()
