"""Energies without any derivative: no pass back, neither by compiled code nor by autograd."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from nequip_like.model.potential import Potential


@contextmanager
def energies_only(potential: Potential, wanted: bool = True) -> Iterator[Potential]:
    """Let a potential, and the members of a committee, predict energies and their uncertainties and nothing else.

    Args:
        potential: The potential; as it was at the end.
        wanted: False changes nothing.

    Example:
        >>> from nequip_like.model import NequIPGNNModel
        >>> tiny = {"r_max": 3.0, "num_layers": 2, "num_features": 4, "avg_num_neighbors": 2, "kernel": "reference"}
        >>> with energies_only(NequIPGNNModel(type_names=["H", "O"], **tiny)) as potential:
        ...     potential.predicted_fields
        ('total_energy', 'atomic_energy')
    """
    changed = [
        module for module in potential.modules() if wanted and isinstance(module, Potential) and module.do_derivatives
    ]
    for module in changed:
        module.do_derivatives = False
    try:
        yield potential
    finally:
        for module in changed:
            module.do_derivatives = True
