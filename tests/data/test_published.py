"""Published data sets that a config can name."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
from hydra import compose, initialize_config_module
from omegaconf.errors import OmegaConfBaseException

from nequip_like.data import published
from nequip_like.data.published import CATALOG, PublishedSet, cache_folder, folder_of
from nequip_like.errors import ConfigError, DataError
from nequip_like.instantiate import instantiate
from nequip_like.workflow.config import sections
from nequip_like.workflow.config.values import register_resolvers


@pytest.fixture
def tiny_set(tmp_path, monkeypatch) -> Path:
    """A catalogue with one set, ``tiny``, at a file address; downloads go to ``tmp_path / cache``."""
    source = tmp_path / "server"
    source.mkdir()
    files = {"a.xyz": b"first", "b.xyz": b"second"}
    for name, content in files.items():
        (source / name).write_bytes(content)
    sums = {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}
    monkeypatch.setattr(published, "CATALOG", {"tiny": PublishedSet(source.as_uri(), sums, "made up")})
    monkeypatch.setenv("NEQUIP_LIKE_CACHE", str(tmp_path / "cache"))
    return source


def test_folder_with_all_files(tiny_set, tmp_path):
    folder = folder_of("tiny")
    assert folder == tmp_path / "cache" / "tiny"
    assert (folder / "a.xyz").read_bytes() == b"first"
    assert (folder / "b.xyz").read_bytes() == b"second"


def test_second_use_needs_no_server(tiny_set):
    folder_of("tiny")
    for file in tiny_set.iterdir():
        file.unlink()
    assert (folder_of("tiny") / "b.xyz").is_file()


def test_set_that_cannot_be_had(tiny_set):
    (tiny_set / "b.xyz").unlink()
    with pytest.raises(DataError, match=r"cannot download .*b\.xyz"):
        folder_of("tiny")


def test_unknown_set(tiny_set):
    with pytest.raises(ConfigError, match=r"unknown published data set '3bpb'\n.*tiny"):
        folder_of("3bpb")


def test_cache_folder(monkeypatch, tmp_path):
    monkeypatch.delenv("NEQUIP_LIKE_CACHE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "nequip_like"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert cache_folder() == tmp_path / "home" / ".cache" / "nequip_like"
    monkeypatch.setenv("NEQUIP_LIKE_CACHE", str(tmp_path / "own"))
    assert cache_folder() == tmp_path / "own"


def test_entries_are_complete():
    for name, tiny_set in CATALOG.items():
        assert tiny_set.url.startswith("https://"), name
        assert tiny_set.source, name
        assert all(len(sha256) == 64 and int(sha256, 16) for sha256 in tiny_set.files.values()), name


# --- in a config


def composed(*overrides: str):
    register_resolvers()
    with initialize_config_module("nequip_like.conf", version_base="1.3"):
        return compose("train", [*overrides, "output_dir=out"])


def test_config_of_3bpa_with_a_path_of_its_own(tmp_path):
    config = composed("data=3bpa", f"data.path={tmp_path}")
    arguments = sections.resolve_section("data", config.data)
    assert arguments["path"] == str(tmp_path)
    data = instantiate("data", arguments, recursive=False)
    assert data.request.train == str(tmp_path / "train_300K.xyz")
    assert data.request.reference_energies == str(tmp_path / "iso_atoms.xyz")
    with pytest.raises(DataError, match=r"no such file.*train_300K\.xyz"):
        data.prepare()


def test_config_of_3bpa_is_downloaded_when_used(tiny_set, monkeypatch, tmp_path):
    """Composing costs nothing; only resolving ``data.path`` asks for the files."""
    config = composed("data=3bpa")
    with pytest.raises(ConfigError, match="unknown published data set '3bpa'"):
        sections.resolve_section("data", config.data)
    monkeypatch.setattr(published, "CATALOG", {"3bpa": published.CATALOG["tiny"]})
    assert config.data.path == str(tmp_path / "cache" / "3bpa")


def test_names_of_bundled_files():
    config = composed("data.train=${tutorial_data:ethanol/train.xyz}")
    assert Path(config.data.train).is_file()
    wrong = composed("data.train=${tutorial_data:methanol/train.xyz}")
    with pytest.raises(OmegaConfBaseException, match="no bundled data file"):
        _ = wrong.data.train
