"""Predictions of files: the same as one by one, in order, in each format; stopped and resumed without a trace."""

import csv
import re
from pathlib import Path

import ase.db
import ase.io
import numpy as np
import pytest
import torch
from ase.build import bulk, molecule

from nequip_like.data.bulk.reading import open_runs
from nequip_like.data.io.readers import read_structures
from nequip_like.data.prepared.preparing import prepare_set
from nequip_like.data.prepared.tasks import PreparationRequest
from nequip_like.errors import ConfigError, DataError, OutputError
from nequip_like.inference import save
from nequip_like.inference.predictor import Predictor
from nequip_like.model.committee import CommitteePotential
from nequip_like.workflow.prediction import run
from nequip_like.workflow.prediction.printing import predict_and_print
from nequip_like.workflow.prediction.run import predict_files


@pytest.fixture
def potential(make_potential):
    return make_potential(kernel="batched")


@pytest.fixture
def frames():
    """Molecules and crystals of different sizes, with remarks."""
    random, made = np.random.default_rng(0), []
    for i in range(40):
        atoms = bulk("CO", "zincblende", a=3.6) if i % 7 == 3 else molecule(("CH3CH2OH", "H2O", "C6H6")[i % 3])
        atoms.rattle(0.05, rng=random)
        atoms.info.update(config_type=f"kind {i % 2}", step=i)
        made.append(atoms)
    return made


@pytest.fixture
def file(tmp_path, frames):
    ase.io.write(tmp_path / "frames.xyz", frames)
    return tmp_path / "frames.xyz"


def stop_after(runs):
    def progress(done, total, frames):
        if done == runs:
            assert done < total
            raise KeyboardInterrupt

    return progress


def test_extxyz(tmp_path, potential, frames, file):
    told = []
    summary = predict_files(
        potential, file, tmp_path / "out.extxyz", piece=4000, progress=lambda *state: told.append(state)
    )
    assert (summary.frames, summary.resumed, summary.format, summary.nonfinite) == (40, 0, "extxyz", 0)
    assert told[0][0] == 0
    assert told[-1] == (len(told) - 1, len(told) - 1, 40)
    assert len(told) > 3, "the file is read in pieces"
    expected = Predictor(potential).predict(ase.io.read(file, ":"))
    predicted = ase.io.read(tmp_path / "out.extxyz", ":")
    for i, (one, two) in enumerate(zip(predicted, expected, strict=True)):
        assert one.get_chemical_symbols() == frames[i].get_chemical_symbols()
        assert one.info == {"config_type": f"kind {i % 2}", "step": i}
        assert one.get_potential_energy() == pytest.approx(two["total_energy"].item(), rel=1e-12)
        np.testing.assert_allclose(one.get_forces(), two["forces"].numpy(), rtol=0, atol=1e-10)
        if one.pbc.any():
            np.testing.assert_allclose(one.get_stress(voigt=False), two["stress"][0].numpy(), rtol=0, atol=1e-12)
    assert not (tmp_path / "out.extxyz.part").exists()


def test_csv_by_hand(tmp_path, potential, file):
    predict_files(potential, file, tmp_path / "out.csv", batch_size=3)
    head, *lines = (tmp_path / "out.csv").read_text().splitlines()
    assert head == "index,energy,energy_per_atom,natoms"
    energies = [one["total_energy"].item() for one in Predictor(potential).predict(ase.io.read(file, ":"))]
    for i, (line, atoms) in enumerate(zip(lines, ase.io.read(file, ":"), strict=True)):
        index, energy, per_atom, natoms = line.split(",")
        assert (int(index), int(natoms)) == (i, len(atoms))
        assert float(energy) == pytest.approx(energies[i], rel=1e-12)
        assert float(per_atom) == float(energy) / len(atoms)


