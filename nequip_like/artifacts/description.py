"""What ``model.json`` and the manifest say of a potential, in plain values."""

from __future__ import annotations

from typing import Any

import torch

from nequip_like.data import fields
from nequip_like.model.potential import Potential
from nequip_like.nn.scale_shift import PerTypeScaleShift


def describe_model(potential: Potential) -> dict[str, Any]:
    """Describe a potential: what builds it, what it takes and gives, and what stands behind its network.

    Returns:
        ``family``, ``arguments``, ``type_names``, ``cutoff`` (Angstrom), ``dtype``, ``parameters`` (how many),
        ``units``, ``head``, ``normalizer``, ``uncertainty``.

    Example:
        >>> from nequip_like.model import NequIPGNNModel
        >>> tiny = {"r_max": 3.0, "num_layers": 2, "num_features": 4, "avg_num_neighbors": 2, "kernel": "reference"}
        >>> described = describe_model(NequIPGNNModel(type_names=["H", "O"], per_type_energy_shifts=-1.5, **tiny))
        >>> described["dtype"], described["units"]["forces"], described["normalizer"]["energy_shifts"]
        ('float32', 'eV/Angstrom', {'H': -1.5, 'O': -1.5})
    """
    return {
        "family": potential.config.get("family"),
        "arguments": potential.config.get("arguments"),
        "type_names": list(potential.type_names),
        "cutoff": potential.cutoff,
        "dtype": name_dtype(potential),
        "parameters": sum(parameter.numel() for parameter in potential.parameters()),
        "units": dict(potential.units),
        "head": describe_head(potential),
        "normalizer": describe_normalizer(potential),
        "uncertainty": potential.describe_uncertainty(),
    }


def name_dtype(potential: Potential) -> str:
    """The type of the network's weights, ``float32`` or ``float64``."""
    arguments = potential.config.get("arguments")
    named = arguments.get("model_dtype") if isinstance(arguments, dict) else None
    if isinstance(named, str):
        return named
    parameter = next(iter(potential.parameters()), torch.zeros(0))
    return str(parameter.dtype).removeprefix("torch.")


def describe_head(potential: Potential) -> dict[str, Any]:
    """What is read from the network: one head, the energy, and what is differentiated of it."""
    return {"name": "energy", "predicts": list(potential.predicted_fields)}


def describe_normalizer(potential: Potential) -> dict[str, Any] | None:
    """How the network's output becomes an energy: ``E_i = scale * output + shift`` of each species; None if it is not.

    Returns:
        ``kind``, and for each species ``energy_scales`` and ``energy_shifts``, eV.
    """
    layer = getattr(potential.energy_model, "scale_shift", None)
    if not isinstance(layer, PerTypeScaleShift):
        return None
    scales, shifts = (
        dict(zip(potential.type_names, values.detach().cpu().tolist(), strict=True))
        for values in (layer.scales, layer.shifts)
    )
    return {"kind": "per_type_scale_shift", "energy_scales": scales, "energy_shifts": shifts}


def describe_io(potential: Potential) -> dict[str, Any]:
    """Units and meaning of what goes in and comes out."""
    units = potential.units
    return {
        "energy_unit": units[fields.TOTAL_ENERGY],
        "length_unit": units[fields.POSITIONS],
        "force_unit": units.get(fields.FORCES),
        "stress_unit": units.get(fields.STRESS),
        "stress_sign": "tension" if fields.STRESS in units else None,
        "energy_is_total": True,
    }
