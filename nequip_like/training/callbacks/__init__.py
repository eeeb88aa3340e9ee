"""Callbacks that Lightning does not have: stopping, what is printed and written, statistics of training."""

from nequip_like.training.callbacks.console import EpochPrinter, MetricsTable
from nequip_like.training.callbacks.criteria_stopping import CriteriaStopping
from nequip_like.training.callbacks.early_stopping import ResumableEarlyStopping
from nequip_like.training.callbacks.frame_errors import FrameErrors
from nequip_like.training.callbacks.learning_rate_log import LearningRateLog
from nequip_like.training.callbacks.log_functions import LogFunctions
from nequip_like.training.callbacks.logging_interval import LoggingInterval
from nequip_like.training.callbacks.loss_log import LossLog
from nequip_like.training.callbacks.loss_weights.coefficients import (
    LossCoefficientMonitor,
    LossWeightSchedule,
    SoftAdapt,
)
from nequip_like.training.callbacks.training_stats import TrainingStats
from nequip_like.training.callbacks.words import StepCounters

__all__ = [
    "CriteriaStopping",
    "EpochPrinter",
    "FrameErrors",
    "LearningRateLog",
    "LogFunctions",
    "LoggingInterval",
    "LossCoefficientMonitor",
    "LossLog",
    "LossWeightSchedule",
    "MetricsTable",
    "ResumableEarlyStopping",
    "SoftAdapt",
    "StepCounters",
    "TrainingStats",
]