def test_npz_and_lmdb_hold_the_same(tmp_path, potential, file):
    for name in ("out.npz", "out.aselmdb", "out.extxyz"):
        predict_files(potential, file, tmp_path / name, piece=4000)
    arrays = np.load(tmp_path / "out.npz")
    text = ase.io.read(tmp_path / "out.extxyz", ":")
    rows, _ = read_structures([tmp_path / "out.aselmdb"])
    assert arrays["natoms"].tolist() == [len(atoms) for atoms in text]
    np.testing.assert_array_equal(arrays["energy"], [atoms.get_potential_energy() for atoms in text])
    np.testing.assert_array_equal(arrays["energy"], [atoms.get_potential_energy() for atoms in rows])
    np.testing.assert_array_equal(arrays["forces"], np.concatenate([atoms.get_forces() for atoms in text]))
    np.testing.assert_array_equal(arrays["forces"], np.concatenate([atoms.get_forces() for atoms in rows]))
    np.testing.assert_array_equal(arrays["atomic_numbers"], np.concatenate([atoms.numbers for atoms in rows]))
    stressed = [i for i, atoms in enumerate(text) if atoms.pbc.any()]
    assert np.isnan(arrays["stress"]).all(axis=(1, 2)).nonzero()[0].tolist() == sorted(set(range(40)) - set(stressed))
    np.testing.assert_array_equal(rows[stressed[0]].get_stress(), text[stressed[0]].get_stress())
    np.testing.assert_allclose(arrays["energies"][:9].sum(), arrays["energy"][0], rtol=1e-12)


@pytest.mark.parametrize("name", ["out.extxyz", "out.csv", "out.npz", "out.aselmdb"])
def test_resumed_is_the_same_file(tmp_path, potential, file, name):
    whole, output = tmp_path / f"whole.{name}", tmp_path / name
    predict_files(potential, file, whole, piece=4000)
    with pytest.raises(KeyboardInterrupt):
        predict_files(potential, file, output, piece=4000, progress=stop_after(2))
    part = tmp_path / f"{name}.part"
    assert part.is_dir()
    assert not output.exists()
    # As a process that is killed while it writes leaves them.
    for stream in part.iterdir():
        with stream.open("ab") as file_of_stream:
            file_of_stream.write(b'{"frames": 3' if stream.name == "progress.jsonl" else b"half a li")
    with pytest.raises(OutputError, match="was stopped"):
        predict_files(potential, file, output, piece=4000)
    summary = predict_files(potential, file, output, piece=4000, resume=True)
    assert 0 < summary.resumed < summary.frames == 40
    assert output.read_bytes() == whole.read_bytes()
    assert not part.exists()


def test_resume_refuses_what_differs(tmp_path, make_potential, potential, file):
    output = tmp_path / "out.csv"

    def go_on(model=potential, source=file, **options):
        return predict_files(model, source, output, **{"piece": 4000, "resume": True, **options})

    with pytest.raises(KeyboardInterrupt):
        predict_files(potential, file, output, piece=4000, progress=stop_after(1))
    with pytest.raises(OutputError, match=r"begun with another model\b"):
        go_on(make_potential(kernel="batched", seed=7))
    with pytest.raises(OutputError, match="another batch_size and another energy_only"):
        go_on(batch_size=4, energy_only=True)
    text = file.read_text()
    file.write_text(text.replace("step=0", "step=9", 1))
    with pytest.raises(OutputError, match="begun with another input"):
        go_on()
    file.write_text(text)
    assert go_on().frames == 40
    with pytest.raises(OutputError, match="is there already"):
        go_on()
    assert go_on(overwrite=True, resume=False).resumed == 0


def test_energy_only_asks_for_no_derivative(tmp_path, potential, file, monkeypatch):
    predict_files(potential, file, tmp_path / "all.csv")

    def refuse(*arguments, **options):
        raise AssertionError("a derivative is computed")

    monkeypatch.setattr(torch.autograd, "grad", refuse)
    predict_files(potential, file, tmp_path / "energies.csv", energy_only=True)
    assert (tmp_path / "energies.csv").read_bytes() == (tmp_path / "all.csv").read_bytes()
    predict_files(potential, file, tmp_path / "energies.npz", energy_only=True)
    assert "forces" not in np.load(tmp_path / "energies.npz")
    assert potential.do_derivatives, "the potential is left as it was"


