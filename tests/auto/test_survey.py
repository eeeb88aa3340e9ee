"""What is found in data, and what is refused."""

import tarfile
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io import write

from nequip_like.auto.survey import Survey, check_memory, list_files
from nequip_like.data.datamodule import DataModule
from nequip_like.errors import DataError


def make_frames(number: int, **labels: object) -> list[Atoms]:
    """Hydrogen molecules of growing length; a label may be a function of the molecule."""
    frames = []
    for i in range(number):
        atoms = Atoms("H2", [[0, 0, 0], [0, 0, 0.7 + 0.01 * i]])
        atoms.calc = SinglePointCalculator(atoms, **labels)
        frames.append(atoms)
    return frames


def test_what_is_counted() -> None:
    data = DataModule(train=make_frames(8, energy=-31.0, forces=np.zeros((2, 3))), val=3, cutoff_radius=3.0)
    survey = Survey.of(data)
    assert (survey.frames, survey.atoms, survey.neighbors, survey.species) == (8, 2.0, 1.0, ("H",))
    assert survey.labels == {"total_energy": 8, "forces": 8}
    assert survey.periodic == 0


def test_frames_without_labels() -> None:
    frames = [Atoms("H2", [[0, 0, 0], [0, 0, 0.7 + 0.01 * i]]) for i in range(8)]
    data = DataModule(train=frames, cutoff_radius=3.0, reference_energies=None)
    with pytest.raises(DataError, match=r"no frame has an energy or forces.*\n.*data\.key_mapping"):
        Survey.of(data)


@pytest.mark.parametrize(("number", "words"), [(1, "there is one frame"), (4, "there are 4 frames")])
def test_too_few_frames(number: int, words: str) -> None:
    with pytest.raises(DataError, match=words):
        Survey.of(DataModule(train=make_frames(number, energy=-31.0), cutoff_radius=3.0))


def test_a_folder_stands_for_what_can_be_read_in_it(tmp_path: Path) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    write(tmp_path / "a" / "two.xyz", make_frames(2, energy=-31.0), format="extxyz")
    write(tmp_path / "a" / "b" / "one.traj", make_frames(1, energy=-31.0))
    (tmp_path / "a" / "INCAR.txt").write_text("ENCUT = 520\n")
    (tmp_path / "a" / "b" / "empty.xyz").write_text("")
    (tmp_path / "a" / "outputs" / "x").mkdir(parents=True)
    (tmp_path / "a" / "outputs" / "x" / "config.yaml").touch()
    for folder in ("outputs/x", "outputs/x/trials", "test-results"):
        (tmp_path / "a" / folder).mkdir(exist_ok=True)
        write(tmp_path / "a" / folder / "predictions.extxyz", make_frames(1, energy=-31.0))
    assert list_files([str(tmp_path / "a"), "more.xyz"]) == [
        str(tmp_path / "a" / "b" / "one.traj"),
        str(tmp_path / "a" / "two.xyz"),
        "more.xyz",
    ]
    (tmp_path / "none").mkdir()
    with pytest.raises(DataError, match="holds no file of a format that is read"):
        list_files([str(tmp_path / "none")])


def write_system(folder: Path, frames: int = 2) -> None:
    """A system of DeePMD: hydrogen molecules."""
    (folder / "set.000").mkdir(parents=True)
    (folder / "type.raw").write_text("0\n0\n")
    (folder / "type_map.raw").write_text("H\n")
    (folder / "nopbc").touch()
    np.save(folder / "set.000" / "coord.npy", [[0, 0, 0, 0, 0, 0.7 + 0.001 * i] for i in range(frames)])


def test_systems_of_deepmd_are_data_and_arrays_and_archives_are_named_only(tmp_path: Path) -> None:
    write_system(tmp_path / "a" / "hydrogen")
    np.savez(tmp_path / "a" / "weights.npz", w=np.zeros(3))
    (tmp_path / "a" / "original.tar").write_bytes(b"an archive of what lies beside it")
    found = [str(tmp_path / "a" / "hydrogen")]
    assert list_files([str(tmp_path / "a")]) == found
    assert list_files(found) == found
    named = [str(tmp_path / "a" / "weights.npz"), str(tmp_path / "a" / "original.tar")]
    assert list_files(named) == named


def test_memory_of_folders_arrays_and_archives(tmp_path: Path) -> None:
    write_system(tmp_path / "system", 100)
    np.savez(tmp_path / "a.npz", z=[1, 1], R=[[[0, 0, 0], [0, 0, 0.7]]] * 100)
    write(tmp_path / "a.xyz", make_frames(10))
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        archive.add(tmp_path / "a.xyz", "a.xyz")
    for name in ("system", "a.npz", "a.tar"):
        check_memory([str(tmp_path / name)], 3.0, available=1e9)
        check_memory([str(tmp_path / name)], 3.0, available=49 * 2500)
        with pytest.raises(DataError, match=rf"{name}: .* GB, which become some"):
            check_memory([str(tmp_path / name)], 3.0, available=1000)


def test_memory_is_estimated_before_anything_is_read(tmp_path: Path) -> None:
    file = tmp_path / "many.xyz"
    write(file, make_frames(100, energy=-31.0, forces=np.zeros((2, 3))), format="extxyz")
    check_memory([str(file)], 3.0, available=1e9)
    check_memory([str(file)], 3.0, available=50 * file.stat().st_size - 1)  # few neighbours: it fits
    with pytest.raises(DataError, match=r"many\.xyz: .* GB, which become some .* GB of frames.* of memory are free"):
        check_memory([str(file)], 3.0, available=1000)
