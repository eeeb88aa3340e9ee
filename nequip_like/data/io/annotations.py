"""What a frame holds beside its structure and labels: remarks of its author, which a test hands on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from numbers import Number
from typing import Any

import numpy as np
from ase import Atoms

from nequip_like.data.labels.components import is_made
from nequip_like.data.labels.frame_units import is_stated_unit
from nequip_like.errors import ConfigError, closest_hint

GROUP_KEYS = ("config_type", "group")  # which frames of published sets carry, the more usual one first
MOST_GROUPS = 20  # more are no groups but names of frames
NO_GROUP = "(none)"
# Labels under ASE's own names: where one was read, a label stands in its place.
ASE_LABELS = ("energy", "energies", "forces", "stress")


@dataclass(frozen=True)
class Annotations:
    """What one frame holds beside its structure, under the names in its file.

    Attributes:
        info: Values of the whole structure: words, numbers, arrays, whatever was there.
        arrays: Values with one row per atom.
    """

    info: Mapping[str, Any] = field(default_factory=dict)
    arrays: Mapping[str, np.ndarray] = field(default_factory=dict)

    @classmethod
    def collect(
        cls, labels: Collection[str], info: Mapping[str, Any], arrays: Mapping[str, np.ndarray], atoms: Atoms
    ) -> Annotations:
        """All values but the labels that were read under ASE's own names, and units, which are no longer those.

        Args:
            labels: The names in the file that were read as labels.
            info: All values of the structure.
            arrays: All values with one row per atom, and those of ``atoms.info`` that look like it.
            atoms: The frame that they are of, which tells where each stood.
        """
        read = set(labels) & set(ASE_LABELS)
        from_info = {name for name in arrays if name in atoms.info and name not in atoms.arrays}
        info = {**info, **{name: arrays[name] for name in from_info}}
        assembled = {name for values in (info, arrays) for name in values if is_made(name, values)}
        return cls(
            {name: v for name, v in info.items() if name not in read | assembled and not is_stated_unit(name, v)},
            {name: value for name, value in arrays.items() if name not in read | from_info | assembled},
        )


def group_key(annotations: Sequence[Annotations]) -> str | None:
    """The first of :data:`GROUP_KEYS` by which the frames fall into 2 to :data:`MOST_GROUPS` groups, if one does.

    Example:
        >>> names = ("bulk", "bulk", "surface")
        >>> frames = [Annotations({"config_type": name, "step": step}) for step, name in enumerate(names)]
        >>> group_key(frames), group_names(frames, "config_type")
        ('config_type', ['bulk', 'bulk', 'surface'])
    """
    for key in GROUP_KEYS:
        values = [frame.info.get(key) for frame in annotations]
        if all(value is None or _is_name(value) for value in values):
            groups = {_name(value) for value in values}
            if 2 <= len(groups) <= MOST_GROUPS:
                return key
    return None


def group_names(annotations: Sequence[Annotations], key: str) -> list[str]:
    """The group of each frame: what stands under a key, as text; :data:`NO_GROUP` where nothing does.

    Raises:
        ConfigError: If a value is neither a word nor a number.
    """
    values = [frame.info.get(key) for frame in annotations]
    for value in values:
        if value is not None and not _is_name(value):
            raise ConfigError(
                f"frames cannot be grouped by '{key}', which is a {type(value).__name__}",
                "group by a key with one word or number for each frame",
            )
    return [_name(value) for value in values]


def check_group_key(annotations: Sequence[Annotations], key: str) -> None:
    """Refuse a key that no frame has.

    Raises:
        ConfigError: With the keys that there are.
    """
    key_counts = Counter(name for frame in annotations for name, value in frame.info.items() if _is_name(value))
    if not any(key in frame.info for frame in annotations):
        keys = ", ".join(sorted(key_counts))
        available = f"frames have {keys}" if keys else "frames have no words or numbers of their own"
        raise ConfigError(f"no frame has '{key}' to group by", f"{closest_hint(key, list(key_counts))}{available}")


def _is_name(value: object) -> bool:
    return isinstance(value, str | Number | np.generic)


def _name(value: object) -> str:
    return NO_GROUP if value is None else str(value)
