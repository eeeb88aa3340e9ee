"""Train, test and deploy machine-learning interatomic potentials with PyTorch Lightning and Hydra.

Three lines to a training, four from a file to forces::

    import nequip_like as nl
    config = nl.compose("train", ["data.train=train.xyz", "data.val=0.1", "cutoff_radius=5.0"])
    result = nl.train(config)

    atoms = ase.io.read("start.xyz")
    atoms.calc = nl.NequIPCalculator("model.safetensors")
    forces = atoms.get_forces()

What is named here is imported when it is used: ``import nequip_like`` alone loads no torch.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nequip_like.auto.run import find_potential as find_potential
    from nequip_like.committee.committee import Committee as Committee
    from nequip_like.composition.compose import compose as compose
    from nequip_like.composition.runs import do_runs as do_runs
    from nequip_like.data.datamodule import DataModule as DataModule
    from nequip_like.data.io.readers import read_frames as read_frames
    from nequip_like.errors import ConfigError as ConfigError
    from nequip_like.errors import DataError as DataError
    from nequip_like.errors import ModelError as ModelError
    from nequip_like.errors import ModelFileError as ModelFileError
    from nequip_like.errors import NequipLikeError as NequipLikeError
    from nequip_like.errors import OutputError as OutputError
    from nequip_like.errors import TrainingError as TrainingError
    from nequip_like.errors import UntrustedError as UntrustedError
    from nequip_like.inference.loading import load as load
    from nequip_like.inference.model_file import save as save
    from nequip_like.inference.predictor import Predictor as Predictor
    from nequip_like.integrations.ase import NequIPCalculator as NequIPCalculator
    from nequip_like.integrations.trust import CommitteeCalculator as CommitteeCalculator
    from nequip_like.metrics.manager import MetricsManager as MetricsManager
    from nequip_like.metrics.presets import EnergyForceLoss as EnergyForceLoss
    from nequip_like.model.builders import NequIPGNNModel as NequIPGNNModel
    from nequip_like.model.potential import Potential as Potential
    from nequip_like.notebook.trained import TrainedPotential as TrainedPotential
    from nequip_like.notebook.training import DescriptorPotential as DescriptorPotential
    from nequip_like.notebook.training import train_potential as train_potential
    from nequip_like.workflow.checks.run import check_potential as check_potential
    from nequip_like.workflow.evaluate import test_model as test  # noqa: F401 (offered by another name)
    from nequip_like.workflow.prediction.run import predict_files as predict_files
    from nequip_like.workflow.train import train as train
    from nequip_like.workflow.uncertainty.run import train_committee as train_committee

__version__ = "0.1.0"

# Public name -> module and name there.
_OFFERED = {
    "compose": ("composition.compose", "compose"),
    "train": ("workflow.train", "train"),
    "do_runs": ("composition.runs", "do_runs"),
    "train_committee": ("workflow.uncertainty.run", "train_committee"),
    "find_potential": ("auto.run", "find_potential"),
    "train_potential": ("notebook.training", "train_potential"),
    "TrainedPotential": ("notebook.trained", "TrainedPotential"),
    "DescriptorPotential": ("notebook.training", "DescriptorPotential"),
    "test": ("workflow.evaluate", "test_model"),
    "check_potential": ("workflow.checks.run", "check_potential"),
    "predict_files": ("workflow.prediction.run", "predict_files"),
    "load": ("inference.loading", "load"),
    "save": ("inference.model_file", "save"),
    "Predictor": ("inference.predictor", "Predictor"),
    "Committee": ("committee.committee", "Committee"),
    "NequIPCalculator": ("integrations.ase", "NequIPCalculator"),
    "CommitteeCalculator": ("integrations.trust", "CommitteeCalculator"),
    "read_frames": ("data.io.readers", "read_frames"),
    "DataModule": ("data.datamodule", "DataModule"),
    "MetricsManager": ("metrics.manager", "MetricsManager"),
    "EnergyForceLoss": ("metrics.presets", "EnergyForceLoss"),
    "Potential": ("model.potential", "Potential"),
    "NequIPGNNModel": ("model.builders", "NequIPGNNModel"),
    **{
        name: ("errors", name)
        for name in (
            "NequipLikeError",
            "ConfigError",
            "DataError",
            "ModelError",
            "ModelFileError",
            "OutputError",
            "TrainingError",
            "UntrustedError",
        )
    },
}

__all__ = sorted(_OFFERED)


def __getattr__(name: str) -> Any:
    if name not in _OFFERED:
        raise AttributeError(f"module 'nequip_like' has no attribute '{name}'")
    module, attribute = _OFFERED[name]
    return getattr(importlib.import_module(f"nequip_like.{module}"), attribute)


def __dir__() -> list[str]:
    return sorted({*globals(), *_OFFERED})
