"""How alike elements are, and embeddings that start from it."""

from __future__ import annotations

import pytest
import torch
from ase.data import chemical_symbols

from nequip_like.nn.elements import compute_similarities, correlate_rows, count_valence_electrons

ALL = chemical_symbols[1:97]


@pytest.mark.parametrize(
    ("symbol", "expected"),
    [
        ("H", (1, 1, 0, 0, 0)),
        ("He", (1, 2, 0, 0, 0)),
        ("O", (2, 2, 4, 0, 0)),
        ("Fe", (4, 2, 0, 6, 0)),
        ("Zn", (4, 2, 0, 10, 0)),
        ("Ga", (4, 2, 1, 0, 0)),
        ("Gd", (6, 2, 0, 0, 8)),
        ("Hf", (6, 2, 0, 2, 0)),
        ("Pb", (6, 2, 2, 0, 0)),
        ("U", (7, 2, 0, 0, 4)),
    ],
)
def test_valence_electrons(symbol: str, expected: tuple[int, ...]) -> None:
    assert count_valence_electrons(chemical_symbols.index(symbol)) == expected


def test_the_formula_by_hand() -> None:
    """Lithium and sodium: electronegativities 0.98 and 0.93, radii 1.28 and 1.66 Angstrom, one period apart."""
    squares = (0.05 / 0.6) ** 2 + (0.38 / 0.35) ** 2 + (1 / 2) ** 2
    expected = torch.tensor(-squares / (2 * 1.5**2), dtype=torch.float64).exp()
    torch.testing.assert_close(compute_similarities(["Li", "Na"])[0, 1], expected, rtol=1e-12, atol=0.0)


@pytest.mark.parametrize(
    ("symbol", "like"),
    [("Ce", {"La", "Pr"}), ("Si", {"Ge", "P"}), ("Mn", {"Cr", "Fe"}), ("S", {"Se", "P"}), ("W", {"Mo", "Os"})],
)
def test_the_two_most_alike(symbol: str, like: set[str]) -> None:
    row = compute_similarities(ALL)[ALL.index(symbol)]
    assert {ALL[i] for i in row.argsort(descending=True)[1:3]} == like


def test_what_is_no_element_is_like_no_other() -> None:
    similarities = compute_similarities(["Species", "O", "Bk", "N"])
    apart = torch.tensor([[1, 0, 0], [0, 1, 0], [0, 0, 1]], dtype=torch.float64)
    assert torch.equal(similarities[:3, :3], apart)
    assert similarities[1, 3] > 0.8


def test_rows_keep_their_variance_and_get_the_correlations() -> None:
    torch.manual_seed(0)
    rows = correlate_rows(torch.randn(len(ALL), 100_000), ALL)
    assert rows.dtype == torch.float32
    found = rows.to(torch.float64) @ rows.to(torch.float64).T / rows.shape[1]
    # 1 / sqrt(100 000) is 0.003; five of these.
    torch.testing.assert_close(found, compute_similarities(ALL), rtol=0.0, atol=0.016)
