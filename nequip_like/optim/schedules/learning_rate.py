"""The learning rate that a config describes: a schedule times a warm-up, as a function of the optimizer steps done."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Annotated, Any, Literal

from lightning.pytorch.utilities import rank_zero_warn
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from nequip_like.arguments import Count, Decay, NotNegative, Range, checked
from nequip_like.errors import ConfigError
from nequip_like.optim.schedules import curves, warmup
from nequip_like.optim.schedules.keys import check_schedule_keys, schedule_name, warmup_name
from nequip_like.optim.schedules.lengths import Length, RunLength, as_share, check_length, in_epochs, in_steps
from nequip_like.optim.schedules.plateau import Plateau
from nequip_like.optim.schedules.progress import RunProgress

LENGTHS = ("warmup_length", "T_max", "T_0", "step_size", "transition_length")
_PLATEAU = ("factor", "patience", "threshold", "smoothing_factor")
_ROUNDING = 1e-9  # relative; a learning rate that is min_lr but for rounding is not below it

_Rate = Annotated[float, Range(low=0)] | None
_Share = Annotated[float, Range(low=0, high=1, low_open=True)] | None
_Below1 = Annotated[float, Range(low=0, high=1, low_open=True, high_open=True)] | None


class LearningRate(LRScheduler):
    """A schedule times a warm-up, one value for each optimizer step; batches that accumulate make one step together.

    With n steps done the learning rate is ``lr * schedule(n) * warmup(n + 1)``, so the first step is a warmed one.
    The largest learning rate of the optimizer's groups is the ``lr`` that ``min_lr``, ``init_lr`` and ``final_lr``
    belong to; other groups keep their ratio to it.

    Lengths are numbers of epochs, or ``{epochs: 10}``, or ``{steps: 790}``, or a share of the run, ``{share: 0.1}``.
    They become steps in :meth:`begin`, and a resumed run goes on with these steps. What is remembered is the number of
    steps, and what a plateau has seen; the learning rate follows from that. Under a budget of time, shares stay shares,
    and the curve goes by the :class:`~nequip_like.optim.schedules.progress.RunProgress` of the run.

    Args:
        optimizer: The optimizer.
        schedule: ``constant``, ``cosine``, ``cosine_restarts``, ``exponential``, ``step``, ``linear``, ``peak`` or
            ``plateau``, in any case.
        warmup: ``linear``, ``exponential``, ``untuned_linear``, ``untuned_exponential`` or ``radam``, in any case, or
            None. Untuned ones and ``radam`` take their length from the optimizer's beta2.
        warmup_length: Length of ``linear`` and ``exponential``, and of the way up of ``peak``.
        min_lr: Smallest learning rate, without the warm-up. A plateau ends the training below it. Default: 0.
        T_max: Length of ``cosine`` and ``linear``. Default: that of the run.
        T_0: Length of the first period of ``cosine_restarts``.
        T_mult: Each period is so many times as long as the one before. Default: 1.
        step_size: Length after which ``exponential`` and ``step`` are multiplied by gamma. Default of the first: 1.
        gamma: What they are multiplied by.
        init_lr: First learning rate of ``peak``.
        final_lr: Last learning rate of ``peak``.
        transition_length: Length of the way down of ``peak``.
        monitor: Name of the logged value that a plateau follows; smaller is better.
        monitor_interval: Look at it after each ``epoch`` with a validation (default), or after each ``step``.
        monitor_frequency: At every n-th of these. Default: 1.
        factor: What a plateau multiplies by. Default: 0.1.
        patience: A plateau reduces at the first value without improvement beyond these. Default: 10.
        threshold: Relative improvement that counts. Default: 1e-4.
        smoothing_factor: A plateau follows a * mean + (1 - a) * value. Default: 0, the values themselves.

    Raises:
        ConfigError: If an argument is out of range, missing, or of no use to the schedule.

    Example:
        Two warm steps times a line down to zero after 10: the first step is taken with half of the learning rate.

        >>> import torch
        >>> optimizer = torch.optim.SGD([torch.zeros(1)], lr=0.1)
        >>> rate = LearningRate(optimizer, "linear", "linear", warmup_length={"steps": 2}, T_max={"steps": 10})
        >>> [round(rate.rates_at(n)[0], 4) for n in (0, 1, 5, 10)]
        [0.05, 0.09, 0.05, 0.0]
    """

    @checked
    def __init__(
        self,
        optimizer: Optimizer,
        schedule: str = "constant",
        warmup: str | None = None,
        *,
        warmup_length: Length | None = None,
        min_lr: _Rate = None,
        T_max: Length | None = None,
        T_0: Length | None = None,
        T_mult: Count | None = None,
        step_size: Length | None = None,
        gamma: _Share = None,
        init_lr: _Rate = None,
        final_lr: _Rate = None,
        transition_length: Length | None = None,
        monitor: str | None = None,
        monitor_interval: Literal["epoch", "step"] | None = None,
        monitor_frequency: Count | None = None,
        factor: _Below1 = None,
        patience: NotNegative | None = None,
        threshold: Decay | None = None,
        smoothing_factor: Decay | None = None,
    ) -> None:
        settings = {
            name: value
            for name, value in locals().items()
            if value is not None and name not in ("self", "optimizer", "schedule", "warmup", "__class__")
        }
        self.schedule, self.warmup = schedule_name(schedule), warmup_name(warmup)
        check_schedule_keys(self.schedule, self.warmup, settings)
        for name in LENGTHS:
            if name in settings:
                check_length(name, settings[name])
        self._given = settings
        self.lengths: dict[str, int | dict[str, float]] | None = None  # steps, or {"share": 0.1} under a budget
        self._progress: RunProgress | None = None
        self._shape: Callable[[int], float] | None = None
        self._warmups: list[Callable[[int], float]] = []
        self.plateau = Plateau(**{key: settings[key] for key in _PLATEAU if key in settings})
        self.monitor = monitor
        self.monitor_by_steps = monitor_interval == "step"
        self.monitor_frequency = monitor_frequency or 1
        super().__init__(optimizer)
        self._check_rates()
        self._make_warmups(1, _same)
        if not self._needs_run():
            self.begin(RunLength())

    def _needs_run(self) -> bool:
        lengths = [self._given[name] for name in LENGTHS if name in self._given]
        relative = any(in_epochs(length) or as_share(length) is not None for length in lengths)
        return relative or bool(self._list_defaults())

    def _list_defaults(self) -> dict[str, Length | None]:
        """Lengths that have a default and are not given; None is the length of the run."""
        lacks_length = self.schedule in ("cosine", "linear") and "T_max" not in self._given
        lacks_step = self.schedule == "exponential" and "step_size" not in self._given
        return {**({"T_max": None} if lacks_length else {}), **({"step_size": 1.0} if lacks_step else {})}

    def _check_rates(self) -> None:
        highest = self.highest
        if not highest > 0:
            raise ConfigError("all learning rates of the optimizer are 0", "give the optimizer an lr above 0")
        if self.min_lr > highest:
            raise ConfigError(
                f"min_lr is {self.min_lr:g}, above the optimizer's learning rate, {highest:g}", "give a smaller one"
            )

    # --- lengths

    def begin(self, run: RunLength) -> None:
        """Turn epochs into steps, and set the learning rate of the next step.

        Args:
            run: How long the run is. A schedule that goes on from a checkpoint keeps its lengths, with a warning if
                they would be others now; but what is a share of the run is one of the run as it is now, so that a
                run that is made longer comes down at its new end.

        Raises:
            ConfigError: If the run does not tell how many steps an epoch has, or when it ends, and the schedule asks.

        Example:
            >>> import torch
            >>> rate = LearningRate(torch.optim.SGD([torch.zeros(1)], lr=0.1), "cosine")
            >>> rate.begin(RunLength(steps_per_epoch=79, epochs=10))
            >>> rate.lengths
            {'T_max': 790}
        """
        self._progress = run.progress
        lengths = self._fix_lengths(run)
        if self.lengths is None:
            self.lengths = {name: length for name, length in lengths.items() if length is not None}
        if any(isinstance(length, Mapping) for length in self.lengths.values()) and run.progress is None:
            raise ConfigError(
                "the checkpoint is of a run with a budget of time, whose lengths are shares of it",
                "give a budget: what is left of it is used, or a larger one goes on",
            )
        changes = []
        for name, length in list(self.lengths.items()):
            now = lengths[name]
            if now is not None and now != length and self._is_share(name):
                changes.append(f"{name} is {_describe(now)}, and was {_describe(length)}")
                self.lengths[name] = now
            elif now != length:
                rank_zero_warn(
                    f"the learning rate goes on as it began: {name} is {_describe(length)}, where this run would make "
                    f"it {_describe(now)}"
                )
        self._build()
        self._apply()
        if changes:
            rank_zero_warn(
                f"the run is not as long as when it began, and its learning rate is that of the run as it is now, "
                f"{max(self.rates_at(self.last_epoch)):.3g} at first: {'; '.join(changes)}"
            )

    def _is_share(self, name: str) -> bool:
        """Whether a length is a share of the run, or the whole of it."""
        length = (self._given | self._list_defaults())[name]
        return length is None or as_share(length) is not None

    def _fix_lengths(self, run: RunLength) -> dict[str, int | dict[str, float] | None]:
        """Lengths in steps, or as shares where a budget leaves the number of steps open; None is endless."""
        lengths: dict[str, Length | None] = {key: self._given[key] for key in LENGTHS if key in self._given}
        lengths |= self._list_defaults()
        if "T_max" in lengths and lengths["T_max"] is None and run.progress is not None:
            lengths["T_max"] = {"share": 1.0}
        elif "T_max" in lengths and lengths["T_max"] is None and run.total is None:
            lengths["T_max"] = run.epochs  # nobody knows how many steps these are: says so
        total = None if run.total is None else max(1, run.total)
        fixed: dict[str, int | dict[str, float] | None] = {}
        for name, length in lengths.items():
            share = None if length is None else as_share(length)
            if share is not None and run.progress is not None:
                fixed[name] = {"share": share}
            else:
                fixed[name] = total if length is None else in_steps(name, length, run)
        if self.lengths is None and None in fixed.values():
            raise ConfigError(
                f"the schedule '{self.schedule}' takes its length from the run, which has no end",
                "give T_max: a number of epochs or {steps: 100000}; or give trainer.max_epochs or max_steps",
            )
        return fixed

    def _build(self) -> None:
        self._make_warmups(
            *self._find_place("warmup_length") if "warmup_length" in (self.lengths or {}) else (1, _same)
        )
        self._shape = self._choose_curve()

    def _find_place(self, *names: str) -> tuple[Any, ...]:
        """Lengths, and the function from the number of steps to what is measured by them: steps, or the share done."""
        lengths = [(self.lengths or {})[name] for name in names]
        shares = [length["share"] for length in lengths if isinstance(length, Mapping)]
        if not shares:
            return (*lengths, _same)
        if len(shares) < len(lengths):
            raise ConfigError(
                f"{' and '.join(names)} are given in different units, one as a share of the run",
                "give both as shares, or none",
            )
        assert self._progress is not None  # shares stay shares only where begin was given one
        return (*shares, self._progress.at)

    def _choose_curve(self) -> Callable[[int], float]:
        """The schedule as a function of the number of steps done."""
        settings, floor = self._given, self.min_lr / self.highest
        if self.schedule == "cosine":
            period, place = self._find_place("T_max")
            return _along(place, partial(curves.cosine, period=period, floor=floor))
        if self.schedule == "cosine_restarts":
            period, place = self._find_place("T_0")
            growth = settings.get("T_mult", 1)
            return _along(place, partial(curves.cosine_restarts, period=period, growth=growth, floor=floor))
        if self.schedule == "linear":
            length, place = self._find_place("T_max")
            return _along(place, partial(curves.linear, length=length, end=floor))
        if self.schedule in ("exponential", "step"):
            form = curves.exponential if self.schedule == "exponential" else curves.step
            length, place = self._find_place("step_size")
            return _along(place, partial(form, length=length, gamma=settings["gamma"], floor=floor))
        if self.schedule == "peak":
            ends = {"start": settings["init_lr"] / self.highest, "end": settings["final_lr"] / self.highest}
            rise, fall, place = self._find_place("warmup_length", "transition_length")
            return _along(place, partial(curves.peak, rise=rise, fall=fall, **ends))
        if self.schedule == "plateau":
            return lambda n: self.plateau.share
        return lambda n: 1.0

    def _make_warmups(self, period: float, place: Callable[[int], float]) -> None:
        groups = self.optimizer.param_groups
        factors = [warmup.factor(self.warmup, period, _read_beta2(group)) for group in groups]
        self._warmups = [_along(place, factor) for factor in factors]

    # --- values

    @property
    def min_lr(self) -> float:
        """The smallest learning rate without the warm-up, of the group with the largest one."""
        return float(self._given.get("min_lr", 0.0))

    @property
    def highest(self) -> float:
        """The largest learning rate of the optimizer's groups."""
        return max(float(rate) for rate in self.base_lrs)

    @property
    def over(self) -> str | None:
        """Why the training ends: a plateau's learning rate, without the warm-up, is below min_lr. None as long as not.

        Where groups differ, the largest one counts.
        """
        rate = self.highest * self.plateau.share
        if self.schedule != "plateau" or rate >= self.min_lr * (1.0 - _ROUNDING):
            return None
        return f"the learning rate {rate:.3e} is below min_lr {self.min_lr:.3e}"

    def rates_at(self, n: int) -> list[float]:
        """Learning rates of all groups after n optimizer steps; of a plateau those of its present state.

        Args:
            n: Number of optimizer steps done.

        Raises:
            ConfigError: If lengths are given in epochs and :meth:`begin` was not called.
        """
        return [float(rate) for rate in self._compute_rates(n)]

    def _compute_rates(self, n: int) -> list[float | Tensor]:
        if self._shape is None:
            raise ConfigError(
                "the lengths of the schedule are given in epochs, and nobody said how many steps these are",
                "call begin(RunLength(steps_per_epoch=..., epochs=...)) before the first step",
            )
        share = self._shape(n)
        return [rate * (share * factor(n + 1)) for rate, factor in zip(self.base_lrs, self._warmups, strict=True)]

    def get_lr(self) -> list[float | Tensor]:
        """Learning rates of all groups for the next step; before :meth:`begin` those of the optimizer."""
        if self._shape is None and self.last_epoch == 0:
            return list(self.base_lrs)
        return self._compute_rates(self.last_epoch)

    def follow(self, value: float) -> None:
        """Let a plateau see the next value of what it follows."""
        self.plateau.follow(value)
        self.refresh()

    def refresh(self) -> None:
        """Set the learning rate of the next step again: what is left of the run was planned anew."""
        if self._shape is not None:
            self._apply()

    def _apply(self) -> None:
        for group, rate in zip(self.optimizer.param_groups, self._compute_rates(self.last_epoch), strict=True):
            if isinstance(group["lr"], Tensor):
                group["lr"].fill_(rate)
            else:
                group["lr"] = rate
        self._last_lr = self._compute_rates(self.last_epoch)

    # --- checkpoints

    def state_dict(self) -> dict[str, Any]:
        """Number of steps, lengths in steps, and what a plateau has seen."""
        return {"steps": self.last_epoch, "lengths": self.lengths, "plateau": self.plateau.state_dict()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from a state.

        Raises:
            ConfigError: If it is of another schedule.
        """
        expected = {*(name for name in LENGTHS if name in self._given), *self._list_defaults()}
        if state_dict["lengths"] is not None and set(state_dict["lengths"]) != expected:
            raise ConfigError(
                f"the checkpoint is of another schedule, with the lengths {', '.join(state_dict['lengths']) or 'none'}",
                "give the schedule that the run began with",
            )
        self.last_epoch = int(state_dict["steps"])
        self._step_count = self.last_epoch + 1
        self.lengths = state_dict["lengths"]
        self.plateau.load_state_dict(state_dict["plateau"])
        by_share = any(isinstance(length, Mapping) for length in (self.lengths or {}).values())
        if self.lengths is not None and (not by_share or self._progress is not None):  # else begin() does it
            self._build()
            self._apply()


def _same(steps: int) -> float:
    return steps


def _along(place: Callable[[int], float], curve: Callable[[Any], float]) -> Callable[[int], float]:
    """The curve as a function of the number of steps."""
    return curve if place is _same else lambda steps: curve(place(steps))


def _describe(length: int | Mapping[str, float] | None) -> str:
    if length is None:
        return "endless"
    return f"{length['share']:g} of the run" if isinstance(length, Mapping) else f"{length} steps"


def _read_beta2(group: Mapping[str, Any]) -> float | None:
    betas = group.get("betas")
    return None if betas is None else float(betas[1])
