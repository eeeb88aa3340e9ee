"""Model families by name. A file never names code: it names a family that is built in, installed or given by the user.

A package announces its families by the entry-point group :data:`ENTRY_POINTS`; nothing of it is imported before a file
asks for one of them.
"""

from __future__ import annotations

import importlib.metadata
from collections.abc import Callable, Mapping
from typing import Any

from nequip_like.arguments import fits, shown
from nequip_like.errors import ConfigError, ModelFileError
from nequip_like.model.builders import FullNequIPGNNModel
from nequip_like.model.committee import FAMILY as COMMITTEE
from nequip_like.model.committee import build_committee
from nequip_like.model.descriptor.builder import DescriptorANNModel
from nequip_like.model.potential import Potential

Families = Mapping[str, Callable[..., Potential]]

FAMILIES: dict[str, Callable[..., Potential]] = {"nequip": FullNequIPGNNModel, "descriptor_ann": DescriptorANNModel}
ENTRY_POINTS = "nequip_like.families"


def build(config: Mapping[str, Any], families: Families | None = None) -> Potential:
    """Build a potential from the ``config`` of another one (``{"family": name, "arguments": {...}}``).

    Args:
        config: What built the other one.
        families: Further builders by name. One that is built in is not replaced; an installed one is.

    Raises:
        ModelFileError: If there is no such family, two packages announce it, its package cannot be imported, or its
            builder gives something else.
    """
    family = str(config.get("family"))
    if family == COMMITTEE:
        return build_committee(config, lambda member: build(member, families))
    builder = {**(families or {}), **FAMILIES}.get(family) or _load_installed(family)
    potential = builder(**config["arguments"])
    if not isinstance(potential, Potential) or potential.config.get("family") != family:
        gives = potential.config.get("family") if isinstance(potential, Potential) else type(potential).__name__
        raise ModelFileError(
            f"the builder of the family '{family}' gives '{gives}'",
            f"it has to give a Potential whose config has the family '{family}'",
        )
    return potential


def list_members(config: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The configs of a committee's members; of any other potential its own.

    Example:
        >>> pair = {"family": "pair", "arguments": {}}
        >>> len(list_members({"family": "committee", "arguments": {"members": [pair, pair]}})), len(list_members(pair))
        (2, 1)
    """
    if config.get("family") != COMMITTEE:
        return [config]
    members = config["arguments"].get("members")
    return list(members) if isinstance(members, list) else []


def check_names(families: Families, origin: str) -> None:
    """Refuse what is no table of families, and families under a name that is built in.

    Args:
        families: Builders by name.
        origin: What names them, for messages.

    Raises:
        ConfigError: If it is no table, or has such a name.
    """
    if not fits(families, Families):
        raise ConfigError(
            f"{origin} is {shown(families)}", "give builders of model families by name, such as {'pair': PairModel}"
        )
    if clashes := sorted({*FAMILIES, COMMITTEE} & families.keys()):
        raise ConfigError(f"{origin} has '{clashes[0]}', a family of nequip_like itself", "give it another name")


def _load_installed(family: str) -> Callable[..., Potential]:
    """The builder that an installed package announces."""
    entries = list(importlib.metadata.entry_points(group=ENTRY_POINTS, name=family))
    packages = sorted({entry.dist.name if entry.dist else entry.module for entry in entries})
    if not entries:
        raise ModelFileError(
            f"the model is of the family '{family}', which is neither built in nor installed",
            f"install its package, or name it: nequip-test --trusted-packages PACKAGE; in Python load(path, "
            f"families={{'{family}': builder}}); built in: {', '.join(FAMILIES)}",
        )
    if len(packages) > 1:
        raise ModelFileError(
            f"the family '{family}' is announced by several packages: {', '.join(packages)}", "uninstall all but one"
        )
    try:
        builder: Callable[..., Potential] = entries[0].load()
    except (ImportError, AttributeError) as error:
        raise ModelFileError(
            f"the family '{family}' of the package {packages[0]} cannot be imported: {error}", "install it again"
        ) from error
    return builder
