"""What commands and modules leave unloaded, and what becomes of the garbage collector."""

from __future__ import annotations

import gc
import importlib
import subprocess
import sys

import pytest

from nequip_like.cli.starting.quick_start import quick_start
from nequip_like.inference import save

# Each of these takes a second, or a good part of it.
HEAVY = ("torch", "torch._dynamo.eval_frame", "lightning", "torchmetrics", "matplotlib", "ase.io")
HEAVY += ("matplotlib.figure", "scipy.stats", "scipy.optimize")


def loaded_by(code: str) -> set[str]:
    """The heavy modules that a piece of code loads, in a process of its own."""
    code = f"{code}\nimport sys\nprint(*(name for name in {HEAVY} if name in sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr
    return set(done.stdout.splitlines()[-1].split())


@pytest.mark.parametrize(
    "code",
    [
        "import nequip_like",
        "import nequip_like.cli.test, nequip_like.cli.train",
        "import sys; sys.argv[1:] = ['--help']; from nequip_like.cli.train import main; main()",
    ],
)
def test_nothing_heavy(code):
    assert loaded_by(code) == set()


def test_using_a_model_needs_no_training(make_potential, tmp_path):
    """None of these loads more; what all of them load together is asked for, for torch takes its time."""
    modules = ("nequip_like.data.graph", "nequip_like.model", "nequip_like.inference", "nequip_like.integrations.ase")
    save(make_potential(), tmp_path / "model.safetensors")
    read = f"nequip_like.inference.model_file.read_model({str(tmp_path / 'model.safetensors')!r})"
    code = f"import sys, {', '.join(modules)}\n{read}\nassert not {{'lightning', 'hydra'}} & set(sys.modules)"
    assert loaded_by(code) <= {"torch", "torch._dynamo.eval_frame"}


@pytest.mark.slow
def test_metrics_and_tests_need_no_lightning():
    assert "lightning" not in loaded_by("from nequip_like.metrics import EnergyForceLoss, MetricsManager")
    assert "lightning" not in loaded_by("import nequip_like.workflow.evaluate")


def test_training_leaves_out_what_it_does_not_use():
    code = (
        "from nequip_like.cli.starting.quick_start import quick_start\n"
        "with quick_start():\n    import nequip_like.workflow.train\n"
        "import torch\n"
        "optimizer = torch.optim.AdamW([torch.nn.Parameter(torch.ones(1))])\n"
        "optimizer.zero_grad()\n"
        "optimizer.step()\n"
    )
    assert loaded_by(code) == {"torch", "lightning", "torchmetrics", "matplotlib", "ase.io"}


@pytest.mark.parametrize("enabled", [True, False])
def test_the_collector_rests_and_is_as_before(enabled):
    try:
        if not enabled:
            gc.disable()
        with quick_start():
            assert not gc.isenabled()
        assert gc.isenabled() is enabled
    finally:
        gc.enable()


def test_only_imports_are_kept_for_good(tmp_path, monkeypatch):
    """A later job of a multirun imports nothing new: what the one before left behind can be freed."""
    (tmp_path / "only_for_this_test.py").write_text("")
    monkeypatch.syspath_prepend(str(tmp_path))
    with quick_start():
        pass  # defers modules of SciPy, if no other test did
    before = gc.get_freeze_count()
    with quick_start():
        pass
    assert gc.get_freeze_count() == before
    try:
        with quick_start():
            importlib.import_module("only_for_this_test")
        assert gc.get_freeze_count() > before
    finally:
        del sys.modules["only_for_this_test"]
        gc.unfreeze()


def test_matplotlib_is_what_it_would_be():
    """Loaded at the first plot of a metric, with its own types."""
    code = """
import sys
from nequip_like.cli.starting.quick_start import quick_start
with quick_start():
    import torchmetrics
assert not {"matplotlib.figure", "matplotlib.axes", "matplotlib.pyplot"} & set(sys.modules)
import matplotlib
assert not hasattr(matplotlib, "pyplot")
from matplotlib.axes import Axes
from matplotlib.figure import Figure
matplotlib.use("agg")
metric = torchmetrics.MeanMetric()
metric.update(2.0)
figure, axes = metric.plot()
assert type(figure) is Figure and isinstance(axes, Axes) and not isinstance(figure, Axes)
import matplotlib.pyplot
assert matplotlib.pyplot.Figure is Figure and matplotlib.pyplot.gcf() is figure
with matplotlib.pyplot.style.context("ggplot"):
    pass
"""
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr
