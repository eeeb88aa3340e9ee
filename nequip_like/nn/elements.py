"""How alike chemical elements are, so that what a model learns of one tells it something of its neighbours."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from ase.data import atomic_numbers, covalent_radii
from torch import Tensor

from nequip_like.data.species import are_many

EmbeddingStart = Literal["random", "chemistry", "auto"]

# Pauling's electronegativities of hydrogen to curium (CRC Handbook of Chemistry and Physics; of helium, neon and argon,
# which have none, Allen's: J. Am. Chem. Soc. 111, 9003, 1989).
# fmt: off
_ELECTRONEGATIVITIES = (
    2.20, 4.16,
    0.98, 1.57, 2.04, 2.55, 3.04, 3.44, 3.98, 4.79,
    0.93, 1.31, 1.61, 1.90, 2.19, 2.58, 3.16, 3.24,
    0.82, 1.00, 1.36, 1.54, 1.63, 1.66, 1.55, 1.83, 1.88, 1.91, 1.90, 1.65, 1.81, 2.01, 2.18, 2.55, 2.96, 3.00,
    0.82, 0.95, 1.22, 1.33, 1.60, 2.16, 1.90, 2.20, 2.28, 2.20, 1.93, 1.69, 1.78, 1.96, 2.05, 2.10, 2.66, 2.60,
    0.79, 0.89, 1.10, 1.12, 1.13, 1.14, 1.13, 1.17, 1.20, 1.20, 1.10, 1.22, 1.23, 1.24, 1.25, 1.10, 1.27,
    1.30, 1.50, 2.36, 1.90, 2.20, 2.20, 2.28, 2.54, 2.00, 1.62, 2.33, 2.02, 2.00, 2.20, 2.20,
    0.70, 0.90, 1.10, 1.30, 1.50, 1.38, 1.36, 1.28, 1.30, 1.30,
)
# fmt: on
_NOBLE_GASES = (0, 2, 10, 18, 36, 54, 86)
# Differences of electronegativity, covalent radius (Angstrom), period, and s, p, d, f electrons that count the same.
_SCALES = (0.6, 0.35, 2.0, 1.0, 2.0, 4.0, 10.0)
_RANGE = 1.5  # of these, over which elements are alike
_OWN = 1e-4  # share of its variance that each element has for itself, so that the matrix has an inverse


def count_valence_electrons(number: int) -> tuple[int, int, int, int, int]:
    """Period, and s, p, d and f electrons in the order of filling; a full d or f shell below another is core.

    Args:
        number: Atomic number.

    Example:
        Silicon and tin differ in the period only; copper has a full d shell, which is no core:

        >>> [count_valence_electrons(number) for number in (14, 50, 29)]
        [(3, 2, 2, 0, 0), (5, 2, 2, 0, 0), (4, 2, 0, 9, 0)]
    """
    period = sum(number > noble for noble in _NOBLE_GASES)
    left = number - _NOBLE_GASES[period - 1]
    s = min(left, 2)
    left -= s
    f = min(left, 14) if period >= 6 else 0
    left -= f
    d = min(left, 10) if period >= 4 else 0
    p = left - d
    return period, s, p, 0 if p else d, 0 if d else f


def compute_similarities(type_names: Sequence[str]) -> Tensor:
    """How alike species are, shape (types, types), float64: 1 for the same, near 0 for those that share nothing.

    ``exp(-|x_i - x_j|^2 / (2 * 1.5^2))``, with ``x`` the electronegativity over 0.6, the covalent radius over 0.35
    Angstrom, the period over 2, and the numbers of s, p, d and f electrons over 1, 2, 4 and 10. A name that is no
    element up to curium is like no other.

    Args:
        type_names: The species.

    Example:
        Sulfur is like selenium, and not like sodium:

        >>> similarities = compute_similarities(["S", "Se", "Na"])
        >>> [round(value, 2) for value in similarities[0].tolist()]
        [1.0, 0.91, 0.03]
    """
    result = torch.eye(len(type_names), dtype=torch.float64)
    numbers = [atomic_numbers.get(name, 0) for name in type_names]
    known = [i for i, number in enumerate(numbers) if 0 < number <= len(_ELECTRONEGATIVITIES)]
    properties = torch.tensor(
        [
            (_ELECTRONEGATIVITIES[z - 1], float(covalent_radii[z]), *count_valence_electrons(z))
            for z in (numbers[i] for i in known)
        ],
        dtype=torch.float64,
    ).reshape(len(known), len(_SCALES))
    properties = properties / torch.tensor(_SCALES, dtype=torch.float64)
    squares = (properties.unsqueeze(1) - properties).square().sum(dim=2)
    result[torch.tensor(known).unsqueeze(1), known] = torch.exp(-0.5 * squares / _RANGE**2)
    return result


def starts_from_chemistry(start: EmbeddingStart, type_names: Sequence[str]) -> bool:
    """Whether similar species are to start alike; ``auto`` says so for twenty species or more.

    Example:
        >>> starts_from_chemistry("auto", ["H", "C", "N", "O"]), starts_from_chemistry("chemistry", ["H", "C"])
        (False, True)
    """
    return start == "chemistry" or (start == "auto" and are_many(type_names))


def correlate_rows(rows: Tensor, type_names: Sequence[str]) -> Tensor:
    """Give rows of independent unit normals the correlations of their species; each entry stays a unit normal.

    Args:
        rows: Shape (types, features).
        type_names: The species.
    """
    own = torch.eye(len(type_names), dtype=torch.float64)
    correlations = (1 - _OWN) * compute_similarities(type_names) + _OWN * own
    return (torch.linalg.cholesky(correlations) @ rows.to(torch.float64)).to(rows.dtype)
