import numpy as np
import pytest
import torch
from ase import Atoms

from nequip_like.data.io.structures import graph_from_atoms
from nequip_like.data.reference_energies import add_residual, fit_least_squares, from_user
from nequip_like.data.tables import equations
from nequip_like.data.tables.frame_table import tabulate


@pytest.fixture
def frames():
    generator = np.random.default_rng(0)
    graphs = []
    for i in range(60):
        carbons, hydrogens, oxygens = generator.integers(1, 6, 3)
        atoms = Atoms(
            f"C{carbons}H{hydrogens}O{oxygens}", generator.normal(size=(carbons + hydrogens + oxygens, 3)) * 9
        )
        energy = -1000.0 * carbons - 13.0 * hydrogens - 2000.0 * oxygens + generator.normal()
        graphs.append(graph_from_atoms(atoms, frame_index=i) | {"total_energy": torch.tensor([[energy]]).double()})
    return graphs


def test_blocks_have_the_solution_of_all(frames, monkeypatch):
    """What streams over a set that is larger than memory is what a fit to all frames at once finds."""
    names = ["H", "C", "O"]
    whole = fit_least_squares(frames, names)
    table = tabulate(frames)
    fractions = table.compute_fractions([1, 6, 8], np.arange(60))
    direct = np.linalg.lstsq(fractions, table.energy / table.atoms, rcond=None)[0]
    monkeypatch.setattr(equations, "_BLOCK", 7)
    blocks = fit_least_squares(frames, names)
    assert list(whole.energies.values()) == pytest.approx(direct.tolist(), rel=1e-12)
    assert list(blocks.energies.values()) == pytest.approx(direct.tolist(), rel=1e-12)
    assert blocks.residual_rms == pytest.approx(whole.residual_rms, rel=1e-10)
    assert len(equations.set_up_equations(table, names).energies) == 4
    given = from_user(blocks.energies, names)
    assert add_residual(given, frames).residual_rms == pytest.approx(blocks.residual_rms, rel=1e-10)


def test_rare_species_in_blocks(frames, monkeypatch):
    rare = graph_from_atoms(Atoms("NH", [[0, 0, 0], [0, 0, 1.0]])) | {
        "total_energy": torch.tensor([[-1500.0]]).double()
    }
    names = ["H", "C", "N", "O"]
    whole = fit_least_squares([*frames, rare], names)
    monkeypatch.setattr(equations, "_BLOCK", 7)
    blocks = fit_least_squares([*frames, rare], names)
    assert "N (1)" in whole.warning
    assert blocks.warning == whole.warning
    assert list(blocks.energies.values()) == pytest.approx(list(whole.energies.values()), rel=1e-10)
