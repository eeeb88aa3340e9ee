"""Modules that are loaded when they are used."""

from __future__ import annotations

import importlib
import subprocess
import sys
import threading
from importlib.machinery import SourceFileLoader

import pytest

from nequip_like.cli.starting.deferred import defer

PACKAGE = """\
LOADED.append(__name__)
from heavy import part
from heavy.part import twice

half = lambda x: x / 2
"""
PART = "LOADED.append(__name__)\nfrom heavy.deeper import three\ntwice = lambda x, times=2: times * x\n"


@pytest.fixture
def loaded(tmp_path, monkeypatch):
    """A package ``above.heavy`` in files; gives the names of its modules that were executed, in order."""
    heavy = tmp_path / "above" / "heavy"
    heavy.mkdir(parents=True)
    (tmp_path / "above" / "__init__.py").write_text("")
    head = "from above import LOADED\n"
    for name, text in (("__init__", PACKAGE), ("part", PART), ("deeper", "three = 3\nLOADED.append(__name__)\n")):
        (heavy / f"{name}.py").write_text(head + text.replace("from heavy", "from above.heavy"))
    monkeypatch.syspath_prepend(str(tmp_path))
    import above

    above.LOADED = []
    yield above.LOADED
    for name in [name for name in sys.modules if name.split(".")[0] == "above"]:
        del sys.modules[name]


WHOLE = ["above.heavy", "above.heavy.deeper", "above.heavy.part"]


def test_importing_does_not_load(loaded):
    defer("above.heavy", {"old": "part.twice"})
    import above.heavy
    import above.heavy as again

    assert again is above.heavy is sys.modules["above.heavy"]
    assert above.heavy.__name__ == "above.heavy"
    assert hasattr(above.heavy, "old")
    assert loaded == []


@pytest.mark.parametrize(
    "use",
    [
        "heavy.half(8) == 4",
        "heavy.old(2, times=3) == 6",
        "not hasattr(heavy, 'nothing')",
        "__import__('above.heavy.part').heavy.part.twice(1) == 2",
        "heavy.part.three == 3",
    ],
)
def test_use_loads_all_of_it_once(use, loaded):
    defer("above.heavy", {"old": "part.twice"})
    from above import heavy

    assert eval(use, {"heavy": heavy})
    assert eval(use, {"heavy": heavy})
    assert sorted(loaded) == WHOLE
    assert sys.modules["above.heavy"] is heavy
    assert type(heavy) is type(sys)


def test_from_import(loaded):
    defer("above.heavy", {"old": "part.twice"})
    from above.heavy import old

    assert loaded == []
    from above.heavy import twice

    assert sorted(loaded) == WHOLE
    assert old(4) == twice(4) == 8


@pytest.mark.parametrize("name", ["above.heavy.part", "above.heavy.deeper", "above.heavy.last"])
def test_a_module_is_loaded_before_its_submodules(name, loaded, tmp_path):
    (tmp_path / "above" / "heavy" / "last.py").write_text("from above.heavy import half\n")
    defer("above.heavy", {})
    module = importlib.import_module(name)
    assert loaded[0] == "above.heavy"
    assert sorted(loaded) == WHOLE
    assert module is sys.modules[name] is getattr(sys.modules["above.heavy"], name.rpartition(".")[2])
    assert isinstance(module.__spec__.loader, SourceFileLoader)
    assert importlib.reload(module) is module


def test_own_names_win(loaded):
    defer("above.heavy", {"half": "half"})
    from above import heavy

    before = heavy.half
    assert before(4) == 2
    assert heavy.half is not before
    assert before(6) == heavy.half(6) == 3
    assert before.__name__ == "half"


def test_another_thread_waits(loaded):
    defer("above.heavy", {})
    from above import heavy

    found: list[float] = []
    threads = [threading.Thread(target=lambda: found.append(heavy.half(4))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [2] * 8
    assert sorted(loaded) == WHOLE


def test_an_error_of_the_module_is_told_at_each_use(loaded, tmp_path):
    (tmp_path / "above" / "broken.py").write_text("raise ImportError('no library')\n")
    defer("above.broken", {})
    from above import broken

    for _ in range(2):
        with pytest.raises(ImportError, match="no library"):
            _ = broken.anything


def test_what_is_loaded_or_not_there_is_left_alone(loaded):
    import above.heavy

    before = dict(vars(above.heavy))
    for name in ("above.heavy", "above.nothing", "nothing.at.all"):
        defer(name, {"old": "half"})
    assert vars(above.heavy) == before
    assert "above.nothing" not in sys.modules


def test_scipy_is_what_it_would_be():
    """With torchmetrics' addition, and the same however it is reached."""
    code = """
import sys
from nequip_like.cli.starting.quick_start import quick_start
with quick_start():
    import ase.io, torchmetrics
assert "scipy.stats" not in sys.modules and "scipy.optimize" not in sys.modules
import scipy.integrate, scipy.signal.windows
assert scipy.integrate.trapezoid([1.0, 3.0]) == ase.dft.trapezoid([1.0, 3.0]) == 2
assert scipy.integrate.quad(lambda x: x, 0, 2)[0] == 2
from scipy.signal import windows
import scipy.signal.windows as also
assert also is windows is scipy.signal.windows
assert list(scipy.signal.hamming(3, sym=False)) == list(windows.hamming(3, sym=False))
assert scipy.signal.find_peaks([0, 1, 0])[0].tolist() == [1]
assert "scipy.stats" in sys.modules
from torchmetrics.functional.audio import scale_invariant_signal_noise_ratio
"""
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr
