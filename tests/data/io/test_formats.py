"""Which files are read, and in which dress."""

import bz2
import gzip
import lzma

import ase.io
import pytest
from ase.build import bulk

from nequip_like.data.io.file_formats import FORMATS
from nequip_like.data.io.formats import READERS, read_atoms
from nequip_like.errors import DataError

TEXT = "2\nenergy=-1.5\nO 0 0 0\nH 1 0 0\n2\nenergy=-2.5\nO 0 0 0\nH 1 0 0\n"


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.xyz", TEXT.encode()),
        ("A.EXTXYZ", TEXT.encode()),
        ("bom.xyz", b"\xef\xbb\xbf" + TEXT.encode()),
        ("windows.xyz", TEXT.replace("\n", "\r\n").encode()),
        ("mac.xyz", TEXT.replace("\n", "\r").encode()),
        ("mixed.xyz", TEXT.replace("\n", "\r\n", 3).encode()),
        ("latin.xyz", TEXT.replace("energy", "note=\xc5 energy").encode("latin-1")),
        ("no_end.xyz", TEXT.rstrip("\n").encode()),
        ("a.xyz.gz", gzip.compress(TEXT.encode(), mtime=0)),
        ("a.xyz.bz2", bz2.compress(TEXT.encode())),
        ("a.extxyz.xz", lzma.compress(TEXT.encode())),
        ("no_suffix", TEXT.encode()),
    ],
)
def test_the_same_frames_in_every_dress(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    frames, notes = read_atoms(tmp_path / name)
    assert [frame.get_potential_energy() for frame in frames] == [-1.5, -2.5]
    assert ["has no end" in note for note in notes] == [True] * (name == "no_end.xyz")


@pytest.mark.parametrize("name", ["POSCAR", "a.cif", "a.xsf", "a.gen", "a.traj", "a.db"])
def test_formats_of_programs(tmp_path, name):
    ase.io.write(tmp_path / name, bulk("NaCl", "rocksalt", a=5.6))
    assert [frame.get_chemical_formula() for frame in read_atoms(tmp_path / name)[0]] == ["ClNa"]


def test_every_format_is_one_that_ase_reads_or_has_a_reader_here():
    from ase.io.formats import ioformats

    assert all(name in READERS or ioformats[name].can_read for name in FORMATS.keys() - {"archive"})
    assert READERS.keys() <= FORMATS.keys()
    assert not FORMATS.keys() & {
        "json",
        "bundletrajectory",
        "postgresql",
        "mysql",
        "py",
        "trj",
        "gpw",
        "netcdftrajectory",
    }


@pytest.mark.parametrize(
    ("name", "content", "message", "advice"),
    [
        ("a.xyz", b"", "/a.xyz is empty", "give a file with structures"),
        ("a.json", b'{"1": {}}', "/a.json is of no format that is read (.json)", "give .xyz"),
        ("a.xzy", TEXT.encode(), "/a.xzy is of no format that is read (.xzy)", "did you mean '.xyz'? give .xyz"),
        ("noise", bytes(range(200)), "/noise is of no format that is read (no suffix)", "give .xyz"),
        ("a.xyz", TEXT.replace("H", "Hh", 1).encode(), "/a.xyz, frame 0: 'Hh' is no chemical symbol", "write symbols"),
        (
            "a.xyz",
            TEXT.replace("H 1", "H one").encode(),
            "/a.xyz, frame 0: ValueError: could not convert",
            "check that",
        ),
        (
            "a.xyz",
            TEXT.replace("=-2.5", '=1 stress="1 2 3 4 5 6"').encode(),
            "/a.xyz, frame 1: 'stress' is not nine numbers",
            "write all nine; six (xx yy zz yz xz xy) may stand under another name, such as dft_stress",
        ),
        (
            "a.xyz",
            TEXT.replace("=-2.5", '=1 a="_JSON ' + "[" * 100_000 + '"').encode(),
            "/a.xyz, frame 1: its values are nested too deeply",
            "check that",
        ),
    ],
)
def test_errors(tmp_path, name, content, message, advice):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError) as error:
        read_atoms(tmp_path / name)
    assert message in error.value.message
    assert error.value.advice.startswith(advice)