def test_committee_has_uncertainties(tmp_path, make_potential, file):
    committee = CommitteePotential([make_potential(kernel="batched", seed=seed) for seed in (1, 2)])
    predict_files(committee, file, tmp_path / "out.csv", energy_only=True)
    table = np.genfromtxt(tmp_path / "out.csv", delimiter=",", names=True)
    expected = Predictor(committee).predict(ase.io.read(file, ":"))
    np.testing.assert_allclose(
        table["energy_uncertainty"], [float(one["energy_uncertainty"]) for one in expected], rtol=1e-9
    )
    predict_files(committee, file, tmp_path / "out.extxyz")
    first = ase.io.read(tmp_path / "out.extxyz", 0)
    np.testing.assert_allclose(first.arrays["forces_uncertainty"], expected[0]["forces_uncertainty"], atol=1e-12)
    predict_files(committee, tmp_path / "out.extxyz", tmp_path / "again.extxyz")
    again = ase.io.read(tmp_path / "again.extxyz", 0)
    assert again.info == first.info, "predictions of the input are not handed on"
    predict_files(committee, file, tmp_path / "forces.csv")
    line = (tmp_path / "forces.csv").read_text().splitlines()[1].split(",")
    largest = expected[0]["forces_uncertainty"].norm(dim=1).max()
    assert float(line[-1]) == pytest.approx(float(largest), rel=1e-9)


def test_every_way_of_reading_gives_the_same(tmp_path, potential, frames, file):
    """ASE's databases, trajectories and prepared sets hold the same structures."""
    with ase.db.connect(tmp_path / "frames.db") as database:
        for atoms in frames:
            database.write(atoms)
    ase.io.write(tmp_path / "frames.traj", frames)
    ase.io.write(tmp_path / "frames.xyz.gz", ase.io.read(file, ":"), format="extxyz")
    prepare_set(PreparationRequest([str(file)], potential.cutoff), tmp_path / "set.frames")
    predict_files(potential, file, tmp_path / "expected.csv", batch_size=4)
    expected = np.genfromtxt(tmp_path / "expected.csv", delimiter=",", names=True)
    for name in ("frames.db", "frames.traj", "frames.xyz.gz", "set.frames"):
        predict_files(potential, tmp_path / name, tmp_path / "out.csv", batch_size=4, overwrite=True)
        found = np.genfromtxt(tmp_path / "out.csv", delimiter=",", names=True)
        np.testing.assert_allclose(found["energy"], expected["energy"], rtol=1e-6, err_msg=name)
    predict_files(potential, tmp_path / "set.frames", tmp_path / "out.extxyz")
    assert ase.io.read(tmp_path / "out.extxyz", 0).info["config_type"] == "kind 0"


def test_several_files_and_batches(tmp_path, potential, file):
    other = tmp_path / 'a "copy", really.xyz'
    other.write_bytes(file.read_bytes())
    for size in (1, {"edges": 300}, {"atoms": 30}):
        summary = predict_files(potential, [file, other], tmp_path / "out.csv", batch_size=size, overwrite=True)
        assert summary.frames == 80
        with (tmp_path / "out.csv").open(newline="") as lines:
            rows = list(csv.DictReader(lines))
        assert list(rows[0]) == ["index", "energy", "energy_per_atom", "natoms", "file", "frame"]
        assert [row["index"] for row in rows] == [str(i) for i in range(80)]
        places = [(row["file"], int(row["frame"])) for row in rows]
        assert places == [(str(path), i) for path in (file, other) for i in range(40)]
        energies = [float(row["energy"]) for row in rows]
        np.testing.assert_allclose(energies[:40], energies[40:], rtol=1e-12)
    prepared = prepare_set(PreparationRequest([str(file), str(other)], potential.cutoff), tmp_path / "two.frames").path
    predict_files(potential, prepared, tmp_path / "prepared.csv")
    with (tmp_path / "prepared.csv").open(newline="") as lines:
        assert [(row["file"], int(row["frame"])) for row in csv.DictReader(lines)] == places


def break_frames(file, cut=True):
    """A position that is no number, an unknown species, rows without a number, two atoms at one place, a cut."""
    text = file.read_text()
    frames = [part for part in re.split(r"(?m)^(?=\d+\n)", text) if part]
    assert len(frames) == 40
    faults = {
        4: (r"^(O +)\S+", r"\1nan"),
        12: (r"^O ", "Au "),
        20: (r"^(C +)\S+ +\S+ +\S+", r"\1 1.0 2.0"),
        33: (r"^H .*\n(?=H)", ""),
        **({39: (r"\n[^\n]*\n$", "\n")} if cut else {}),
    }
    for number, (old, new) in faults.items():
        frames[number], count = re.subn(old, new, frames[number], count=1, flags=re.MULTILINE)
        assert count == 1, number
    row = frames[33].splitlines()[-1]
    frames[33] += f"{row}\n"
    file.write_text("".join(frames))


