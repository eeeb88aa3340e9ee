"""Labels are the teacher's, structures within their bounds, and what is left out is counted."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import ase.io
import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.calculators.calculator import CalculationFailed
from ase.calculators.emt import EMT

from nequip_like.data.dataset import load_dataset
from nequip_like.errors import ConfigError
from nequip_like.workflow.pretrain import jobs, labelling
from nequip_like.workflow.pretrain.dynamics import strain
from nequip_like.workflow.pretrain.geometries import is_too_close
from nequip_like.workflow.pretrain.labelling import Labeller, TeacherSet, write_frames
from nequip_like.workflow.pretrain.teachers import Teacher, build_teacher

APART = Teacher("emt", EMT(), works_apart=True)


@pytest.fixture(scope="module")
def starts() -> list[Atoms]:
    rng = np.random.default_rng(0)
    frames = [strain(bulk("Cu", a=3.6, cubic=True), rng) for _ in range(6)]
    for atoms in frames:
        atoms.positions += rng.normal(scale=0.05, size=(4, 3))
    return frames


@pytest.fixture(scope="module")
def done(starts: list[Atoms]) -> TeacherSet:
    return Labeller(Teacher("emt", EMT()), starts, seed=1, temperature=400.0).collect(30)


@pytest.fixture(scope="module")
def two(starts: list[Atoms]) -> TeacherSet:
    """As ``done``, by two processes."""
    return Labeller(APART, starts, seed=1, temperature=400.0, processes=2).collect(30)


def test_labels_are_the_calculators(done: TeacherSet) -> None:
    assert len(done.frames) == done.wanted == 30
    for atoms in done.frames:
        assert not is_too_close(atoms)
        again = atoms.copy()
        again.calc = EMT()
        assert atoms.get_potential_energy() == pytest.approx(again.get_potential_energy(), abs=1e-10)
        assert np.allclose(atoms.get_forces(), again.get_forces(), atol=1e-10)
        assert np.allclose(atoms.get_stress(), again.get_stress(), atol=1e-10)
        assert np.linalg.norm(atoms.get_forces(), axis=1).max() <= 30.0


def test_two_kinds_of_structures(done: TeacherSet, starts: list[Atoms]) -> None:
    """All 6 training frames, which may be a fifth of 30; the rest is thermal."""
    origins = [str(atoms.info["origin"]) for atoms in done.frames]
    assert {kind: origins.count(kind) for kind in origins} == {"training": 6, "thermal": 24}
    own = {atoms.positions.tobytes() for atoms in done.frames if atoms.info["origin"] == "training"}
    assert own == {atoms.positions.tobytes() for atoms in starts}
    assert "30 frames (6 training, 24 thermal; dynamics at 400 K; " in done.describe()


def test_the_same_seed_gives_the_same_set(done: TeacherSet, starts: list[Atoms]) -> None:
    again = Labeller(Teacher("emt", EMT()), starts, seed=1, temperature=400.0).collect(30)
    assert all(np.array_equal(a.positions, b.positions) for a, b in zip(done.frames, again.frames, strict=True))
    other = Labeller(Teacher("emt", EMT()), starts, seed=2, temperature=400.0).collect(30)
    assert not np.array_equal(done.frames[-1].positions, other.frames[-1].positions)


@pytest.mark.parametrize("processes", [1, 3])
def test_processes_side_by_side_change_nothing(processes: int, starts: list[Atoms], two: TeacherSet) -> None:
    """To the last bit, though trajectories end in any order."""
    apart = Labeller(APART, starts, seed=1, temperature=400.0, processes=processes).collect(30)
    assert apart.processes == processes
    for one, other in zip(apart.frames, two.frames, strict=True):
        assert one.info == other.info
        assert np.array_equal(one.positions, other.positions)
        assert np.array_equal(one.get_forces(), other.get_forces())
        assert np.array_equal(one.get_stress(), other.get_stress())


def test_processes_label_as_this_one_does(done: TeacherSet, two: TeacherSet) -> None:
    assert two.describe().endswith(" ms a label in each of 2 processes)")
    for one, other in zip(done.frames, two.frames, strict=True):
        assert np.allclose(one.positions, other.positions, atol=1e-8)
        assert np.allclose(one.get_forces(), other.get_forces(), atol=1e-6)


def test_a_molecule_keeps_its_frames_once() -> None:
    """A trajectory begins with the frame's own label where it is not known: 8 are labelled first, 32 are left."""
    rng = np.random.default_rng(0)
    starts = [Atoms("CuAg", [[0, 0, 0], [0, 0, 2.4 + 0.1 * rng.random()]]) for _ in range(40)]
    for atoms in starts:
        atoms.rotate(360 * rng.random(), "x")
    done = Labeller(Teacher("emt", EMT()), starts, seed=1).collect(40)
    origins = [atoms.info["origin"] for atoms in done.frames]
    assert origins == ["training"] * 8 + ["training", "thermal"] * 16
    own = [atoms.positions.tobytes() for atoms in done.frames if atoms.info["origin"] == "training"]
    assert len(set(own)) == 24
    assert set(own) <= {atoms.positions.tobytes() for atoms in starts}
    assert 300.0 <= done.temperature <= 3000.0


