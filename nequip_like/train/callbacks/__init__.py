"""Callbacks that Lightning does not have: stopping, what is printed and written, statistics of training."""

from nequip_like.train.callbacks.console import EpochPrinter
from nequip_like.train.callbacks.counters import StepCounters
from nequip_like.train.callbacks.criteria_stopping import CriteriaStopping
from nequip_like.train.callbacks.early_stopping import ResumableEarlyStopping
from nequip_like.train.callbacks.learning_rate_log import LearningRateLog
from nequip_like.train.callbacks.log_functions import LogFunctions
from nequip_like.train.callbacks.logging_interval import LoggingInterval
from nequip_like.train.callbacks.loss_log import LossLog
from nequip_like.train.callbacks.metrics_table import MetricsTable
from nequip_like.train.callbacks.training_stats import TrainingStats
from nequip_like.train.loss_coefficients import (
    LinearLossCoefficientScheduler,
    LossCoefficientMonitor,
    LossCoefficientScheduler,
    LossWeightSchedule,
    SoftAdapt,
)

__all__ = [
    "CriteriaStopping",
    "EpochPrinter",
    "LearningRateLog",
    "LinearLossCoefficientScheduler",
    "LogFunctions",
    "LoggingInterval",
    "LossCoefficientMonitor",
    "LossCoefficientScheduler",
    "LossLog",
    "LossWeightSchedule",
    "MetricsTable",
    "ResumableEarlyStopping",
    "SoftAdapt",
    "StepCounters",
    "TrainingStats",
]