@pytest.mark.parametrize("piece", [4000, 1_000_000], ids=["pieces", "whole"])
def test_broken_frames_are_left_out_and_listed(tmp_path, potential, file, piece):
    sound = tmp_path / "sound.csv"
    predict_files(potential, file, sound, batch_size=1)
    expected = sound.read_text().splitlines()
    break_frames(file)
    told = []
    summary = predict_files(
        potential, file, tmp_path / "out.csv", on_error="skip", piece=piece, progress=lambda *state: told.append(state)
    )
    broken = [4, 12, 20, 33, 39]
    assert (summary.frames, summary.skipped) == (35, 5)
    assert summary.first_skipped.startswith(f"{file} frame 4")
    assert (len(told) > 5) is (piece == 4000)
    lines = (tmp_path / "out.csv").read_text().splitlines()
    assert [int(line.split(",")[0]) for line in lines[1:]] == [i for i in range(40) if i not in broken]
    for line in lines[1:]:
        index, energy = line.split(",")[:2]
        assert float(energy) == pytest.approx(float(expected[1 + int(index)].split(",")[1]), rel=1e-12)
    assert summary.skipped_path == tmp_path / "out.csv.skipped.csv"
    with summary.skipped_path.open(newline="") as listed:
        rows = list(csv.DictReader(listed))
    assert [(int(row["index"]), row["file"], int(row["frame"])) for row in rows] == [(i, str(file), i) for i in broken]
    reasons = [row["reason"] for row in rows]
    assert "has Au, which is not among the species" in reasons[1]
    assert "has 3 columns, but Properties names 4" in reasons[2]
    assert "are at the same place" in reasons[3]
    assert reasons[4].startswith("everything from here on: ")
    assert "is cut off" in reasons[4]
    assert not (tmp_path / "out.csv.part").exists()
    file.write_text("".join(re.split(r"(?m)^(?=\d+\n)", file.read_text())[1:5]))
    predict_files(potential, file, tmp_path / "out.csv", on_error="skip", overwrite=True)
    assert not summary.skipped_path.exists(), "the list of an earlier prediction would be taken for that of this one"


@pytest.mark.parametrize("name", ["out.extxyz", "out.csv", "out.npz", "out.aselmdb"])
def test_stopped_at_a_broken_frame_goes_on_without_it(tmp_path, potential, file, name):
    break_frames(file, cut=False)
    output, whole = tmp_path / name, tmp_path / f"whole.{name}"
    predict_files(potential, file, whole, on_error="skip", piece=4000)
    words = rf"{file.name} frame 12 has Au.*\n.*; or leave out what is broken: --resume --on-error skip \(eval"
    text = file.read_text()
    file.write_text(text.replace("nan", "0.1"))
    with pytest.raises(DataError, match=words):
        predict_files(potential, file, output, piece=4000)
    summary = predict_files(potential, file, output, piece=4000, resume=True, on_error="skip")
    assert summary.resumed > 0
    assert summary.skipped == 3
    file.write_text(text)
    output.unlink()
    with pytest.raises(KeyboardInterrupt):
        predict_files(potential, file, output, on_error="skip", piece=4000, progress=stop_after(4))
    with pytest.raises(OutputError, match="was begun with --on-error skip"):
        predict_files(potential, file, output, piece=4000, resume=True)
    assert predict_files(potential, file, output, piece=4000, resume=True, on_error="skip").resumed > 0
    assert output.read_bytes() == whole.read_bytes()
    listed = [tmp_path / f"{path.name}.skipped.csv" for path in (output, whole)]
    assert listed[0].read_bytes() == listed[1].read_bytes()


