"""The work between frames, computed by hand."""

import numpy as np
import pytest
import torch

from nequip_like.data.inspection.near_frames import compute_work, join_works

K, REST = 5.0, 0.8  # of a spring, eV/Angstrom^2 and Angstrom


def join_parts(frames):
    return join_works([work for _, work in compute_work(frames)])


@pytest.fixture
def dimer(make_graph):
    def dimer(length, shift=0.0, **kwargs):
        pull = K * (length - REST)
        return make_graph(
            "HF",
            [[shift, 0, 0], [shift + length, 0, 0]],
            total_energy=[[K * (length - REST) ** 2 / 2]],
            forces=[[pull, 0, 0], [-pull, 0, 0]],
            **kwargs,
        )

    return dimer


def test_the_trapezoidal_rule_is_exact_for_a_spring(dimer):
    work = join_parts([dimer(0.9), dimer(1.1)])
    assert work.energy.tolist() == pytest.approx([K / 2 * (0.3**2 - 0.1**2)])  # 0.2 eV
    assert work.forces.tolist() == pytest.approx([0.2])
    assert work.stress.tolist() == [0.0]
    # 0.15 per Angstrom of the longest way (0.2) times the change of the work (0.3 - 0.1), and 0.2 meV for each atom
    assert work.error.tolist() == pytest.approx([0.15 * 0.2 * 0.2 + 4e-4])


def test_a_way_across_the_border_of_a_cell_is_short(dimer):
    box = {"cell": [5, 5, 5], "pbc": True}
    work = join_parts([dimer(0.9, shift=4.9, **box), dimer(1.1, shift=-0.1, **box)])
    assert work.forces.tolist() == pytest.approx([0.2])


def test_frames_that_are_far_from_each_other_or_lack_a_label_are_left_out(dimer, make_graph):
    assert len(join_parts([dimer(0.8), dimer(1.6)])) == 0
    assert len(join_parts([dimer(0.8), dimer(0.8)])) == 0  # the same frame twice
    lacking = {name: torch.full_like(dimer(0.9)[name], torch.nan) for name in ("forces", "total_energy")}
    for name, nothing in lacking.items():
        assert len(join_parts([dimer(0.8), dimer(0.9) | {name: nothing}])) == 0
    assert len(join_parts([make_graph("H", [[0, 0, 0]]), make_graph("He", [[0, 0, 0]])])) == 0
    assert len(join_parts([])) == 0


def test_the_work_of_a_pressure(make_graph):
    """One atom in a cube, under the same stress throughout: energy = 0.01 eV/Angstrom^3 times volume."""
    frames = [
        make_graph(
            "He",
            [[0, 0, 0]],
            cell=[edge] * 3,
            pbc=True,
            total_energy=[[0.01 * edge**3]],
            forces=[[0.0, 0.0, 0.0]],
            stress=[(0.01 * np.eye(3)).tolist()],
        )
        for edge in (3.0, 3.03)
    ]
    work = join_parts(frames)
    assert work.energy.tolist() == pytest.approx([0.01 * (3.03**3 - 27)])  # 8.18 meV
    # The trapezoidal rule of the virial over the strain: V (e - 1) at both ends, with e = 3.03 / 3.
    ends = 0.01 * 27 * 3 * 0.01, 0.01 * 3.03**3 * 3 * (0.03 / 3.03)
    assert work.stress.tolist() == pytest.approx([sum(ends) / 2], rel=1e-3)
    assert work.stress.tolist() == pytest.approx(work.energy.tolist(), rel=1e-3)
    assert work.dilation.tolist() == pytest.approx([sum(ends) / 2 / 0.01], rel=1e-3)
    without = [{name: value for name, value in frame.items() if name != "stress"} for frame in frames]
    assert len(join_parts(without)) == 0


def test_only_the_closest_frames_are_compared(dimer):
    assert (
        len(join_parts([dimer(0.8 + 0.01 * i) for i in range(10)])) == 11
    )  # 9 next ones, and for both ends the next but one
