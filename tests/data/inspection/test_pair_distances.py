import pytest

from nequip_like.data.dataset import GraphDataset
from nequip_like.data.inspection.coverage import count_coverage
from nequip_like.data.inspection.pair_distances import find_closest_pairs


@pytest.fixture
def dataset(make_graph):
    frames = [
        make_graph("OH2", [[0, 0, 0], [0.96, 0, 0], [-0.24, 0.93, 0]]),
        make_graph("OH", [[0, 0, 0], [0.9, 0, 0]]),
        make_graph("O", [[0, 0, 0]], cell=[1.6, 9, 9], pbc=True),
    ]
    return GraphDataset(frames, 2.0, ["H", "O"])


def test_closest_pairs(dataset):
    """Covalent radii: H 0.31, O 0.66 Angstrom. An atom's own image is a pair, too."""
    pairs = {pair.species: pair for pair in find_closest_pairs(dataset)}
    assert set(pairs) == {("H", "H"), ("H", "O"), ("O", "O")}
    assert pairs["H", "O"].distance == pytest.approx(0.9)
    assert pairs["H", "O"].ratio == pytest.approx(0.9 / 0.97)
    assert [pairs[species].frame for species in (("H", "O"), ("O", "O"), ("H", "H"))] == [1, 2, 0]
    assert pairs["O", "O"].distance == pytest.approx(1.6)
    assert [pair.species for pair in find_closest_pairs(dataset)] == [("H", "O"), ("O", "O"), ("H", "H")]


def test_coverage(dataset):
    assert [(c.symbol, c.frames, c.atoms) for c in count_coverage(dataset.frames)] == [("H", 2, 3), ("O", 3, 3)]