def test_broken_files_among_others_are_left_out(tmp_path, potential, frames):
    """Empty ones, ones that are no structures, a trajectory with one bad frame, a database."""
    names = ["a.xyz", "b.xyz", "c.xyz", "d.traj", "e.db", "f.zip"]
    ase.io.write(tmp_path / "a.xyz", frames[:2])
    (tmp_path / "b.xyz").touch()
    (tmp_path / "c.xyz").write_text("a job that crashed\n")
    bad = [atoms.copy() for atoms in frames[:5]]
    bad[3].positions[1] = bad[3].positions[0]
    ase.io.write(tmp_path / "d.traj", bad)
    with ase.db.connect(tmp_path / "e.db") as database:
        for atoms in (frames[0], bad[3], frames[2]):
            database.write(atoms)
    (tmp_path / "f.zip").write_bytes(b"no archive")
    files = [tmp_path / name for name in names]
    with pytest.raises(DataError, match=r"b.xyz is empty"):
        predict_files(potential, files, tmp_path / "out.csv")
    summary = predict_files(potential, files, tmp_path / "out.csv", on_error="skip")
    with (tmp_path / "out.csv").open(newline="") as lines:
        found = [(Path(row["file"]).name, int(row["frame"])) for row in csv.DictReader(lines)]
    assert found == [("a.xyz", 0), ("a.xyz", 1), *(("d.traj", i) for i in (0, 1, 2, 4)), ("e.db", 0), ("e.db", 2)]
    with summary.skipped_path.open(newline="") as lines:
        rows = [(int(row["index"]), Path(row["file"]).name, row["frame"]) for row in csv.DictReader(lines)]
    assert rows == [(2, "b.xyz", ""), (3, "c.xyz", ""), (7, "d.traj", "3"), (10, "e.db", "1"), (12, "f.zip", "")]


def test_prepared_frames_of_unknown_species_are_left_out(tmp_path, make_potential, file):
    prepared = prepare_set(PreparationRequest([str(file)], 4.0), tmp_path / "frames.nlset").path
    hydrocarbons = make_potential(kernel="batched", type_names=["H", "C"], r_max=4.0)
    summary = predict_files(hydrocarbons, prepared, tmp_path / "out.npz", on_error="skip")
    benzene = [i for i, atoms in enumerate(ase.io.read(file, ":")) if 8 not in atoms.numbers]
    assert summary.frames == len(benzene) == len(np.load(tmp_path / "out.npz")["natoms"])
    with summary.skipped_path.open(newline="") as lines:
        assert [int(row["frame"]) for row in csv.DictReader(lines)] == [i for i in range(40) if i not in benzene]


def test_a_model_for_other_files_predicts_nothing(tmp_path, make_potential, file):
    with pytest.raises(DataError, match=r"no structure could be predicted; the first: .* frame 0 has H, C"):
        predict_files(make_potential(kernel="batched", type_names=["Au"]), file, tmp_path / "o.csv", on_error="skip")
    assert [path.name for path in tmp_path.iterdir()] == ["frames.xyz"]


def test_nonfinite_predictions_are_counted(tmp_path, potential, file):
    with torch.no_grad():
        potential.energy_model.scale_shift.shifts[0] = torch.nan  # hydrogen
    summary = predict_files(potential, file, tmp_path / "out.csv", piece=4000)
    with_hydrogen = [i for i, atoms in enumerate(ase.io.read(file, ":")) if 1 in atoms.numbers]
    assert summary.nonfinite == len(with_hydrogen)
    assert summary.first_nonfinite == f"{file} frame {with_hydrogen[0]}"
    prepared = prepare_set(PreparationRequest([str(file)], potential.cutoff), tmp_path / "frames.nlset").path
    summary = predict_files(potential, prepared, tmp_path / "prepared.csv", batch_size={"atoms": 10_000})
    assert summary.nonfinite == len(with_hydrogen)
    assert summary.first_nonfinite == f"{file.absolute()} frame {with_hydrogen[0]}"


@pytest.mark.parametrize(
    ("output", "options", "error", "words"),
    [
        ("out.lmdb", {}, ConfigError, "holds pickles"),
        ("out.dat", {}, ConfigError, "follows from the suffix"),
        ("out.csv", {"format": "npz"}, ConfigError, "has the suffix of csv"),
        ("out.csv", {"format": "cvs"}, ConfigError, "no format 'cvs'"),
        ("out.csv", {"amp": True}, ConfigError, "the device is a CPU"),
        ("out.csv", {"batch_size": 0}, ConfigError, "batch_size"),
        (".", {"format": "csv"}, OutputError, "is a folder"),
    ],
)
def test_refusals(tmp_path, potential, file, output, options, error, words):
    with pytest.raises(error, match=words):
        predict_files(potential, file, tmp_path / output, **options)


