"""Trains in one folder while the process is killed again and again, at any moment; see test_soak.py.

    python soak.py CONFIG KILLS SEED LONGEST

This process imports everything, and never trains: each attempt is a fork of it, which is quick to start.
"""

import os
import random
import signal
import sys
import time
import warnings
from pathlib import Path

import torch
from omegaconf import OmegaConf

from nequip_like.workflow.train import train


def attempt(config_file: str) -> int:
    """Train in a fork; returns its process id."""
    pid = os.fork()
    if pid:
        return pid
    status = 1
    try:
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115 (until the process ends)
        train(OmegaConf.load(config_file))
        status = 0
    finally:
        os._exit(status)


def finished(pid: int, seconds: float) -> bool:
    """Wait for a process, for so long at most."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            if status != 0:
                raise SystemExit(f"an attempt ended with status {status}")
            return True
        time.sleep(0.0005)
    return False


def main(config_file: str, kills: int, seed: int, longest: float) -> None:
    draw = random.Random(seed)
    done = during_save = 0
    folder = Path(OmegaConf.load(config_file).output_dir) / "checkpoints"
    while done < kills:
        pid = attempt(config_file)
        if finished(pid, draw.uniform(0.0, longest)):
            raise SystemExit(f"the training ended after {done} kills: make it longer")
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        done += 1
        during_save += any(folder.glob(".*.ckpt")) if folder.is_dir() else 0
    if not finished(attempt(config_file), 600):
        raise SystemExit("the training does not end")
    print(f"kills {done} during a save {during_save}")


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4]))
