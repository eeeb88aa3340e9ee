"""Stress of a size that no matter has: refused, where its unit is not declared.

Programs print stress in kbar, GPa or atomic units; read as eV/Angstrom^3, a kbar is 1,602 times too large.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import ase.units
import torch

from nequip_like.data import fields
from nequip_like.data.fields import Graph
from nequip_like.data.graph import has_label
from nequip_like.data.labels.units import Units
from nequip_like.errors import DataError

# eV/Angstrom^3. Binding energies and volumes of atoms make it 0.1 to 1; the Earth's centre has 2.3 (364 GPa). Sets of
# compressed crystals have single frames above, but not half of them, and the centre of Jupiter (4 TPa) has 25.
_OF_HALF_THE_FRAMES = 3.0
_OF_ANY_FRAME = 30.0
_FEWEST_FRAMES = 3  # fewer may be as extreme as they like


def check_stress_size(
    frames: Sequence[Graph], origins: Sequence[str], units: Units, label_names: Mapping[str, Sequence[str]]
) -> None:
    """Refuse stress that is too large to be one, unless its unit is declared by its own name.

    Args:
        frames: Graphs of single structures; stress in eV/Angstrom^3.
        origins: File and frame of each, for messages.
        units: Units that were declared. A stress or virial that has one of its own is believed.
        label_names: ``{label: names in the files}`` of what was read.

    Raises:
        DataError: With the units to choose from.
    """
    read = [label for label in (fields.STRESS, fields.VIRIAL) if label in label_names]
    if set(read) <= set(units.labels):
        return
    labelled = [i for i, frame in enumerate(frames) if has_label(frame, fields.STRESS)]
    if len(labelled) < _FEWEST_FRAMES:
        return
    largest = torch.stack([frames[i][fields.STRESS].nan_to_num(0.0).abs().max() for i in labelled])
    typical, most = float(largest.median()), float(largest.max())
    if typical <= _OF_HALF_THE_FRAMES and most <= _OF_ANY_FRAME:
        return
    name = ", ".join(name for label in read for name in label_names[label])
    raise DataError(
        f"{origins[labelled[int(largest.argmax())]]}: '{name}' reaches {most:.4g} eV/Angstrom^3 = "
        f"{most / ase.units.GPa:.4g} GPa (half of {len(labelled)} frames reach {typical:.4g} eV/Angstrom^3); the "
        "middle of the Earth has 364 GPa",
        "declare its unit: 'data.units={stress: kbar}', or GPa; map the name to 'virial' if it is one; if it is right, "
        "say so: 'data.units={stress: eV/Angstrom3}'",
    )
