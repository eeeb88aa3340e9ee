"""Each format of a library: a file that is empty, cut off or overwritten is read, or is one error that names it."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nequip_like.data.io.formats import read_atoms
from nequip_like.errors import DataError
from tests.data.io.sets.written_sets import WRITERS, make_frames

each = pytest.mark.parametrize("name", WRITERS)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The content of a file of each format."""
    folder = tmp_path_factory.mktemp("whole")
    frames = [atoms for atoms in make_frames(12) if atoms.pbc.all()]
    return {name: write(folder / name, frames).read_bytes() for name, write in WRITERS.items()}


def refuse(path, content):
    path.write_bytes(content)
    with pytest.raises(DataError) as error:
        read_atoms(path, trust_pickle=True)
    assert path.name in error.value.message
    assert error.value.advice


@each
def test_empty_or_something_else(whole, tmp_path, name):
    for content in (b"", b"\0", b"no such file\n" * 1000, bytes(1 << 16)):
        refuse(tmp_path / name, content)


@each
def test_cut_off(whole, tmp_path, name):
    content = whole[name]
    for size in {1, 8, 100, len(content) // 3, len(content) // 2, 4 * len(content) // 5}:
        refuse(tmp_path / name, content[:size])


@each
def test_overwritten(whole, tmp_path, name):
    path, content = tmp_path / name, whole[name]

    @settings(max_examples=25, deadline=None, derandomize=True, database=None)
    @given(st.integers(0, len(content) - 1), st.binary(min_size=1, max_size=300))
    def overwrite(at, piece):
        changed = content[:at] + piece + content[at + len(piece) :]
        path.write_bytes(changed[: len(content)])
        try:
            assert len(read_atoms(path, trust_pickle=True)[0]) == 6
        except DataError as error:
            if name not in error.message:
                raise AssertionError(f"an error without the name of the file: {error}") from error

    overwrite()
