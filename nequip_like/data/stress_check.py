"""Does the stress of a data set agree with its energies? Answered from the frames alone, where they allow it.

Two frames with the same fractional coordinates differ by a strain ``eps`` of the cell only. Their energies must then
differ by the work of the stress, ``E_b - E_a = V sigma : eps``, taken here at the mean of both frames (midpoint rule,
error of third order in the strain). Wrong signs, wrong units and constant offsets of a stress show up at once.
"""

from __future__ import annotations

import torch

from nequip_like.data import fields
from nequip_like.data.dataset import GraphDataset
from nequip_like.data.fields import Graph
from nequip_like.data.graph import volumes
from nequip_like.data.missing import has_label

_GPA = 160.21766208  # 1 eV/Angstrom^3 in GPa
_LARGEST_STRAIN = 0.03
_SAME_COORDINATES = 2e-3
_FEWEST_PAIRS = 4
_MOST_FRAMES = 200  # of one composition; keeps the number of pairs small
_MOST_GROUPS = 50
_LARGEST_OFFSET = 1.0  # GPa; less may be Pulay stress or the error of the midpoint rule


def stress_contradiction(dataset: GraphDataset) -> str | None:
    """One sentence on how the stress contradicts the energies; None if it does not, or the frames cannot tell."""
    energy, work, dilation = strained_pairs(dataset.frames)
    if len(energy) < _FEWEST_PAIRS or not float(work.square().sum()) > 0:
        return None
    slope = float((energy * work).sum() / work.square().sum())
    explained = slope * float((energy * work).sum()) / float(energy.square().sum())
    if explained > 0.5 and not 0.5 < slope < 2.0:
        reason = "its sign looks wrong" if -2.0 < slope < -0.5 else "its unit or sign looks wrong"
        return f"stress contradicts the energies: they change {slope:.3g} times as much as it says; {reason}"
    rest = energy - work
    scale = float(dilation.square().sum())
    if not scale > 0:
        return None
    offset = float((rest * dilation).sum()) / scale
    explained = offset * float((rest * dilation).sum()) / float(rest.square().sum().clamp(min=1e-30))
    if abs(offset) * _GPA > _LARGEST_OFFSET and explained > 0.5:
        return (
            f"stress lies {abs(offset) * _GPA:.1f} GPa {'below' if offset > 0 else 'above'} what the energies say, "
            f"along all axes alike ({len(energy)} pairs of strained frames); do not train on this stress"
        )
    return None


def strained_pairs(frames: list[Graph]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Compare all pairs of frames that differ by a small strain only.

    Returns:
        Difference in energy (pairs,) eV, work of the stress (pairs,) eV, and volume times dilation (pairs,)
        Angstrom^3: the work of a stress of 1 eV/Angstrom^3.
    """
    groups: dict[tuple[int, ...], list[Graph]] = {}
    for frame in frames:
        labelled = has_label(frame, fields.STRESS) and has_label(frame, fields.TOTAL_ENERGY)
        if labelled and bool(frame[fields.PBC].all()):
            groups.setdefault(tuple(frame[fields.ATOMIC_NUMBERS].tolist()), []).append(frame)
    found = [_pairs_of_group(group[:_MOST_FRAMES]) for group in list(groups.values())[:_MOST_GROUPS] if len(group) > 1]
    if not found:
        empty = torch.empty(0, dtype=torch.float64)
        return empty, empty, empty
    energy, work, dilation = (torch.cat(parts) for parts in zip(*found, strict=True))
    return energy, work, dilation


def _pairs_of_group(frames: list[Graph]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    cells = torch.cat([frame[fields.CELL] for frame in frames])
    positions = torch.stack([frame[fields.POSITIONS] for frame in frames])
    fractional = torch.linalg.solve(cells, positions, left=False)
    energies = torch.cat([frame[fields.TOTAL_ENERGY].flatten() for frame in frames])
    volume = torch.cat([volumes(frame) for frame in frames])
    virials = torch.cat([frame[fields.STRESS] for frame in frames]) * volume[:, None, None]
    results = []
    for a in range(len(frames) - 1):
        b = torch.arange(a + 1, len(frames))
        shift = fractional[b] - fractional[a]
        same = (shift - shift.round()).abs().amax(dim=(1, 2)) < _SAME_COORDINATES
        deformation = torch.linalg.solve(cells[a].expand(len(b), 3, 3), cells[b])
        change = (deformation - torch.eye(3, dtype=cells.dtype)).abs().amax(dim=(1, 2))
        chosen = same & (change < _LARGEST_STRAIN) & (change > 1e-6)
        b, deformation = b[chosen], deformation[chosen]
        squared, axes = torch.linalg.eigh(deformation.mT @ deformation)
        strain = axes @ torch.diag_embed(0.5 * squared.log()) @ axes.mT
        work = (0.5 * (virials[a] + virials[b]) * strain).sum(dim=(1, 2))
        dilation = 0.5 * (volume[a] + volume[b]) * strain.diagonal(dim1=1, dim2=2).sum(dim=1)
        results.append((energies[b] - energies[a], work, dilation))
    energy, work, dilation = (torch.cat(parts) for parts in zip(*results, strict=True))
    return energy, work, dilation
