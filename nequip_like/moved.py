"""Names and words that configs and checkpoints of earlier versions may hold, and what they are now.

A module that moved keeps its old name here for good: a run begun with an earlier version goes on with this one.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_PACKAGE = "nequip_like"

# Old module -> new module; whatever a config may name in it has kept its own name. What is not listed here and stood
# in `train` is in `training`, under its old place.
MODULES: dict[str, str] = {
    "train.accumulation": "training.gradients",
    "train.averaging": "optim.averaging",
    "train.callbacks.counters": "training.callbacks.words",
    "train.callbacks.metrics_table": "training.callbacks.console",
    "train.checkpoint_io": "training.checkpointing.io",
    "train.checkpoints": "training.checkpointing.callback",
    "train.clipping": "training.gradients",
    "train.foreign_metrics": "metrics.torchmetrics_adapter",
    "train.history": "training.csv_logger",
    "train.loss_callbacks": "training.callbacks.loss_weights.base",
    "train.loss_coefficients": "training.callbacks.loss_weights.coefficients",
    "train.loss_functions": "metrics.loss_functions",
    "train.metric_terms": "metrics.terms",
    "train.metrics": "metrics.elementwise",
    "train.metrics_manager": "metrics.manager",
    "train.modifiers": "metrics.modifiers",
    "train.muon": "optim.muon",
    "train.named_optimizers": "optim.build",
    "train.optax_amsgrad": "optim.optax_amsgrad",
    "train.optimizers": "optim.build",
    "train.parameter_groups": "optim.groups",
    "train.presets": "metrics.presets",
    "train.quantiles": "metrics.distribution",
    "train.remote_storage": "training.checkpointing.upload",
    "train.schedule_free": "optim.schedule_free",
    "train.schedulers": "optim.schedulers",
    "train.schedules": "optim.schedules",
    "train.schedules.names": "optim.schedules.keys",
    "train.schedules.shapes": "optim.schedules.curves",
    "train.softadapt": "training.callbacks.loss_weights.softadapt",
    "train.stopping": "training.graceful_stop",
    "train.strategy": "training.gradients",
    "train.validation_cycle": "training.callbacks.validation_cycle",
    "train.vector_metrics": "metrics.distribution",
    "train.weight_functions": "training.callbacks.loss_weights.schedule",
    "train.weight_schedules": "training.callbacks.loss_weights.schedule",
}

# Names that stood in ``nequip_like.train`` itself (NequIP has them there) -> the package that offers them now.
NAMES: dict[str, str] = {
    **dict.fromkeys(
        (
            "AbsoluteErrorQuantile",
            "CosineSimilarity",
            "EnergyForceLoss",
            "EnergyForceMetrics",
            "EnergyForceStressLoss",
            "EnergyForceStressMetrics",
            "EnergyOnlyLoss",
            "EnergyOnlyMetrics",
            "FieldLoss",
            "HuberLoss",
            "MaximumAbsoluteError",
            "MeanAbsoluteError",
            "MeanSquaredError",
            "MetricsManager",
            "RelativeError",
            "RootMeanSquaredError",
            "SmoothL1Loss",
            "StratifiedHuberForceLoss",
        ),
        "metrics",
    ),
    **dict.fromkeys(("LearningRate", "Optimizer"), "optim"),
}

# Words that a key took -> what is written now. They name the maps behind the sum over neighbours, self-connections and
# products, by the names of this package, of MACE and of mlip.
WORDS: dict[str, dict[str, list[list[str]]]] = {
    "weight_decay_groups": {
        "mace": [["linear_out.", "self_connection.", "products.", "linear.weight", "skip_tp"]],
        "mlip": [["linear_out.", "linear_down", "SymmetricContraction", "symmetric_contraction"]],
    }
}

# What is there no more -> what to write instead. Where a config is composed, compat has translated these already.
GONE: dict[str, str] = {
    **{
        f"{_PACKAGE}.training.callbacks.weight_stats.{name}": (
            "write _target_: nequip_like.training.callbacks.TrainingStats, every_n_steps: 100, by_weight: true"
        )
        for name in ("TrainingStatsMonitor", "WandbWatch")
    },
    **{
        f"{_PACKAGE}.training.callbacks.{place}{name}": (
            "write _target_: nequip_like.training.callbacks.LossWeightSchedule, stages: [{start: 100, coeffs: {...}}]"
        )
        for place in ("", "loss_weights.coefficients.")
        for name in ("LossCoefficientScheduler", "LinearLossCoefficientScheduler")
    },
}

# Arguments that a class takes no more, as (class, argument) -> what to write instead.
GONE_ARGUMENTS: dict[tuple[str, str], str] = {
    ("LearningRate", "scheduler"): (  # of when a schedule of torch was the default
        "take one of torch in: `override lr_scheduler: plateau` among the defaults, or lr_scheduler=plateau"
    ),
}


def find_current_name(target: str) -> str:
    """Where the thing that a ``_target_`` names is now.

    Args:
        target: A dotted name, of this package or of another.

    Returns:
        The name it has now; the name itself if it never moved.

    >>> find_current_name("nequip_like.train.muon.MuonAndAdamW")
    'nequip_like.optim.muon.MuonAndAdamW'
    >>> find_current_name("nequip_like.train.EnergyForceLoss")
    'nequip_like.metrics.EnergyForceLoss'
    >>> find_current_name("torch.optim.Adam")
    'torch.optim.Adam'
    """
    package, _, name = target.partition(".")
    parts = name.split(".")
    if package != _PACKAGE or parts[0] != "train" or len(parts) < 2:
        return target
    if len(parts) == 2 and parts[1] in NAMES:
        return f"{_PACKAGE}.{NAMES[parts[1]]}.{parts[1]}"
    for count in range(len(parts) - 1, 1, -1):
        if (module := ".".join(parts[:count])) in MODULES:
            return ".".join([_PACKAGE, MODULES[module], *parts[count:]])
    return ".".join([_PACKAGE, "training", *parts[1:]])


def find_current_word(key: str, value: Any) -> Any:
    """What is written now for a word that a key took.

    Args:
        key: The last part of the key.
        value: Its value.

    >>> find_current_word("weight_decay_groups", "no_bias")
    'no_bias'
    """
    return WORDS.get(key, {}).get(value, value) if isinstance(value, str) else value


def replace_names(config: Any) -> Any:
    """A config, with every ``_target_`` in it as it is called now, and every word as it is written now.

    Args:
        config: A mapping, a sequence or a value; it is left alone.

    Example:
        >>> replace_names({"loss": {"_target_": "nequip_like.train.EnergyForceLoss", "coeffs": None}})
        {'loss': {'_target_': 'nequip_like.metrics.EnergyForceLoss', 'coeffs': None}}
    """
    if isinstance(config, Mapping):
        return {key: _replace_value(key, value) for key, value in config.items()}
    if isinstance(config, list | tuple):
        return type(config)(replace_names(entry) for entry in config)
    return config


def _replace_value(key: str, value: Any) -> Any:
    if not isinstance(value, str):
        return replace_names(value)
    return find_current_name(value) if key == "_target_" else find_current_word(key, value)
