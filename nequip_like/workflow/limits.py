"""What values of other people's classes may be, where a wrong one would be noticed late or never.

The ranges of our own arguments stand beside them, in the signatures; everything here is Lightning's or torch's.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from lightning.pytorch.accelerators import AcceleratorRegistry
from lightning.pytorch.strategies import StrategyRegistry

from nequip_like.arguments import Count, Form, NotNegative, Positive, Range

_Endless = Literal[-1] | Count
_Share = Annotated[float, Range(low=0, high=1)]
_Fraction = Annotated[float, Range(low=0, high=1, low_open=True)]
_Time = Annotated[str, Form(r"\d+:\d\d:\d\d:\d\d", 'a time as "DD:HH:MM:SS", such as "00:12:00:00"')]
_Numbers = Annotated[str, Form(r"\d+(,\d+)*", "numbers of devices")]
_Devices = Literal["auto", -1, "-1"] | Count | _Numbers | list[NotNegative]


def limits_of(key: str) -> dict[str, Any]:
    """Annotations for arguments of a section, in place of those of its class.

    Args:
        key: The section: ``trainer``, ``training_module.optimizer``, ``callbacks.NAME``, ...
    """
    if key == "trainer":
        return _trainer()
    if key.startswith("callbacks."):
        return _CALLBACK
    return _OPTIMIZER if key == "training_module.optimizer" else {}


def _trainer() -> dict[str, Any]:
    limits = {
        "max_epochs": _Endless,
        "min_epochs": NotNegative | None,
        "max_steps": _Endless,
        "min_steps": NotNegative | None,
        "max_time": _Time | dict[str, int] | None,
        "devices": _Devices,
        "num_nodes": Count,
        "check_val_every_n_epoch": Count | None,
        "val_check_interval": Count | _Fraction | _Time | None,
        "log_every_n_steps": NotNegative | None,
        "num_sanity_val_steps": Literal[-1] | NotNegative,
        "accumulate_grad_batches": Count,
        "gradient_clip_val": Positive | None,
        "gradient_clip_algorithm": Literal["norm", "value"] | None,
        "accelerator": Literal[("auto", "gpu", *sorted(AcceleratorRegistry.available_accelerators()))],
        "strategy": Literal[("auto", *sorted(StrategyRegistry.available_strategies()))],
    }
    for stage in ("train", "val", "test", "predict"):
        limits[f"limit_{stage}_batches"] = NotNegative | _Share | None
    return limits


_CALLBACK = {
    "patience": NotNegative,
    "min_delta": Annotated[float, Range(low=0)],
    "mode": Literal["min", "max"],
    "save_top_k": Literal[-1] | NotNegative,
    "every_n_epochs": NotNegative | None,
    "every_n_train_steps": NotNegative | None,
}
_OPTIMIZER = {"lr": Positive, "weight_decay": Annotated[float, Range(low=0)]}
