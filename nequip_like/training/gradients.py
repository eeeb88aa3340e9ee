"""The gradient of one optimizer step: from several batches, summed over processes, clipped.

Accumulation equals one large batch, whatever labels are missing. The loss of a batch divides by the number of its
labels. Several batches that make one step of the optimizer have to divide by the labels of all of them, on all
processes. Their frames are known beforehand, because the order of frames is a function of seed and epoch; so are their
labels.
"""

from __future__ import annotations

import copy
import math
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, cast

import lightning
import torch
import torch.distributed
from lightning.pytorch.plugins.precision import Precision
from lightning.pytorch.strategies import DDPStrategy
from lightning.pytorch.utilities import GradClipAlgorithmType, rank_zero_warn
from torch import Tensor, nn
from torch.distributed.distributed_c10d import PrefixStore
from torch.distributed.rendezvous import rendezvous
from torch.optim import Optimizer

from nequip_like.arguments import Positive, check, check_known_keys, fits, shown
from nequip_like.data import fields
from nequip_like.data.fields import Graph
from nequip_like.data.loader import ResumableLoader
from nequip_like.data.samplers import FrameBatchSampler
from nequip_like.distributed import gather, is_distributed
from nequip_like.errors import ConfigError, TrainingError
from nequip_like.metrics.manager import MetricsManager
from nequip_like.training.gradient_norm import MeasuredGradients
from nequip_like.training.launcher import PatientLauncher

_KEY = "trainer.accumulate_grad_batches"


def check_can_accumulate(loss: MetricsManager) -> None:
    """Refuse a loss that is no sum of what its batches add to it.

    Raises:
        ConfigError: Naming the term.
    """
    for term in loss.terms:
        if loss.coeffs[term.name] and not term.is_linear:
            raise ConfigError(
                f"{_KEY} is above 1, but training_module.loss has '{term.name}' ({type(term.metric).__name__}), which "
                "is no mean or sum over labels: several batches do not add up to it",
                f"give {_KEY}=1 and a larger data.batch_size, or another loss, such as a mean squared error",
            )


class ExactAccumulation:
    """Counts the labels of all batches of a step of the optimizer, before they are computed.

    Args:
        trainer: A trainer that trains, with its loader.
    """

    def __init__(self, trainer: lightning.Trainer) -> None:
        self._trainer = trainer
        loader: Any = trainer.train_dataloader
        self._has_known_order = isinstance(loader, ResumableLoader) and isinstance(_order(loader), FrameBatchSampler)
        self._warned = False
        self._counting: MetricsManager | None = None
        self._table: Tensor | None = None  # for each frame the counts of its labels
        self._counted = bytearray()  # which frames were looked at
        self._batches: list[list[int]] = []
        self._batches_of = -1  # epoch
        self._window = (-1, -1)  # epoch and first batch
        self._counts = torch.empty(0)

    def count_labels(self, loss: MetricsManager, batch: Graph, batch_idx: int) -> Tensor | None:
        """Counts of labels of all batches, on all processes, that make a step with this one.

        All processes have to call it with each of their batches.

        Args:
            loss: The loss.
            batch: The batch.
            batch_idx: Its number in the epoch.

        Returns:
            What ``MetricsManager.step`` takes as ``counts``; None if a step is of one batch, or if the order of
            frames is not known: then each batch is divided by its own labels, as Lightning does.

        Raises:
            ConfigError: If the loss cannot be accumulated.
            TrainingError: If the loader has other frames than its order tells.
        """
        size = self._trainer.accumulate_grad_batches
        if size == 1:
            return None
        if not self._has_known_order:
            self._warn()
            return None
        order = _order(self._trainer.train_dataloader)
        window = (order.epoch, batch_idx - batch_idx % size)
        if window != self._window:
            check_can_accumulate(loss)
            frames = self._list_frames(order, window[1], size, batch, batch_idx)
            counts = self._sum_label_counts(loss, frames).to(batch[fields.POSITIONS].device)
            self._counts = gather(counts).sum(0) if is_distributed() else counts
            self._window = window
        return self._counts

    def _list_frames(self, order: FrameBatchSampler, first: int, size: int, batch: Graph, batch_idx: int) -> list[int]:
        """Frames of this process, of all batches of the step."""
        if order.epoch != self._batches_of:
            self._batches, self._batches_of = list(order), order.epoch
            loader: Any = self._trainer.train_dataloader
            if loader.force_supervision is not None:
                self._counted = bytearray(len(self._counted))  # other frames have forces in this epoch
        expected = self._batches[batch_idx]  # empty: this process has no frame in this batch
        if expected and batch[fields.FRAME_INDEX].flatten().tolist() != expected:
            raise TrainingError(
                f"batch {batch_idx} has other frames than the order of the training data tells",
                f"give {_KEY}=1, or leave the loader of the data as it is",
            )
        ready = self._trainer.num_training_batches
        stop = first + size if math.isinf(ready) else min(first + size, int(ready))
        return [frame for frames in self._batches[first:stop] for frame in frames]

    def _sum_label_counts(self, loss: MetricsManager, frames: list[int]) -> Tensor:
        """Counts of the labels of some frames together; each frame is looked at once in a run."""
        loader: Any = self._trainer.train_dataloader
        dataset = loader.dataset
        if self._counting is None:
            self._counting = copy.deepcopy(loss).cpu()  # frames are not moved to a GPU for this
            self._counted = bytearray(len(dataset))
        if not frames:
            return torch.zeros_like(self._counting.label_counts(dataset[0]))
        for frame in frames:
            if not self._counted[frame]:
                counts = self._counting.label_counts(loader.get_frame(frame))
                if self._table is None:
                    self._table = counts.new_zeros(len(dataset), len(counts))
                self._table[frame] = counts
                self._counted[frame] = True
        return cast(Tensor, self._table)[frames].sum(0)

    def _warn(self) -> None:
        if not self._warned:
            rank_zero_warn(
                f"{_KEY} is above 1 and the order of the training frames is not known: each batch of a step counts the "
                "same, whatever the number of its labels"
            )
            self._warned = True


