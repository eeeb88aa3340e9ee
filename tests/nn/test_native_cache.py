"""Libraries that are kept: damaged ones are made again, and other folders take them where the cache cannot."""

from __future__ import annotations

import functools
import os
import platform
import signal
import subprocess
import sys
import tempfile
import time
import warnings
from pathlib import Path

import pytest

from nequip_like.errors import OutputError
from nequip_like.nn.native import cache, compiler
from nequip_like.nn.native.cache import load_or_build
from nequip_like.nn.native.compiler import compile_library
from nequip_like.process_settings import warn_once

pytestmark = pytest.mark.skipif(compiler.find_compiler() is None, reason="there is no C compiler")
SOURCE = "int answer(void) { return 42; }"
NOWHERE = "/proc/nequip_like"  # where nobody, root neither, can make a folder


@functools.cache
def good_library() -> bytes:
    """A small library, about 15 kB."""
    with tempfile.TemporaryDirectory() as folder:
        command = [compiler.find_compiler(), "-shared", "-fPIC", "-x", "c", "-", "-o", f"{folder}/good.so"]
        subprocess.run(command, input=SOURCE, text=True, check=True)
        return Path(folder, "good.so").read_bytes()


def make(target: Path, folder: Path) -> None:
    target.write_bytes(good_library())


def never(target: Path, folder: Path) -> None:
    raise AssertionError("it was kept already")


@pytest.fixture(autouse=True)
def places(tmp_path, monkeypatch):
    """A cache and a folder for temporary files of the test's own."""
    (tmp_path / "temporary").mkdir()
    monkeypatch.setenv("NEQUIP_LIKE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    for name in ("RANK", "LOCAL_RANK", "SLURM_PROCID"):
        monkeypatch.delenv(name, raising=False)
    warn_once.cache_clear()
    cache._make_process_folder.cache_clear()
    return tmp_path


def kept(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.rglob("*") if path.is_file())


def test_made_once(places):
    assert load_or_build("a" * 32, make).answer() == 42
    assert load_or_build("a" * 32, never).answer() == 42
    (name,) = kept(places / "cache" / "kernels")
    assert name.startswith("a" * 32 + "-")
    assert name.endswith(".so")
    assert kept(places / "temporary") == []


def test_code_beside_the_library(places):
    """For people: what it holds or whether it is there makes no difference, and a broken library takes it away."""
    folder = places / "cache" / "kernels"
    assert load_or_build("b" * 32, make, SOURCE).answer() == 42
    code, library = sorted(folder.iterdir())
    assert (code.suffix, library.suffix, code.stem) == (".c", ".so", library.stem)
    assert code.read_text() == SOURCE
    code.write_text("int answer(void) { return 0; }")
    assert load_or_build("b" * 32, never, SOURCE).answer() == 42
    code.unlink()
    assert load_or_build("b" * 32, never, SOURCE).answer() == 42
    code.write_text(SOURCE)
    library.unlink()
    library.write_bytes(b"")
    assert cache._load(library) is None
    assert list(folder.iterdir()) == []


# Cut short, a range cut out, a range of zeros, each at 50 places; in a process that a bus error may kill.
DAMAGES = """
import os, sys
from pathlib import Path
from nequip_like.nn.native.cache import load_or_build
good = Path(sys.argv[1]).read_bytes()
made = []
def make(target, folder):
    made.append(target)
    target.write_bytes(good)
load_or_build("k" * 32, make)
(path,) = Path(os.environ["NEQUIP_LIKE_CACHE"], "kernels").iterdir()
size, whole = len(good), good
part = size // 50
for i in range(50):
    start, stop = i * part, (i + 1) * part
    for damaged in (good[:start], good[:start] + good[stop:], good[:start] + bytes(part) + good[stop:]):
        if damaged == whole:  # these were zeros
            continue
        before = len(made)
        path.unlink()  # what is mapped stays as it is: another process wrote this
        path.write_bytes(damaged)
        assert load_or_build("k" * 32, make).answer() == 42
        assert len(made) == before + 1, (i, len(damaged))
        assert path.read_bytes() == good
        assert load_or_build("k" * 32, None).answer() == 42
print(len(made))
"""


def test_damaged_ones_are_made_again(places):
    (places / "good.so").write_bytes(good_library())
    command = [sys.executable, "-c", DAMAGES, str(places / "good.so")]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=os.environ)
    assert (done.returncode, done.stderr) == (0, "")
    assert int(done.stdout) > 101  # 50 cut short, 50 with a part cut out, and some of the zeros


def test_empty_one_is_compiled_again(places):
    """With the compiler itself."""
    assert compile_library([SOURCE]).answer() == 42
    (path,) = (places / "cache" / "kernels").glob("*.so")
    size = path.stat().st_size
    path.unlink()
    path.write_bytes(b"")
    assert compile_library([SOURCE]).answer() == 42
    assert [found.stat().st_size for found in (places / "cache" / "kernels").glob("*.so")] == [size]


