"""Where the sums of all terms stand in one vector, and how values come from it.

Each term has a slot, or one for each of its types, in a vector of sums and in a vector of counts. So adding up batches,
gathering processes and dividing are a few operations on short vectors, however many terms there are.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from nequip_like.distributed import gather
from nequip_like.metrics.distribution import AbsoluteErrorQuantile
from nequip_like.metrics.elementwise import ErrorMetric, mean_of
from nequip_like.metrics.terms import Term

Finalizer = Callable[[Tensor, Tensor], Tensor]


class Slots:
    """The plan of the vectors for some terms.

    Slots whose sums are finalised by the same function lie side by side. Behind the slots, a vector of values has the
    aggregates of the terms that are per type.

    Args:
        terms: The terms.

    Attributes:
        size: Number of slots.
        order: Positions of the terms in the order of their slots.
        first: First slot of each term.
        residual_key: For each term a number; terms with the same number share their residuals.
        value_index: Where the value of each term stands among the values.
        quantiles: Terms whose errors are counted in bins: position -> metric.
    """

    def __init__(self, terms: Sequence[Term]) -> None:
        self._terms = terms
        keys: list[tuple[object, ...]] = []
        groups: dict[Finalizer, list[int]] = {}
        self.residual_key: list[int] = []
        for position, term in enumerate(terms):
            groups.setdefault(_choose_finalizer(term), []).append(position)
            key = (term.modifier, term.ignore_nan, term.average)
            if key not in keys:
                keys.append(key)
            self.residual_key.append(keys.index(key))
        self.order: list[int] = []
        self.first = [0] * len(terms)
        self._groups: list[tuple[Finalizer, slice]] = []
        is_max: list[bool] = []
        for finalizer, positions in groups.items():
            start = len(is_max)
            for position in positions:
                self.order.append(position)
                self.first[position] = len(is_max)
                is_max += [_takes_maximum(terms[position])] * self.width(position)
            self._groups.append((finalizer, slice(start, len(is_max))))
        self.size = len(is_max)
        self._has_max = any(is_max)
        self._per_type = [position for position, term in enumerate(terms) if term.type_names]
        self.value_index = list(self.first)
        for extra, position in enumerate(self._per_type):
            self.value_index[position] = self.size + extra
        self.quantiles = {p: t.metric for p, t in enumerate(terms) if isinstance(t.metric, AbsoluteErrorQuantile)}
        self._is_max = torch.tensor(is_max)
        self._type_coeffs = [torch.tensor(terms[p].type_coeffs, dtype=torch.float64) for p in self._per_type]

    def width(self, position: int) -> int:
        """Number of slots of a term."""
        return max(1, len(self._terms[position].type_names))

    def to(self, device: torch.device) -> None:
        """Follow to another device."""
        self._is_max = self._is_max.to(device)
        self._type_coeffs = [coeffs.to(device) for coeffs in self._type_coeffs]

    def merge(self, sums: Tensor, other_sums: Tensor) -> Tensor:
        """Add up the sums of two parts, shape (slots,) each; of maxima, take the larger."""
        if not self._has_max:
            return sums + other_sums
        return torch.where(self._is_max, torch.maximum(sums, other_sums), sums + other_sums)

    def globalise(self, sums: Tensor, counts: Tensor) -> tuple[Tensor, Tensor]:
        """Sums and counts of all processes, in one collective; the gradient is that of this process's share."""
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
        return total + share, all_counts

    def compute_values(self, sums: Tensor, counts: Tensor, bins: Mapping[int, Tensor]) -> tuple[Tensor, Tensor]:
        """Values of slots and aggregates.

        Args:
            sums: Shape (slots,).
            counts: Shape (slots,).
            bins: Position of a term of ``quantiles`` -> its counts in bins, shape (slots of the term, bins).

        Returns:
            The values, 0 where there is none, and which there are; shape (slots + aggregates,) each.
        """
        has_value = counts > 0
        safe = torch.where(has_value, counts, 1.0)
        parts = [finalizer(sums[group], safe[group]) for finalizer, group in self._groups]
        values = parts[0] if len(parts) == 1 else torch.cat(parts)
        for position, counted in bins.items():
            quantile = torch.zeros_like(values)
            quantile[self._slice(position)] = self.quantiles[position].quantile(counted)
            values = values + quantile
        values = torch.where(has_value, values, 0.0)
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

    def name_values(self, values: Tensor, has_value: Tensor) -> dict[str, Tensor]:
        """What :meth:`compute_values` gave, by the names of the terms and of their types; NaN where there is none."""
        single = torch.where(has_value, values, torch.nan).unbind()
        result: dict[str, Tensor] = {}
        for position, term in enumerate(self._terms):
            result[term.name] = single[self.value_index[position]]
            for offset, name in enumerate(term.log_names[1:]):
                result[name] = single[self.first[position] + offset]
        return result

    def _slice(self, position: int) -> slice:
        return slice(self.first[position], self.first[position] + self.width(position))


def _choose_finalizer(term: Term) -> Finalizer:
    return term.metric.finalizer if isinstance(term.metric, ErrorMetric) else mean_of


def _takes_maximum(term: Term) -> bool:
    return isinstance(term.metric, ErrorMetric) and term.metric.accumulates == "max"