def test_a_failure_before_anything_is_done_leaves_nothing(tmp_path, potential):
    ase.io.write(tmp_path / "gold.xyz", molecule("H2O"))
    gold = ase.io.read(tmp_path / "gold.xyz")
    gold.symbols[0] = "Au"
    ase.io.write(tmp_path / "gold.xyz", gold)
    for _ in range(2):
        with pytest.raises(DataError, match="has Au"):
            predict_files(potential, tmp_path / "gold.xyz", tmp_path / "out.npz")
        assert [path.name for path in tmp_path.iterdir()] == ["gold.xyz"]


@pytest.mark.parametrize("damage", ["nonsense\n", None])
def test_damaged_part_is_an_error_of_the_user(tmp_path, potential, file, damage):
    with pytest.raises(KeyboardInterrupt):
        predict_files(potential, file, tmp_path / "out.csv", piece=2000, progress=stop_after(2))
    part = tmp_path / "out.csv.part"
    if damage:
        (part / "progress.jsonl").write_text(damage)
    else:
        (part / "text").unlink()
    with pytest.raises(OutputError, match="is damaged" if damage else "has less than progress.jsonl says"):
        predict_files(potential, file, tmp_path / "out.csv", piece=2000, resume=True)


def test_output_that_appears_meanwhile_is_kept(tmp_path, potential, file, monkeypatch):
    def open_slowly(*arguments, **options):
        (tmp_path / "out.csv").write_text("of another process")
        return open_runs(*arguments, **options)

    monkeypatch.setattr(run, "open_runs", open_slowly)
    with pytest.raises(OutputError, match="is there already"):
        predict_files(potential, file, tmp_path / "out.csv")
    assert (tmp_path / "out.csv").read_text() == "of another process"


def test_a_cell_without_volume_has_no_stress(tmp_path, potential):
    layer = molecule("H2O")
    layer.set_cell(np.diag([6.0, 6.0, 0.0]))
    layer.pbc = (True, True, False)
    ase.io.write(tmp_path / "layer.xyz", layer)
    predict_files(potential, tmp_path / "layer.xyz", tmp_path / "out.xyz")
    written = ase.io.read(tmp_path / "out.xyz")
    assert sorted(written.calc.results) == ["energy", "forces"]
    assert written.cell.array.tolist() == layer.cell.array.tolist()


def test_a_base_is_told(tmp_path, potential, file, capsys):
    save(potential, tmp_path / "delta.safetensors", {"base": {"kind": "model", "base": "base.safetensors", "id": "b"}})
    summary = predict_and_print(tmp_path / "delta.safetensors", file, tmp_path / "out.csv")
    assert summary.base == "the model base.safetensors"
    assert "predictions are differences to the model base.safetensors, which has to be added" in capsys.readouterr().out


def test_what_is_read_is_not_replaced(tmp_path, potential, file):
    before = file.read_bytes()
    with pytest.raises(OutputError, match=f"{file.name} is one of the files that are read"):
        predict_files(potential, str(tmp_path / "*.xyz"), file, overwrite=True)
    assert file.read_bytes() == before


@pytest.mark.parametrize("end", [8000, None])
def test_a_file_that_changes_meanwhile_is_refused(tmp_path, potential, file, end):
    def change(done, total, frames):
        if done == 1:
            text = file.read_text()
            file.write_text(text[:end] if end else text + text)

    with pytest.raises(DataError, match=f"{file.name}"):
        predict_files(potential, file, tmp_path / "out.csv", piece=2000, progress=change)
    assert not (tmp_path / "out.csv").exists()


def test_unknown_species_names_the_frame(tmp_path, make_potential, file):
    potential = make_potential(kernel="batched", type_names=["H", "C"])
    with pytest.raises(DataError, match=r"frames.xyz frame 0 has O, which is not among the species H, C"):
        predict_files(potential, file, tmp_path / "out.csv")


def test_no_files(tmp_path, potential):
    with pytest.raises(ConfigError, match="no files to predict"):
        predict_files(potential, [], tmp_path / "out.csv")


def test_format_by_name(tmp_path, potential, file):
    save(potential, tmp_path / "model.safetensors")
    assert predict_files(tmp_path / "model.safetensors", file, tmp_path / "energies", format="csv").format == "csv"
    assert (tmp_path / "energies").read_text().startswith("index,energy")
