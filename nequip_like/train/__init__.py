"""Training: loss, metrics, Lightning modules, callbacks."""

from nequip_like.train.callbacks import EpochPrinter
from nequip_like.train.metrics import (
    HuberLoss,
    MaximumAbsoluteError,
    MeanAbsoluteError,
    MeanSquaredError,
    RootMeanSquaredError,
    StratifiedHuberForceLoss,
)
from nequip_like.train.metrics_manager import MetricsManager
from nequip_like.train.module import EMALightningModule, NequIPLightningModule
from nequip_like.train.presets import (
    EnergyForceLoss,
    EnergyForceMetrics,
    EnergyForceStressLoss,
    EnergyForceStressMetrics,
    EnergyOnlyLoss,
    EnergyOnlyMetrics,
)
from nequip_like.train.strategy import SummedGradientsStrategy

__all__ = [
    "EMALightningModule",
    "EnergyForceLoss",
    "EnergyForceMetrics",
    "EnergyForceStressLoss",
    "EnergyForceStressMetrics",
    "EnergyOnlyLoss",
    "EnergyOnlyMetrics",
    "EpochPrinter",
    "HuberLoss",
    "MaximumAbsoluteError",
    "MeanAbsoluteError",
    "MeanSquaredError",
    "MetricsManager",
    "NequIPLightningModule",
    "RootMeanSquaredError",
    "StratifiedHuberForceLoss",
    "SummedGradientsStrategy",
]
