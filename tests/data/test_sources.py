import pytest

from nequip_like.data.sources import FileSource, HeldOut, file_source, held_out_sources
from nequip_like.errors import ConfigError

MAPPING, UNITS = {"E": "total_energy"}, {"energy": "meV"}


def test_forms_of_one_data_set():
    plain = FileSource(["a.xyz"], ":", MAPPING, UNITS)
    assert file_source("a.xyz", "train", MAPPING, UNITS) == plain
    assert file_source({"file": "a.xyz"}, "train", MAPPING, UNITS) == plain
    assert file_source({"path": ["a.xyz"]}, "train", MAPPING, UNITS) == plain
    assert file_source(["a.xyz", "b.xyz"], "train", None, None).files == ["a.xyz", "b.xyz"]
    own = file_source({"file": "a.xyz", "index": ":5", "units": {"energy": "Ry"}}, "train", MAPPING, UNITS)
    assert own == FileSource(["a.xyz"], ":5", MAPPING, {"energy": "Ry"})


@pytest.mark.parametrize(
    ("entry", "expected"),
    [
        ({"file": "a.xyz", "indx": ":5"}, "did you mean 'index'"),
        ({"index": ":5"}, "needs its file"),
        ({"file": "a", "path": "b"}, "needs its file"),
        ([], "is no file"),
        (7, "is no file"),
    ],
)
def test_entries_that_cannot_be_understood(entry, expected):
    with pytest.raises(ConfigError, match=expected) as error:
        file_source(entry, "train", None, None)
    assert "data.train" in error.value.message


def test_forms_of_held_out_sets():
    assert held_out_sources(None, "val", None, None) == {}
    assert held_out_sources(0.1, "val", None, None) == {"val": HeldOut(0.1)}
    assert list(held_out_sources("x/hot.xyz", "test", None, None)) == ["hot"]
    assert list(held_out_sources(["x/a.xyz", "y/a.xyz", {"file": "b.traj"}, 5], "test", None, None)) == [
        "a",
        "a_2",
        "b",
        "test",
    ]
    named = held_out_sources({"hot": "x.xyz", "cold": {"file": "y.xyz", "index": ":3"}}, "test", MAPPING, None)
    assert list(named) == ["hot", "cold"]
    assert named["cold"] == FileSource(["y.xyz"], ":3", MAPPING, None)
