"""What each of NequIP's names is here (checked against 0.19.1): one table for every `_target_` of its configs.

A class of NequIP is known by its own name, whichever of NequIP's modules a config takes it from.
"""

from __future__ import annotations

from collections.abc import Mapping

import nequip_like.training
from nequip_like.errors import ConfigError, closest_hint
from nequip_like.moved import NAMES

PREFIXES = ("nequip.", "nequip_like.")

DATA_MODULES = ("ASEDataModule", "NequIPDataModule", "NequIP3BPADataModule")
MODELS = ("NequIPGNNModel", "FullNequIPGNNModel", "PresetNequIPGNNModel")

# Name -> its arguments.
WEIGHT_STATISTICS = {
    "TrainingStatsMonitor": ("log_freq", "log_weights", "log_gradients", "log_optimizer_states"),
    "WandbWatch": ("log_freq", "log", "log_graph"),
}

# Name -> where the same thing is here.
SAME: dict[str, str] = {
    **{name: f"nequip_like.training.{name}" for name in nequip_like.training.__all__},
    **{name: f"nequip_like.{package}.{name}" for name, package in NAMES.items()},
    **{name: f"nequip_like.model.{name}" for name in MODELS},
    **{
        name: f"nequip_like.training.callbacks.loss_weights.coefficients.{name}"
        for name in ("LossCoefficientMonitor", "SoftAdapt")
    },
    **dict.fromkeys(WEIGHT_STATISTICS, "nequip_like.training.callbacks.TrainingStats"),
    "PerAtomModifier": "nequip_like.metrics.modifiers.PerAtomModifier",
    "MappedFieldModifier": "nequip_like.metrics.modifiers.MappedFieldModifier",
    "BaseModifier": "nequip_like.metrics.modifiers.FieldModifier",
    "ZBL": "nequip_like.nn.pair_potential.ZBL",
}

# Callbacks that observe only: the training is the same without them. Name -> what there is instead.
OBSERVERS: dict[str, str] = {
    "TestTimeXYZFileWriter": "the task `test` writes predictions.extxyz, with labels and predictions of all test sets",
    "ValTimeXYZFileWriter": "nequip-test MODEL FILE writes the predictions for any file; checkpoints keep the weights",
    "TorchProfilerCallback": "trainer.profiler=simple is Lightning's own",
}

# NequIP's short names of fields, in the names of metrics and statistics.
SHORT_FIELDS = {"total_energy": "E", "atomic_energy": "Ei", "forces": "F"}

_SPLIT = "write the frames to files of their own: train_file_path, val_file_path, test_file_path"
_CONVERT = "write the frames to an extended XYZ file with ASE, and name it in ASEDataModule"
_CONVERT_PUBLISHED = "download the set by hand, .npz is read, too, and name the file in ASEDataModule"
_ONE_MODULE = "take EMALightningModule or NequIPLightningModule with an optimizer of torch"
_NO_PACKAGE = (
    "convert it (nequip-model convert FILE --output model.safetensors), and begin with it: "
    "finetune.source=model.safetensors"
)
_NO_MODIFIER = "leave it out: this package runs its own kernels"

# Names that have no counterpart -> what to write instead.
REFUSED: dict[str, str] = {
    **dict.fromkeys(
        (
            "sGDML_CCSD_DataModule",
            "rMD17DataModule",
            "MD22DataModule",
            "TM23DataModule",
            "SAMD23DataModule",
            "WaterDataModule",
            "COLLDataModule",
        ),
        _CONVERT_PUBLISHED,
    ),
    "NequIPLMDBDataset": (
        "prepare the file (nequip-data prepare FILE --trust-pickle --cutoff 5.0 --output set.frames), and name that "
        "file in ASEDataModule"
    ),
    "NPZDataset": "name the file in ASEDataModule: train_file_path: set.npz",
    **dict.fromkeys(("HDF5Dataset", "AtomicDataset"), _CONVERT),
    **dict.fromkeys(("EMTTestDataset", "LMDBTestDataset"), "it is test data; name a file in ASEDataModule"),
    **dict.fromkeys(("SubsetByRandomSlice", "RandomSplitAndIndexDataset"), _SPLIT),
    "PartialSampler": "leave it out; trainer.limit_train_batches makes epochs shorter",
    **dict.fromkeys(
        ("ConFIGLightningModule", "EMAConFIGLightningModule"),
        f"gradients of the terms are not combined here; {_ONE_MODULE}",
    ),
    "ScheduleFreeLightningModule": (
        "take NequIPLightningModule and optimizer: {_target_: nequip_like.optim.Optimizer, name: ScheduleFreeAdamW}"
    ),
    "MuonWithAuxAdam": "write optimizer: {_target_: nequip_like.optim.Optimizer, name: Muon}",
    "MuonParamGroups": "leave param_groups out: {_target_: nequip_like.optim.Optimizer, name: Muon} makes its own",
    **dict.fromkeys(("ModelFromCheckpoint", "ModelFromPackage", "ModelTypeNamesFromPackage"), _NO_PACKAGE),
    "modify": f"{_NO_PACKAGE}; kernels are chosen by model.kernel",
    **dict.fromkeys(("enable_OpenEquivariance", "enable_CuEquivariance"), _NO_MODIFIER),
    **dict.fromkeys(("LennardJones", "SimpleLennardJones", "ZBLPairPotential"), "the pair potential here is ZBL"),
}


def is_target(value: object) -> bool:
    """Whether a `_target_` is one of NequIP's, or of this package."""
    return isinstance(value, str) and value.startswith(PREFIXES)


def class_name(target: object) -> str:
    """Last part of a `_target_`."""
    return str(target).rsplit(".", 1)[-1]


def class_of(node: object) -> str:
    """Class that a node of a config builds, without its package; empty for anything else than a node."""
    return class_name(node.get("_target_", "")) if isinstance(node, Mapping) else ""


def translate_target(target: str, key: str) -> str:
    """The `_target_` of this package for one of NequIP's; those of other packages and our own pass.

    Raises:
        ConfigError: If there is no such thing here; the advice says what to write instead.
    """
    name = class_name(target)
    if not is_target(target):
        return target
    if name in REFUSED:
        raise ConfigError(f"{key}: there is no {name} here", REFUSED[name])
    if name in SAME:
        return SAME[name]
    if target.startswith("nequip_like."):
        return target  # one of ours, or a typing mistake: the check of every `_target_` tells
    options = [*SAME, *DATA_MODULES]
    raise ConfigError(
        f"{key}: there is no {target} here",
        f"{closest_hint(name, options)}docs/coming-from-nequip.md lists what there is",
    )
