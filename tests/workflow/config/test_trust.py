"""What a ``_target_`` may name, and what it may not, by any detour."""

from __future__ import annotations

import sys

import pytest
import torch

from nequip_like.errors import ConfigError
from nequip_like.metrics import EnergyForceLoss
from nequip_like.training import EMALightningModule
from nequip_like.workflow.config import trust


@pytest.mark.parametrize(
    ("target", "found"),
    [
        ("torch.optim.Adam", torch.optim.Adam),
        ("torch.optim.lr_scheduler.ReduceLROnPlateau", torch.optim.lr_scheduler.ReduceLROnPlateau),
        ("nequip_like.training.EMALightningModule", EMALightningModule),
        ("nequip_like.metrics.presets.EnergyForceLoss", EnergyForceLoss),
    ],
)
def test_what_is_trusted(target, found):
    assert trust.look_up("here", target) is found


@pytest.mark.parametrize(
    "target",
    [
        *("os.system", "subprocess.Popen", "builtins.eval", "builtins.exec", "pickle.load", "posix.system"),
        *("torch.os.system", "torch.load", "torch.hub.load", "torch.hub.load_state_dict_from_url", "torch.jit.load"),
        *("torch.serialization.load", "torch.utils.cpp_extension.load_inline", "torch.multiprocessing.Process"),
        *("torch.distributed.elastic.multiprocessing.subprocess_handler.SubprocessHandler", "torch.nn.Linear"),
        *("torch.optim.Adam.__init__", "torch.optim.Adam.__init__.__globals__", "torch.optim.optimizer.torch.load"),
        *("lightning.Trainer.__init__.__globals__.get", "lightning.pytorch.trainer.trainer.os.system"),
        *("nequip_like.training.NequIPLightningModule.load_from_checkpoint", "nequip_like.instantiate.instantiate"),
        *("nequip_like.instantiate.hydra.utils.get_method", "nequip_like.workflow.train.train"),
        *("nequip_like.whole_files.os.system", "nequip_like.cli.train.main", "hydra.utils.instantiate"),
        *("torchmetrics.text.BERTScore", "ase.io.read", "ase.calculators.cp2k.CP2K", "ase.io.extxyz.re.compile"),
        *("torchmetrics.utilities.imports.os.system", "numpy.load", "runpy.run_path", "", "eval", "os..system", ".os"),
        *("torch.optim.Adam.", "torch. os.system", "importlib.import_module", "ctypes.CDLL", "webbrowser.open"),
        5,
        None,
        ["os.system"],
    ],
)
def test_what_is_not(target):
    with pytest.raises(ConfigError, match=r"^here\._target_ is "):
        trust.look_up("here", target)


def test_a_package_is_trusted_as_a_whole_name(tmp_path, monkeypatch):
    (tmp_path / "own_code.py").write_text("import torch\n\n\ndef make():\n    return 1\n")
    (tmp_path / "own_code_too.py").write_text("raise SystemExit('imported')\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert trust.look_up("here", "own_code.make", ["own_code"])() == 1
    for target in ("own_code_too.make", "own_code.torch.load", "own_code.torch.os.system"):
        with pytest.raises(ConfigError, match="here"):
            trust.look_up("here", target, ["own_code"])
    assert "own_code_too" not in sys.modules
    with pytest.raises(ConfigError, match=r"but own_code has no 'mak'\n  -> did you mean 'make'\?$"):
        trust.look_up("here", "own_code.mak", ["own_code"])
    with pytest.raises(ConfigError, match="there is no package 'own_codes'"):
        trust.look_up("here", "own_codes.make", ["own_codes"])
    sys.modules.pop("own_code")


def test_error_in_a_trusted_package_is_told(tmp_path, monkeypatch):
    (tmp_path / "own_broken.py").write_text("import nowhere_at_all\n")
    (tmp_path / "own_halved.py").write_text("from os import no_such_name\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ConfigError, match="there is no package 'nowhere_at_all'"):
        trust.look_up("here", "own_broken.make", ["own_broken"])
    with pytest.raises(ConfigError, match="cannot be imported: cannot import name 'no_such_name'"):
        trust.look_up("here", "own_halved.make", ["own_halved"])


# --- Hydra's own part


@pytest.mark.parametrize(
    "hydra",
    [
        {"callbacks": {"a": {"_target_": "hydra.experimental.callbacks.LogJobReturnCallback"}}},
        {"launcher": {"_target_": "hydra._internal.core_plugins.basic_launcher.BasicLauncher"}},
        {"job_logging": {"handlers": {"a": {"class": "logging.StreamHandler", "stream": "ext://sys.stdout"}}}},
        {"job_logging": {"handlers": {"a": {"class": "logging.FileHandler", "filename": "x"}}}},
    ],
)
def test_hydras_own_passes(hydra):
    trust.check_hydra(hydra)


@pytest.mark.parametrize(
    ("hydra", "key"),
    [
        ({"callbacks": {"a": {"_target_": "os.system"}}}, "hydra.callbacks.a._target_"),
        ({"callbacks": {"a": {"_target_": "${b}"}}}, "hydra.callbacks.a._target_"),
        ({"callbacks": {"a": {"_target_": "hydra.utils.call"}}}, "hydra.callbacks.a._target_"),
        ({"callbacks": {"a": {"_target_": "hydra.utils.os.system"}}}, "hydra.callbacks.a._target_"),
        ({"callbacks": {"a": {"_target_": "torch.optim.Adam"}}}, "hydra.callbacks.a._target_"),
        ({"sweeper": {"x": [{"y": {"_target_": "os.system"}}]}}, "hydra.sweeper.x[0].y._target_"),
        ({"job_logging": {"handlers": {"a": {"()": "os.system"}}}}, "hydra.job_logging.handlers.a.()"),
        (
            {"hydra_logging": {"filters": {"a": {"()": "logging.config.fileConfig"}}}},
            "hydra.hydra_logging.filters.a.()",
        ),
        ({"job_logging": {"handlers": {"a": {"class": "logging.os.system"}}}}, "hydra.job_logging.handlers.a.class"),
        (
            {"job_logging": {"handlers": {"a": {"class": "logging.handlers.QueueHandler", "queue": "os.getcwd"}}}},
            "hydra.job_logging.handlers.a.class",
        ),
        ({"job_logging": {"root": {"handlers": ["ext://antigravity.x"]}}}, "hydra.job_logging.root.handlers[0]"),
    ],
)
def test_what_hydra_would_call(hydra, key):
    with pytest.raises(ConfigError) as caught:
        trust.check_hydra(hydra)
    assert caught.value.message.startswith(f"{key} is ")
    assert "antigravity" not in sys.modules
