"""Sums and counts of all terms of a metrics manager, over batches and processes, and the values that come of them.

Each term has a slot, or one for each of its types, in a vector of sums and in a vector of counts. So adding up batches,
gathering processes and dividing are a few operations on short vectors, however many terms there are.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from operator import add

import torch
from torch import Tensor

from nequip_like.distributed import gather, is_distributed
from nequip_like.metrics.distribution import BINS, AbsoluteErrorQuantile
from nequip_like.metrics.elementwise import ErrorMetric, mean_of
from nequip_like.metrics.terms import Term

Finalizer = Callable[[Tensor, Tensor], Tensor]
Totals = tuple[Tensor, Tensor, Mapping[int, Tensor]]  # sums, counts, and by position of a term its counts in bins


class Accumulator:
    """The sums of some terms since the last :meth:`reset`, float64.

    Slots whose sums are finalised by the same function lie side by side. Behind the slots, a vector of values has the
    aggregates of the terms that are per type.

    Args:
        terms: The terms.

    Attributes:
        order: Positions of the terms in the order of their slots.
        first: First slot of each term.
        metrics: The metric of each term, None if it is not one of this package.
        quantiles: Terms whose errors are counted in bins: position -> metric.
        value_index: Where the value of each term stands among the values, shape (terms,); see :meth:`index_values`.
        bins: Position of a term of ``quantiles`` -> its counts in bins, shape (slots of the term, bins).
    """

    def __init__(self, terms: Sequence[Term]) -> None:
        self.metrics = [term.metric if isinstance(term.metric, ErrorMetric) else None for term in terms]
        self.quantiles = {p: m for p, m in enumerate(self.metrics) if isinstance(m, AbsoluteErrorQuantile)}
        self._widths = [max(1, len(term.type_names)) for term in terms]
        groups: dict[Finalizer, list[int]] = {}
        for position, metric in enumerate(self.metrics):
            groups.setdefault(mean_of if metric is None else metric.finalizer, []).append(position)
        self.order = [position for positions in groups.values() for position in positions]
        self.first = [0] * len(terms)
        is_max: list[bool] = []
        self._groups: list[tuple[Finalizer, slice]] = []
        for finalizer, positions in groups.items():
            start = len(is_max)
            for position in positions:
                self.first[position] = len(is_max)
                is_max += [_takes_maximum(self.metrics[position])] * self._widths[position]
            self._groups.append((finalizer, slice(start, len(is_max))))
        self._has_max = any(is_max)
        self._is_max = torch.tensor(is_max)
        self._per_type = [position for position, term in enumerate(terms) if term.type_names]
        self._type_coeffs = [torch.tensor(terms[p].type_coeffs, dtype=torch.float64) for p in self._per_type]
        value_index = list(self.first)
        for extra, position in enumerate(self._per_type):
            value_index[position] = len(is_max) + extra
        self._places = value_index
        self._named = _place_names(terms, value_index, self.first)
        self._sums = torch.zeros(len(is_max), dtype=torch.float64)
        self._counts = torch.zeros_like(self._sums)
        self._numbers: tuple[list[float], list[float]] | None = None  # newer sums and counts than these
        self.value_index = self.index_values(range(len(terms)))
        self._all_slots = torch.ones(len(is_max), dtype=torch.bool)  # on a CPU
        self.bins = {p: torch.zeros(self._widths[p], BINS, dtype=torch.float64) for p in self.quantiles}

    @property
    def sums(self) -> Tensor:
        """Sums since the last :meth:`reset`, shape (slots,)."""
        return self._write_numbers()[0]

    @property
    def counts(self) -> Tensor:
        """What they are divided by, shape (slots,)."""
        return self._write_numbers()[1]

    def _write_numbers(self) -> tuple[Tensor, Tensor]:
        """Make tensors of what was added as numbers."""
        if self._numbers is not None:
            numbers = torch.tensor(self._numbers, dtype=torch.float64, device=self._sums.device)
            (self._sums, self._counts), self._numbers = numbers.unbind(), None
        return self._sums, self._counts

    def _set(self, sums: Tensor, counts: Tensor) -> None:
        self._sums, self._counts, self._numbers = sums, counts, None

    def to(self, device: torch.device) -> None:
        """Follow to another device."""
        self._set(self.sums.to(device), self.counts.to(device))
        self.bins = {position: counted.to(device) for position, counted in self.bins.items()}
        self.value_index = None if self.value_index is None else self.value_index.to(device)
        self._is_max = self._is_max.to(device)
        self._type_coeffs = [coeffs.to(device) for coeffs in self._type_coeffs]

    def select_slots(self, positions: Sequence[int]) -> list[bool]:
        """Which slots are those of the terms at these positions."""
        return [position in positions for position in self.order for _ in range(self._widths[position])]

    def index_values(self, positions: Sequence[int]) -> Tensor | None:
        """Where the values of these terms stand among the values; None if they are all values in their order."""
        places = [self._places[position] for position in positions]
        if places == list(range(len(self._sums) + len(self._per_type))):
            return None
        return torch.tensor(places, device=self._sums.device)

    # --- sums

    def add(self, sums: Tensor, counts: Tensor, bins: Mapping[int, Tensor]) -> None:
        """Add those of a batch; of maxima, take the larger."""
        before, added = self.sums, self.sums + sums
        total = torch.where(self._is_max, torch.maximum(before, sums), added) if self._has_max else added
        self._set(total, self.counts + counts)
        self.bins = {position: counted + bins[position] for position, counted in self.bins.items()}

    def add_numbers(self, sums: Sequence[float], counts: Sequence[float]) -> None:
        """Add those of a batch, of terms that have neither maxima nor bins, without an operation of torch."""
        before = self._numbers or (self._sums.tolist(), self._counts.tolist())
        self._numbers = list(map(add, before[0], sums)), list(map(add, before[1], counts))

    def reset(self) -> None:
        """Begin with zeros."""
        self._set(torch.zeros_like(self._sums), torch.zeros_like(self._counts))
        self.bins = {position: torch.zeros_like(counted) for position, counted in self.bins.items()}

    def running_state(self) -> dict[str, Tensor]:
        """The sums, as a checkpoint can hold them; batches replace these tensors and do not change them."""
        return {"sums": self.sums, "counts": self.counts, **{f"bins {p}": bins for p, bins in self.bins.items()}}

    def set_running_state(self, state: Mapping[str, Tensor]) -> None:
        """Go back to what :meth:`running_state` of the same terms gave."""
        device = self._sums.device
        self._set(state["sums"].to(device), state["counts"].to(device))
        self.bins = {position: state[f"bins {position}"].to(device) for position in self.bins}

    def add_running_state(self, state: Mapping[str, Tensor]) -> None:
        """Add what :meth:`running_state` of the same terms gave in another process."""
        device = self._sums.device
        bins = {position: state[f"bins {position}"].to(device) for position in self.bins}
        self.add(state["sums"].to(device), state["counts"].to(device), bins)

    def sum_processes(self, sums: Tensor, counts: Tensor, bins: Mapping[int, Tensor]) -> Totals:
        """Sums, counts and bins of all processes; the gradient is that of this process's share.

        Of a single process they are as they were.
        """
        if not is_distributed():
            return sums, counts, bins
        local = sums.detach()
        gathered = gather(torch.stack([local, counts]))
        all_sums, all_counts = gathered[:, 0], gathered[:, 1].sum(0)
        total = all_sums.sum(0)
        # Zero, with the gradient of `sums`; infinity - infinity would be NaN on one process only.
        share = torch.where(torch.isfinite(local), sums - local, 0.0)
        if self._has_max:
            total = torch.where(self._is_max, all_sums.amax(0), total)
            ties = (all_sums == total).sum(0).clamp(min=1)
            share = share * torch.where(self._is_max, (local == total) / ties, 1.0)
        return total + share, all_counts, {position: gather(counted).sum(0) for position, counted in bins.items()}

    # --- values

    def compute_values(self, sums: Tensor, counts: Tensor, bins: Mapping[int, Tensor]) -> tuple[Tensor, Tensor]:
        """Values of slots and aggregates.

        Args:
            sums: Shape (slots,).
            counts: Shape (slots,).
            bins: Position of a term of ``quantiles`` -> its counts in bins, shape (slots of the term, bins).

        Returns:
            The values, 0 where there is none, and which there are; shape (slots + aggregates,) each.
        """
        # On a CPU the question costs less than to leave out what is not there, in the values and in their gradient.
        complete = counts.device.type == "cpu" and all(count > 0 for count in counts.tolist())
        has_value = self._all_slots if complete else counts > 0
        safe = counts if complete else torch.where(has_value, counts, 1.0)
        if len(self._groups) == 1:
            values = self._groups[0][0](sums, safe)
        else:
            values = torch.cat([finalizer(sums[group], safe[group]) for finalizer, group in self._groups])
        for position, counted in bins.items():
            quantile = torch.zeros_like(values)
            quantile[self._slice(position)] = self.quantiles[position].quantile(counted)
            values = values + quantile
        values = values if complete else torch.where(has_value, values, 0.0)
        if not self._per_type:
            return values, has_value
        aggregates, any_present = [], []
        for position, coeffs in zip(self._per_type, self._type_coeffs, strict=True):
            types = self._slice(position)
            weights = coeffs * has_value[types]
            total = weights.sum()
            any_present.append(total > 0)
            aggregates.append((weights * values[types]).sum() / torch.where(total > 0, total, 1.0))
        return torch.cat([values, torch.stack(aggregates)]), torch.cat([has_value, torch.stack(any_present)])

    def mark_slots(self, counts: Sequence[float]) -> Tensor:
        """Which slots have a value, shape (slots,), from their counts as numbers."""
        return self._all_slots if all(count > 0 for count in counts) else torch.tensor([count > 0 for count in counts])

    def name_values(self, values: Tensor, has_value: Tensor) -> dict[str, Tensor]:
        """What :meth:`compute_values` gave, by the names of the terms and of their types; NaN where there is none."""
        complete = has_value is self._all_slots
        single = (values if complete else torch.where(has_value, values, torch.nan)).unbind()
        return {name: single[index] for name, index in self._named}

    def _slice(self, position: int) -> slice:
        return slice(self.first[position], self.first[position] + self._widths[position])


@dataclass
class LastStep:
    """What the last step gave; no attributes of a module, at which torch looks whenever they are set.

    Attributes:
        values: Of slots and aggregates, 0 where there is none: a tensor; or numbers, where each term is one slot.
        has_value: Which of them there are.
    """

    values: Tensor | list[float] | None = None
    has_value: Tensor | None = None

    def pick_existing(self, index: Tensor | None) -> Tensor:
        """Which terms had a valid label, shape (terms,); ``index`` is that of :meth:`Accumulator.index_values`."""
        return torch.ones(0, dtype=torch.bool) if self.has_value is None else pick_values(self.has_value, index)

    def pick_values(self, index: Tensor | None) -> Tensor | None:
        """Values of the terms, shape (terms,); None if there was no step."""
        values = torch.tensor(self.values, dtype=torch.float64) if isinstance(self.values, list) else self.values
        return None if values is None else pick_values(values, index)


def pick_values(values: Tensor, index: Tensor | None) -> Tensor:
    """The values that stand where :meth:`Accumulator.index_values` says."""
    return values if index is None else values[index]


def _takes_maximum(metric: ErrorMetric | None) -> bool:
    return metric is not None and metric.accumulates == "max"


def _place_names(terms: Sequence[Term], value_index: Sequence[int], first: Sequence[int]) -> list[tuple[str, int]]:
    """Names of the values of terms and of their types, in the order in which they are logged, and where each stands."""
    places: list[tuple[str, int]] = []
    for position, term in enumerate(terms):
        places.append((term.name, value_index[position]))
        places += [(name, first[position] + offset) for offset, name in enumerate(term.log_names[1:])]
    return places
