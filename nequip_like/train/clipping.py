"""Clipping of gradients by their norm and by their values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import lightning
from lightning.pytorch.utilities import GradClipAlgorithmType
from torch.optim import Optimizer

from nequip_like.arguments import Positive, check
from nequip_like.errors import ConfigError, closest_hint

_KEY = "training_module.gradient_clip"
_KINDS = ("norm", "value")
ClipConfig = Mapping[str, Positive | None]


@dataclass(frozen=True)
class GradientClip:
    """Limits of the gradient of one optimizer step.

    Values come first: a single component that is far off then does not shrink all others. Afterwards neither limit is
    exceeded.

    Args:
        norm: Largest Euclidean norm of the gradient of all parameters together; a larger one is scaled down.
        value: Largest absolute value of a component; a larger one is cut off.
    """

    norm: float | None = None
    value: float | None = None

    @classmethod
    def of(cls, config: ClipConfig | None, trainers: float | None = None) -> GradientClip | None:
        """Read ``training_module.gradient_clip``.

        Args:
            config: ``{norm: 10.0, value: 100.0}``, either or both.
            trainers: ``trainer.gradient_clip_val``, which says the same in Lightning's words.

        Returns:
            None if nothing is to be clipped here.

        Raises:
            ConfigError: If a key is unknown, a limit is not above 0, or the trainer clips, too.
        """
        if config is None:
            return None
        check(_KEY, config, ClipConfig | None)
        if unknown := [key for key in config if key not in _KINDS]:
            hint = closest_hint(unknown[0], _KINDS)
            raise ConfigError(f"{_KEY} has the unknown key '{unknown[0]}'", f"{hint}known are {', '.join(_KINDS)}")
        limits = {key: float(limit) for key, limit in config.items() if limit is not None}
        if limits:
            _refuse_both(trainers)
        return cls(**limits) if limits else None

    def apply(self, trainer: lightning.Trainer, optimizer: Optimizer) -> None:
        """Clip the gradients of all parameters of an optimizer.

        Args:
            trainer: The trainer, whose precision plugin knows where the gradients are.
            optimizer: The optimizer.

        Raises:
            ConfigError: If the trainer clips, too.
        """
        _refuse_both(trainer.gradient_clip_val)
        if all(p.grad is None for group in optimizer.param_groups for p in group["params"]):
            return  # torch cannot clip nothing by value
        for limit, kind in ((self.value, GradClipAlgorithmType.VALUE), (self.norm, GradClipAlgorithmType.NORM)):
            if limit is not None:
                trainer.precision_plugin.clip_gradients(optimizer, limit, kind)


def _refuse_both(trainers: float | None) -> None:
    if trainers is not None:
        raise ConfigError(
            f"{_KEY} and trainer.gradient_clip_val are both given", "leave one out: trainer.gradient_clip_val=null"
        )