def test_what_is_included_is_part_of_the_key(places):
    """And what lies beside the library is the code without it."""
    source = '#include "answer.h"\nint answer(void) { return ANSWER; }'
    for answer in (1, 2):
        assert compile_library([source], {"answer.h": f"#define ANSWER {answer}\n"}).answer() == answer
    folder = places / "cache" / "kernels"
    assert [path.read_text() for path in folder.glob("*.c")] == [source] * 2
    assert len(list(folder.iterdir())) == 4


def test_one_for_another_processor(places):
    """Whole, and refused by the system: a new one lies beside it, since it may serve other machines."""
    foreign = bytearray(good_library())
    foreign[18] ^= 0xFF  # the machine in an ELF header
    with pytest.raises(OutputError, match="cannot be loaded"):
        cache._build_library(cache._make_cache_folder(), "f" * 32, lambda target, folder: target.write_bytes(foreign))
    assert load_or_build("f" * 32, make).answer() == 42
    assert load_or_build("f" * 32, never).answer() == 42
    assert len(kept(places / "cache" / "kernels")) == 2


def own_folder(places: Path) -> Path:
    return places / "temporary" / f"nequip_like-{os.getuid()}"


def test_folder_in_its_place(places):
    load_or_build("d" * 32, make)
    (path,) = (places / "cache" / "kernels").iterdir()
    path.unlink()
    path.mkdir()
    with pytest.warns(UserWarning, match=rf"{path} is a folder; compiled kernels are kept in /.*"):
        assert load_or_build("d" * 32, make).answer() == 42
    assert kept(own_folder(places)) == [path.name]


@pytest.mark.parametrize("kind", ["nowhere", "file"])
def test_cache_that_cannot_be_written(places, monkeypatch, kind):
    """A temporary folder takes it, for this user alone; it is said once, and later processes find it there."""
    folder = Path(NOWHERE) if kind == "nowhere" else places / "file"
    (places / "file").write_text("")
    monkeypatch.setenv("NEQUIP_LIKE_CACHE", str(folder))
    with pytest.warns(UserWarning, match="cannot write") as told:
        assert load_or_build("c" * 32, make).answer() == 42
    reason = "No such file or directory" if kind == "nowhere" else "Not a directory"
    assert [str(each.message) for each in told] == [
        f"cannot write {folder}/kernels: {reason}; compiled kernels are kept in {own_folder(places)}"
    ]
    assert own_folder(places).stat().st_mode & 0o777 == 0o700
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert load_or_build("c" * 32, never).answer() == 42


def test_other_processes_of_a_run_are_silent(places, monkeypatch):
    monkeypatch.setenv("NEQUIP_LIKE_CACHE", NOWHERE)
    monkeypatch.setenv("LOCAL_RANK", "1")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert load_or_build("c" * 32, make).answer() == 42


@pytest.mark.parametrize("kind", ["open to all", "link"])
@pytest.mark.filterwarnings("ignore:cannot write")
def test_folder_that_somebody_else_may_write_to(places, monkeypatch, kind):
    """What lies there is not loaded; the process takes a new folder."""
    monkeypatch.setenv("NEQUIP_LIKE_CACHE", NOWHERE)
    load_or_build("e" * 32, make)
    if kind == "link":
        own_folder(places).rename(places / "elsewhere")
        own_folder(places).symlink_to(places / "elsewhere")
    else:
        own_folder(places).chmod(0o777)
    made = []
    library = load_or_build("e" * 32, lambda target, folder: (made.append(target), make(target, folder)))
    assert library.answer() == 42
    (target,) = made
    assert target.is_relative_to(places / "temporary")
    assert not target.is_relative_to(own_folder(places))


def test_nowhere_at_all(places, monkeypatch):
    monkeypatch.setenv("NEQUIP_LIKE_CACHE", NOWHERE)
    monkeypatch.setattr(tempfile, "tempdir", NOWHERE)
    with pytest.raises(OutputError, match=rf"cannot write {NOWHERE}/kernels: No such file or directory"):
        load_or_build("n" * 32, make)


def test_no_home(places, monkeypatch):
    """A user that no list of users knows, as in containers."""
    monkeypatch.delenv("NEQUIP_LIKE_CACHE")
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(Path, "home", lambda: (_ for _ in ()).throw(RuntimeError("no home")))
    with pytest.warns(UserWarning, match="this user has no home folder; compiled kernels are kept in"):
        assert load_or_build("h" * 32, make).answer() == 42


def test_disk_that_is_full_in_the_middle(places):
    """Nothing is left of it, and another folder is tried."""
    tried = []

    def full_at_first(target: Path, folder: Path) -> None:
        tried.append(folder)
        if len(tried) == 1:
            target.write_bytes(good_library()[:5000])
            raise OSError(28, "No space left on device")
        make(target, folder)

    with pytest.warns(UserWarning, match="No space left on device; compiled kernels are kept in"):
        assert load_or_build("p" * 32, full_at_first).answer() == 42
    assert list((places / "cache" / "kernels").iterdir()) == []


