"""Archives of files: what is read of them, what is left out, and names that lead elsewhere."""

import gzip
import io
import os
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nequip_like.data.io.formats import read_atoms
from nequip_like.data.io.readers import read, read_structures
from nequip_like.data.io.sets import archives
from nequip_like.errors import DataError
from tests.data.format_samples import FORCES, dump, runner_data

WATER = "3\nProperties=species:S:1:pos:R:3 energy={} {}\nO 0.0 0.0 0.0\nH 0.96 0.0 0.0\nH -0.24 0.93 0.0\n"
FILES = {
    "./run/c.xyz": WATER.format(-3.0, "") + WATER.format(-4.0, ""),
    "./run/a.xyz": WATER.format(-1.0, ""),
    "./run/b/b.xyz.gz": gzip.compress(WATER.format(-2.0, "").encode(), mtime=0),
}


def pack(path, files, links=()):
    """Write an archive; links are pairs of name and target."""
    files = {name: text if isinstance(text, bytes) else text.encode() for name, text in files.items()}
    if path.suffix == ".zip":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, content in files.items():
                archive.writestr(name, content)
            for name, target in links:
                entry = zipfile.ZipInfo(name)
                entry.external_attr = 0o120777 << 16
                archive.writestr(entry, target)
        return path
    mode = {".tar": "w", ".tgz": "w:gz", ".gz": "w:gz", ".xz": "w:xz"}[path.suffix]
    with tarfile.open(path, mode) as archive:
        for name, content in files.items():
            header = tarfile.TarInfo(name)
            header.size = len(content)
            archive.addfile(header, io.BytesIO(content))
        for name, target in links:
            header = tarfile.TarInfo(name)
            header.type, header.linkname = tarfile.SYMTYPE, target
            archive.addfile(header)
    return path


def energies(reading):
    return [frame["total_energy"].item() for frame in reading.frames]


@pytest.mark.parametrize("name", ["a.tar", "a.tar.gz", "a.tgz", "a.tar.xz", "a.zip", "A.ZIP"])
def test_files_in_the_order_of_their_names(tmp_path, name):
    path = pack(tmp_path / name.lower(), FILES).rename(tmp_path / name)
    reading = read(path)
    assert energies(reading) == [-1.0, -2.0, -3.0, -4.0]
    assert [origin.replace("/./", "/") for origin in reading.origins] == [
        f"{path}/run/a.xyz frame 0",
        f"{path}/run/b/b.xyz.gz frame 0",
        f"{path}/run/c.xyz frame 0",
        f"{path}/run/c.xyz frame 1",
    ]
    assert reading.files == [path]
    assert reading.notes == []
    assert len(read_atoms(path)[0]) == 4


def test_the_index_counts_through_the_archive(tmp_path):
    path = pack(tmp_path / "a.tar", FILES)
    for index, expected in ((":2", [-1.0, -2.0]), ("-2:", [-3.0, -4.0]), ("::3", [-1.0, -4.0]), (-1, [-4.0])):
        assert energies(read(path, index=index)) == expected
    assert energies(read([path, pack(tmp_path / "b.zip", FILES)], index="1:2")) == [-2.0, -2.0]
    assert [atoms.get_potential_energy() for atoms in read_structures(path, index="1:3")[0]] == [-2.0, -3.0]
    with pytest.raises(DataError, match=r"a\.tar: index '7' chooses none of its 4 frames"):
        read(path, index=7)


def test_every_file_has_its_own_names_and_units(tmp_path):
    """A dump says its units, sGDML's file calls its labels otherwise than all others, RuNNer's is converted."""
    sgdml = io.BytesIO()
    np.savez(sgdml, z=[2], R=np.zeros((1, 1, 3)), E=[-2.0], F=np.ones((1, 1, 3)), e_unit="eV")
    files = {
        "a.npz": sgdml.getvalue(),
        "b.data": runner_data(["O", "H", "H"], -14.25, FORCES),
        "c.lammpstrj": "ITEM: UNITS\nmetal\n" + dump(["O", "H", "H"], FORCES),
    }
    path = pack(tmp_path / "a.zip", files)
    reading = read(path)
    assert [frame["total_energy"].item() for frame in reading.frames[:2]] == [-2.0, pytest.approx(-14.25, rel=1e-14)]
    assert reading.label_names == {"total_energy": ["E", "energy"], "forces": ["F", "forces"]}
    assert reading.notes == [
        f"{path}/b.data: it was taken to be in Hartree and Bohr, as RuNNer writes it, and converted"
    ]
    files["c.lammpstrj"] = files["c.lammpstrj"].replace("metal", "real")
    with pytest.raises(DataError) as error:
        read(pack(tmp_path / "b.zip", files))
    assert error.value.message.startswith(
        f"{tmp_path}/b.zip/c.lammpstrj: its 'ITEM: UNITS real' says that 'forces' is in"
    )


def test_what_is_left_out(tmp_path):
    others = {
        "README.txt": "Read me\n",
        "LICENSE": "free\n",
        "inner.tar": pack(tmp_path / "inner.tar", FILES).read_bytes(),
    }
    hidden = {".a.xyz": "no xyz", "__MACOSX/a.xyz": "no xyz", "run/._a.xyz": "no xyz", "run/empty": ""}
    for name in ("a.tar", "a.zip"):
        path = pack(tmp_path / name, {**FILES, **others, **hidden}, links=[("run/d.xyz", "/etc/passwd")])
        reading = read(path)
        assert energies(reading) == [-1.0, -2.0, -3.0, -4.0]
        assert reading.notes == [
            f"{path}: files that are no plain files (links, devices) are left out, 1 of them, such as run/d.xyz",
            f"{path}: files that are of no format that is read are left out, 4 of them, such as README.txt",
        ]
        assert read(path, index="3:").notes == reading.notes
    with pytest.raises(DataError, match=r"a\.tar holds no file of a format that is read \(of 3\)"):
        read(pack(tmp_path / "a.tar", others))
    with pytest.raises(DataError, match=r"a\.zip holds no file of a format that is read \(of 0\)"):
        read(pack(tmp_path / "a.zip", {}))


