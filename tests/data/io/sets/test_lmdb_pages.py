"""Pages of LMDB files: whole ones pass, and those that would lead the library out of the file do not."""

import struct

import lmdb
import numpy as np
import pytest

from nequip_like.data.io.sets.lmdb_files import open_entries
from nequip_like.data.io.sets.lmdb_pages import check_pages
from nequip_like.errors import DataError
from tests.data.io.sets.written_sets import write_entries

PAGE = 4096


def write_many(path, number=600, size=100):
    """A tree with branches, leaves, and values on pages of their own."""
    rng = np.random.default_rng(0)
    entries = {str(i).encode(): rng.bytes(size if i % 50 else 3 * PAGE) for i in range(number)}
    write_entries(path, entries)
    return entries


def test_whole_files_pass(tmp_path):
    entries = write_many(tmp_path / "a.lmdb")
    check_pages(tmp_path / "a.lmdb")
    with open_entries(tmp_path / "a.lmdb") as opened:
        assert opened.numbers == list(range(600))
        assert opened.names == []
        assert {str(i).encode(): opened.get(i) for i in opened.numbers} == entries


def test_files_after_many_changes_pass(tmp_path):
    """Pages are freed and taken again; some at the end may never be written."""
    write_many(tmp_path / "a.lmdb")
    rng = np.random.default_rng(1)
    for _ in range(8):
        environment = lmdb.open(str(tmp_path / "a.lmdb"), subdir=False, map_size=1 << 28, lock=False)
        with environment.begin(write=True) as transaction:
            for key in rng.integers(0, 900, size=150):
                name = str(key).encode()
                if rng.random() < 0.5:
                    transaction.delete(name)
                else:
                    transaction.put(name, rng.bytes(int(rng.choice([10, 900, 5000, 20000]))))
            expected = dict(transaction.cursor())
        environment.close()
        with open_entries(tmp_path / "a.lmdb") as opened:
            assert {str(i).encode(): opened.get(i) for i in opened.numbers} == expected


@pytest.mark.parametrize("options", [{"writemap": True}, {"writemap": True, "map_async": True}, {"metasync": False}])
def test_files_of_other_writers_pass(tmp_path, options):
    """NequIP writes with a map, which leaves a file of the size of the map."""
    environment = lmdb.open(str(tmp_path / "a.lmdb"), subdir=False, map_size=1 << 24, lock=False, **options)
    with environment.begin(write=True) as transaction:
        for i in range(300):
            transaction.put(str(i).encode(), bytes(i * 20))
    environment.sync(True)
    environment.close()
    with open_entries(tmp_path / "a.lmdb") as opened:
        assert [len(opened.get(i)) for i in opened.numbers] == [20 * i for i in range(300)]


def test_empty_database(tmp_path):
    write_entries(tmp_path / "a.lmdb", {})
    with open_entries(tmp_path / "a.lmdb") as opened:
        assert (opened.numbers, opened.names) == ([], [])
        with pytest.raises(DataError, match="has no entry 3"):
            opened.get(3)


def test_numbers_and_names(tmp_path):
    keys = [b"0", b"10", b"2", b"01", b"-1", b"nextid", b"9" * 30, b"\xb2"]
    write_entries(tmp_path / "a.lmdb", dict.fromkeys(keys, b"x"))
    with open_entries(tmp_path / "a.lmdb") as opened:
        assert opened.numbers == [0, 2, 10]
        assert set(opened.names) == {b"01", b"-1", b"nextid", b"9" * 30, b"\xb2"}


def test_every_cut_is_noticed(tmp_path):
    """Wherever the file ends before its last page, and wherever this is."""
    write_many(tmp_path / "a.lmdb", 120)
    content = (tmp_path / "a.lmdb").read_bytes()
    path = tmp_path / "cut.lmdb"
    for size in [1, 15, 16, 100, 167, 168, 2 * PAGE - 1, *range(2 * PAGE, len(content), 7 * PAGE // 2)]:
        path.write_bytes(content[:size])
        with pytest.raises(DataError, match=r"cannot read .*cut\.lmdb: ") as error:
            check_pages(path)
        assert error.value.advice.startswith("check that it is complete")


def test_joined_files_are_refused(tmp_path):
    write_many(tmp_path / "a.lmdb", 20)
    (tmp_path / "b.lmdb").write_bytes(2 * (tmp_path / "a.lmdb").read_bytes())
    with pytest.raises(DataError, match="it holds two databases"):
        check_pages(tmp_path / "b.lmdb")


def test_several_values_of_a_key_are_refused(tmp_path):
    environment = lmdb.open(str(tmp_path / "a.lmdb"), subdir=False, max_dbs=1, lock=False)
    environment.open_db(b"inner")
    environment.close()
    with pytest.raises(DataError, match="page 2 is damaged"):
        check_pages(tmp_path / "a.lmdb")


@pytest.mark.parametrize(
    ("page", "offset", "value", "message"),
    [
        (0, 16, "<I", "it is no LMDB database"),
        (1, 16, "<I", "its second page is damaged"),
        (0, 20, "<I", "of another version"),
        (0, 40, "<I", "of another version"),
        (1, 40, "<I", "of another version"),
        ("meta", 40 + 48 + 4, "<H", "its keys are not plain ones"),
        ("meta", 40 + 48 + 6, "<H", "is damaged"),
        ("meta", 40 + 48 + 32, "<Q", "entries, but has 120"),
        ("meta", 40 + 48 + 40, "<Q", "beyond its end"),
        ("meta", 40 + 96, "<Q", None),
        ("root", 0, "<Q", "is damaged"),
        ("root", 10, "<H", "is damaged"),
        ("root", 12, "<H", "is damaged"),
        ("root", 14, "<H", "is damaged"),
        ("root", 16, "<H", "is damaged"),
    ],
    ids=range(15),
)
def test_every_number_that_leads_somewhere_is_checked(tmp_path, page, offset, value, message):
    path = tmp_path / "a.lmdb"
    write_many(path, 120)
    content = bytearray(path.read_bytes())
    newer = max((0, 1), key=lambda meta: struct.unpack_from("<Q", content, meta * PAGE + 16 + 128))
    root = struct.unpack_from("<Q", content, newer * PAGE + 16 + 24 + 48 + 40)[0]
    begin = {"meta": newer, "root": root}.get(page, page) * PAGE
    struct.pack_into(value, content, begin + offset, 0xABCD if value == "<H" else 0x0000ABCDABCD)
    path.write_bytes(content)
    if message is None:  # a last page behind the end: no page is there
        check_pages(path)
        return
    with pytest.raises(DataError) as error:
        check_pages(path)
    assert message in error.value.message
