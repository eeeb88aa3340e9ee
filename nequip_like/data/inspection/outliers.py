"""Frames whose values lie far from those of the others, by statistics that outliers do not change.

The score of a value is ``0.6745 |x - median| / MAD``, with MAD the median of ``|x - median|``: the modified z-score
(Iglewicz and Hoaglin, How to Detect and Handle Outliers, 1993), which is the number of standard deviations where values
are normal. Forces and stress, whose sizes differ by factors, are compared by their logarithms, and only large ones
count.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from nequip_like.data.inspection.measure import FrameFacts

STATISTIC = "modified z-score: 0.6745 |x - median| / MAD"
FARTHEST = 10.0  # score; normal values come to 4 or 5, those of molecular dynamics to 8
_FEWEST = 20  # values, to know what is usual
_DIGITS = 1e-9  # of the median; less is no difference


@dataclass(frozen=True)
class Outlier:
    """A value far from the others.

    Attributes:
        quantity: What it is of, with its unit.
        value: In that unit.
        score: How far it is from the others.
        frame: Index of the frame.
    """

    quantity: str
    value: float
    score: float
    frame: int


def find_outliers(facts: FrameFacts, residuals: torch.Tensor | None) -> list[Outlier]:
    """Find values that are outliers, the farthest first.

    Args:
        facts: What was measured.
        residuals: Energies per atom without those of the species (frames,), eV/atom; NaN where there is none.
    """
    outliers: list[Outlier] = []
    if residuals is not None:
        outliers += _find_in("energy without that of the species, eV/atom", residuals, measure_scores(residuals, 0.01))
    for quantity, sizes in (("largest force, eV/Å", facts.largest_force), ("largest stress, eV/Å³", facts.stress)):
        logarithms = torch.where(sizes > 0, sizes, torch.nan).log()
        is_larger = logarithms > logarithms[~logarithms.isnan()].median() if bool((sizes > 0).any()) else sizes > 0
        outliers += _find_in(quantity, sizes, torch.where(is_larger, measure_scores(logarithms, 0.1), 0.0))
    return sorted(outliers, key=lambda outlier: -outlier.score)


def measure_scores(values: torch.Tensor, smallest: float = 0.0) -> torch.Tensor:
    """Modified z-scores of values; NaN where a value is.

    Args:
        values: Any numbers (values,).
        smallest: A MAD that is smaller counts as that, so that what is nearly constant has no outliers.

    Example:
        >>> [round(score, 1) for score in measure_scores(torch.tensor([1.0, 2.0, 3.0, 4.0, 104.0])).tolist()]
        [1.3, 0.7, 0.0, 0.7, 68.1]
    """
    known = values[~values.isnan()]
    if not len(known):
        return values
    centre = known.median()
    spread = (known - centre).abs().median().clamp(min=max(smallest, _DIGITS * float(centre.abs()), 1e-300))
    return 0.6745 * (values - centre).abs() / spread


def _find_in(quantity: str, values: torch.Tensor, scores: torch.Tensor) -> Sequence[Outlier]:
    if int((~scores.isnan()).sum()) < _FEWEST:
        return []
    places = torch.nonzero(scores > FARTHEST).flatten().tolist()
    return [Outlier(quantity, float(values[i]), float(scores[i]), i) for i in places]
