"""From the configs of a Lightning module to its parts: the potential, the loss, the metrics of each data set."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any, cast

from torch import nn

from nequip_like.errors import ConfigError
from nequip_like.instantiate import instantiate
from nequip_like.metrics.manager import MetricsManager
from nequip_like.model.potential import Potential

Buildable = Mapping[str, Any]


def build_potential(model: Potential | Buildable) -> Potential:
    """Build the potential from its config; one that is already built passes.

    Raises:
        ConfigError: If it cannot be built.
    """
    # Not recursive: a builder takes its parts (a pair potential, say) as plain values, which a file can hold.
    potential: Potential = _build("model", model, Potential, recursive=False)
    return potential


def build_loss(loss: MetricsManager | Buildable | None, type_names: list[str]) -> MetricsManager | None:
    """Build the loss from its config; one that is already built passes.

    Args:
        loss: The loss, or its config; None: there is none.
        type_names: Species of the potential, for terms by species.

    Raises:
        ConfigError: If it cannot be built, or cannot be trained on.
    """
    manager = build_manager("loss", loss, type_names)
    if manager is not None:
        check_loss(manager)
    return manager


def build_manager(
    name: str, metrics: MetricsManager | Buildable | None, type_names: list[str]
) -> MetricsManager | None:
    """Build one metrics manager from its config; one that is already built passes.

    Args:
        name: Name of the module's argument, for messages.
        metrics: The manager, or its config; None: there is none.
        type_names: Species of the potential, for metrics by species.

    Raises:
        ConfigError: If it cannot be built.
    """
    if metrics is None:
        return None
    manager: MetricsManager = _build(name, metrics, MetricsManager, type_names=type_names)
    return manager


def build_managers(
    name: str, metrics: MetricsManager | Buildable | None, type_names: list[str], count: int
) -> nn.ModuleList:
    """Build the metrics managers of several data sets, one for each.

    Args:
        name: As for :func:`build_manager`.
        metrics: As for :func:`build_manager`.
        type_names: As for :func:`build_manager`.
        count: Number of data sets.

    Returns:
        ``count`` managers, or none without a config.
    """
    manager = build_manager(name, metrics, type_names)
    if manager is None:
        return nn.ModuleList()
    return nn.ModuleList([manager, *(copy.deepcopy(manager) for _ in range(count - 1))])


def cast_managers(managers: nn.ModuleList) -> list[MetricsManager]:
    """The same list, as metrics managers to the type checker: torch only knows modules."""
    return cast(list[MetricsManager], list(managers))


def check_loss(manager: MetricsManager) -> None:
    """Refuse metrics that are no loss.

    Raises:
        ConfigError: If no term has a coefficient above 0, or if one of those that have is not differentiable.
    """
    if not manager.has_weighted_sum:
        raise ConfigError("loss has no term with a coefficient", "give coeffs above 0")
    if names := manager.without_gradient():
        raise ConfigError(f"loss has '{names[0]}', which cannot be trained on", "leave its coefficient out")


def _build(name: str, config: Any, kind: type, recursive: bool = True, **defaults: Any) -> Any:
    if isinstance(config, kind):
        return config
    arguments = dict(config) if isinstance(config, Mapping) else {}
    if arguments and "type_names" not in arguments:
        arguments.update(defaults)
    return instantiate(name, arguments, kind=kind, recursive=recursive)
