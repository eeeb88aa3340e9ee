"""What a training step of a model costs on this machine."""

from __future__ import annotations

import itertools
import statistics
import time
from dataclasses import dataclass

import torch
from omegaconf import DictConfig

from nequip_like.data.datamodule import DataModule
from nequip_like.data.graph import to_device
from nequip_like.metrics.terms import WEIGHTED_SUM
from nequip_like.optim.build import build_optimizer
from nequip_like.workflow.setup import build_module

_MOST_STEPS = 20
_AROUND = 0.002  # seconds of a step that a training spends around it: batches, checks, averages, logs


@dataclass(frozen=True)
class StepTime:
    """Time of a step.

    Attributes:
        seconds: Of a step in a training, median.
        parameters: Number of trained parameters.
    """

    seconds: float
    parameters: int

    def count_steps(self, seconds: float) -> int:
        """How many steps fit into a time."""
        return int(seconds / self.seconds)


def measure_step(config: DictConfig, data: DataModule, limit: float) -> StepTime:
    """Take some steps with a model of a config: forces, loss, gradients, optimizer.

    Args:
        config: The config, whose statistics are those of ``data`` (:func:`~nequip_like.workflow.setup.build_data`).
        data: The data.
        limit: Seconds after which no further step begins.
    """
    module = build_module(config, data, {})
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model = module.model.to(device)
    loss = module.loss
    assert loss is not None  # every config that is composed here has one
    assert module.optimizer_config is not None
    loss.to(device)
    optimizer = build_optimizer(module.optimizer_config, model)
    batches = itertools.cycle(data.train_dataloader())

    def step() -> float:
        batch = to_device(next(batches), device)
        began = time.perf_counter()
        optimizer.zero_grad()
        value = loss.step(model(batch), batch)[WEIGHTED_SUM]
        value.backward()
        optimizer.step()
        float(value.detach())  # waits for a device
        return time.perf_counter() - began

    began = time.perf_counter()
    step()  # compiles
    times = [step()]
    while len(times) < _MOST_STEPS and time.perf_counter() - began < limit:
        times.append(step())
    parameters = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
    return StepTime(statistics.median(times) + _AROUND, parameters)
