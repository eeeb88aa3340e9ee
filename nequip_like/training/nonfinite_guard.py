"""Numbers that are not finite: the run stops, or the step is left out, and the frames are named.

A step is judged once, after its gradients are summed over processes and before they are clipped: by the loss of each
batch that went into it, and its gradients. That is one reduction and one synchronisation with the device. What exactly
is wrong is looked for only then. Weights that are not finite make the next loss so; they are looked at then, and before
they are evaluated or saved.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal

import torch
from lightning.pytorch.utilities import rank_zero_warn
from torch import Tensor, nn

from nequip_like.arguments import Count, check
from nequip_like.data import fields
from nequip_like.data.fields import Graph
from nequip_like.data.graph import batch_index
from nequip_like.data.loader import NO_FRAME
from nequip_like.distributed import gather_states
from nequip_like.errors import TrainingError
from nequip_like.metrics.manager import MetricsManager
from nequip_like.metrics.terms import WEIGHTED_SUM
from nequip_like.training.gradient_norm import MeasuredGradients

Policy = Literal["stop", "skip"]
MAX_NAMED = 4
_CAUSES = (
    "likely: too high a learning rate (the optimizer's lr), a wrong label, or atoms almost on top of each other in one "
    "of these frames"
)
_SKIP = "; on_non_finite=skip leaves such steps out"

NamedParameters = Sequence[tuple[str, nn.Parameter]]
Origin = Callable[[int], str]
Recover = Callable[..., bool]  # of what is wrong, and of a validation the frames whose predictions are not finite


def keep_as_it_is(problem: str, frames: Sequence[int] = ()) -> bool:
    """Mend nothing: the run stops."""
    return False


def finite_frames(prediction: Graph, batch: Graph) -> Tensor:
    """Which frames have finite energies and forces, shape (frames,), bool; without synchronisation.

    Stress is left out: without a cell there is none, and it is NaN.

    Example:
        The second frame has a force that is NaN; that a molecule has no stress is no fault:

        >>> batch = {"num_atoms": torch.tensor([1, 2]), "batch": torch.tensor([0, 1, 1])}
        >>> forces = torch.zeros(3, 3)
        >>> forces[2, 0] = torch.nan
        >>> finite_frames({"forces": forces, "stress": torch.full((2, 3, 3), torch.nan)}, batch).tolist()
        [True, False]
    """
    sound = torch.ones(len(batch[fields.NUM_ATOMS]), dtype=torch.bool, device=batch[fields.NUM_ATOMS].device)
    if fields.TOTAL_ENERGY in prediction:
        sound = sound & torch.isfinite(prediction[fields.TOTAL_ENERGY].detach()).flatten(1).all(1)
    if fields.FORCES in prediction:
        broken_atoms = ~torch.isfinite(prediction[fields.FORCES].detach()).all(1)
        sound = sound & (
            torch.zeros_like(sound, dtype=torch.int64).index_add(0, batch_index(batch), broken_atoms.long()) == 0
        )
    return sound


def _get_sound(sound: Tensor) -> Tensor:
    return sound


@dataclass(frozen=True)
class SeenBatch:
    """What is kept of a batch until it is judged.

    Attributes:
        frames: ``frame_index`` of its frames, shape (frames,); None if the graph has none.
        sound: Tells which of them have finite predictions, shape (frames,).
        values: Values of the loss terms, without their graph; empty in an evaluation.
        has_value: Which terms had a label, shape (terms,).
    """

    frames: Tensor | None
    sound: Callable[[], Tensor]
    values: dict[str, Tensor]
    has_value: Tensor | None = None

    @classmethod
    def of_training(cls, batch: Graph, prediction: Graph, values: dict[str, Tensor], loss: MetricsManager) -> SeenBatch:
        """Of a batch whose step comes soon: the predictions are kept, and looked at only if something is wrong.

        The values are those of the loss, without a graph.
        """
        predicted = {
            name: prediction[name].detach() for name in (fields.TOTAL_ENERGY, fields.FORCES) if name in prediction
        }
        # Not its edges: a step may be of many batches.
        atoms = {name: batch[name] for name in (fields.NUM_ATOMS, fields.BATCH, fields.POSITIONS) if name in batch}
        return cls(batch.get(fields.FRAME_INDEX), partial(finite_frames, predicted, atoms), values, loss.in_step)

    @classmethod
    def of_evaluation(cls, batch: Graph, prediction: Graph) -> SeenBatch:
        """Of one batch of many: only which frames are finite is kept."""
        sound = finite_frames(prediction, batch)
        # No lambda: a module that has evaluated can be pickled, to go to another process.
        return cls(batch.get(fields.FRAME_INDEX), partial(_get_sound, sound), {})

    def list_indices(self, only_bad: bool) -> list[int]:
        """Indices of all frames, or of those whose predictions are not finite."""
        if self.frames is None:
            return []
        frames = self.frames.flatten()
        indices: list[int] = (frames[~self.sound()] if only_bad else frames).tolist()
        return [index for index in indices if index != NO_FRAME]


class FiniteGuard:
    """Watches over the steps of one run.

    Args:
        policy: ``stop`` or ``skip``.
        max_skipped_steps: After more steps than this were left out, the run stops anyway.

    Attributes:
        skipped_steps: Steps that were left out so far; a checkpoint keeps it.
        left_out: Whether the last step that was judged is left out.
        loss: Of the last step that was judged, all its batches together.
        measured: The gradients that were judged last, with their norm, for who clips them; None before.

    Raises:
        ConfigError: If a value is out of range.
    """

    def __init__(self, policy: Policy = "stop", max_skipped_steps: Count = 100) -> None:
        check("on_non_finite", policy, Policy)
        check("max_skipped_steps", max_skipped_steps, Count)
        self.policy = policy
        self.max_skipped_steps = max_skipped_steps
        self.skipped_steps = 0
        self.left_out = False
        self.loss = 0.0
        self.measured: MeasuredGradients | None = None
        self._taken_in_epoch = 0
        self.batches: list[SeenBatch] = []
        self._last_batches: list[SeenBatch] = []

    # --- steps

    def begin(self) -> None:
        """Forget batches of a step that was never taken."""
        self.batches, self._last_batches, self.left_out = [], [], False
        self._taken_in_epoch = 1  # of an epoch that is resumed, steps were taken before

    def begin_epoch(self) -> None:
        """Count the steps of an epoch from here."""
        self._taken_in_epoch = 0

    def end_epoch(self, moment: str) -> None:
        """Look back at the steps of an epoch.

        Raises:
            TrainingError: If all of them were left out: the run would go on for ever without training.
        """
        if self.left_out and self._taken_in_epoch == 0:
            raise TrainingError(
                f"{moment}: all steps of the epoch were left out, for losses or gradients were not finite", _CAUSES
            )

    def see(self, batch: Graph, prediction: Graph, values: dict[str, Tensor], loss: MetricsManager) -> None:
        """Keep a batch until its step is judged; several may add up to one step.

        Args:
            batch: The batch.
            prediction: What is predicted for it.
            values: Values of the loss, without a graph.
            loss: The loss, right after its step.
        """
        self.batches.append(SeenBatch.of_training(batch, prediction, values, loss))

    def judge(
        self,
        parameters: NamedParameters,
        loss: MetricsManager,
        origin: Origin,
        describe_moment: Callable[[], str],
        check_gradients: bool = True,
        recover: Recover = keep_as_it_is,
    ) -> bool:
        """Whether the step that comes next may be taken. All processes judge alike.

        Args:
            parameters: The trained parameters, with gradients that are summed over processes.
            loss: The loss.
            origin: File and frame of a ``frame_index``.
            describe_moment: Tells epoch and step, for messages.
            check_gradients: Not if a scaler of gradients looks after them, to which infinite ones are normal.
            recover: Asked before the run is stopped, with what is wrong: whether earlier weights are taken instead.

        Raises:
            TrainingError: If something is not finite and the policy is to stop, if too many steps were left out, or
                if the weights are not finite: these cannot be left out.
        """
        batches, self.batches = self.batches, []
        last_batches, self._last_batches = self._last_batches, batches
        gradients = [p.grad for _, p in parameters if p.grad is not None] if check_gradients else []
        self.measured = MeasuredGradients(gradients)
        losses = [float(batch.values[WEIGHTED_SUM]) for batch in batches]
        self.loss = sum(losses)
        self.left_out = not (all(map(math.isfinite, losses)) and self.measured.is_finite())
        if not self.left_out:
            self._taken_in_epoch += 1
            return True
        moment = describe_moment()
        # The weights come first: if they are not finite, nothing else can be, and the batch before is to blame.
        stops = self.policy == "stop"
        if weights := _list_not_finite([(name, parameter) for name, parameter in parameters]):
            stops, error = True, _make_weights_error(weights, last_batches, origin, moment)
        else:
            problem, suspects = _describe_step(batches, parameters, loss)
            message = f"{moment}: {problem}; {_describe_frames(suspects, origin)}"
            error = TrainingError(message, _CAUSES + _SKIP)
        if stops:
            if not recover(error.message):
                raise error
            self._taken_in_epoch += 1  # the run goes on from the earlier weights
            return False
        self.skipped_steps += 1
        if self.skipped_steps > self.max_skipped_steps:
            raise TrainingError(
                f"{error.message}; {self.skipped_steps} steps were left out, more than max_skipped_steps",
                _CAUSES,
            )
        rank_zero_warn(f"{error.message}; the step is left out ({self.skipped_steps} so far)")
        return False

    def check_weights(
        self, parameters: NamedParameters, origin: Origin, moment: str, recover: Recover = keep_as_it_is
    ) -> None:
        """Check the weights before they are evaluated or saved.

        Args:
            parameters: The trained parameters.
            origin: As for :meth:`judge`.
            moment: Epoch and step, for messages.
            recover: As for :meth:`judge`.

        Raises:
            TrainingError: If some are not finite; nothing should be written then.
        """
        if not MeasuredGradients([parameter.detach() for _, parameter in parameters]).is_finite():
            error = _make_weights_error(_list_not_finite(parameters), self._last_batches, origin, moment)
            if not recover(error.message):
                raise error

    # --- validation and test

    def judge_evaluation(
        self,
        batches: Sequence[SeenBatch],
        manager: MetricsManager,
        values: dict[str, Tensor],
        origin: Origin,
        moment: str,
        recover: Recover = keep_as_it_is,
    ) -> None:
        """Look at the values of a whole data set.

        Args:
            batches: Its batches on this process.
            manager: Its metrics.
            values: What they computed, over all processes.
            origin: File and frame of a ``frame_index``.
            moment: Stage and data set, for messages.
            recover: As for :meth:`judge`; it gets the frames, too.

        Raises:
            TrainingError: If a prediction or a value is not finite and the policy is to stop.
        """
        frames = _gather_indices([index for batch in batches for index in batch.list_indices(only_bad=True)])
        broken_terms = manager.not_finite(values, manager.in_epoch)
        if not broken_terms and not frames:
            return
        problem = f"'{broken_terms[0]}' is {_format_number(values[broken_terms[0]])}; " if broken_terms else ""
        if frames:
            finding = f"the predictions of {_list_origins(frames, origin)} are not finite"
            advice = _CAUSES
        else:
            finding = "all predicted energies and forces are finite"
            advice = "a label that is NaN or infinite counts as it is with ignore_nan: false"
        message = f"{moment}: {problem}{finding}"
        if self.policy == "stop":
            if not recover(message, frames):
                raise TrainingError(message, advice)
            return
        rank_zero_warn(message)


def _list_not_finite(tensors: Iterable[tuple[str, Tensor | None]]) -> list[str]:
    return [name for name, tensor in tensors if tensor is not None and not bool(torch.isfinite(tensor).all())]


def _describe_step(
    batches: Sequence[SeenBatch], parameters: NamedParameters, loss: MetricsManager
) -> tuple[str, list[SeenBatch]]:
    """What is not finite, and the batches that it may come from."""
    suspects = [batch for batch in batches if not math.isfinite(float(batch.values[WEIGHTED_SUM]))]
    if suspects:
        first, has_value = suspects[0], suspects[0].has_value
        coeffs = loss.coeffs
        terms = [] if has_value is None else [n for n in loss.not_finite(first.values, has_value) if coeffs[n]]
        name = terms[0] if terms else WEIGHTED_SUM
        return f"the loss '{name}' is {_format_number(first.values[name])}", suspects
    names = _list_not_finite([(name, parameter.grad) for name, parameter in parameters])
    suffix = f" and {len(names) - 1} more" if len(names) > 1 else ""
    return f"the gradient of '{names[0]}'{suffix} is not finite", list(batches)


def _describe_frames(batches: Sequence[SeenBatch], origin: Origin) -> str:
    """Names the frames with predictions that are not finite, or else all frames of the batches."""
    broken_frames = _gather_indices([index for batch in batches for index in batch.list_indices(only_bad=True)])
    if broken_frames:
        return f"predictions are not finite of {_list_origins(broken_frames, origin)}"
    frames = _gather_indices([index for batch in batches for index in batch.list_indices(only_bad=False)])
    return (
        f"batch of {len(frames)}: {_list_origins(frames, origin)}"
        if frames
        else "the frames of the batch have no index"
    )


def _make_weights_error(
    names: list[str], last_batches: Sequence[SeenBatch], origin: Origin, moment: str
) -> TrainingError:
    suffix = f" and {len(names) - 1} more" if len(names) > 1 else ""
    step_before = f"; step before: {_describe_frames(last_batches, origin)}" if last_batches else ""
    return TrainingError(
        f"{moment}: the weights '{names[0]}'{suffix} are not finite{step_before}",
        f"{_CAUSES}; go on from the last checkpoint, which was written before, with a lower learning rate",
    )


def _gather_indices(indices: list[int]) -> list[int]:
    return [index for part in gather_states(indices) for index in part]


def _list_origins(frames: Sequence[int], origin: Origin) -> str:
    origins = [origin(index) for index in frames[:MAX_NAMED]]
    suffix = f" and {len(frames) - MAX_NAMED} more" if len(frames) > MAX_NAMED else ""
    return ", ".join(origins) + suffix


def _format_number(value: Tensor) -> str:
    return str(float(value))
