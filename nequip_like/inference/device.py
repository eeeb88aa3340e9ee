"""The device that a model runs on."""

from __future__ import annotations

import torch

from nequip_like.errors import ConfigError


def resolve_device(device: str | torch.device) -> torch.device:
    """Turn the name of a device into a torch device.

    Args:
        device: ``cpu``, ``cuda``, ``cuda:1``, ...; ``auto`` takes a GPU if there is one.

    Raises:
        ConfigError: If there is no such device on this machine.

    Example:
        >>> resolve_device("cpu")
        device(type='cpu')
        >>> resolve_device("gpu")
        Traceback (most recent call last):
        ...
        nequip_like.errors.ConfigError: unknown device 'gpu'
          -> use auto, cpu or cuda
    """
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        resolved = torch.device(device)
    except RuntimeError:
        raise ConfigError(f"unknown device '{device}'", "use auto, cpu or cuda") from None
    if resolved.type == "cuda" and (resolved.index or 0) >= torch.cuda.device_count():
        raise ConfigError(
            f"device '{device}' is not there: torch sees {torch.cuda.device_count()} GPUs", "use auto or cpu"
        )
    return resolved
