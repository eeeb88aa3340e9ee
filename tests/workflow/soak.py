"""Trains in one folder while the process is killed again and again, at any moment; see test_soak.py.

    python soak.py CONFIG KILLS SEED

This process imports everything, and never trains: each attempt is a fork of it, which is quick to start. After the last
kill the training may go on for twenty steps.
"""

import os
import random
import signal
import sys
import time
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from omegaconf import DictConfig, OmegaConf

from nequip_like.model.checkpoint_format import read_checkpoint
from nequip_like.workflow.train import train


def attempt(config: DictConfig) -> int:
    """Train in a fork; returns its process id."""
    pid = os.fork()
    if pid:
        return pid
    status = 1
    try:
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115 (until the process ends)
        train(config)
        status = 0
    finally:
        os._exit(status)


def ended(pid: int, seconds: float, until: Callable[[], bool] = lambda: False) -> bool:
    """Wait for a process, for so long at most, or until something else is the case."""
    end = time.monotonic() + seconds
    while time.monotonic() < end and not until():
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            if status != 0:
                raise SystemExit(f"an attempt ended with status {status}")
            return True
        time.sleep(0.0005)
    return False


def kill(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)


def _half_written(folder: Path, pid: int) -> bool:
    return any(folder.glob(f".*.{pid}-*.ckpt"))


def main(config: DictConfig, kills: int, seed: int) -> None:
    draw = random.Random(seed)
    folder = Path(config.output_dir) / "checkpoints"
    begun = time.monotonic()
    pid = attempt(config)
    if ended(pid, 300, (folder / "often.ckpt").exists):
        raise SystemExit("the training ended by itself")
    kill(pid)
    # Kills fall before the first step of an attempt as well as after it, however fast the machine is.
    longest = 2.0 * (time.monotonic() - begun) + 0.5
    during_save = 0
    for number in range(1, kills):
        pid = attempt(config)
        half_written = partial(_half_written, folder, pid)
        # Every second one hits a save, if there is one soon.
        if ended(pid, draw.uniform(0.0, longest)) or (number % 2 and ended(pid, 2.0 * longest, half_written)):
            raise SystemExit("the training ended by itself")
        kill(pid)
        during_save += half_written()
    last = max(read_checkpoint(path)["global_step"] for path in folder.glob("[!.]*.ckpt"))
    config.trainer.max_steps = last + 20
    if not ended(attempt(config), 600):
        raise SystemExit("the training does not end")
    print(f"kills {kills} during a save {during_save} steps {last + 20}")


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    main(OmegaConf.load(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
