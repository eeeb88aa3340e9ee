"""The model that is checked, with the structures that it is asked about and what its numbers are good for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import torch
from ase import Atoms
from ase.filters import FrechetCellFilter
from ase.optimize import BFGS

from nequip_like.data import fields
from nequip_like.data.dataset import GraphDataset
from nequip_like.errors import ModelError
from nequip_like.inference.predictor import Predictor
from nequip_like.integrations.ase import NequIPCalculator
from nequip_like.model.potential import Potential
from nequip_like.testing.structures import device_of
from nequip_like.testing.tolerances import TOLERANCES

_ATOMS_AT_A_TIME = 2000
_NOISE_SAMPLES = 24
_NOISE_STEP = 1e-5  # Angstrom from one sample to the next


@dataclass(frozen=True)
class NamedStructure:
    """A structure that a model is asked about.

    Attributes:
        name: What messages call it: file and frame, or what was made.
        atoms: The structure.
        is_made: Whether it was made of the model's species, and is no frame of the user's data.
    """

    name: str
    atoms: Atoms
    is_made: bool = False

    @property
    def is_crystal(self) -> bool:
        """Whether it is periodic in all directions."""
        return bool(self.atoms.pbc.all())


class Noise(NamedTuple):
    """What rounding adds to the predictions of a structure: standard deviations around what is smooth.

    Attributes:
        energy: Of the energy, eV.
        force: Of a component of a force, eV/Angstrom.
    """

    energy: float
    force: float

    @property
    def best_step(self) -> float:
        """The displacement of central differences of fourth order that rounding and bending disturb least, Angstrom."""
        return float(np.clip((1e-3 * self.energy) ** 0.2, 1e-4, 2e-2))

    @property
    def smallest_step(self) -> float:
        """With smaller displacements rounding is all that differences show: 0.002 eV/Angstrom of it here, Angstrom."""
        return max(1e-6, 500 * self.energy)


@dataclass(frozen=True)
class CheckSettings:
    """How thoroughly a model is checked.

    Attributes:
        frames: Frames of the data that are looked at, most.
        temperature: Of the dynamics, K.
        picoseconds: Length of the dynamics.
        seed: Of the structures that are made, of velocities, and of which frames and coordinates are taken.
    """

    frames: int = 4
    temperature: float = 300.0
    picoseconds: float = 0.5
    seed: int = 0


@dataclass
class CheckedModel:
    """A model, and what it is asked about.

    Attributes:
        potential: In evaluation mode.
        structures: Structures for symmetry, derivatives and smoothness.
        crystals: Structures that are periodic in all directions, small ones, one of each composition.
        data: The user's frames with their labels, if any.
        settings: How thoroughly it is checked.
        base: To what its predictions are differences (delta learning), in words; empty if they are whole energies.
    """

    potential: Potential
    structures: list[NamedStructure]
    crystals: list[NamedStructure]
    data: GraphDataset | None = None
    settings: CheckSettings = field(default_factory=CheckSettings)
    base: str = ""
    #: Where the interaction of each pair of species ends: the last distance with and the first without, Angstrom.
    ends: dict[tuple[str, str], tuple[float, float]] = field(default_factory=dict)
    #: Stress by finite differences beside the predicted one, by the name of the structure.
    stress_comparisons: dict[str, Any] = field(default_factory=dict)
    #: Equations of state by the name of their crystal: three checks begin with them.
    equations: dict[str, Any] = field(default_factory=dict)

    @cached_property
    def element_type(self) -> str:
        """``float32`` or ``float64``: the less precise of what its weights are."""
        types = {parameter.dtype for parameter in self.potential.parameters()}
        return "float64" if types <= {torch.float64} else "float32"

    @cached_property
    def species(self) -> list[str]:
        """Species of the data, or of the structures that were made: a model may know eighty others."""
        if self.data is not None:
            occurring = set(self.data.table.count_species())
        else:
            occurring = {
                symbol
                for sample in (*self.structures, *self.crystals)
                for symbol in sample.atoms.get_chemical_symbols()
            }
        return [name for name in self.potential.type_names if name in occurring]

    @property
    def rounding(self) -> float:
        """What sums in another order may differ by, relative to the largest number."""
        return TOLERANCES[self.element_type].rounding

    def energies(self, structures: Sequence[Atoms]) -> np.ndarray:
        """Energies of structures, shape (structures,), eV."""
        return self._predict_field(structures, fields.TOTAL_ENERGY)[:, 0]

    def forces(self, structures: Sequence[Atoms]) -> np.ndarray:
        """Forces on the atoms of structures with the same number of them, shape (structures, atoms, 3), eV/Angstrom."""
        return self._predict_field(structures, fields.FORCES).reshape(len(structures), -1, 3)

    def stresses(self, structures: Sequence[Atoms]) -> np.ndarray:
        """Stress of structures, shape (structures, 3, 3), eV/Angstrom^3, positive under tension."""
        return self._predict_field(structures, fields.STRESS)

    def _predict_field(self, structures: Sequence[Atoms], name: str) -> np.ndarray:
        return self._predict(structures)[name]

    def _predict(self, structures: Sequence[Atoms]) -> dict[str, np.ndarray]:
        """All predicted fields of structures, those of all structures or atoms one behind the other."""
        at_a_time = max(1, _ATOMS_AT_A_TIME // max(map(len, structures)))
        predictions = Predictor(self.potential, device_of(self.potential), at_a_time).predict(structures)
        names = self.potential.predicted_fields
        return {name: torch.cat([prediction[name] for prediction in predictions]).numpy() for name in names}

    @cached_property
    def isolated_energies(self) -> dict[str, float]:
        """Energy of an isolated atom of each species, eV."""
        names = self.potential.type_names
        return dict(zip(names, self.energies([Atoms(name) for name in names]).tolist(), strict=True))

    @property
    def has_forces(self) -> bool:
        """Whether it predicts forces and stress."""
        return fields.FORCES in self.potential.predicted_fields

    def measure_noise(self, atoms: Atoms) -> Noise:
        """Measure what rounding adds: how far predictions are off a parabola along a path that is too short to bend.

        The path goes along a random direction of all atoms, in steps of 1e-5 Angstrom. Noise is never taken to be more
        than ten times what rounding makes of the largest number: whatever is more is a fault, and hides none.
        """
        key = id(atoms)
        if key not in self._noise:
            self._noise[key] = (atoms, self._measure_noise(atoms))
        return self._noise[key][1]

    @property
    def measured_noise(self) -> Noise | None:
        """The largest noise of the structures that a check measured it of; None if none did."""
        found = [noise for _, noise in self._noise.values()]
        return Noise(max(n.energy for n in found), max(n.force for n in found)) if found else None

    @cached_property
    def _noise(self) -> dict[int, tuple[Atoms, Noise]]:
        return {}

    def _measure_noise(self, atoms: Atoms) -> Noise:
        direction = np.random.default_rng(self.settings.seed).normal(size=(len(atoms), 3))
        path = np.arange(_NOISE_SAMPLES) - (_NOISE_SAMPLES - 1) / 2
        displaced = []
        for place in path:
            structure = atoms.copy()
            structure.positions += place * _NOISE_STEP * direction
            displaced.append(structure)
        predicted = self._predict(displaced)  # energies and forces at once
        scattered = _scatter_around_parabola(path, predicted[fields.TOTAL_ENERGY])
        isolated = sum(self.isolated_energies[symbol] for symbol in atoms.get_chemical_symbols())
        largest = max(1.0, abs(float(self.energies([atoms])[0]) - isolated))
        # The sum of a structure is float64: its energies of isolated atoms round at 1e-16 of themselves.
        most_energy = 10 * self.rounding * largest + 1e-14 * abs(isolated)
        scattered_force, most_force = 0.0, float("inf")
        if self.has_forces:
            forces = predicted[fields.FORCES].reshape(_NOISE_SAMPLES, -1)
            scattered_force = _scatter_around_parabola(path, forces)
            most_force = 10 * self.rounding * max(1.0, float(np.abs(forces).max()))
        return Noise(float(np.fmin(scattered, most_energy)), float(np.fmin(scattered_force, most_force)))

    @cached_property
    def calculator(self) -> NequIPCalculator:
        """The model as ASE's calculator."""
        return NequIPCalculator(self.potential, device_of(self.potential))

    def relax(self, atoms: Atoms, fmax: float = 0.01, steps: int = 60, with_cell: bool = False) -> tuple[Atoms, bool]:
        """Move the atoms of a structure to the nearest minimum, or as near as the steps lead.

        Args:
            atoms: The structure.
            fmax: The largest force that may be left, eV/Angstrom; of the cell, stress times volume per atom.
            steps: The most steps.
            with_cell: Whether the cell follows its stress.

        Returns:
            The structure, and whether it has come to its minimum.

        Raises:
            ModelError: If a force or a stress is not finite.
        """
        relaxed = atoms.copy()
        relaxed.calc = self.calculator
        degrees: Any = FrechetCellFilter(relaxed) if with_cell else relaxed  # ASE's types know of atoms only
        at_minimum = False
        for converged in BFGS(degrees, logfile=None).irun(fmax=fmax, steps=steps):
            at_minimum = bool(converged)
            if not np.isfinite(degrees.get_forces()).all():
                raise ModelError("a force is not finite while atoms are moved to their minimum", "look at the dimers")
        relaxed.calc = None
        return relaxed, at_minimum


def _scatter_around_parabola(path: np.ndarray, values: np.ndarray) -> float:
    """Standard deviation of values (samples, columns) around a parabola, the largest of all columns."""
    powers = np.vander(path / np.abs(path).max(), 3)
    centred = values - values.mean(0)
    rest = centred - powers @ np.linalg.lstsq(powers, centred, rcond=None)[0]
    return float(np.sqrt((rest**2).sum(0) / (len(path) - 3)).max())
