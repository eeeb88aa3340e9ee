"""Several metrics of one model, their weighted sum, and their values over batches and epochs."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from nequip_like.data.fields import Graph
from nequip_like.distributed import is_distributed
from nequip_like.errors import ConfigError
from nequip_like.metrics import torchmetrics_adapter
from nequip_like.metrics.accumulator import Accumulator, LastStep, Totals, pick_values
from nequip_like.metrics.closed_form import BatchErrors, ClosedTerms
from nequip_like.metrics.masked import Comparison
from nequip_like.metrics.terms import WEIGHTED_SUM, read_terms, share_quantities
from nequip_like.metrics.weights import Coefficients, WeightedTerms


class MetricsManager(WeightedTerms):
    """Computes several metrics, per batch and per epoch, and their weighted sum.

    Each entry of ``metrics`` is a mapping with

    - ``metric``: a metric, its class or a factory: one of :mod:`nequip_like.metrics.elementwise` (fast), or any other
      torchmetrics metric;
    - ``field``: name of a field, a modifier, or a function of a graph. null gives the metric both whole graphs;
    - ``coeff``: coefficient in the weighted sum. The coefficients are scaled to sum up to 1. null: observed only;
    - ``name``: name of the value; by default that of the field (E, Ei, F, else its own name) and of the metric;
    - ``per_type``: also tell types of atoms apart, as ``NAME_Type``. ``NAME`` is then the mean over the types present,
      weighted by ``per_type_coeffs`` (all equal by default). NequIP's epoch value of ``NAME`` is NaN if a configured
      type is absent from the data; here absent types are left out of the mean, in steps and epochs alike;
    - ``ignore_nan``: leave out elements whose label is NaN (default true). If false, a NaN label makes the value NaN;
    - ``average``: of what belongs to atoms: ``elements`` (default), all count the same; ``frames``, each frame counts
      the same, as the mean over frames of the means within them.

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
        absolute: Take coefficients as they are, as weights, in place of scaling them to sum up to 1.

    Attributes:
        terms: What the entries say.
        in_epoch: Which terms had a valid label in the last :meth:`compute`, shape (terms,), on the device.

    Raises:
        ConfigError: If an entry cannot mean what was written.

    Example:
        An energy that is wrong by 1 eV and forces that are wrong by 2 eV/Angstrom each. The coefficients 1 and 3 become
        0.25 and 0.75, so the sum is 0.25 * 1 + 0.75 * 4:

        >>> from nequip_like.metrics import MeanSquaredError
        >>> manager = MetricsManager([
        ...     {"metric": MeanSquaredError, "field": "total_energy", "coeff": 1, "name": "energy"},
        ...     {"metric": MeanSquaredError, "field": "forces", "coeff": 3, "name": "forces"},
        ... ])
        >>> labels = {"total_energy": torch.tensor([[-10.0]]), "forces": torch.zeros(2, 3)}
        >>> values = manager({"total_energy": torch.tensor([[-9.0]]), "forces": torch.full((2, 3), 2.0)}, labels)
        >>> {name: value.item() for name, value in values.items()}
        {'energy': 1.0, 'forces': 4.0, 'weighted_sum': 3.25}
    """

    def __init__(
        self,
        metrics: Sequence[Mapping[str, Any]],
        type_names: Sequence[str] | None = None,
        sync: bool = True,
        absolute: bool = False,
    ) -> None:
        super().__init__(read_terms(metrics, type_names), absolute)
        self.sync = sync
        self._quantities = share_quantities(self.terms)
        self._sums = Accumulator(self.terms)
        self._closed_terms = ClosedTerms.of([self.terms[position] for position in self._sums.order])
        foreign = [self.terms[p].metric for p, metric in enumerate(self._sums.metrics) if metric is None]
        self._foreign_metrics = foreign
        self.foreign_metrics = nn.ModuleList(foreign)  # so that they follow to other devices
        for metric in foreign:
            metric.set_dtype(torch.float64)
            metric.sync_on_compute = sync
        self._warned = False
        self.in_epoch = torch.ones(0, dtype=torch.bool)
        self._last_step = LastStep()
        self.set_coeffs(self.configured_coeffs)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> MetricsManager:
        """Follow the module to another device, but stay in float64."""
        super()._apply(fn, recurse)
        self._sums.to(fn(self._sums.sums.new_empty(0)).device)
        self._use(self._coeffs)
        return self

    def _use(self, coeffs: Coefficients) -> None:
        super()._use(coeffs)
        self._active_slots = self._sums.select_slots(self._active)
        device = self._sums.sums.device
        with torch.inference_mode(False):
            self._active_coeffs = torch.tensor(
                [coeffs[self.terms[p].name] for p in self._active], dtype=torch.float64, device=device
            )
            self._active_values = self._sums.index_values(self._active)

    # --- what has no value

    def missing_terms(self) -> list[str]:
        """Names of the terms that had no valid label in the last :meth:`compute`."""
        return [t.name for t, has_label in zip(self.terms, self.in_epoch.tolist(), strict=False) if not has_label]

    def not_finite(self, values: Mapping[str, Tensor], has_value: Tensor) -> list[str]:
        """Names of the terms whose value is infinite, or NaN although there were labels.

        Metrics that are not this package's are left out: of some, NaN is the value of a single sample.

        Args:
            values: What :meth:`step` or :meth:`compute` gave.
            has_value: ``in_step`` or ``in_epoch`` right after it.
        """
        return [
            term.name
            for term, metric, has_label in zip(self.terms, self._sums.metrics, has_value.tolist(), strict=True)
            if has_label and metric is not None and not math.isfinite(float(values[term.name]))
        ]

    # --- batches

    def _update_foreign(self, position: int, batch: Comparison, step: bool) -> tuple[Tensor, Tensor]:
        """Update a metric that is not ours: its step value (or zero) and 1 or 0 for "had labels"."""
        term, quantity = self.terms[position], self._quantities[position]
        if not self._warned and quantity is not None and batch.weigh_rows(quantity) is not None:
            self._warned = True
            warnings.warn(f"metric '{term.name}' does not use the weights of the data", stacklevel=2)
        zero = torch.zeros((), dtype=torch.float64, device=self._sums.sums.device)
        value = torchmetrics_adapter.update(term, quantity, batch, step)
        return (zero, zero) if value is None else (value.to(zero.device), zero + 1)

    def _accumulate_batch(self, prediction: Graph, target: Graph, step: bool) -> Totals | BatchErrors:
        """Add a batch to the epoch: its sums and counts, shape (slots,) each, and bins; or its errors in closed form.

        The sums have their graph. Errors in closed form are to attach the gradient to what is made of them.
        """
        errors = BatchErrors.of(self._closed_terms, prediction, target)
        if errors is not None:
            self._sums.add_numbers(errors.sums, errors.counts)
            return errors
        sums, counts, bins = self._sum_batch(Comparison(prediction, target), step)
        self._sums.add(sums.detach(), counts, bins)
        return sums, counts, bins

    def _sum_batch(self, batch: Comparison, step: bool) -> Totals:
        """Sums (with their graph) and counts of a batch, shape (slots,) each, and bins."""
        sums: list[Tensor] = []
        counts: list[Tensor] = []
        for position in self._sums.order:
            term, metric, quantity = self.terms[position], self._sums.metrics[position], self._quantities[position]
            if metric is None or quantity is None:
                total, count = self._update_foreign(position, batch, step)
                sums.append(total)
                counts.append(count)
                continue
            residuals = batch.compute_residuals(quantity)
            if term.type_names:
                sums.extend(metric.reduce_by(residuals, batch.find_types(term.name), len(term.type_names)).unbind())
            else:
                sums.append(metric.reduce(residuals))
            counts.extend(self._count_elements(position, batch))
        if not all(self._active_slots):
            # An observed term must not reach the gradient, not even as zero times NaN.
            sums = [total if keep else total.detach() for total, keep in zip(sums, self._active_slots, strict=True)]
        with torch.no_grad():
            bins = self._count_in_bins(batch)
        return torch.stack(sums), torch.stack(counts), bins

    def _count_elements(self, position: int, batch: Comparison) -> Sequence[Tensor]:
        """What the sum of a term is divided by, or of each of its types; each of shape ()."""
        term, metric, quantity = self.terms[position], self._sums.metrics[position], self._quantities[position]
        if metric is None or quantity is None:
            return (torchmetrics_adapter.label_count(quantity, batch).to(self._sums.counts.device),)
        if not term.type_names:
            return (metric.counts(batch.collect_labels(quantity)),)
        types, size = batch.find_types(term.name), len(term.type_names)
        if metric.own_counts:
            return metric.counts_by(batch.collect_labels(quantity), types, size).unbind()
        return batch.count_by_type(quantity, types, size).unbind()

    def _count_in_bins(self, batch: Comparison) -> dict[int, Tensor]:
        bins: dict[int, Tensor] = {}
        for position, metric in self._sums.quantiles.items():
            term, quantity = self.terms[position], self._quantities[position]
            if quantity is not None:
                types = batch.find_types(term.name) if term.type_names else None
                residuals = batch.compute_residuals(quantity)
                bins[position] = metric.count_in_bins(residuals, types, max(1, len(term.type_names)))
        return bins

    def _name_values(self, values: Tensor, has_value: Tensor) -> dict[str, Tensor]:
        result = self._sums.name_values(values, has_value)
        if self._active:
            result[WEIGHTED_SUM] = self._sum_weighted(values)
        return result

    def _sum_weighted(self, values: Tensor) -> Tensor:
        return torch.dot(pick_values(values, self._active_values), self._active_coeffs)

    @torch.no_grad()
    def label_counts(self, target: Graph) -> Tensor:
        """What :meth:`step` would divide the sums of this batch by, from its labels alone.

        Add them up over the batches of a step of the optimizer (and over processes), and give the total to
        :meth:`step` with each of the batches.

        Args:
            target: The labels.

        Returns:
            Numbers of valid elements, or sums of their weights, of this process; float64, shape (slots,), one for each
            term, or for each type of a term that is per type.

        Raises:
            DataError: If the target lacks a label that a metric needs.

        Example:
            One energy, and three components of the force on the atom that has a label:

            >>> from nequip_like.metrics import EnergyForceLoss
            >>> forces = torch.zeros(2, 3)
            >>> forces[1] = torch.nan
            >>> labels = {"total_energy": torch.zeros(1, 1), "forces": forces, "num_atoms": torch.tensor([2])}
            >>> EnergyForceLoss().label_counts(labels).tolist()
            [1.0, 3.0]
        """
        batch = Comparison(None, target)
        return torch.stack([c for position in self._sums.order for c in self._count_elements(position, batch)])

    def _compute_share(self, sums: Tensor, counts: Tensor) -> Tensor:
        """What a batch adds to the weighted sum of several that have these counts together."""
        if counts.shape != sums.shape:
            raise ConfigError(
                f"counts have the shape {tuple(counts.shape)}, not {tuple(sums.shape)}", "see label_counts"
            )
        for position in self._active:
            term = self.terms[position]
            if not term.is_linear:
                raise ConfigError(
                    f"the term '{term.name}' ({type(term.metric).__name__}) of the loss is no mean or sum, so its "
                    "value over several batches of a step is not the sum of their shares",
                    "take one batch for each step of the optimizer, or another function, such as mse",
                )
        return self._sum_weighted(self._sums.compute_values(sums, counts, {})[0])

    def update(self, prediction: Graph, target: Graph) -> None:
        """Add a batch to the epoch.

        Raises:
            DataError: If the target lacks a label that a metric needs, or shapes do not match.
            ModelError: If the prediction lacks a field that a metric needs.
        """
        with torch.no_grad():
            self._accumulate_batch(prediction, target, step=False)

    def step(
        self, prediction: Graph, target: Graph, sync: bool | None = None, counts: Tensor | None = None
    ) -> dict[str, Tensor]:
        """Add a batch to the epoch, and give the values of this batch.

        With several processes, the values are those of the global batch, and ``weighted_sum * world_size`` is the loss
        whose gradients, averaged by DistributedDataParallel, are those of the global batch's weighted sum.

        Args:
            prediction: What the model predicts.
            target: The labels.
            sync: Overrides the manager's own setting.
            counts: Sum of :meth:`label_counts` over all batches of the step of the optimizer and over all processes,
                shape (slots,). ``weighted_sum`` is then what this batch adds to that of all of them together; the
                other values, and the epoch's, are the same as without.

        Returns:
            Values by name, float64, shape (); ``weighted_sum`` if any coefficient is larger than 0. It and the terms
            in it carry their graph; observed terms do not.

        Raises:
            ConfigError: If ``counts`` are given and a term of the weighted sum is neither a mean nor a sum.
            DataError: If the target lacks a label that a metric needs, or shapes do not match.
            ModelError: If the prediction lacks a field that a metric needs.
        """
        batch = self._accumulate_batch(prediction, target, step=True)
        shared = (self.sync if sync is None else sync) and is_distributed()
        if isinstance(batch, BatchErrors):
            return self._evaluate_closed_form(batch, shared, counts)
        totals = self._sums.sum_processes(*batch) if shared else batch
        values, has_value = self._sums.compute_values(*totals)
        result = self._name_values(values, has_value)
        if counts is not None and self._active:
            result[WEIGHTED_SUM] = self._compute_share(totals[0], counts)
        self._last_step.values, self._last_step.has_value = values.detach(), has_value
        return result

    def _evaluate_closed_form(self, errors: BatchErrors, shared: bool, counts: Tensor | None) -> dict[str, Tensor]:
        """What :meth:`step` gives, of errors in closed form; ``shared``: with those of the other processes."""
        sums, divisors = errors.sums, errors.counts
        if shared:
            totals = self._sums.sum_processes(*errors.totals)
            sums, divisors = totals[0].tolist(), totals[1].tolist()
        values, result = errors.compute_means(sums, divisors)
        if counts is not None and self._active:
            result[WEIGHTED_SUM] = self._compute_share(torch.tensor(sums, dtype=torch.float64), counts)
        elif self._active:
            result[WEIGHTED_SUM] = errors.sum_weighted(values, self._coeffs)
        if self._active and torch.is_grad_enabled():
            errors.attach_gradient(result, self._coeffs, divisors, divisors if counts is None else counts.tolist())
        self._last_step.values, self._last_step.has_value = values, self._sums.mark_slots(divisors)
        return result

    @property
    def in_step(self) -> Tensor:
        """Which terms had a valid label in the last :meth:`step`, shape (terms,), on the device."""
        return self._last_step.pick_existing(self._sums.value_index)

    @property
    def step_values(self) -> Tensor | None:
        """Values of the terms in the last :meth:`step`, shape (terms,), 0 where ``in_step`` is false."""
        return self._last_step.pick_values(self._sums.value_index)

    def forward(self, prediction: Graph, target: Graph) -> dict[str, Tensor]:
        """The same as :meth:`step`."""
        return self.step(prediction, target)

    # --- epochs

    @torch.no_grad()
    def compute(self) -> dict[str, Tensor]:
        """Values of everything since the last :meth:`reset`, over all processes; float64, shape ().

        In a distributed run every process must call it.
        """
        totals: Totals = (self._sums.sums, self._sums.counts, self._sums.bins)
        if self.sync:
            totals = self._sums.sum_processes(*totals)
        sums, counts, bins = totals[0].clone(), totals[1].clone(), totals[2]
        for position, metric in enumerate(self._sums.metrics):
            slot = self._sums.first[position]
            if metric is None and counts[slot] > 0:
                sums[slot], counts[slot] = torchmetrics_adapter.compute(self.terms[position]), 1.0
        values, has_value = self._sums.compute_values(sums, counts, bins)
        result = self._name_values(values, has_value)
        self.in_epoch = pick_values(has_value, self._sums.value_index)
        if self._active:
            any_weighted = pick_values(has_value, self._active_values).any()
            result[WEIGHTED_SUM] = torch.where(any_weighted, result[WEIGHTED_SUM], torch.nan)
        return result

    def running_state(self) -> dict[str, Any]:
        """Sums and counts of this process since the last :meth:`reset`: plain tensors, as a checkpoint can hold them.

        What is given does not change with later batches.
        """
        return self._sums.running_state() | torchmetrics_adapter.running_state(self._foreign_metrics)

    def set_running_state(self, state: Mapping[str, Any]) -> None:
        """Go back to what :meth:`running_state` gave.

        Raises:
            ConfigError: If it is that of other metrics.
        """
        states = self.running_state()
        if states.keys() != state.keys() or states["sums"].shape != state["sums"].shape:
            raise ConfigError("the sums kept for the metrics are those of other metrics", "give both the same metrics")
        self._sums.set_running_state(state)
        torchmetrics_adapter.set_running_state(self._foreign_metrics, state)

    def add_running_state(self, state: Mapping[str, Any]) -> None:
        """Add what another process had summed; a foreign metric, whose states do not add up, begins anew."""
        self._sums.add_running_state(state)

    def reset(self) -> None:
        """Start a new epoch."""
        self._sums.reset()
        for metric in self._foreign_metrics:
            metric.reset()