def compute_batch_sum(loss: MetricsManager) -> Tensor:
    """Weighted sum of the values of the last batch alone, for logs, shape ()."""
    values = loss.step_values
    if values is None:
        raise ConfigError("there was no batch yet", "call step first")
    coeffs = [loss.coeffs[term.name] or 0.0 for term in loss.terms]
    return torch.stack([coeff * value for coeff, value in zip(coeffs, values, strict=True) if coeff]).sum()


def _order(loader: Any) -> Any:
    return getattr(loader.batch_sampler, "sampler", None)


_CLIP_KEY = "gradient_clip"
_KINDS = ("norm", "value")


@dataclass(frozen=True)
class GradientClip:
    """Limits of the gradient of one optimizer step.

    Values come first: a single component that is far off then does not shrink all others. Afterwards neither limit is
    exceeded.

    Args:
        norm: Largest Euclidean norm of the gradient of all parameters together; a larger one is scaled down.
        value: Largest absolute value of a component; a larger one is cut off.
    """

    norm: float | None = None
    value: float | None = None

    @classmethod
    def of(cls, config: Any) -> GradientClip | None:
        """Read the argument ``gradient_clip`` of a Lightning module.

        Args:
            config: ``{norm: 10.0, value: 100.0}``, either or both; None: no limit.

        Returns:
            None if there is no limit.

        Raises:
            ConfigError: If it is no mapping, or empty, if a key is unknown, or a limit is not above 0.
        """
        if config is None:
            return None
        if isinstance(config, int | float) and fits(config, Positive):
            raise ConfigError(f"{_CLIP_KEY} is {shown(config)}", f"give a mapping: {{norm: {shown(config)}}}")
        check(_CLIP_KEY, config, Mapping[str, Any] | None)
        if not config:
            raise ConfigError(f"{_CLIP_KEY} has no limit", "give {norm: 10.0}, or null")
        check_known_keys(_CLIP_KEY, config, _KINDS)
        for key, limit in config.items():
            check(f"{_CLIP_KEY}.{key}", limit, Positive | None)
        limits = {key: float(limit) for key, limit in config.items() if limit is not None}
        return cls(**limits) if limits else None

    @classmethod
    def choose(
        cls,
        clip: GradientClip | None,
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> GradientClip | None:
        """The limits of a run, whose trainer may have one in Lightning's words.

        Args:
            clip: What :meth:`of` reads.
            gradient_clip_val: The trainer's limit.
            gradient_clip_algorithm: What it is a limit of: ``norm`` or ``value``; None: norm.

        Returns:
            None if there is no limit.

        Raises:
            ConfigError: If both are there.

        Example:
            >>> GradientClip.choose(None, 0.5, "value")
            GradientClip(norm=None, value=0.5)
        """
        if gradient_clip_val is None:
            return clip
        kind = gradient_clip_algorithm or "norm"
        if clip is not None:
            raise ConfigError(
                f"{_CLIP_KEY} and trainer.gradient_clip_val are both given",
                f"write training_module.{_CLIP_KEY}.{kind}={gradient_clip_val:g} in place of trainer.gradient_clip_val",
            )
        return cls(**{kind: float(gradient_clip_val)}) if gradient_clip_val > 0 else None

    def apply(
        self, trainer: lightning.Trainer, optimizer: Optimizer, measured: MeasuredGradients | None = None
    ) -> None:
        """Clip the gradients of all parameters of an optimizer.

        Args:
            trainer: The trainer, whose precision plugin knows where the gradients are.
            optimizer: The optimizer.
            measured: Gradients with a norm that serves again if they are those of the optimizer.
        """
        gradients = [p.grad for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
        if not gradients:
            return  # torch cannot clip nothing by value
        plugin = trainer.precision_plugin
        if self.value is not None:
            plugin.clip_gradients(optimizer, self.value, GradClipAlgorithmType.VALUE)
        if self.norm is None:
            return
        # Lightning's other precisions keep other gradients, or clip in their own way.
        if measured is not None and type(plugin) is Precision and measured.are(gradients):
            measured.scale_down(self.norm)
        else:
            plugin.clip_gradients(optimizer, self.norm, GradClipAlgorithmType.NORM)


class SummedGradientsStrategy(DDPStrategy):
    """Each process keeps the plain module; before an optimizer step the gradients of all processes are summed once.

    The loss of a step is that of the global batch (see :class:`~nequip_like.metrics.manager.MetricsManager`), so
    the sum of the processes' gradients is exactly its gradient, whatever the sizes of their parts. Potentials have few
    parameters, some of which no output depends on; a wrapper that overlaps communication with the backward pass gains
    nothing here and has to be told about these.
    """

    strategy_name = "summed_gradients"

    def _configure_launcher(self) -> None:
        """Called by Lightning."""
        assert self.cluster_environment is not None
        self._launcher = PatientLauncher(self.cluster_environment, self.num_processes, self.num_nodes)

    def setup_distributed(self) -> None:
        """Called by Lightning: let the processes find each other.

        torchrun keeps one store for all of its restarts (torch 2.13), where torch looks for addresses under the same
        names each time: a process that is started again may find that of one that is gone. So each restart has names of
        its own.
        """
        restarts = int(os.environ.get("TORCHELASTIC_RESTART_COUNT", "0"))
        of_torchrun = os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True"
        if restarts and of_torchrun and not torch.distributed.is_initialized():
            assert self._timeout is not None
            self.set_world_ranks()
            store, rank, world_size = next(rendezvous("env://", timeout=self._timeout))
            torch.distributed.init_process_group(
                self._get_process_group_backend(),
                store=PrefixStore(f"restart_{restarts}", store),
                rank=rank,
                world_size=world_size,
                timeout=self._timeout,
                device_id=None if self.root_device.type == "cpu" else self.root_device,
            )
        super().setup_distributed()

    def configure_ddp(self) -> None:
        """Leave the module as it is, but make sure that all processes start from the same weights."""
        if torch.distributed.is_initialized() and self.model is not None:
            for tensor in (*self.model.parameters(), *self.model.buffers()):
                torch.distributed.broadcast(tensor.data, src=0)


def sum_gradients(parameters: Iterable[nn.Parameter]) -> None:
    """Replace each gradient by its sum over all processes; one that no process has stays None.

    Args:
        parameters: The trained parameters, in the same order on each process.
    """
    trained = [parameter for parameter in parameters if parameter.requires_grad]
    for dtype in sorted({parameter.dtype for parameter in trained}, key=str):
        group = [parameter for parameter in trained if parameter.dtype == dtype]
        parts = [torch.zeros_like(p).view(-1) if p.grad is None else p.grad.reshape(-1) for p in group]
        holders = torch.tensor([float(p.grad is not None) for p in group], dtype=dtype, device=group[0].device)
        flat = torch.cat([*parts, holders])
        torch.distributed.all_reduce(flat)
        sizes = [p.numel() for p in group]
        _assign(group, flat[: sum(sizes)].split(sizes), flat[sum(sizes) :].tolist())


def _assign(group: list[nn.Parameter], gradients: tuple[Tensor, ...], holders: list[float]) -> None:
    for parameter, gradient, count in zip(group, gradients, holders, strict=True):
        parameter.grad = gradient.view_as(parameter) if count > 0 else None
