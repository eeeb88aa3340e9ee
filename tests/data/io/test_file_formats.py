"""Each format that is read: a whole file, two joined files, one that is cut off, an empty one."""

import numpy as np
import pytest
from ase.data import chemical_symbols
from ase.symbols import string2symbols

from nequip_like.data.graph import has_label
from nequip_like.data.io.file_formats import FORMATS
from nequip_like.data.io.formats import format_of
from nequip_like.data.io.readers import read
from nequip_like.errors import DataError
from tests.data.format_samples import CELL, POSITIONS, SAMPLES

each = pytest.mark.parametrize("sample", SAMPLES, ids=lambda sample: sample.format)
LABELS = {"energy": "total_energy", "forces": "forces", "stress": "stress"}


def check(graphs, frames):
    """Species and every label, to the last digit; a label that the file has not is not there."""
    assert len(graphs) == len(frames)
    for graph, frame in zip(graphs, frames, strict=True):
        assert [chemical_symbols[number] for number in graph["atomic_numbers"]] == string2symbols(frame.symbols)
        for name, label in LABELS.items():
            expected = getattr(frame, name)
            assert has_label(graph, label) == (expected is not None), label
            if expected is not None:
                np.testing.assert_allclose(np.squeeze(graph[label].numpy()), expected, rtol=1e-12, atol=1e-12)


def test_every_format_has_a_sample():
    others = {"deepmd", "lmdb"}  # folders, and what is read on request only: tests/data/io/sets
    assert {sample.format for sample in SAMPLES} == set(FORMATS) - others


@each
def test_whole(sample, tmp_path):
    for content, frames in ((sample.first, sample.frames), (sample.second, sample.others)):
        (tmp_path / sample.file).write_bytes(content)
        assert format_of(tmp_path / sample.file).name == sample.format
        reading = read(tmp_path / sample.file)
        remark = FORMATS[sample.format].remark
        assert reading.notes == ([f"{tmp_path / sample.file}: {remark}"] if remark else [])
        check(reading.frames, frames)


@pytest.mark.parametrize(
    "sample",
    [sample for sample in SAMPLES if sample.format not in ("aims-output", "castep-castep")],  # of ASE: other positions
    ids=lambda sample: sample.format,
)
def test_positions_and_cell(sample, tmp_path):
    (tmp_path / sample.file).write_bytes(sample.first)
    for graph in read(tmp_path / sample.file).frames:
        away = (graph["pos"].numpy() - POSITIONS) / np.diag(CELL)
        np.testing.assert_allclose(away - np.round(away), 0.0, atol=2e-6)
        if bool(graph["pbc"].any()):
            np.testing.assert_allclose(graph["cell"][0].numpy(), CELL, atol=2e-6)


@each
def test_joined(sample, tmp_path):
    (tmp_path / sample.file).write_bytes(sample.first + sample.second)
    if sample.joined:
        with pytest.raises(DataError) as error:
            read(tmp_path / sample.file)
        assert sample.joined in error.value.message
        return
    check(read(tmp_path / sample.file).frames, sample.frames + sample.others)


@each
def test_cut_off(sample, tmp_path):
    """The file ends within the piece ``cut``, where it stands last."""
    assert sample.cut in sample.first
    (tmp_path / sample.file).write_bytes(sample.first[: sample.first.rindex(sample.cut) + len(sample.cut)])
    if not sample.left:
        with pytest.raises(DataError) as error:
            read(tmp_path / sample.file)
        assert sample.told in error.value.message
        return
    reading = read(tmp_path / sample.file)
    check(reading.frames, sample.left)
    assert any(sample.told in note for note in reading.notes)


@each
def test_empty(sample, tmp_path):
    (tmp_path / sample.file).write_bytes(b"")
    with pytest.raises(DataError, match=rf"/{sample.file} is empty"):
        read(tmp_path / sample.file)


def test_windows_line_ends(tmp_path):
    for sample in SAMPLES:
        if sample.format not in ("traj", "db", "aselmdb", "hdf5", "npz", "archive"):
            (tmp_path / sample.file).write_bytes(sample.first.replace(b"\n", b"\r\n"))
            check(read(tmp_path / sample.file).frames, sample.frames)
