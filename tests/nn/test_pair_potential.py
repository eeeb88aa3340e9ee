import math

import pytest
import torch

from nequip_like.errors import ConfigError
from nequip_like.nn.pair_potential import ZBL, build_pair_potential


def zbl_by_hand(z1, z2, r, k=14.399645):
    """Ziegler, Biersack, Littmark 1985."""
    a = 0.46850 / (z1**0.23 + z2**0.23)
    terms = ((0.18175, 3.19980), (0.50986, 0.94229), (0.28022, 0.40290), (0.02817, 0.20162))
    return k * z1 * z2 / r * sum(weight * math.exp(-decay * r / a) for weight, decay in terms)


def envelope(x, p=6):
    return 1 - (p + 1) * (p + 2) / 2 * x**p + p * (p + 2) * x ** (p + 1) - p * (p + 1) / 2 * x ** (p + 2)


def pair_energy(zbl, types, r, cutoff=5.0):
    length = torch.tensor([r, r], dtype=torch.float64)
    return zbl(length, length / cutoff, torch.tensor(types), torch.tensor([0, 1]), torch.tensor([1, 0]))


@pytest.mark.parametrize("r", [0.3, 1.1, 2.5, 4.9])
def test_closed_form(r):
    energies = pair_energy(ZBL(["H", "Si"]), [1, 0], r)
    total = zbl_by_hand(14, 1, r) * envelope(r / 5.0)
    assert energies.dtype == torch.float64
    # Each atom has half of the pair's energy.
    assert energies.tolist() == pytest.approx([total / 2, total / 2], rel=1e-13)


def test_units_species_and_exponent():
    zbl = ZBL(["A", "B"], units="real", chemical_species=["C", "Cu"], polynomial_cutoff_p=4)
    total = zbl_by_hand(6, 29, 1.7, k=332.06371) * envelope(1.7 / 5.0, 4)
    assert float(pair_energy(zbl, [0, 1], 1.7).sum()) == pytest.approx(total, rel=1e-13)


def test_zero_beyond_the_cutoff_and_without_edges():
    zbl = ZBL(["C"])
    assert pair_energy(zbl, [0, 0], 5.0).tolist() == [0.0, 0.0]
    assert pair_energy(zbl, [0, 0], 7.0).tolist() == [0.0, 0.0]
    nothing, empty = torch.zeros(0, dtype=torch.float64), torch.zeros(0, dtype=torch.int64)
    assert zbl(nothing, nothing, torch.tensor([0, 0]), empty, empty).tolist() == [0.0, 0.0]
    assert not zbl.state_dict()


def test_build():
    assert build_pair_potential(None, ["C"]) is None
    for config in ("zbl", "ZBL", {"name": "zbl"}, {"_target_": "nequip.nn.pair_potential.ZBL", "units": "metal"}):
        built = build_pair_potential(config, ["C", "H"])
        assert isinstance(built, ZBL)
        assert built.prefactor == 14.399645 / 2
        assert built.numbers.tolist() == [6.0, 1.0]


@pytest.mark.parametrize(
    ("config", "types", "message"),
    [
        ("lj", ["C"], "unknown pair potential 'lj'"),
        ({"name": "zbl", "strength": 2}, ["C"], "pair_potential: .*strength"),
        ("zbl", ["C1"], "the element of each type, but got C1"),
        ({"name": "zbl", "chemical_species": ["C"]}, ["A", "B"], "but got C for A, B"),
        ({"name": "zbl", "units": "Ha"}, ["C"], "units are 'Ha'"),
    ],
)
def test_errors(config, types, message):
    with pytest.raises(ConfigError, match=message):
        build_pair_potential(config, types)
