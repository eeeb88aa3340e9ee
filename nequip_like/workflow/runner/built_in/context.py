"""What the command line gives to runs of our own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from omegaconf import DictConfig

from nequip_like.model.families import Families

#: Composes the package's config and overrides: composition is a layer above, so it is given.
Composer = Callable[[Sequence[str]], DictConfig]


@dataclass(frozen=True)
class RunContext:
    """What the command line gives to runs of our own.

    Attributes:
        compose: Composes the package's config with overrides.
        trusted_packages: Packages that the user trusts by name; a run file cannot name any.
        families: Their model families.
    """

    compose: Composer
    trusted_packages: tuple[str, ...] = ()
    families: Families = field(default_factory=dict)
