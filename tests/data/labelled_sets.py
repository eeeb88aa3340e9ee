"""Data sets as users have them, with right labels of simple potentials, and the mistakes that are made with labels."""

import functools
from collections.abc import Callable

import numpy as np
import torch
from ase import Atoms, units
from ase.build import bulk, fcc111, molecule
from ase.calculators.calculator import Calculator
from ase.calculators.emt import EMT
from ase.calculators.lj import LennardJones
from ase.calculators.tersoff import Tersoff, TersoffParameters
from ase.filters import FrechetCellFilter
from ase.md.langevin import Langevin
from ase.md.nptberendsen import NPTBerendsen
from ase.optimize import FIRE

from nequip_like.data.dataset import GraphDataset
from nequip_like.data.fields import Graph
from nequip_like.data.graph import volumes
from nequip_like.data.inspection.label_check import compare_labels, from_vasp_order
from nequip_like.data.io.structures import graph_from_atoms
from nequip_like.data.species import species_of

GPA = 160.21766208
HARTREE, RYDBERG, BOHR, KCAL = 27.211386, 13.605693, 0.529177, 0.0433641

Frames = list[Graph]


def labelled(atoms: Atoms) -> Graph:
    """The graph of a structure with all labels that its calculator gives."""
    graph = graph_from_atoms(atoms) | {
        "total_energy": torch.tensor([[atoms.get_potential_energy()]], dtype=torch.float64),
        "forces": torch.from_numpy(atoms.get_forces().copy()),
    }
    if atoms.pbc.any():
        graph["stress"] = torch.from_numpy(atoms.get_stress(voigt=False).copy()).unsqueeze(0)
    return graph


def silicon() -> Tersoff:
    """Tersoff's third potential of silicon (Phys. Rev. B 38, 9902, 1988)."""
    parameters = TersoffParameters(
        m=3.0, gamma=1.0, lambda3=0.0, c=1.0039e5, d=16.217, h=-0.59825, n=0.78734, beta=1.1e-6, lambda2=1.7322,
        B=471.18, R=2.85, D=0.15, lambda1=2.4799, A=1830.8,
    )  # fmt: skip
    return Tersoff({("Si", "Si", "Si"): parameters})


def argon() -> LennardJones:
    return LennardJones(sigma=3.4, epsilon=0.0104, rc=6.5, smooth=True)


def relaxed(atoms: Atoms, calculator: Calculator, steps: int, cell: bool = True) -> Frames:
    """The frames of a relaxation."""
    atoms.calc = calculator
    frames: Frames = []
    search = FIRE(FrechetCellFilter(atoms) if cell else atoms, logfile=None)
    search.attach(lambda: frames.append(labelled(atoms)))
    search.run(fmax=0.01, steps=steps)
    return frames


def simulated(
    atoms: Atoms, calculator: Calculator, temperature: float, steps: int, every: int, barostat: bool = False
) -> Frames:
    """Frames of molecular dynamics, in steps of 3 fs."""
    rng = np.random.RandomState(0)
    atoms.calc = calculator
    atoms.set_momenta(
        rng.normal(size=(len(atoms), 3)) * np.sqrt(atoms.get_masses() * 2 * temperature * units.kB)[:, None]
    )
    if barostat:
        run = NPTBerendsen(
            atoms, 3 * units.fs, temperature_K=temperature, pressure_au=0.0, taut=100 * units.fs, taup=300 * units.fs,
            compressibility_au=1.0,
        )  # fmt: skip
    else:
        run = Langevin(atoms, 3 * units.fs, temperature_K=temperature, friction=0.02, rng=rng, fixcm=False)
    frames: Frames = []
    run.run(every)
    run.attach(lambda: frames.append(labelled(atoms)), interval=every)
    run.run(steps)
    return frames


def strained(
    atoms: Atoms,
    calculator: Calculator,
    frames: int,
    strain: float,
    shake: float = 0.0,
    relax: bool = False,
    seed: int = 0,
) -> Frames:
    """Frames of random strains, whose atoms are shaken, or relaxed in the cell."""
    rng = np.random.default_rng(seed)
    found = []
    for _ in range(frames):
        copy = atoms.copy()
        change = rng.normal(size=(3, 3)) * strain
        copy.set_cell(copy.cell[:] @ (np.eye(3) + (change + change.T) / 2), scale_atoms=True)
        copy.positions += rng.normal(size=copy.positions.shape) * shake
        copy.calc = calculator
        if relax:
            FIRE(copy, logfile=None).run(fmax=0.01, steps=100)
        found.append(labelled(copy))
    return found


def rattled(atoms: Atoms, amplitude: float, scale: float = 1.0) -> Atoms:
    atoms.rattle(amplitude, seed=1)
    atoms.set_cell(atoms.cell[:] * scale, scale_atoms=True)
    return atoms


