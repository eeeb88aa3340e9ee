"""Settings of the process: what is set, what the environment keeps from being set, and that the C library obeys."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from nequip_like import process_settings
from nequip_like.process_settings import available_memory, keep_memory, shorten_waiting

ALLOCATOR = (
    "MALLOC_MMAP_THRESHOLD_",
    "MALLOC_TRIM_THRESHOLD_",
    "MALLOC_MMAP_MAX_",
    "MALLOC_TOP_PAD_",
    "GLIBC_TUNABLES",
)

# Blocks that are mapped one by one before and while a block of so many bytes is there, and whether the C library keeps
# the block's memory after it is freed.
BLOCK = """
import ctypes, sys
from nequip_like.process_settings import keep_memory
libc = ctypes.CDLL(None)
libc.mallinfo2.restype = ctypes.c_size_t * 10
class Information(ctypes.Structure):
    _fields_ = [(name, ctypes.c_size_t) for name in "arena b c mapped e f g h i j".split()]
libc.mallinfo2.restype = Information
libc.malloc.restype, libc.malloc.argtypes, libc.free.argtypes = ctypes.c_void_p, [ctypes.c_size_t], [ctypes.c_void_p]
size = 100 * 2**20
print(keep_memory())
before = libc.mallinfo2().mapped
block = libc.malloc(size)
print(libc.mallinfo2().mapped - before)
libc.free(block)
print(libc.mallinfo2().arena > size)
"""

glibc = pytest.mark.skipif(process_settings.platform.libc_ver()[0] != "glibc", reason="the C library is not glibc")


def run(program, **variables):
    environment = {key: value for key, value in os.environ.items() if key not in ALLOCATOR} | variables
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True, env=environment)
    return done.stdout.split()


@glibc
def test_memory_is_kept():
    assert run(BLOCK) == ["True", "0", "True"]


@glibc
@pytest.mark.parametrize("name", ["MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_"])
def test_allocator_of_the_user(name):
    """The user's variable stays in force: glibc maps the block, and unmaps it."""
    assert run(BLOCK, **{name: "1000000"}) == ["False", "1", "False"]


class Recording:
    """Stands for the C library."""

    def __init__(self, monkeypatch, accepts):
        self.calls = []
        self._accepts = accepts
        monkeypatch.setattr(process_settings.ctypes, "CDLL", lambda _: self)
        for name in ALLOCATOR:
            monkeypatch.delenv(name, raising=False)

    @property
    def mallopt(self):
        def call(option, value):
            self.calls.append((option, value))
            return int(self._accepts(option, value))

        return call


@glibc
def test_older_versions_take_smaller_thresholds(monkeypatch):
    library = Recording(monkeypatch, lambda option, value: option == -1 or value <= 2**25)
    assert keep_memory()
    assert [option for option, _ in library.calls] == [-3, -3, -1]
    assert library.calls[1] == (-3, 2**25)


@glibc
def test_a_library_that_refuses(monkeypatch):
    library = Recording(monkeypatch, lambda *_: False)
    assert not keep_memory()
    assert [option for option, _ in library.calls] == [-3, -3]


@pytest.mark.parametrize(("system", "library"), [("darwin", ""), ("linux", "musl"), ("win32", "")])
def test_other_systems_are_left_alone(monkeypatch, system, library):
    recording = Recording(monkeypatch, lambda *_: True)
    monkeypatch.setattr(process_settings.sys, "platform", system)
    monkeypatch.setattr(process_settings.platform, "libc_ver", lambda: (library, "1.2"))
    assert not keep_memory()
    assert recording.calls == []


def test_short_waiting(monkeypatch):
    """Before torch is imported, and where the user has said nothing."""
    monkeypatch.setenv("GOMP_SPINCOUNT", "")  # so that it is what it was afterwards
    monkeypatch.delenv("GOMP_SPINCOUNT")
    monkeypatch.delenv("OMP_WAIT_POLICY", raising=False)
    monkeypatch.setitem(sys.modules, "torch", pytest)
    assert not shorten_waiting()
    assert "GOMP_SPINCOUNT" not in os.environ
    monkeypatch.delitem(sys.modules, "torch")
    assert shorten_waiting()
    assert os.environ["GOMP_SPINCOUNT"] == str(process_settings.SPIN_COUNT)


@pytest.mark.parametrize("name", ["GOMP_SPINCOUNT", "OMP_WAIT_POLICY"])
def test_waiting_of_the_user(monkeypatch, name):
    for variable in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv(name, "7")
    monkeypatch.delitem(sys.modules, "torch", raising=False)
    assert not shorten_waiting()
    assert {key: value for key, value in os.environ.items() if key in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")} == {
        name: "7"
    }


def test_nothing_heavy_is_imported():
    program = "import sys, nequip_like.process_settings; print({'torch', 'numpy'} & set(sys.modules))"
    assert run(program) == ["set()"]


@pytest.mark.parametrize(
    ("environment", "rank"),
    [
        ({}, 0),
        ({"RANK": "0", "LOCAL_RANK": "0"}, 0),
        ({"RANK": "3", "LOCAL_RANK": "1"}, 3),
        ({"LOCAL_RANK": "1"}, 1),
        ({"NODE_RANK": "1", "LOCAL_RANK": "0"}, 1),
        ({"SLURM_PROCID": "2"}, 2),
        ({"OMPI_COMM_WORLD_RANK": "1"}, 1),
        ({"RANK": ""}, 0),
    ],
)
def test_rank(environment, rank):
    assert process_settings.rank(environment) == rank


@pytest.mark.skipif(sys.platform != "linux", reason="what a process has taken is read from /proc")
def test_what_ulimit_leaves(monkeypatch):
    import resource

    taken = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    monkeypatch.setattr(resource, "getrlimit", lambda which: (taken + 5e7, resource.RLIM_INFINITY))
    assert 0 < available_memory() <= 5e7
    monkeypatch.setattr(resource, "getrlimit", lambda which: (taken / 2, resource.RLIM_INFINITY))
    assert available_memory() == 0
