"""Which files are meant, and what reading them takes."""

import tarfile
from pathlib import Path

import numpy as np
import pytest
from ase.io import write

from nequip_like.auto import data_files
from nequip_like.auto.data_files import check_memory, estimate_reading, find_data_files
from nequip_like.errors import DataError
from tests.auto.test_survey import make_frames
from tests.data.format_samples import SAMPLES, Sample


def sample(form: str) -> Sample:
    return next(sample for sample in SAMPLES if sample.format == form)


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
    found = find_data_files([str(tmp_path / "a"), "more.xyz"])
    assert found.files == [str(tmp_path / "a" / "b" / "one.traj"), str(tmp_path / "a" / "two.xyz"), "more.xyz"]
    assert found.left_out == []
    (tmp_path / "none").mkdir()
    with pytest.raises(DataError, match="holds no file of a format that is read"):
        find_data_files([str(tmp_path / "none")])


def test_runs_of_vasp_are_read_once(tmp_path: Path) -> None:
    """Each leaves its structures in four more files: three without labels, and one with the same once more."""
    runs = [tmp_path / "calculations" / name for name in ("run-1", "run-2")]
    xml, out = (sample("vasp-xml").first, sample("vasp-out").first)
    for run in runs:
        run.mkdir(parents=True)
        (run / "vasprun.xml").write_bytes(xml)
        (run / "OUTCAR").write_bytes(out)
        for name in ("POSCAR", "CONTCAR"):
            (run / name).write_bytes(sample("vasp").first)
        (run / "XDATCAR").write_bytes(sample("vasp-xdatcar").first)
        (run / "INCAR").write_text("ENCUT = 520\n")
    (runs[1] / "OUTCAR.2").write_bytes(out)  # of a run that was stopped before it wrote a second vasprun.xml
    found = find_data_files([str(tmp_path / "calculations")])
    assert found.files == [str(runs[0] / "vasprun.xml"), str(runs[1] / "OUTCAR"), str(runs[1] / "OUTCAR.2")]
    bare, twins = found.left_out
    assert bare.endswith("6 files, CONTCAR, POSCAR, XDATCAR; their format has no labels")
    assert twins.endswith("2 files, OUTCAR, vasprun.xml; the same run is in the file beside it")
    (tmp_path / "start").mkdir()
    (tmp_path / "start" / "POSCAR").write_bytes(sample("vasp").first)
    with pytest.raises(DataError, match=r"holds structures \(POSCAR\), and no file with labels"):
        find_data_files([str(tmp_path / "start")])


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
    assert find_data_files([str(tmp_path / "a")]).files == found
    assert find_data_files(found).files == found
    named = [str(tmp_path / "a" / "weights.npz"), str(tmp_path / "a" / "original.tar")]
    assert find_data_files(named).files == named


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Estimates of files that are read in no time, too."""
    monkeypatch.setattr(data_files, "_SHORT", 0.0)


@pytest.mark.usefixtures("small")
def test_memory_of_folders_arrays_and_archives(tmp_path: Path) -> None:
    write_system(tmp_path / "system", 100)
    np.savez(tmp_path / "a.npz", z=[1, 1], R=[[[0, 0, 0], [0, 0, 0.7]]] * 100)
    write(tmp_path / "a.xyz", make_frames(10))
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        archive.add(tmp_path / "a.xyz", "a.xyz")
    for name in ("system", "a.npz", "a.tar"):
        cost = estimate_reading([str(tmp_path / name)], 3.0)
        assert cost is not None
        check_memory(cost, available=1e9)
        with pytest.raises(DataError, match=rf"{name}: .* GB, which become some"):
            check_memory(cost, available=1000)


@pytest.mark.usefixtures("small")
def test_what_reading_takes_is_estimated(tmp_path: Path) -> None:
    """Of 100 molecules from the first 50; a tenth of them takes a tenth."""
    costs = []
    for number in (100, 1000):
        file = tmp_path / f"{number}.xyz"
        write(file, make_frames(1, energy=-31.0, forces=np.zeros((2, 3))) * number, format="extxyz")
        costs.append(estimate_reading([str(file)], 3.0))
    few, many = costs
    assert few is not None
    assert many is not None
    # A molecule: positions and forces of 48 bytes each, two edges of 40, cell, energy, ... in ten tensors of 600 bytes.
    assert 100 * 3_000 < few.memory < 100 * 30_000
    assert many.memory == pytest.approx(10 * few.memory)
    assert few.seconds > 0
    check_memory(few, available=1e8)


def test_files_that_are_read_in_no_time_are_not_looked_at(tmp_path: Path) -> None:
    (tmp_path / "a.xyz").write_text("no frames")
    cost = estimate_reading([str(tmp_path / "a.xyz")], 3.0)
    assert cost is None
    check_memory(cost, available=1.0)
