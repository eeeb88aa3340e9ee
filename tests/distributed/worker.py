"""Runs all cases in one process, then in two, then in three, which are forks of one that has imported everything.

    python -m tests.distributed.worker DATA FOLDER [CASE ...]

Each process trains case after case in the same process group and leaves ``FOLDER/WORLD/CASE/RANK.pt``: the gradients of
each step, the frames of each batch, and what the process decided.
"""

from __future__ import annotations

import os
import shutil
import socket
import sys
import time
import traceback
from pathlib import Path
from typing import Any

import lightning
import torch
from lightning.pytorch.utilities import rank_zero_only
from omegaconf import OmegaConf, open_dict

from nequip_like import compose
from nequip_like.training.callbacks import ResumableEarlyStopping
from nequip_like.workflow.train import train
from tests.distributed.cases import CASES, list_overrides

WORLDS = (1, 2, 3)
LIMIT = 900  # seconds for all processes of one number of them: a hang must fail


class Watch(lightning.Callback):
    """Keeps the gradients of each step, summed over processes, the frames of each batch, and what was decided."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.steps: list[dict[str, torch.Tensor]] = []
        self.frames: list[list[int]] = []

    def on_train_batch_start(self, trainer: lightning.Trainer, module: Any, batch: Any, batch_idx: int) -> None:
        frames = batch["frame_index"].flatten()
        self.frames.append(frames[frames >= 0].tolist())

    def on_train_batch_end(self, trainer: lightning.Trainer, module: Any, *_: Any) -> None:
        # After the step: gradients stay until the next batch.
        gradients = {n: p.grad.clone() for n, p in module.model.named_parameters() if p.grad is not None}
        if trainer.global_step > len(self.steps):
            self.steps.append(gradients)

    def on_train_end(self, trainer: lightning.Trainer, module: Any) -> None:
        best = [callback for callback in trainer.checkpoint_callbacks if getattr(callback, "monitor", None)]
        stopping = [callback for callback in trainer.callbacks if isinstance(callback, ResumableEarlyStopping)]
        decided = {
            "epochs": trainer.current_epoch,
            "steps": trainer.global_step,
            "best": [(Path(path).name, float(score)) for path, score in best[0].best_k_models.items()],
            "waited": [(callback.wait_count, float(callback.best_score)) for callback in stopping],
            "rates": [group["lr"] for group in trainer.optimizers[0].param_groups],
            "weights": {name: value.clone() for name, value in module.model.state_dict().items()},
            "coefficients": {name: float(value or 0.0) for name, value in module.loss.coeffs.items()},
        }
        scores = getattr(getattr(trainer.train_dataloader, "frame_order", None), "scores", None)
        decided["scores"] = [] if scores is None else scores.tolist()
        torch.save({"gradients": self.steps, "frames": self.frames, "decided": decided}, self.path)


class Freeze(lightning.Callback):
    """Trains the readout only: the other parameters have no gradient on any process."""

    def on_fit_start(self, trainer: lightning.Trainer, module: Any) -> None:
        names = [name for name, _ in module.model.named_parameters()]
        kept = [name for name in names if "readout" in name or "output" in name] or names[-2:]
        for name, parameter in module.model.named_parameters():
            parameter.requires_grad = name in kept


def run(case: str, world: int, rank: int, data: Path, folder: Path, name: str = "", *changes: str) -> None:
    place = folder / str(world) / (name or case)
    place.mkdir(parents=True, exist_ok=True)
    overrides = ["data.train=data.xyz", f"+data.path={data}", *list_overrides(case, world), *changes]
    config = compose("train", overrides)
    with open_dict(config):
        config.output_dir = str(place / "run")
        config.callbacks.watch = OmegaConf.create(
            {"_target_": "tests.distributed.worker.Watch", "path": str(place / f"{rank}.pt")}
        )
    train(config)


def work(world: int, rank: int, port: int, data: Path, folder: Path) -> None:
    torch.set_num_threads(1)
    if world > 1:
        # As torchrun starts processes, so that one process group serves all cases.
        names = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": world, "LOCAL_WORLD_SIZE": world, "GROUP_RANK": 0}
        os.environ.update({name: str(value) for name, value in names.items()})
        os.environ.update(TORCHELASTIC_RUN_ID="cases", MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    rank_zero_only.rank = rank  # Lightning reads it while it is imported, which was before
    for case in sys.argv[3:] or CASES:
        print(f"{world} processes, rank {rank}: {case}", flush=True)
        run(case, world, rank, data, folder)
    if len(sys.argv) == 3:
        stop_and_go_on(world, rank, data, folder)
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


def stop_and_go_on(world: int, rank: int, data: Path, folder: Path) -> None:
    """Go on with the run that one process fewer stopped within its second epoch; stop one for the next number."""
    first = next(iter(CASES))
    if world > WORLDS[0]:
        run(first, world, rank, data, folder, "resumed", "resume=auto")
    if world < WORLDS[-1]:
        run(first, world, rank, data, folder, "stopped", "trainer.max_steps=4", "run=[train]")


def fork(world: int, rank: int, port: int, data: Path, folder: Path) -> int:
    pid = os.fork()
    if pid:
        return pid
    status = 1
    try:
        work(world, rank, port, data, folder)
        status = 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        os._exit(status)


def main() -> None:
    data, folder = Path(sys.argv[1]), Path(sys.argv[2])
    for world in WORLDS:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        stopped = folder / str(world - 1) / "stopped" / "run"
        if stopped.is_dir():
            shutil.copytree(stopped, folder / str(world) / "resumed" / "run", dirs_exist_ok=True)
        running = {fork(world, rank, port, data, folder) for rank in range(world)}
        end, failed = time.monotonic() + LIMIT, False
        while running and not failed and time.monotonic() < end:
            pid, status = os.waitpid(-1, os.WNOHANG)
            running.discard(pid)
            failed = failed or bool(pid and status)
            time.sleep(0.02)
        for pid in running:
            os.kill(pid, 9)
            os.waitpid(pid, 0)
        if failed or running:
            raise SystemExit(f"{world} processes: {'one failed' if failed else 'they hung'}")


if __name__ == "__main__":
    main()
