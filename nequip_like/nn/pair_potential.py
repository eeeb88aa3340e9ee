"""Pair potentials that are added to a network's energy."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from ase.data import atomic_numbers
from torch import Tensor, nn

from nequip_like.errors import ConfigError, closest_hint
from nequip_like.nn.radial import PolynomialEnvelope
from nequip_like.nn.scatter import sum_rows

_COULOMB = {"metal": 14.399645, "real": 332.06371}  # e^2 / (4 pi eps_0): eV*Angstrom, (kcal/mol)*Angstrom
_ZBL_WEIGHTS = (0.02817, 0.28022, 0.50986, 0.18175)
_ZBL_DECAYS = (0.20162, 0.40290, 0.94229, 3.19980)


class ZBL(nn.Module):
    """Ziegler-Biersack-Littmark screened nuclear repulsion, half of it for each of the two directed edges.

    ``E_ij = 1/2 k Z_i Z_j / r phi((Z_i^0.23 + Z_j^0.23) r / 0.46850) u(r / r_cut)`` (Ziegler, Biersack, Littmark 1985,
    with the constants of LAMMPS ``pair_style zbl``); ``u`` is the polynomial envelope over the model's whole cutoff.

    Args:
        type_names: The model's species.
        units: "metal" (eV) or "real" (kcal/mol): the unit of the training energies.
        chemical_species: Element of each type, where type names are not elements.
        polynomial_cutoff_p: Exponent of the envelope.

    Example:
        Each of the two edges of a pair has half of its energy, so both atoms have the same:

        >>> edges = torch.tensor([0, 1]), torch.tensor([1, 0])
        >>> lengths = torch.tensor([1.0, 1.0], dtype=torch.float64)
        >>> energies = ZBL(["H", "O"])(lengths, lengths / 5.0, torch.tensor([0, 1]), *edges)
        >>> bool(energies[0] > 0), bool(energies[0] == energies[1])
        (True, True)
    """

    numbers: Tensor
    weights: Tensor
    decays: Tensor

    def __init__(
        self,
        type_names: Sequence[str],
        units: str = "metal",
        chemical_species: Sequence[str] | None = None,
        polynomial_cutoff_p: float = 6.0,
    ) -> None:
        super().__init__()
        symbols = list(chemical_species or type_names)
        unknown = [symbol for symbol in symbols if symbol not in atomic_numbers]
        if unknown or len(symbols) != len(type_names):
            raise ConfigError(
                f"ZBL needs the element of each type, but got {', '.join(symbols)} for {', '.join(type_names)}",
                "give chemical_species: one element symbol for each type, in the order of the types",
            )
        if units not in _COULOMB:
            raise ConfigError(f"ZBL units are '{units}'", "use metal (eV) or real (kcal/mol)")
        numbers = torch.tensor([float(atomic_numbers[symbol]) for symbol in symbols], dtype=torch.float64)
        self.register_buffer("numbers", numbers, persistent=False)
        self.register_buffer("weights", torch.tensor(_ZBL_WEIGHTS, dtype=torch.float64), persistent=False)
        self.register_buffer("decays", torch.tensor(_ZBL_DECAYS, dtype=torch.float64), persistent=False)
        self.prefactor = 0.5 * _COULOMB[units]
        self.envelope = PolynomialEnvelope(polynomial_cutoff_p)

    def forward(self, lengths: Tensor, scaled: Tensor, atom_types: Tensor, centre: Tensor, neighbour: Tensor) -> Tensor:
        """Energy of each atom, shape (atoms,), float64.

        Args:
            lengths: Edge lengths, shape (edges,), Angstrom.
            scaled: ``length / cutoff``, shape (edges,).
            atom_types: Type of each atom, shape (atoms,).
            centre: Receiving atom of each edge.
            neighbour: Sending atom of each edge.
        """
        charge_centre, charge_neighbour = self.numbers[atom_types[centre]], self.numbers[atom_types[neighbour]]
        reduced = (charge_centre**0.23 + charge_neighbour**0.23) * lengths / 0.46850
        screening = torch.exp(-reduced.unsqueeze(-1) * self.decays) @ self.weights
        energy = self.prefactor * charge_centre * charge_neighbour / lengths * screening * self.envelope(scaled)
        return sum_rows(energy, centre, len(atom_types))


_PAIR_POTENTIALS = {"zbl": ZBL}


def build_pair_potential(config: str | Mapping[str, Any] | None, type_names: Sequence[str]) -> nn.Module | None:
    """Build the pair potential that a config names.

    Args:
        config: A name (``zbl``), or a mapping with ``name`` (or a ``_target_`` that ends in the class name) and
            arguments; None for no pair potential.
        type_names: The model's species.

    Raises:
        ConfigError: If there is no such pair potential or argument.

    Example:
        >>> type(build_pair_potential("zbl", ["H", "O"])).__name__
        'ZBL'
        >>> build_pair_potential({"name": "zbl", "unit": "metal"}, ["H", "O"])
        Traceback (most recent call last):
        ...
        nequip_like.errors.ConfigError: pair_potential: ZBL takes no 'unit'
          -> did you mean 'units'?
    """
    if config is None:
        return None
    arguments = {"name": config} if isinstance(config, str) else dict(config)
    name = str(arguments.pop("name", arguments.pop("_target_", ""))).rsplit(".", 1)[-1].lower()
    if name not in _PAIR_POTENTIALS:
        raise ConfigError(f"unknown pair potential '{config}'", f"use one of {', '.join(_PAIR_POTENTIALS)}")
    arguments.pop("type_names", None)
    kind = _PAIR_POTENTIALS[name]
    options = [argument for argument in inspect.signature(kind).parameters if argument != "type_names"]
    for argument in arguments:
        if argument not in options:
            hint = closest_hint(argument, options).strip()
            raise ConfigError(
                f"pair_potential: {kind.__name__} takes no '{argument}'", hint or f"it takes {', '.join(options)}"
            )
    return kind(type_names, **arguments)
