"""What a step does to the weights: optimizers, groups of parameters, learning rates, averages."""

from nequip_like.optim.build import Optimizer
from nequip_like.optim.schedules.learning_rate import LearningRate

__all__ = ["LearningRate", "Optimizer"]