def test_the_file_is_read_as_training_data(done: TeacherSet, tmp_path: Path) -> None:
    path = tmp_path / "teacher.xyz"
    write_frames(path, done.frames)
    dataset = load_dataset(path, ["Cu"], cutoff=4.0)
    for frame, atoms in zip(dataset.frames, done.frames, strict=True):
        assert float(frame["total_energy"]) == pytest.approx(atoms.get_potential_energy(), abs=1e-6)
        assert np.allclose(frame["forces"].numpy(), atoms.get_forces(), atol=1e-6)
        assert np.allclose(frame["stress"][0].numpy(), atoms.get_stress(voigt=False), atol=1e-6)
    assert ase.io.read(path, ":")[-1].info["origin"] == "thermal"


class Fickle(EMT):
    """Fails for each structure that it is asked about after the first 12."""

    def calculate(self, *arguments: Any, **named: Any) -> None:
        self.asked = getattr(self, "asked", 0) + 1
        if self.asked > 12:
            raise CalculationFailed("no convergence")
        super().calculate(*arguments, **named)


def test_failures_are_counted_and_told(starts: list[Atoms]) -> None:
    with pytest.raises(ConfigError) as caught:
        Labeller(Teacher("fickle", Fickle()), starts, 0, temperature=400.0).collect(30)
    assert caught.value.message.startswith(
        "pretrain.teacher fickle labelled only 12 structures: 12 frames of 30 wanted (6 training, 6 thermal; dynamics "
        "at 400 K; "
    )
    assert caught.value.message.endswith("; left out: 23 the teacher failed (no convergence)")


@pytest.mark.parametrize(("largest", "reason"), [(1.5, "forces too large"), (1e9, "atoms too close")])
def test_steep_and_close_structures_are_left_out(
    largest: float, reason: str, starts: list[Atoms], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jobs, "LARGEST_FORCE", largest)
    squeezed = starts[0].copy()
    squeezed.positions[1] = squeezed.positions[0] + 0.5
    done = Labeller(Teacher("emt", EMT()), [*starts, squeezed], 0, temperature=400.0).collect(40)
    assert done.refused[reason] >= 1
    assert not any(is_too_close(atoms) for atoms in done.frames)
    assert max(np.linalg.norm(atoms.get_forces(), axis=1).max() for atoms in done.frames) <= largest
    assert "left out: " in done.describe()


class Lame(EMT):
    """Knows the frames of ``starts``, and nothing beside them."""

    def __init__(self, starts: list[Atoms]) -> None:
        super().__init__()
        self.known = {atoms.positions.tobytes() for atoms in starts}

    def calculate(self, atoms: Any = None, *arguments: Any, **named: Any) -> None:
        if atoms.positions.tobytes() not in self.known:
            raise CalculationFailed("no convergence")
        super().calculate(atoms, *arguments, **named)


