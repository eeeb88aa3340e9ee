import math

import pytest

from nequip_like.data.inspection.reference_fit import fit_references


def test_what_is_left_of_each_frame(make_graph):
    """H -1 eV, O -5 eV, and a bond of 0.3 eV/atom in one frame of three; the isolated atom takes no part."""
    places = [[2.0 * i, 0, 0] for i in range(3)]
    frames = [
        make_graph("H2O", places, total_energy=[[-7.0]]),
        make_graph("H2", places[:2], total_energy=[[-2.0]]),
        make_graph("O2", places[:2], total_energy=[[-10.0]]),
        make_graph("O", places[:1], total_energy=[[-99.0]]),
        make_graph("H2", places[:2]),
    ]
    fit = fit_references(frames)
    assert fit.reference.energies == pytest.approx({"H": -1.0, "O": -5.0})
    assert fit.residuals[:3].tolist() == pytest.approx([0, 0, 0], abs=1e-12)
    assert all(math.isnan(float(value)) for value in fit.residuals[3:])
    assert fit.isolated == (3,)


def test_one_composition(make_graph):
    frames = [make_graph("HO", [[0, 0, 0], [0, 0, 1.0]], total_energy=[[energy]]) for energy in (-6.0, -6.4)]
    fit = fit_references(frames)
    assert fit.reference.rule == "per_atom_energy_mean"
    assert fit.residuals.tolist() == pytest.approx([0.1, -0.1])
    assert fit_references([make_graph("H", [[0, 0, 0]], total_energy=[[-13.6]])]) is None
