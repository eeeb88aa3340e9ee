"""From a config with a ``_target_`` to the object that it describes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import hydra.utils

from nequip_like.errors import ConfigError, NequipLikeError, first_line
from nequip_like.moved import replace_names


def instantiate(
    key: str,
    config: Any,
    *positional: Any,
    kind: type | None = None,
    recursive: bool = True,
    **keywords: Any,
) -> Any:
    """Build what a config describes.

    Args:
        key: Key of the config, for messages.
        config: A mapping with a ``_target_`` and its arguments.
        *positional: Arguments that come first.
        kind: What has to come of it.
        recursive: Build arguments that have a ``_target_`` of their own; otherwise they are left to the class.
        **keywords: Further arguments.

    Raises:
        ConfigError: If there is no such class, it refuses its arguments, or gives something else than ``kind``.
        NequipLikeError: What the class itself raises.

    Example:
        >>> instantiate("optimizer", {"_target_": "datetime.timedelta", "hours": 2})
        datetime.timedelta(seconds=7200)
        >>> instantiate("optimizer", {"lr": 0.01})
        Traceback (most recent call last):
        ...
        nequip_like.errors.ConfigError: optimizer has no _target_
          -> give a mapping with a _target_, the class that it configures
    """
    if not isinstance(config, Mapping) or "_target_" not in config:
        raise ConfigError(f"{key} has no _target_", "give a mapping with a _target_, the class that it configures")
    try:
        current = replace_names(config)
        result = hydra.utils.instantiate(current, *positional, **keywords, _recursive_=recursive, _convert_="all")
    except hydra.errors.InstantiationException as error:
        if isinstance(error.__cause__, NequipLikeError):
            raise error.__cause__ from None
        cause = first_line(error.__cause__ or error)
        raise ConfigError(
            f"{key}: {config['_target_']} cannot be built: {cause}", "see the documentation of this class"
        ) from error
    if kind is not None and not isinstance(result, kind):
        raise ConfigError(
            f"{key}: {config['_target_']} gives {type(result).__name__}, which is no {kind.__name__}",
            "name another class in its _target_",
        )
    return result