def test_devices_and_files_with_holes(tmp_path):
    path = tmp_path / "a.tar"
    with tarfile.open(path, "w") as archive:
        for name, kind in (("a.xyz", tarfile.CHRTYPE), ("b.xyz", tarfile.FIFOTYPE), ("c.xyz", tarfile.LNKTYPE)):
            header = tarfile.TarInfo(name)
            header.type, header.linkname = kind, "/etc/passwd"
            archive.addfile(header)
    with pytest.raises(DataError, match=r"holds no file of a format that is read \(of 3\)"):
        read(path)


@pytest.mark.parametrize("suffix", [".tar", ".zip"])
def test_nothing_is_written_elsewhere(tmp_path, suffix, monkeypatch):
    place = tmp_path / "tmp"
    place.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(place))
    text = WATER.format(-1.0, "")
    names = ["../../up.xyz", str(tmp_path / "absolute.xyz"), "a/../../b.xyz", "a\\..\\windows.xyz"]
    path = pack(tmp_path / f"a{suffix}", dict.fromkeys(names, text))
    before = {file for file in tmp_path.rglob("*") if file.is_file()}
    assert len(read(path)) == 4
    assert {file for file in tmp_path.rglob("*") if file.is_file()} == before
    assert list(place.iterdir()) == []


def test_errors_name_archive_and_file(tmp_path):
    path = pack(tmp_path / "a.tar.gz", {**FILES, "run/d.xyz": WATER.format("x", "")[:60]})
    with pytest.raises(DataError) as error:
        read(path)
    assert error.value.message.startswith(f"{path}/run/d.xyz frame 0 is cut off: it says 3 atoms")
    path = pack(tmp_path / "b.zip", {**FILES, "run/d.xyz": ""})
    with pytest.raises(DataError, match=r"b\.zip/run/d\.xyz is empty"):
        read(path)
    path = pack(tmp_path / "c.zip", {**FILES, "d.xyz": WATER.format(-1, "energy_unit=meV")})
    with pytest.raises(DataError, match=r"c\.zip/d\.xyz: its 'energy_unit' says that 'energy' is in meV"):
        read(path)
    path = pack(tmp_path / "d.zip", {**FILES, "d.traj": "garbage"})
    with pytest.raises(DataError, match=r"cannot read .*d\.zip/d\.traj, frame 0: "):
        read(path)
    path = pack(tmp_path / "e.zip", {**FILES, "d.xyz.gz": b"\x1f\x8bgarbage"})
    with pytest.raises(DataError, match=r"cannot read .*e\.zip/d\.xyz\.gz"):
        read(path)


def test_two_files_of_one_name(tmp_path):
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        for _ in range(2):
            header = tarfile.TarInfo("a.xyz")
            header.size = len(WATER)
            archive.addfile(header, io.BytesIO(WATER.encode()))
    with pytest.raises(DataError, match=r"a\.tar holds two files named a\.xyz"):
        read(tmp_path / "a.tar")


def test_two_archives_that_were_joined(tmp_path):
    for name in ("a.tar", "a.zip"):
        path = pack(tmp_path / name, FILES)
        path.write_bytes(path.read_bytes() * 2)
        with pytest.raises(DataError, match=rf"{name} has .* that were joined"):
            read(path)


def test_an_archive_that_is_locked(tmp_path):
    path = pack(tmp_path / "a.zip", {"a.xyz": WATER})
    content = bytearray(path.read_bytes())
    for signature, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        content[content.index(signature) + offset] |= 1
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"cannot read .*a\.zip: RuntimeError: File .* is encrypted"):
        read(path)


def test_a_damaged_header_is_not_the_end(tmp_path):
    path = pack(tmp_path / "a.tar", FILES)
    content = bytearray(path.read_bytes())
    content[content.index(b"./run/a.xyz")] ^= 1
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"cannot read .*a\.tar: ReadError: it is damaged or cut off \(bad checksum\)"):
        read(path)


def test_a_disk_without_space(tmp_path, monkeypatch):
    path = pack(tmp_path / "a.tar", FILES)
    monkeypatch.setattr(archives, "_SPARE", 1 << 60)
    with pytest.raises(DataError, match=r"a\.tar/\./run/c\.xyz needs .* GB to be unpacked") as error:
        read(path)
    assert error.value.advice == "let the variable TMPDIR name a folder with more space"


def test_copies_are_removed_whatever_happens(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "tmp"))
    (tmp_path / "tmp").mkdir()
    for files in (FILES, {"a.xyz": "garbage"}, {"a.txt": ""}):
        try:
            read(pack(tmp_path / "a.zip", files))
        except DataError:
            assert files is not FILES
        assert os.listdir(tmp_path / "tmp") == []


@settings(
    max_examples=60,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(name=st.sampled_from(["a.tar", "a.tar.gz", "a.tgz", "a.zip"]), part=st.floats(0, 1, exclude_max=True))
def test_an_archive_that_is_cut_off_is_one_error_with_its_name(tmp_path: Path, name, part):
    path = pack(tmp_path / name, FILES)
    whole = path.read_bytes()
    needed = len(whole.rstrip(b"\0")) if name == "a.tar" else len(whole)  # a tar file ends with zeros
    path.write_bytes(whole[: int(part * needed)])
    with pytest.raises(DataError, match=name):
        read(path)
