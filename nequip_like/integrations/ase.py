"""A potential as a calculator of ASE, the Atomic Simulation Environment."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ase import Atoms
from ase.calculators.calculator import Calculator, all_changes
from ase.data import chemical_symbols
from ase.stress import full_3x3_to_voigt_6_stress

from nequip_like.data import fields
from nequip_like.data.fields import Graph
from nequip_like.data.species import type_table
from nequip_like.data.structures import graph_from_atoms
from nequip_like.errors import DataError, ModelError
from nequip_like.inference.loading import load_any
from nequip_like.inference.predictor import Predictor
from nequip_like.integrations.skin import SkinNeighborList
from nequip_like.model.potential import Potential

SMALLEST_IMAGE_DISTANCE = 0.5  # Angstrom; no crystal repeats its atoms closer than this


class NequIPCalculator(Calculator):
    """Energy, energies of atoms, forces and stress of ASE structures.

    Units and signs are ASE's: eV, eV/Angstrom, eV/Angstrom^3, tension positive, stress in Voigt order. Structures
    without a cell have no stress: asking for it raises ASE's ``PropertyNotImplementedError``.

    Args:
        model: A model file, a checkpoint, a run folder, or a potential.
        device: ``cpu``, ``cuda``, ...; ``auto`` takes a GPU if there is one.
        skin: How much farther than the cutoff the kept neighbour list reaches, Angstrom. The list is built anew only
            when it may lack a pair; results do not depend on the skin. 0 builds it for each structure.
        **arguments: Arguments of ASE's ``Calculator``.

    Raises:
        ModelFileError: If the model cannot be read.
        ConfigError: If there is no such device.
        ModelError: If the skin is negative.

    Example::

        atoms.calc = NequIPCalculator("model.safetensors")
        atoms.get_forces()
    """

    implemented_properties = ["energy", "free_energy", "energies", "forces", "stress"]  # noqa: RUF012 (as in ASE)

    def __init__(
        self,
        model: str | Path | Potential,
        device: str | torch.device = "cpu",
        skin: float = 0.5,
        **arguments: Any,
    ) -> None:
        super().__init__(**arguments)
        if not (np.isfinite(skin) and skin >= 0):
            raise ModelError(f"skin is {skin}", "give a length in Angstrom of 0 or more")
        potential = model if isinstance(model, Potential) else load_any(model)[0]
        self.potential = potential
        self.neighbor_list = SkinNeighborList(potential.cutoff, skin)
        self._predictor = Predictor(potential, device)
        self._type_of_number = type_table(potential.type_names)
        if not potential.do_derivatives:
            self.implemented_properties = ["energy", "free_energy", "energies"]

    def calculate(
        self,
        atoms: Atoms | None = None,
        properties: Sequence[str] = ("energy",),
        system_changes: Sequence[str] = tuple(all_changes),
    ) -> None:
        """Compute all properties; ASE calls this.

        Raises:
            ModelError: If the structure has a species that the model does not know, a position that is not finite,
                a periodic direction without extent, or atoms at one place.
        """
        super().calculate(atoms, properties, system_changes)
        if self.atoms is None:
            raise ModelError("the calculator has no structure", "give atoms")
        prediction = self._predictor.predict_batch(self._graph(self.atoms))
        energy = float(prediction[fields.TOTAL_ENERGY])
        self.results = {
            "energy": energy,
            "free_energy": energy,
            "energies": prediction[fields.PER_ATOM_ENERGY].flatten().numpy(),
        }
        if fields.FORCES in prediction:
            self.results["forces"] = prediction[fields.FORCES].numpy()
        if fields.STRESS in prediction and not bool(prediction[fields.STRESS].isnan().all()):
            self.results["stress"] = full_3x3_to_voigt_6_stress(prediction[fields.STRESS][0].numpy())

    def _graph(self, atoms: Atoms) -> Graph:
        """The structure with its types and neighbours."""
        try:
            graph = graph_from_atoms(atoms)
            types = self._type_of_number[graph[fields.ATOMIC_NUMBERS]]
            if bool((types < 0).any()):
                self._refuse_species(graph, types)
            return self._checked_images(self.neighbor_list.add_edges({**graph, fields.ATOM_TYPES: types}))
        except DataError as error:
            raise ModelError(error.message, error.advice) from error

    def _refuse_species(self, graph: Graph, types: torch.Tensor) -> None:
        unknown = sorted(set(graph[fields.ATOMIC_NUMBERS][types < 0].tolist()))
        raise ModelError(
            f"the model does not know {', '.join(chemical_symbols[number] for number in unknown)}; "
            f"it was trained on {', '.join(self.potential.type_names)}",
            "train it on data with this species, or remove these atoms",
        )

    def _checked_images(self, graph: Graph) -> Graph:
        """Refuse a cell that repeats atoms on top of themselves."""
        centre, neighbor = graph[fields.EDGE_INDEX]
        own = graph[fields.EDGE_CELL_SHIFT][centre == neighbor]
        if len(own):
            nearest = float(torch.linalg.vector_norm(own @ graph[fields.CELL][0], dim=1).min())
            if nearest < SMALLEST_IMAGE_DISTANCE:
                raise ModelError(
                    f"the cell is too small: each atom is {nearest:.3g} Angstrom from its own periodic image",
                    "check the cell and its unit (Angstrom); set pbc to False along directions without periodicity",
                )
        return graph