def test_compiler_without_room(places, monkeypatch):
    """What the compiler says of a full disk is not taken for a fault of the code."""
    script = places / "cc"
    script.write_text('#!/bin/sh\n[ "$1" = --version ] && exit 0\necho "0.s: No space left on device" >&2\nexit 1\n')
    script.chmod(0o755)
    monkeypatch.setenv("CC", str(script))
    with pytest.raises(OutputError, match=r"cc cannot write its files: No space left on device"):
        compile_library([SOURCE])


def test_processes_at_once(places, monkeypatch):
    """One compiles, and the others wait for what it makes."""
    script = places / "cc"
    script.write_text(f'#!/bin/sh\necho "$*" >> {places}/calls\nexec {compiler.find_compiler()} "$@"\n')
    script.chmod(0o755)
    monkeypatch.setenv("CC", str(script))
    program = (
        "import sys; from nequip_like.nn.native.compiler import compile_library as compiled; "
        "print(compiled([sys.argv[1]]).answer())"
    )
    command = [sys.executable, "-c", program, SOURCE]
    jobs = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(6)]
    assert [job.communicate()[0] for job in jobs] == ["42\n"] * 6
    assert [Path(name).suffix for name in kept(places / "cache" / "kernels")] == [".c", ".so"]
    calls = (places / "calls").read_text().splitlines()
    assert len([call for call in calls if call.endswith("0.o")]) == 1


def test_one_that_is_killed_is_not_waited_for(places, monkeypatch):
    """In the middle of its compilation."""
    script = places / "cc"
    script.write_text('#!/bin/sh\ncase "$*" in *0.o) sleep 60;; esac\n')
    script.chmod(0o755)
    program = "import sys; from nequip_like.nn.native.compiler import compile_library; compile_library([sys.argv[1]])"
    environment = {**os.environ, "CC": str(script)}
    builder = subprocess.Popen([sys.executable, "-c", program, SOURCE], env=environment, start_new_session=True)
    kernels = places / "cache" / "kernels"
    while not (marks := list(kernels.glob(".*.building"))):
        time.sleep(0.05)
    os.killpg(builder.pid, signal.SIGKILL)
    builder.wait()
    (mark,) = marks
    mark.rename(kernels / f".{'k' * 32}.building")
    start = time.monotonic()
    assert load_or_build("k" * 32, make).answer() == 42
    assert time.monotonic() - start < 30
    assert list(kernels.glob(".*.building")) == []


def test_an_old_mark_is_left_behind(places):
    kernels = places / "cache" / "kernels"
    kernels.mkdir(parents=True)
    mark = kernels / f".{'o' * 32}.building"
    mark.write_text("another-machine 1")
    os.utime(mark, (1.0, 1.0))
    start = time.monotonic()
    assert load_or_build("o" * 32, make).answer() == 42
    assert time.monotonic() - start < 30
    assert not mark.exists()


def test_a_full_disk_leaves_no_mark(places, monkeypatch):
    def fail(*arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(cache.os, "write", fail)
    with pytest.raises(OutputError, match="No space left on device"):
        load_or_build("d" * 32, make)
    assert kept(places) == []


@pytest.mark.parametrize(
    "content",
    ["another-machine 1", "", f"{platform.node()} {os.getpid()}"],
    ids=["of another machine", "not written yet", "going on"],
)
def test_nobody_is_waited_for_for_ever(places, monkeypatch, content):
    """One of another machine, one that has not written who it is, and one that goes on and does not come back."""
    monkeypatch.setattr(cache, "_PATIENCE", 0.2)
    kernels = places / "cache" / "kernels"
    kernels.mkdir(parents=True)
    (kernels / f".{'w' * 32}.building").write_text(content)
    start = time.monotonic()
    assert load_or_build("w" * 32, make).answer() == 42
    assert time.monotonic() - start >= 0.2
    # The mark is not ours, and its process may still be there.
    assert sorted(Path(name).suffix for name in kept(kernels)) == [".building", ".so"]


def test_a_failure_ends_the_turn(places):
    def fail(target: Path, folder: Path) -> None:
        raise ValueError("a fault")

    for _ in range(2):
        with pytest.raises(ValueError, match="a fault"):
            load_or_build("f" * 32, fail)
    assert kept(places / "cache" / "kernels") == []


def test_other_files_of_kernels(places, monkeypatch):
    """The source of Triton's programs lies beside the libraries: written again where it is not what it should be."""
    from nequip_like.nn.kernels.triton_convolution import _write_module

    file = cache.use_cache_folder(lambda folder: _write_module(folder / "a.py", b"x = 1\n"))
    assert file == places / "cache" / "kernels" / "a.py"
    file.write_bytes(b"x =")
    assert cache.use_cache_folder(lambda folder: _write_module(folder / "a.py", b"x = 1\n")).read_bytes() == b"x = 1\n"
    monkeypatch.setenv("NEQUIP_LIKE_CACHE", NOWHERE)
    with pytest.warns(UserWarning, match="cannot write"):
        file = cache.use_cache_folder(lambda folder: _write_module(folder / "a.py", b"x = 1\n"))
    assert file == own_folder(places) / "a.py"
