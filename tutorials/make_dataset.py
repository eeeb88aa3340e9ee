"""Make the tutorial data: every number in ``tutorials/data`` comes from this script.

Two sets are made:

* ``ethanol``: one flexible molecule. Geometries are sampled by Langevin dynamics with GFN2-xTB forces at 300 K and
  600 K and labelled with PBE/def2-SVP energies and forces (PySCF, density fitting). The three splits come from
  separate trajectories, so no test frame neighbours a training frame in time.
* ``mgo``: rock-salt MgO, strained and rattled, labelled with GFN1-xTB energies, forces and stress (tblite, Gamma
  point, one fixed cell of 16 atoms).

Run it (about 40 minutes on 2 cores; it may be stopped and started again, finished frames are kept)::

    pip install "ase>=3.29" "pyscf==2.14.0" "tblite==0.8.0"
    python tutorials/make_dataset.py ethanol --work build/ethanol --workers 2
    python tutorials/make_dataset.py mgo
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# One thread a worker: at this molecule's size two single-threaded processes outrun one process with two threads.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
from ase import Atoms, units
from ase.build import bulk, molecule
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io import read, write
from ase.md.langevin import Langevin
from ase.md.velocitydistribution import MaxwellBoltzmannDistribution

DATA = Path(__file__).parent / "data"
LICENCE = "CC0-1.0"
HARTREE = 27.211386245988  # eV, CODATA 2018
BOHR = 0.529177210903  # Angstrom, CODATA 2018
ISOLATED_ATOM_SPIN = {"H": 1, "C": 2, "O": 2}  # unpaired electrons of the ground state


@dataclass(frozen=True)
class Sample:
    """One trajectory to draw frames from: every ``stride`` fs at ``temperature`` K after ``equilibration`` fs."""

    split: str
    temperature: float
    frames: int
    seed: int
    stride: float = 50.0
    equilibration: float = 2000.0


# The training set holds both temperatures: a potential that sees 300 K only is asked to extrapolate in any hot spot.
SAMPLES = (
    Sample("train", 300.0, 250, seed=1),
    Sample("train", 600.0, 250, seed=2),
    Sample("test_300K", 300.0, 200, seed=3),
    Sample("test_600K", 600.0, 200, seed=4),
)


def sample_ethanol(sample: Sample) -> list[Atoms]:
    """Draw geometries from one Langevin trajectory (0.5 fs step, friction 0.01/fs, GFN2-xTB forces)."""
    from tblite.ase import TBLite

    rng = np.random.default_rng(sample.seed)
    atoms = molecule("CH3CH2OH")
    atoms.calc = TBLite(method="GFN2-xTB", verbosity=0)
    MaxwellBoltzmannDistribution(atoms, temperature_K=sample.temperature, rng=rng)
    dynamics = Langevin(atoms, 0.5 * units.fs, temperature_K=sample.temperature, friction=0.01 / units.fs, rng=rng)
    dynamics.run(round(sample.equilibration / 0.5))
    frames = []
    for _ in range(sample.frames):
        dynamics.run(round(sample.stride / 0.5))
        frame = Atoms(atoms.get_chemical_symbols(), atoms.get_positions() - atoms.get_center_of_mass())
        frame.info["temperature"] = sample.temperature
        frames.append(frame)
    return frames


def pbe(atoms: Atoms) -> Atoms:
    """Label one molecule (or atom) with PBE/def2-SVP; raises if the self-consistent field did not converge."""
    from pyscf import dft, gto

    spin = ISOLATED_ATOM_SPIN[atoms.get_chemical_symbols()[0]] if len(atoms) == 1 else 0
    mol = gto.M(
        atom=list(zip(atoms.get_chemical_symbols(), atoms.positions, strict=True)),
        basis="def2-svp",
        spin=spin,
        verbose=0,
    )
    field = (dft.UKS if spin else dft.RKS)(mol, xc="pbe").density_fit()
    field.grids.level = 3
    field.conv_tol = 1e-9
    energy = field.kernel()
    if not field.converged:
        field = field.newton()
        energy = field.kernel()
    if not field.converged:
        raise RuntimeError(f"PBE/def2-SVP did not converge for {atoms.get_chemical_formula()}")
    gradient = field.nuc_grad_method().kernel() if len(atoms) > 1 else np.zeros((1, 3))
    labelled = atoms.copy()
    labelled.calc = SinglePointCalculator(labelled, energy=energy * HARTREE, forces=-gradient * HARTREE / BOHR)
    return labelled


def _label_one(job: tuple[Path, Path]) -> str:
    """Label one geometry file unless that was done before. The rename makes a finished file always whole."""
    source, target = job
    if not target.exists():
        labelled = pbe(read(source))
        partial = target.with_suffix(".partial.xyz")
        write(partial, labelled, format="extxyz")
        partial.rename(target)
    return target.name


def make_ethanol(work: Path, workers: int) -> None:
    """Sample, label in ``workers`` processes, and write the splits to ``tutorials/data``."""
    geometries, labels = work / "geometries", work / "labels"
    geometries.mkdir(parents=True, exist_ok=True)
    labels.mkdir(parents=True, exist_ok=True)
    for sample in SAMPLES:
        stem = f"{sample.split}_{sample.temperature:.0f}"
        if not (geometries / f"{stem}_{sample.frames - 1:04d}.xyz").exists():
            print(f"sampling {stem}", flush=True)
            for i, frame in enumerate(sample_ethanol(sample)):
                write(geometries / f"{stem}_{i:04d}.xyz", frame, format="extxyz")
    for symbol in ISOLATED_ATOM_SPIN:
        atom = Atoms(symbol, [(0.0, 0.0, 0.0)], info={"config_type": "IsolatedAtom"})
        write(geometries / f"isolated_{symbol}.xyz", atom, format="extxyz")

    jobs = [(source, labels / source.name) for source in sorted(geometries.glob("*.xyz"))]
    with multiprocessing.get_context("spawn").Pool(workers) as pool:
        for done, name in enumerate(pool.imap_unordered(_label_one, jobs), start=1):
            if done % 20 == 0 or done == len(jobs):
                print(f"labelled {done}/{len(jobs)} (last: {name})", flush=True)

    theory = {"level_of_theory": "PBE/def2-SVP, density fitting, PySCF 2.14.0", **_provenance("eV, eV/Angstrom")}
    for split in ("train", "test_300K", "test_600K"):
        frames = [read(path) for path in sorted(labels.glob(f"{split}_[0-9]*.xyz"))]
        if split == "train":
            frames = [read(labels / f"isolated_{symbol}.xyz") for symbol in ISOLATED_ATOM_SPIN] + frames
        _write_set(DATA / "ethanol" / f"{split}.xyz", frames, theory)


def make_mgo(frames: int = 150, seed: int = 7) -> None:
    """Strain (each component normal, 2 %) and rattle (0.02 to 0.12 Angstrom) MgO and label it with GFN1-xTB."""
    from tblite.ase import TBLite

    rng = np.random.default_rng(seed)
    perfect = bulk("MgO", "rocksalt", a=4.21) * (2, 2, 2)
    labelled = []
    for i in range(frames):
        atoms = _strained_and_rattled(perfect, rng)
        atoms.calc = TBLite(method="GFN1-xTB", verbosity=0, accuracy=0.1)
        results = {
            "energy": atoms.get_potential_energy(),
            "forces": atoms.get_forces(),
            "stress": atoms.get_stress(),
        }
        frame = atoms.copy()
        frame.calc = SinglePointCalculator(frame, **results)
        labelled.append(frame)
        if (i + 1) % 25 == 0:
            print(f"labelled {i + 1}/{frames}", flush=True)
    theory = {
        "level_of_theory": "GFN1-xTB, Gamma point, tblite 0.8.0",
        **_provenance("eV, eV/Angstrom, eV/Angstrom^3 (tension positive)"),
    }
    order = rng.permutation(frames)
    _write_set(DATA / "mgo" / "train.xyz", [labelled[i] for i in order[:110]], theory)
    _write_set(DATA / "mgo" / "test.xyz", [labelled[i] for i in order[110:]], theory)


def _strained_and_rattled(perfect: Atoms, rng: np.random.Generator, shortest: float = 1.7) -> Atoms:
    """One distorted copy. Draws with a bond below ``shortest`` (Angstrom) are thrown away: heat does not make them."""
    while True:
        strain = rng.normal(0.0, 0.02, (3, 3))
        atoms = perfect.copy()
        atoms.set_cell(perfect.cell.array @ (np.eye(3) + 0.5 * (strain + strain.T)), scale_atoms=True)
        atoms.positions += rng.normal(0.0, rng.uniform(0.02, 0.12), atoms.positions.shape)
        distances = atoms.get_all_distances(mic=True)
        if distances[np.triu_indices(len(atoms), 1)].min() >= shortest:
            return atoms


def _provenance(unit: str) -> dict[str, Any]:
    return {"label_units": unit, "licence": LICENCE, "made_by": "tutorials/make_dataset.py"}


def _write_set(path: Path, frames: list[Atoms], info: dict[str, Any]) -> None:
    """Write one split; the level of theory, units and licence stand in the first frame's comment line."""
    path.parent.mkdir(parents=True, exist_ok=True)
    frames[0].info.update(info)
    write(path, frames, format="extxyz")
    print(f"wrote {path} ({len(frames)} frames)")


def main() -> None:
    """Parse the command line and make the set that was asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("which", choices=("ethanol", "mgo"))
    parser.add_argument("--work", type=Path, default=Path("build/ethanol"), help="folder of the unfinished frames")
    parser.add_argument("--workers", type=int, default=2)
    options = parser.parse_args()
    if options.which == "ethanol":
        make_ethanol(options.work, options.workers)
    else:
        make_mgo()


if __name__ == "__main__":
    main()
