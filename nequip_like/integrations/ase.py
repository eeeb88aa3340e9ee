"""A potential as a calculator of ASE, the Atomic Simulation Environment."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ase import Atoms
from ase.calculators.calculator import Calculator, all_changes

from nequip_like.data import fields
from nequip_like.data.fields import Graph
from nequip_like.data.io.structures import are_same, ase_results, graph_from_atoms, moved_to
from nequip_like.errors import ConfigError, DataError, ModelError, did_you_mean
from nequip_like.inference.predictor import Predictor
from nequip_like.integrations.skin import SkinNeighborList
from nequip_like.model.families import Families
from nequip_like.model.potential import Potential
from nequip_like.process_settings import keep_memory

SMALLEST_IMAGE_DISTANCE = 0.5  # Angstrom; no crystal repeats its atoms closer than this


class _Snapshot:
    """An ASE structure as it was; the copy of it is made when somebody asks for it.

    To copy a structure takes as long as a tenth of the forces of a small molecule, most of it in its constructor.

    Args:
        atoms: The structure.
    """

    def __init__(self, atoms: Atoms) -> None:
        self._class = type(atoms)
        self.arrays = {name: array.copy() for name, array in atoms.arrays.items()}
        self.cell, self.pbc = atoms.cell.array.copy(), atoms.pbc.copy()
        self._info, self._displacement = dict(atoms.info), atoms.get_celldisp().copy()
        self._constraints = copy.deepcopy(atoms.constraints)
        self._atoms: Atoms | None = None

    @property
    def atoms(self) -> Atoms:
        """The structure; always the same object."""
        if self._atoms is None:
            self._atoms = self._class(cell=self.cell, pbc=self.pbc, info=self._info, celldisp=self._displacement)
            self._atoms.arrays = {name: array.copy() for name, array in self.arrays.items()}
            self._atoms.constraints = self._constraints
        return self._atoms


class NequIPCalculator(Calculator):
    """Energy, energies of atoms, forces and stress of ASE structures.

    Units and signs are ASE's: eV, eV/Angstrom, eV/Angstrom^3, tension positive, stress in Voigt order. Structures
    without a cell have no stress: asking for it raises ASE's ``PropertyNotImplementedError``.

    Building a calculator changes how the process keeps memory: see :func:`nequip_like.process_settings.keep_memory`.
    A potential in training mode is put into evaluation mode and back at each call, which takes longer than the forces
    of a small molecule: give one in evaluation mode, as those from files are.

    Args:
        model: A model file, a checkpoint, a run folder, or a potential.
        device: ``cpu``, ``cuda``, ...; ``auto`` takes a GPU if there is one.
        skin: How much farther than the cutoff the kept neighbour list reaches, Angstrom. The list is built anew only
            when it may lack a pair; results do not depend on the skin. 0 builds it for each structure.
        families: Builders of model families by name, as for :func:`~nequip_like.inference.loading.load`.
        **arguments: Arguments of ASE's ``Calculator``: ``label``, ``directory``, ...

    Raises:
        ModelFileError: If the model cannot be read.
        ConfigError: If there is no such device or argument, or ``families`` is no mapping or has a name that is built
            in.
        ModelError: If the skin is negative.

    Example:
        A model that is not trained, in the place of a file; asked for a cell of one atom:

        >>> from ase.build import bulk
        >>> from nequip_like.model import NequIPGNNModel
        >>> tiny = {"num_layers": 2, "num_features": 4, "avg_num_neighbors": 12, "kernel": "reference"}
        >>> copper = bulk("Cu", a=3.6)
        >>> copper.calc = NequIPCalculator(NequIPGNNModel(type_names=["Cu"], r_max=3.0, **tiny).eval())
        >>> copper.get_forces().shape, copper.get_stress().shape
        ((1, 3), (6,))
        >>> Atoms("Ag", calculator=copper.calc).get_potential_energy()
        Traceback (most recent call last):
        ...
        nequip_like.errors.ModelError: the model does not know Ag; it was trained on Cu
          -> train it on data with this species, or remove these atoms
    """

    implemented_properties = ["energy", "free_energy", "energies", "forces", "stress"]  # noqa: RUF012 (as in ASE)

    def __init__(
        self,
        model: str | Path | Potential,
        device: str | torch.device = "cpu",
        skin: float = 0.5,
        families: Families | None = None,
        **arguments: Any,
    ) -> None:
        _check_arguments(arguments)
        self._last: _Snapshot | None = None
        super().__init__(**arguments)
        if not (np.isfinite(skin) and skin >= 0):
            raise ModelError(f"skin is {skin}", "give a length in Angstrom of 0 or more")
        self._predictor = Predictor(model, device, families=families)
        self.potential = potential = self._predictor.potential
        potential.cache_parameters()
        keep_memory()
        self.neighbor_list = SkinNeighborList(potential.cutoff, skin)
        self._structure: Graph | None = None
        self._on_device: dict[str, tuple[torch.Tensor, torch.Tensor]] = {}
        if not potential.do_derivatives:
            self.implemented_properties = ["energy", "free_energy", "energies"]
        uncertainties = [name for name in fields.UNCERTAINTIES.values() if name in potential.predicted_fields]
        self.implemented_properties = [*self.implemented_properties, *uncertainties]

    def __getstate__(self) -> dict[str, Any]:
        """Copies and pickles hold the model and the last results; what speeds up the next call is made anew."""
        return {**self.__dict__, "_structure": None, "_on_device": {}}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        keep_memory()  # the copy may be in another process

    @property
    def atoms(self) -> Atoms | None:
        """A copy of the structure of the last calculation; None before the first."""
        return None if self._last is None else self._last.atoms

    @atoms.setter
    def atoms(self, atoms: Atoms | None) -> None:  # ASE sets None when the structure has changed
        self._last = None if atoms is None else _Snapshot(atoms)

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
        if atoms is not None:
            self._last = _Snapshot(atoms)
        elif (atoms := self.atoms) is None:
            raise ModelError("the calculator has no structure", "give atoms")
        prediction = self._predictor.predict_batch(self._move_to_device(self._build_graph(atoms)))
        self.results = ase_results(prediction)

    def get_hessian(self, atoms: Atoms | None = None) -> np.ndarray:
        """The Hessian of the energy, exactly: second derivatives by the positions, and no finite differences.

        Args:
            atoms: The structure; that of the last calculation by default. Constraints are not looked at.

        Returns:
            Shape (3 atoms, 3 atoms), eV/Angstrom^2, symmetric; rows are x, y, z of the first atom, and so on. Of a
            periodic structure an entry is the sum over all images.

        Raises:
            ModelError: As :meth:`calculate`.
        """
        if atoms is None and (atoms := self.atoms) is None:
            raise ModelError("the calculator has no structure", "give atoms")
        hessian: np.ndarray = self.potential.hessian(self._move_to_device(self._build_graph(atoms))).cpu().numpy()
        return hessian

    def check_state(self, atoms: Atoms, tol: float = 1e-15) -> list[str]:
        """What changed since the last calculation, of what the results depend on; any change counts.

        ASE's own comparison takes as long as the forces of a small molecule.
        """
        last = self._last
        if last is None:
            return list(all_changes)
        pairs = {
            "positions": (last.arrays["positions"], atoms.positions),
            "numbers": (last.arrays["numbers"], atoms.numbers),
            "cell": (last.cell, atoms.cell.array),
            "pbc": (last.pbc, atoms.pbc),
        }
        return [name for name, (last, current) in pairs.items() if not are_same(last, current)]

    def _build_graph(self, atoms: Atoms) -> Graph:
        """The structure with its types and neighbours."""
        try:
            graph = None if self._structure is None else moved_to(self._structure, atoms)
            if graph is None:
                graph = self._assign_types(graph_from_atoms(atoms))
            self._structure = graph
            return self._check_images(self.neighbor_list.add_edges(graph, with_skin=self.potential.accepts_skin_edges))
        except DataError as error:
            raise ModelError(error.message, error.advice) from error

    def _assign_types(self, graph: Graph) -> Graph:
        """The structure with all that does not change when its atoms move."""
        types = self.potential.assign_types(graph[fields.ATOMIC_NUMBERS])
        return {**graph, fields.ATOM_TYPES: types, fields.BATCH: torch.zeros_like(types)}

    def _move_to_device(self, graph: Graph) -> Graph:
        """The graph on the model's device, where what did not change since the last call is already."""
        if self._predictor.device.type == "cpu":
            return graph
        cached = self._on_device
        self._on_device = {
            key: cached[key] if key in cached and cached[key][0] is value else (value, value.to(self._predictor.device))
            for key, value in graph.items()
        }
        return {key: tensor for key, (_, tensor) in self._on_device.items()}

    def _check_images(self, graph: Graph) -> Graph:
        """Refuse a cell that repeats atoms on top of themselves."""
        if not graph[fields.PBC].numpy().any():
            return graph
        # Each atom sees its own images at the same distances, so those of atom 0 tell; edges are sorted by centre.
        centre, neighbor = graph[fields.EDGE_INDEX].numpy()
        first = neighbor[: centre.searchsorted(1)]
        image_shifts = graph[fields.EDGE_CELL_SHIFT].numpy()[: len(first)][first == 0]
        if len(image_shifts):
            nearest = float(np.linalg.norm(image_shifts @ graph[fields.CELL].numpy()[0], axis=1).min())
            if nearest < SMALLEST_IMAGE_DISTANCE:
                raise ModelError(
                    f"the cell is too small: each atom is {nearest:.3g} Angstrom from its own periodic image",
                    "check the cell and its unit (Angstrom); set pbc to False along directions without periodicity",
                )
        return graph


def _named_arguments(function: Callable[..., Any]) -> set[str]:
    parameters = inspect.signature(function).parameters.values()
    return {each.name for each in parameters if each.kind is each.POSITIONAL_OR_KEYWORD} - {"self"}


def _check_arguments(arguments: Mapping[str, Any]) -> None:
    """Refuse what ASE's ``Calculator`` would keep as a parameter of a calculation, which nothing here looks at."""
    of_ase = _named_arguments(Calculator.__init__)
    for name in arguments:
        if name not in of_ase:
            options = of_ase | _named_arguments(NequIPCalculator.__init__)
            raise ConfigError(f"NequIPCalculator has no argument '{name}'", did_you_mean(name, options))
