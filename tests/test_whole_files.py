"""Files that are whole or not there."""

from __future__ import annotations

import errno
import os

import pytest

from nequip_like.errors import OutputError
from nequip_like.whole_files import is_partial, written_whole


def test_new_file_in_a_new_folder(tmp_path):
    path = tmp_path / "a" / "b.txt"
    with written_whole(path) as partial:
        partial.write_text("new")
        assert not path.exists()
    assert path.read_text() == "new"
    assert os.listdir(path.parent) == ["b.txt"]


@pytest.mark.parametrize("kind", [OSError(errno.ENOSPC, "No space left on device"), KeyboardInterrupt()])
def test_old_file_stays_when_writing_fails(tmp_path, kind):
    path = tmp_path / "a.txt"
    path.write_text("old")

    def write() -> None:
        with written_whole(path) as partial:
            partial.write_text("half")
            raise kind

    with pytest.raises((OutputError, KeyboardInterrupt)):
        write()
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["a.txt"]


def test_content_is_on_the_disk_before_it_gets_its_name(tmp_path, monkeypatch):
    seen = []
    real = os.fsync
    monkeypatch.setattr("os.fsync", lambda handle: (seen.append((tmp_path / "a.txt").exists()), real(handle)))
    with written_whole(tmp_path / "a.txt") as partial:
        partial.write_text("new")
    assert seen == [False, True]  # the file before the rename, the folder after it


def test_a_name_with_a_nul(tmp_path):
    path = tmp_path / "a\0b"
    with pytest.raises(OutputError) as caught, written_whole(path):
        pass
    assert caught.value.message == f"cannot write {str(path)!r}: a name has no NUL character"


def test_names_that_are_given_meanwhile_are_known(tmp_path):
    for name in ("best.ckpt", "run.1_last.ckpt", "best.json"):
        with written_whole(tmp_path / name) as partial:
            partial.write_text("half")
            assert is_partial(partial.name)
        assert not is_partial(name)
    assert is_partial(".last.4711.ckpt")  # as earlier versions called them
    assert not is_partial(".hidden.ckpt")


def test_a_folder_is_no_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for path in (".", tmp_path):
        with pytest.raises(OutputError, match=f"{tmp_path} is a folder"), written_whole(path):
            pass
