"""Several metrics of one model, their weighted sum, and their values over batches and epochs."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from nequip_like.data.fields import Graph
from nequip_like.errors import ConfigError
from nequip_like.train import foreign_metrics
from nequip_like.train.comparison import Comparison, gather, is_distributed
from nequip_like.train.metric_terms import WEIGHTED_SUM, Term, check_coefficient, check_names, read_terms
from nequip_like.train.metrics import ErrorMetric, mean_of


class MetricsManager(nn.Module):
    """Computes several metrics, per batch and per epoch, and their weighted sum.

    Each entry of ``metrics`` is a mapping with

    - ``metric``: a metric, its class or a factory: one of :mod:`nequip_like.train.metrics` (fast), or any other
      torchmetrics metric;
    - ``field``: name of a field, a modifier, or a function of a graph. null gives the metric both whole graphs;
    - ``coeff``: coefficient in the weighted sum. The coefficients are scaled to sum up to 1. null: observed only;
    - ``name``: name of the value; by default that of the field (E, Ei, F, else its own name) and of the metric;
    - ``per_type``: also tell types of atoms apart, as ``NAME_Type``. ``NAME`` is then the mean over the types present,
      weighted by ``per_type_coeffs`` (all equal by default). NequIP's epoch value of ``NAME`` is NaN if a configured
      type is absent from the data; here absent types are left out of the mean, in steps and epochs alike;
    - ``ignore_nan``: leave out elements whose label is NaN (default true). If false, a NaN label makes the value NaN.

    A term without any valid label (in the global batch, or in the epoch) has the value NaN and adds exactly 0, with
    zero gradient, to the weighted sum; the remaining coefficients are not scaled up. So with coefficients 0.5 of energy
    and 0.5 of stress, the sum over a batch without stress is half the energy's term. If no term of the sum has a value,
    the sum of a batch is 0 with zero gradient (nothing to learn from it), and that of an epoch is NaN: it must not look
    like the best one. :meth:`missing_terms` names terms without a value. Fields ``frame_weight`` and ``atom_weight`` of
    the target, if present, weight the errors.

    Metrics that are not this package's get their elements one process at a time and without weights: their step value
    is the mean over the processes that had labels, their epoch value is synchronised by torchmetrics.

    States are plain float64 tensors, not buffers: DistributedDataParallel overwrites buffers with those of rank 0.

    Args:
        metrics: The entries.
        type_names: Names of the model's types of atoms; needed by ``per_type``.
        sync: Let :meth:`step` and :meth:`compute` speak for all processes, if torch.distributed is initialised.

    Attributes:
        in_step: Which terms had a valid label in the last :meth:`step`, shape (terms,), on the device.
        in_epoch: Likewise in the last :meth:`compute`.

    Raises:
        ConfigError: If an entry cannot mean what was written.
    """

    def __init__(
        self, metrics: Sequence[Mapping[str, Any]], type_names: Sequence[str] | None = None, sync: bool = True
    ) -> None:
        super().__init__()
        self.terms = read_terms(metrics, type_names)
        self.sync = sync
        self._foreign_metrics = [t.metric for t in self.terms if not isinstance(t.metric, ErrorMetric)]
        self.foreign_metrics = nn.ModuleList(self._foreign_metrics)  # so that they follow to other devices
        for metric in self._foreign_metrics:
            metric.set_dtype(torch.float64)
            metric.sync_on_compute = sync
        self._warned = False
        self._plan()
        self._tensors = {
            "sums": torch.zeros(self._slots, dtype=torch.float64),
            "counts": torch.zeros(self._slots, dtype=torch.float64),
            "is_max": torch.tensor(self._max_slots),
            "value_index": torch.tensor(self._value_index),
        }
        for position, term in enumerate(self.terms):
            if term.type_names:
                self._tensors[f"types {position}"] = torch.tensor(term.type_coeffs, dtype=torch.float64)
        self.in_step = self.in_epoch = torch.ones(0, dtype=torch.bool)
        self._coeffs: dict[str, float | None] = {}
        self.set_coeffs({term.name: term.coeff for term in self.terms})

    def _plan(self) -> None:
        """Give each term its slots (one, or one per type) in the vectors of sums and counts.

        Slots whose sums are finalised by the same function lie side by side.
        """
        groups: dict[Callable[[Tensor, Tensor], Tensor], list[int]] = {}
        residual_keys: list[tuple[object, bool]] = []
        self._residual_key: list[int] = []
        for position, term in enumerate(self.terms):
            finalizer = term.metric.finalizer if isinstance(term.metric, ErrorMetric) else mean_of
            groups.setdefault(finalizer, []).append(position)
            key = (term.modifier, term.ignore_nan)
            if key not in residual_keys:
                residual_keys.append(key)
            self._residual_key.append(residual_keys.index(key))
        self._order: list[int] = []
        self._groups: list[tuple[Callable[[Tensor, Tensor], Tensor], slice]] = []
        self._max_slots: list[bool] = []
        self._first_slot = [0] * len(self.terms)
        for finalizer, positions in groups.items():
            start = len(self._max_slots)
            for position in positions:
                term = self.terms[position]
                self._order.append(position)
                self._first_slot[position] = len(self._max_slots)
                is_max = isinstance(term.metric, ErrorMetric) and term.metric.accumulates == "max"
                self._max_slots += [is_max] * max(1, len(term.type_names))
            self._groups.append((finalizer, slice(start, len(self._max_slots))))
        self._slots = len(self._max_slots)
        self._has_max = any(self._max_slots)
        # Behind the slots come the aggregates of terms that are per type.
        self._per_type = [position for position, term in enumerate(self.terms) if term.type_names]
        self._value_index = list(self._first_slot)
        for extra, position in enumerate(self._per_type):
            self._value_index[position] = self._slots + extra

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> MetricsManager:
        """Follow the module to another device, but stay in float64."""
        super()._apply(fn, recurse)
        for name, tensor in self._tensors.items():
            self._tensors[name] = tensor.to(fn(tensor.new_empty(0)).device)
        return self

    # --- coefficients

    @property
    def coeffs(self) -> dict[str, float | None]:
        """Coefficient of each term, scaled to sum up to 1; None if it is only observed."""
        return dict(self._coeffs)

    @property
    def has_weighted_sum(self) -> bool:
        """Whether any coefficient is larger than 0. Otherwise results have no ``weighted_sum``."""
        return bool(self._active)

    @property
    def log_names(self) -> list[str]:
        """Names of all values that it gives."""
        names = [name for term in self.terms for name in term.log_names]
        return [*names, WEIGHTED_SUM] if self.has_weighted_sum else names

    def set_coeffs(self, coeffs: Mapping[str, float | None]) -> None:
        """Set all coefficients, scaled to sum up to 1. Terms that are not named are only observed from then on.

        Raises:
            ConfigError: If a name is unknown, or if a coefficient is neither null nor a finite number >= 0.
        """
        check_names(coeffs, [term.name for term in self.terms], "metric in coeffs:")
        values = {term.name: check_coefficient(term.name, coeffs.get(term.name)) for term in self.terms}
        total = sum(value or 0.0 for value in values.values())
        self._coeffs = {name: value if value is None or total == 0 else value / total for name, value in values.items()}
        self._active = [position for position, term in enumerate(self.terms) if self._coeffs[term.name]]
        self._active_slots = [
            p in self._active for p in self._order for _ in range(max(1, len(self.terms[p].type_names)))
        ]
        device = self._tensors["sums"].device
        with torch.inference_mode(False):
            self._tensors["coeffs"] = torch.tensor(
                [self._coeffs[self.terms[p].name] for p in self._active], dtype=torch.float64, device=device
            )
            self._tensors["active"] = torch.tensor(
                [self._value_index[p] for p in self._active], dtype=torch.int64, device=device
            )

    def get_extra_state(self) -> dict[str, Any]:
        """Coefficients, for checkpoints: plain numbers, loadable with ``weights_only=True``."""
        return {"coeffs": self.coeffs}

    def set_extra_state(self, state: dict[str, Any]) -> None:
        """Restore the coefficients.

        Raises:
            ConfigError: If the checkpoint's metrics have other names than this manager's.
        """
        if state["coeffs"].keys() != self._coeffs.keys():
            raise ConfigError(
                f"the checkpoint has the metrics {', '.join(state['coeffs'])}; the config {', '.join(self._coeffs)}",
                "give both the same metrics",
            )
        self.set_coeffs(state["coeffs"])

    # --- what it needs and what it is

    def required_fields(self) -> set[str]:
        """Labels that the data set must have."""
        return {key for term in self.terms if term.modifier for key in term.modifier.target_fields}

    def required_predictions(self) -> set[str]:
        """Fields that the model must predict."""
        return {key for term in self.terms if term.modifier for key in term.modifier.prediction_fields}

    def describe(self) -> list[tuple[str, str, str, float | None]]:
        """Rows of a table: name, field, metric, scaled coefficient (None: observed only)."""
        return [
            (
                term.name,
                term.modifier.label if term.modifier else "",
                type(term.metric).__name__,
                self._coeffs[term.name],
            )
            for term in self.terms
        ]

    def missing_terms(self) -> list[str]:
        """Names of the terms that had no valid label in the last :meth:`compute`."""
        return [t.name for t, present in zip(self.terms, self.in_epoch.tolist(), strict=False) if not present]

    def not_finite(self, values: Mapping[str, Tensor], has_value: Tensor) -> list[str]:
        """Names of the terms whose value is infinite, or NaN although there were labels.

        Metrics that are not this package's are left out: of some, NaN is the value of a single sample.

        Args:
            values: What :meth:`step` or :meth:`compute` gave.
            has_value: :attr:`in_step` or :attr:`in_epoch` right after it.
        """
        return [
            term.name
            for term, present in zip(self.terms, has_value.tolist(), strict=True)
            if present and isinstance(term.metric, ErrorMetric) and not math.isfinite(float(values[term.name]))
        ]

    # --- batches

    def _foreign(self, term: Term, batch: Comparison, step: bool) -> tuple[Tensor, Tensor]:
        """Update a metric that is not ours: its step value (or zero) and 1 or 0 for "had labels"."""
        if not self._warned and foreign_metrics.uses_no_weights(term, batch):
            self._warned = True
            warnings.warn(f"metric '{term.name}' does not use the weights of the data", stacklevel=2)
        zero = torch.zeros((), dtype=torch.float64, device=self._tensors["sums"].device)
        value = foreign_metrics.update(term, batch, step)
        return (zero, zero) if value is None else (value.to(zero.device), zero + 1)

    def _partials(self, prediction: Graph, target: Graph, step: bool) -> tuple[Tensor, Tensor]:
        """Sums (with their graph) and counts of a batch, shape (slots,) each; adds them to the states."""
        batch = Comparison(prediction, target)
        sums: list[Tensor] = []
        counts: list[Tensor] = []
        for position in self._order:
            term, key = self.terms[position], self._residual_key[position]
            metric = term.metric
            if not isinstance(metric, ErrorMetric):
                total, count = self._foreign(term, batch, step)
                sums.append(total)
                counts.append(count)
            elif term.type_names:
                by_type = metric.reduce_by(batch.residuals(term, key), batch.types(term), len(term.type_names))
                sums.extend(by_type.unbind())
                counts.extend(batch.type_counts(term, key).unbind())
            else:
                residuals = batch.residuals(term, key)
                sums.append(metric.reduce(residuals))
                counts.append(residuals.count)
        if not all(self._active_slots):
            # An observed term must not reach the gradient, not even as zero times NaN.
            sums = [total if keep else total.detach() for total, keep in zip(sums, self._active_slots, strict=True)]
        all_sums, all_counts = torch.stack(sums), torch.stack(counts)
        with torch.no_grad():
            self._tensors["sums"] = self._merge(self._tensors["sums"], all_sums.detach())
            self._tensors["counts"] = self._tensors["counts"] + all_counts
        return all_sums, all_counts

    def _merge(self, first: Tensor, second: Tensor) -> Tensor:
        if not self._has_max:
            return first + second
        return torch.where(self._tensors["is_max"], torch.maximum(first, second), first + second)

    def _globalise(self, sums: Tensor, counts: Tensor) -> tuple[Tensor, Tensor]:
        """Sums and counts of all processes, in one collective; the gradient is that of this process's share."""
        local = sums.detach()
        gathered = gather(torch.stack([local, counts]))
        all_sums, all_counts = gathered[:, 0], gathered[:, 1].sum(0)
        total = all_sums.sum(0)
        # Zero, with the gradient of `sums`; infinity - infinity would be NaN on one process only.
        share = torch.where(torch.isfinite(local), sums - local, 0.0)
        if self._has_max:
            is_max = self._tensors["is_max"]
            total = torch.where(is_max, all_sums.amax(0), total)
            ties = (all_sums == total).sum(0).clamp(min=1)
            share = share * torch.where(is_max, (local == total) / ties, 1.0)
        return total + share, all_counts

    def _values(self, sums: Tensor, counts: Tensor) -> tuple[dict[str, Tensor], Tensor]:
        """Named values (NaN where absent) and the vector of which are present (slots, then aggregates)."""
        present = counts > 0
        safe = torch.where(present, counts, 1.0)
        parts = [finalizer(sums[group], safe[group]) for finalizer, group in self._groups]
        values = torch.where(present, parts[0] if len(parts) == 1 else torch.cat(parts), 0.0)
        if self._per_type:
            aggregates, any_present = [], []
            for position in self._per_type:
                first = self._first_slot[position]
                types = slice(first, first + len(self.terms[position].type_names))
                weights = self._tensors[f"types {position}"] * present[types]
                total = weights.sum()
                any_present.append(total > 0)
                aggregates.append((weights * values[types]).sum() / torch.where(total > 0, total, 1.0))
            values = torch.cat([values, torch.stack(aggregates)])
            present = torch.cat([present, torch.stack(any_present)])
        single = torch.where(present, values, torch.nan).unbind()
        result: dict[str, Tensor] = {}
        for position, term in enumerate(self.terms):
            result[term.name] = single[self._value_index[position]]
            for offset, name in enumerate(term.log_names[1:]):
                result[name] = single[self._first_slot[position] + offset]
        if self._active:
            result[WEIGHTED_SUM] = torch.dot(values[self._tensors["active"]], self._tensors["coeffs"])
        return result, present

    def update(self, prediction: Graph, target: Graph) -> None:
        """Add a batch to the epoch.

        Raises:
            DataError: If the target lacks a label that a metric needs, or shapes do not match.
            ModelError: If the prediction lacks a field that a metric needs.
        """
        with torch.no_grad():
            self._partials(prediction, target, step=False)

    def step(self, prediction: Graph, target: Graph, sync: bool | None = None) -> dict[str, Tensor]:
        """Add a batch to the epoch, and give the values of this batch.

        With several processes, the values are those of the global batch, and ``weighted_sum * world_size`` is the loss
        whose gradients, averaged by DistributedDataParallel, are those of the global batch's weighted sum.

        Args:
            prediction: What the model predicts.
            target: The labels.
            sync: Overrides the manager's own setting.

        Returns:
            Values by name, float64, shape (); ``weighted_sum`` if any coefficient is larger than 0. It and the terms
            in it carry their graph; observed terms do not.

        Raises:
            DataError: If the target lacks a label that a metric needs, or shapes do not match.
            ModelError: If the prediction lacks a field that a metric needs.
        """
        sums, counts = self._partials(prediction, target, step=True)
        if (self.sync if sync is None else sync) and is_distributed():
            sums, counts = self._globalise(sums, counts)
        result, present = self._values(sums, counts)
        self.in_step = present[self._tensors["value_index"]]
        return result

    def forward(self, prediction: Graph, target: Graph) -> dict[str, Tensor]:
        """The same as :meth:`step`."""
        return self.step(prediction, target)

    # --- epochs

    @torch.no_grad()
    def compute(self) -> dict[str, Tensor]:
        """Values of everything since the last :meth:`reset`, over all processes; float64, shape ().

        In a distributed run every process must call it.
        """
        sums, counts = self._tensors["sums"], self._tensors["counts"]
        if self.sync and is_distributed():
            sums, counts = self._globalise(sums, counts)
        sums, counts = sums.clone(), counts.clone()
        for position, term in enumerate(self.terms):
            slot = self._first_slot[position]
            if not isinstance(term.metric, ErrorMetric) and counts[slot] > 0:
                sums[slot], counts[slot] = foreign_metrics.compute(term), 1.0
        result, present = self._values(sums, counts)
        self.in_epoch = present[self._tensors["value_index"]]
        if self._active:
            some = present[self._tensors["active"]].any()
            result[WEIGHTED_SUM] = torch.where(some, result[WEIGHTED_SUM], torch.nan)
        return result

    def running_state(self) -> dict[str, Any]:
        """Sums and counts of this process since the last :meth:`reset`: plain tensors, as a checkpoint can hold them.

        What is given does not change with later batches.
        """
        own = {name: self._tensors[name] for name in ("sums", "counts")}  # replaced by each batch, not changed
        return own | foreign_metrics.running_state(self._foreign_metrics)

    def set_running_state(self, state: Mapping[str, Any]) -> None:
        """Go back to what :meth:`running_state` gave.

        Raises:
            ConfigError: If it is that of other metrics.
        """
        own = self.running_state()
        if own.keys() != state.keys() or own["sums"].shape != state["sums"].shape:
            raise ConfigError("the sums kept for the metrics are those of other metrics", "give both the same metrics")
        for name in ("sums", "counts"):
            self._tensors[name] = state[name].to(own[name].device)
        foreign_metrics.set_running_state(self._foreign_metrics, state)

    def reset(self) -> None:
        """Start a new epoch."""
        for name in ("sums", "counts"):
            self._tensors[name] = torch.zeros_like(self._tensors[name])
        for metric in self._foreign_metrics:
            metric.reset()