def alloy() -> Atoms:
    atoms = bulk("Cu", a=3.9, cubic=True) * (2, 2, 1)
    atoms.symbols[::2] = "Au"
    return atoms


def slab(periodic: bool) -> Atoms:
    atoms = fcc111("Al", (2, 2, 3), vacuum=6.0)
    atoms.pbc = (True, True, periodic)
    return atoms


# Each with a stress, whose shear is not zero.
WITH_STRESS: dict[str, Callable[[], Frames]] = {
    "relaxation of a stretched cell": lambda: relaxed(
        rattled(bulk("Cu", cubic=True) * (2, 1, 1), 0.08, 1.04), EMT(), 20
    ),
    "relaxation of silicon": lambda: relaxed(rattled(bulk("Si", cubic=True), 0.15, 0.97), silicon(), 30),
    "barostat": lambda: simulated(bulk("Cu", cubic=True) * (2, 2, 1), EMT(), 600, 250, 10, barostat=True),
    "thermostat, alloy": lambda: simulated(alloy(), EMT(), 800, 500, 25),
    "thermostat, liquid argon": lambda: simulated(bulk("Ar", a=5.6, cubic=True) * (2, 2, 2), argon(), 120, 300, 15),
    "elastic strains": lambda: strained(bulk("Al", cubic=True), EMT(), 20, 0.01),
    "elastic strains, relaxed inside": lambda: strained(bulk("Si"), silicon(), 14, 0.01, relax=True),
    "strained and shaken": lambda: strained(bulk("Ni", cubic=True), EMT(), 20, 0.02, 0.05),
    "shaken silicon": lambda: strained(bulk("Si", cubic=True), silicon(), 20, 0.0, 0.05),
    "shaken alloy": lambda: strained(alloy(), EMT(), 20, 0.0, 0.1),
    "shaken slab, two directions periodic": lambda: strained(slab(False), EMT(), 20, 0.0, 0.05),
    "relaxation of a slab": lambda: relaxed(rattled(slab(True), 0.1), EMT(), 30, cell=False),
}

# Each with close frames between which forces do work.
WITH_CLOSE_FRAMES = {
    **{name: make for name, make in WITH_STRESS.items() if not name.startswith(("elastic", "thermostat, liquid"))},
    "relaxation of platinum": lambda: relaxed(rattled(bulk("Pt", cubic=True), 0.15, 1.03), EMT(), 30),
    "shaken molecules": lambda: strained(molecule("CH3CH2OH"), EMT(), 30, 0.0, 0.03),
    "relaxation of a molecule": lambda: relaxed(rattled(molecule("CH3CH2OH"), 0.1), EMT(), 30, cell=False),
}  # fmt: skip


@functools.cache
def frames_of(name: str) -> Frames:
    """The frames of a set, made once."""
    return (WITH_STRESS | WITH_CLOSE_FRAMES)[name]()


def as_dataset(frames: Frames, **mistakes: Callable[[torch.Tensor, Graph], torch.Tensor]) -> GraphDataset:
    """The frames as a data set, with a mistake in some labels: ``stress=lambda stress, frame: -stress``."""
    changed = [
        {**frame, **{label: change(frame[label], frame) for label, change in mistakes.items()}} for frame in frames
    ]
    return GraphDataset(changed, 4.5, species_of(frames))


def in_vasp_order(stress: torch.Tensor) -> torch.Tensor:
    """What is read of six components that a program wrote as xx yy zz xy yz zx: the opposite of putting it right."""
    return from_vasp_order(from_vasp_order(stress))  # a cycle of three components


STRESS_MISTAKES = {
    "sign": lambda stress, _: -stress,
    "GPa": lambda stress, _: stress * GPA,
    "kbar": lambda stress, _: stress * GPA * 10,
    "pressure in kbar": lambda stress, _: -stress * GPA * 10,
    "order": lambda stress, _: in_vasp_order(stress),
    "volume": lambda stress, frame: stress * volumes(frame),
    "virial": lambda stress, frame: -stress * volumes(frame),
}

ENERGY_MISTAKES = {
    "Hartree": {"total_energy": lambda energy, _: energy / HARTREE},
    "Rydberg": {"total_energy": lambda energy, _: energy / RYDBERG},
    "kcal/mol": {"total_energy": lambda energy, _: energy / KCAL},
    "per atom": {"total_energy": lambda energy, frame: energy / len(frame["pos"])},
    "gradients": {"forces": lambda forces, _: -forces},
    "Hartree/Bohr": {"forces": lambda forces, _: forces / HARTREE * BOHR},
    "Rydberg/Bohr": {"forces": lambda forces, _: forces / RYDBERG * BOHR},
    "kcal/mol/Angstrom": {"forces": lambda forces, _: forces / KCAL},
}


def label_contradiction(dataset: GraphDataset) -> str | None:
    """One sentence on how labels contradict each other; None if they do not, or the frames cannot tell."""
    comparison = compare_labels(dataset)
    return comparison.forces or comparison.stress
