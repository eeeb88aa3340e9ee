"""Two processes have one plan: that of the first one's clock."""

from __future__ import annotations

import json
import socket
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import torch.distributed as dist

from nequip_like.training.budget.keeper import BudgetKeeper
from nequip_like.training.budget.planner import BudgetPlanner
from tests.processes import run_side_by_side


class Strategy:
    """What a trainer's strategy tells between processes."""

    def reduce_boolean_decision(self, decision: bool, all: bool) -> bool:
        votes = torch.tensor(int(decision))
        dist.all_reduce(votes)
        return bool(votes > 0)

    def broadcast(self, value: object) -> object:
        values = [value]
        dist.broadcast_object_list(values)
        return values[0]


def keep(rank: int, folder: str) -> None:
    """Steps of 0.1 s on the first process; the second one's clock says something else."""
    dist.init_process_group("gloo", init_method=Path(folder, "meet").read_text(), rank=rank, world_size=2)
    now = {0: 0.1, 1: 7.0}[rank]
    clock = {"time": 0.0}
    keeper = BudgetKeeper(30.0, lambda: clock["time"], folder=folder)
    keeper._planner = BudgetPlanner(30.0, keeper.progress, cycle=10)
    trainer = SimpleNamespace(
        world_size=2, is_global_zero=rank == 0, strategy=Strategy(), global_step=0, lr_scheduler_configs=[],
        fit_loop=SimpleNamespace(min_epochs=None), should_stop=False, num_training_batches=float("inf"),
        max_steps=-1, max_epochs=-1, accumulate_grad_batches=1, callbacks=[keeper],
    )  # fmt: skip
    while not trainer.should_stop and trainer.global_step < 1000:
        trainer.global_step += 1
        clock["time"] += now
        keeper.on_train_batch_end(trainer)
    Path(folder, f"{rank}.json").write_text(json.dumps([trainer.global_step, keeper.progress.to_lists()]))
    dist.destroy_process_group()


@pytest.mark.slow
def test_two_processes_have_one_plan(tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        (tmp_path / "meet").write_text(f"tcp://127.0.0.1:{free.getsockname()[1]}")
    run_side_by_side(keep, str(tmp_path))
    first, second = (json.loads((tmp_path / f"{rank}.json").read_text()) for rank in range(2))
    assert first == second
    steps, records = first
    assert 150 < steps < 300  # 30 s less what the export takes, at most five times as long as on a quiet machine
    assert len(records) > 3
