"""Training: Lightning modules, callbacks, checkpoints, gradients of a step."""

from nequip_like.training.averaged_module import EMALightningModule, SWALightningModule
from nequip_like.training.callbacks import EpochPrinter
from nequip_like.training.gradients import SummedGradientsStrategy
from nequip_like.training.module import NequIPLightningModule

__all__ = [
    "EMALightningModule",
    "EpochPrinter",
    "NequIPLightningModule",
    "SWALightningModule",
    "SummedGradientsStrategy",
]
