"""Training: loss, metrics, Lightning modules, callbacks.

A part is imported when it is asked for, so that metrics, and the models that are tested with them, do not wait for
Lightning.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
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

if not TYPE_CHECKING:  # so that a misspelt name is found by type checkers
    _HOMES = {
        "callbacks": ("EpochPrinter",),
        "metrics": (
            *("HuberLoss", "MaximumAbsoluteError", "MeanAbsoluteError", "MeanSquaredError", "RootMeanSquaredError"),
            "StratifiedHuberForceLoss",
        ),
        "metrics_manager": ("MetricsManager",),
        "module": ("EMALightningModule", "NequIPLightningModule"),
        "presets": (
            *("EnergyForceLoss", "EnergyForceMetrics", "EnergyForceStressLoss", "EnergyForceStressMetrics"),
            *("EnergyOnlyLoss", "EnergyOnlyMetrics"),
        ),
        "strategy": ("SummedGradientsStrategy",),
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
