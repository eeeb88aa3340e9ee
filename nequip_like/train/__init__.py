"""Training: loss, metrics, Lightning modules, callbacks.

A part is imported when it is asked for, so that metrics, and the models that are tested with them, do not wait for
Lightning.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nequip_like.train.averaged_module import EMALightningModule, SWALightningModule
    from nequip_like.train.callbacks import EpochPrinter
    from nequip_like.train.metrics import (
        HuberLoss,
        MaximumAbsoluteError,
        MeanAbsoluteError,
        MeanSquaredError,
        RootMeanSquaredError,
        SmoothL1Loss,
        StratifiedHuberForceLoss,
    )
    from nequip_like.train.metrics_manager import MetricsManager
    from nequip_like.train.module import NequIPLightningModule
    from nequip_like.train.named_optimizers import Optimizer
    from nequip_like.train.presets import (
        EnergyForceLoss,
        EnergyForceMetrics,
        EnergyForceStressLoss,
        EnergyForceStressMetrics,
        EnergyOnlyLoss,
        EnergyOnlyMetrics,
        FieldLoss,
    )
    from nequip_like.train.quantiles import AbsoluteErrorQuantile
    from nequip_like.train.schedules.learning_rate import LearningRate
    from nequip_like.train.strategy import SummedGradientsStrategy
    from nequip_like.train.vector_metrics import CosineSimilarity, RelativeError

__all__ = [
    "AbsoluteErrorQuantile",
    "CosineSimilarity",
    "EMALightningModule",
    "EnergyForceLoss",
    "EnergyForceMetrics",
    "EnergyForceStressLoss",
    "EnergyForceStressMetrics",
    "EnergyOnlyLoss",
    "EnergyOnlyMetrics",
    "EpochPrinter",
    "FieldLoss",
    "HuberLoss",
    "LearningRate",
    "MaximumAbsoluteError",
    "MeanAbsoluteError",
    "MeanSquaredError",
    "MetricsManager",
    "NequIPLightningModule",
    "Optimizer",
    "RelativeError",
    "RootMeanSquaredError",
    "SWALightningModule",
    "SmoothL1Loss",
    "StratifiedHuberForceLoss",
    "SummedGradientsStrategy",
]

if not TYPE_CHECKING:  # so that a misspelt name is found by type checkers
    _HOMES = {
        "averaged_module": ("EMALightningModule", "SWALightningModule"),
        "callbacks": ("EpochPrinter",),
        "metrics": (
            *("HuberLoss", "MaximumAbsoluteError", "MeanAbsoluteError", "MeanSquaredError", "RootMeanSquaredError"),
            *("SmoothL1Loss", "StratifiedHuberForceLoss"),
        ),
        "metrics_manager": ("MetricsManager",),
        "module": ("NequIPLightningModule",),
        "named_optimizers": ("Optimizer",),
        "presets": (
            *("EnergyForceLoss", "EnergyForceMetrics", "EnergyForceStressLoss", "EnergyForceStressMetrics"),
            *("EnergyOnlyLoss", "EnergyOnlyMetrics", "FieldLoss"),
        ),
        "quantiles": ("AbsoluteErrorQuantile",),
        "schedules.learning_rate": ("LearningRate",),
        "strategy": ("SummedGradientsStrategy",),
        "vector_metrics": ("CosineSimilarity", "RelativeError"),
    }

    def __getattr__(name: str) -> Any:
        if name in _HOMES:
            return import_module(f"{__name__}.{name}")
        for module, names in _HOMES.items():
            if name in names:
                return getattr(import_module(f"{__name__}.{module}"), name)
        raise AttributeError(f"module '{__name__}' has no attribute '{name}'")

    def __dir__() -> list[str]:
        return sorted({*globals(), *__all__})
