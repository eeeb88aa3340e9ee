"""How stress changes with the volume: it grows, for matter resists; how much is the bulk modulus."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import ase.units
import torch

from nequip_like.data import fields
from nequip_like.data.fields import Graph
from nequip_like.data.graph import has_label, volumes

_SMALLEST_CHANGE = 0.01  # rms of the logarithm of the volume; below it, other changes are larger
_FEWEST_OF_KIND = 4


@dataclass(frozen=True)
class VolumeResponse:
    """Mean stress against the logarithm of the volume, among frames of the same atoms.

    Attributes:
        correlation: Of both, positive for matter under stress that is positive under tension.
        modulus: The slope, which is the bulk modulus, GPa.
        frames: Number of frames.
    """

    correlation: float
    modulus: float
    frames: int


def measure_volume_response(frames: Sequence[Graph]) -> VolumeResponse | None:
    """Measure it on frames that are periodic in all directions and have a stress.

    Args:
        frames: Graphs of single structures.

    Returns:
        None if the volume is hardly another one in any of them.
    """
    groups: dict[bytes, list[Graph]] = {}
    for frame in frames:
        if has_label(frame, fields.STRESS) and bool(frame[fields.PBC].all()):
            groups.setdefault(frame[fields.ATOMIC_NUMBERS].sort().values.numpy().tobytes(), []).append(frame)
    changes, stresses = [], []
    for group in groups.values():
        if len(group) >= _FEWEST_OF_KIND:
            size = torch.cat([volumes(frame) for frame in group]).log()
            mean_stress = torch.stack([frame[fields.STRESS][0].diagonal().mean() for frame in group])
            changes.append(size - size.mean())
            stresses.append(mean_stress - mean_stress.mean())
    if not changes:
        return None
    change, stress = torch.cat(changes), torch.cat(stresses)
    if float(change.square().mean()) ** 0.5 < _SMALLEST_CHANGE or not bool(stress.any()):
        return None
    product = float((change * stress).sum())
    slope = product / float(change.square().sum())
    return VolumeResponse(product / float(change.norm() * stress.norm()), slope / ase.units.GPa, len(change))