def test_no_temperature_can_be_found(starts: list[Atoms]) -> None:
    with pytest.raises(ConfigError) as caught:
        Labeller(Teacher("lame", Lame(starts)), starts, 0).collect(30)
    assert caught.value.message == (
        "pretrain.teacher lame fails beside the training frames, which says how hot the data are: no convergence"
    )
    assert caught.value.advice == "give the temperature in K: pretrain.temperature=500"


def test_a_teacher_that_fails_always(starts: list[Atoms]) -> None:
    calculator = Fickle()
    calculator.asked = 100
    with pytest.raises(ConfigError, match=r"fickle cannot label the training frames: no convergence"):
        Labeller(Teacher("fickle", calculator), starts, 0).collect(30)


def test_next_to_no_time(starts: list[Atoms]) -> None:
    """Labels are measured first: with next to no time a pretraining is refused."""
    with pytest.raises(ConfigError, match=r"in the 0 s for labels there is time for 5"):
        Labeller(Teacher("emt", EMT()), starts, 0, 400.0, seconds=1e-4).collect(2000)


def test_elements_that_a_teacher_lacks() -> None:
    with pytest.raises(ConfigError, match=r"pretrain.teacher is emt, which does not know Mo, Si of the training data"):
        build_teacher("emt", (), ["Cu", "Mo", "Si"])


def test_a_model_file_is_a_teacher(make_potential: Any, tmp_path: Path) -> None:
    from nequip_like.inference import model_file

    path = tmp_path / "model.safetensors"
    model_file.save(make_potential(type_names=["Cu"]), path)
    teacher = build_teacher(str(path), (), ["Cu"])
    assert teacher.gives_stress
    atoms = bulk("Cu", a=3.6, cubic=True)
    atoms.calc = teacher.calculator
    assert np.isfinite(atoms.get_potential_energy())
    with pytest.raises(ConfigError, match=r"which does not know Ag of the training data"):
        build_teacher(str(path), (), ["Cu", "Ag"])


def test_tight_binding() -> None:
    """GFN2-xTB of a water molecule: -5.07 Hartree, and forces that are the derivative of the energy."""
    pytest.importorskip("tblite")
    teacher = build_teacher("gfn2", (), ["H", "O"])
    water = Atoms("OH2", [[0, 0, 0], [0.96, 0, 0], [-0.24, 0.93, 0]])
    water.calc = teacher.calculator
    assert water.get_potential_energy() == pytest.approx(-137.97, abs=0.05)
    force, step = water.get_forces()[1, 0], 1e-3
    energies = []
    for sign in (1, -1):
        moved = water.copy()
        moved.positions[1, 0] += sign * step
        moved.calc = teacher.calculator
        energies.append(moved.get_potential_energy())
    assert force == pytest.approx((energies[1] - energies[0]) / (2 * step), abs=1e-3)
    with pytest.raises(ConfigError, match=r"which does not know U of the training data"):
        build_teacher("gfn1", (), ["U"])


class Slow(EMT):
    """Takes as long for a label as the test says, on a clock of its own."""

    def __init__(self, clock: list[float]) -> None:
        super().__init__()
        self.clock = clock

    def calculate(self, *arguments: Any, **named: Any) -> None:
        self.clock[0] += 0.1
        super().calculate(*arguments, **named)


def test_fewer_frames_in_little_time(starts: list[Atoms], monkeypatch: pytest.MonkeyPatch) -> None:
    """0.1 s a label: 6 of the user's own, and 10.05 s are enough for 94 thermal ones."""
    clock = [0.0]
    monkeypatch.setattr(labelling.time, "monotonic", lambda: clock[0])
    done = Labeller(Teacher("slow", Slow(clock)), starts, 0, 400.0, seconds=10.05).collect(2000)
    assert len(done.frames) == 100
    assert clock[0] <= 10.05
    assert done.describe().startswith("100 frames of 2000 wanted: no time for more (6 training, 94 thermal; ")
    assert done.seconds == pytest.approx(0.1)
