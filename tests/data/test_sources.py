import pytest

from nequip_like.data.reference_energies import references_below
from nequip_like.data.sources import FileSource, HeldOut, below, file_source, held_out_sources
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
    assert error.value.message.startswith("train")


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


@pytest.mark.parametrize(
    ("entry", "expected"),
    [
        ("a.xyz", "/data/a.xyz"),
        ("/elsewhere/a.xyz", "/elsewhere/a.xyz"),
        ("deep/*.xyz", "/data/deep/*.xyz"),
        (["a.xyz", "/b.xyz"], ["/data/a.xyz", "/b.xyz"]),
        ({"file": "a.xyz", "index": ":5"}, {"file": "/data/a.xyz", "index": ":5"}),
        (
            {"path": ["a.xyz"], "units": {"energy": "kcal/mol"}},
            {"path": ["/data/a.xyz"], "units": {"energy": "kcal/mol"}},
        ),
        ({"hot": "a.xyz", "cold": {"file": "b.xyz"}}, {"hot": "/data/a.xyz", "cold": {"file": "/data/b.xyz"}}),
        (["a.xyz", 5, 0.1], ["/data/a.xyz", 5, 0.1]),
        (0.1, 0.1),
        (50, 50),
        (None, None),
    ],
)
def test_files_below_a_folder(entry, expected):
    assert below("/data", entry) == expected
    assert below(None, entry) == entry


def test_folder_below_home(monkeypatch):
    monkeypatch.setenv("HOME", "/home/me")
    assert below("~/data", "a.xyz") == "/home/me/data/a.xyz"


@pytest.mark.parametrize("choice", ["auto", "isolated_atoms", "least_squares", None, {"H": -13.6}])
def test_references_that_are_no_files(choice):
    assert references_below("/data", choice) == choice


def test_references_in_a_file():
    assert references_below("/data", "atoms.xyz") == "/data/atoms.xyz"
    assert references_below("/data", {"file": "atoms.xyz"}) == {"file": "/data/atoms.xyz"}
    assert references_below(None, "atoms.xyz") == "atoms.xyz"


@pytest.mark.parametrize(("name", "shown"), [(False, "false"), (True, "true"), (1e5, "100000.0"), (None, "null")])
def test_names_of_sets_that_are_no_texts(name, shown):
    with pytest.raises(ConfigError, match=rf"^test has a set named {shown}, which is no text\n.*quotes"):
        held_out_sources({name: "a.xyz"}, "test", None, None)
    assert list(held_out_sources({300: "a.xyz", "NO": "b.xyz"}, "test", None, None)) == ["300", "NO"]


def test_two_sets_of_one_name():
    with pytest.raises(ConfigError, match=r"^test has two sets named '1'\n.*give each set its own name"):
        held_out_sources({1: "te.xyz", "1": "va.xyz"}, "test", None, None)


@pytest.mark.parametrize(
    ("entry", "advice"),
    [
        ("None", "write null: val=null"),
        ("none", "write null: val=null"),
        ("10%", "write a fraction: val=0.1"),
        ("2.5 %", "write a fraction: val=0.025"),
        (False, "put a name that YAML reads as true or false, NO, into quotes; or write val: name.xyz"),
    ],
)
def test_what_is_written_like_something_else(entry, advice, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError) as caught:
        file_source(entry, "val", None, None)
    assert caught.value.advice.startswith(advice)


def test_a_file_may_have_such_a_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("None", "10%"):
        (tmp_path / name).touch()
        assert file_source(name, "val", None, None) == FileSource([name])


def test_trust_is_of_the_entry_that_states_it():
    trusted = file_source({"file": "a.lmdb", "trust_pickle": True}, "train", None, None)
    assert (trusted.trust_pickle, file_source("a.lmdb", "train", None, None).trust_pickle) == (True, False)
    sources = held_out_sources([{"file": "a.lmdb", "trust_pickle": True}, "b.lmdb"], "test", None, None)
    assert [source.trust_pickle for source in sources.values()] == [True, False]
