"""What an error is: metrics, the loss made of them, and their sums over batches and processes.

Knows the table of fields and nothing of models, Lightning or configs. One step of a loss:

1. ``terms`` lists what the loss consists of: a metric, the field it compares, a coefficient or an absolute weight.
   This is read once.
2. ``masked`` holds one prediction beside its target. ``modifiers`` say what is compared (the energy per atom, say);
   differences are taken where the target has a label (is not NaN), and each row gets its weight.
3. ``elementwise`` and ``distribution`` turn differences into sums: a mean squared error is a sum of squares and a
   count. ``closed_form`` does both for the usual losses on a CPU, with their gradient, in less time: by C in
   ``compiled``, or by NumPy.
4. ``accumulator`` writes all sums and counts into one float64 vector, so that one sum over the processes is enough.
5. ``manager`` divides each sum by its count, multiplies by ``weights``, and adds up: ``weighted_sum`` is the loss.

An epoch's value divides the sums of all batches, so it depends neither on batches nor on processes.
"""

from nequip_like.metrics.distribution import AbsoluteErrorQuantile, CosineSimilarity, RelativeError
from nequip_like.metrics.elementwise import (
    HuberLoss,
    MaximumAbsoluteError,
    MeanAbsoluteError,
    MeanSquaredError,
    RootMeanSquaredError,
    SmoothL1Loss,
    StratifiedHuberForceLoss,
)
from nequip_like.metrics.losses import (
    EnergyForceLoss,
    EnergyForceStressLoss,
    EnergyOnlyLoss,
    FieldLoss,
    ForceOnlyLoss,
)
from nequip_like.metrics.manager import MetricsManager
from nequip_like.metrics.presets import (
    EnergyForceMetrics,
    EnergyForceStressMetrics,
    EnergyOnlyMetrics,
    ForceOnlyMetrics,
)

__all__ = [
    "AbsoluteErrorQuantile",
    "CosineSimilarity",
    "EnergyForceLoss",
    "EnergyForceMetrics",
    "EnergyForceStressLoss",
    "EnergyForceStressMetrics",
    "EnergyOnlyLoss",
    "EnergyOnlyMetrics",
    "FieldLoss",
    "ForceOnlyLoss",
    "ForceOnlyMetrics",
    "HuberLoss",
    "MaximumAbsoluteError",
    "MeanAbsoluteError",
    "MeanSquaredError",
    "MetricsManager",
    "RelativeError",
    "RootMeanSquaredError",
    "SmoothL1Loss",
    "StratifiedHuberForceLoss",
]
