"""Energy conservation: constant-energy dynamics of a frame, with the drift of the total energy.

    python benchmarks/nve_drift.py RUN/model.safetensors tutorials/data/ethanol/test_300K.xyz

Starts from the first frame with velocities drawn at 300 K, runs 1 ps of velocity Verlet (0.5 fs), and prints the slope
of a straight line through the total energy, and its largest departure from the start, in meV/atom.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import numpy as np
from ase import units
from ase.io import read
from ase.md.velocitydistribution import thermalize_momenta
from ase.md.verlet import VelocityVerlet

from nequip_like.integrations.ase import NequIPCalculator


def nve_drift(model: str, structure: str, temperature: float, picoseconds: float, timestep: float, seed: int) -> dict:
    """Run and measure.

    Args:
        model: A model file, checkpoint or run folder.
        structure: File whose first frame is the start.
        temperature: Of the initial velocities, K.
        picoseconds: Length of the run.
        timestep: In fs.
        seed: Seed of the velocities.
    """
    atoms = read(structure, index=0)
    atoms.calc = NequIPCalculator(model)
    thermalize_momenta(atoms, temperature * units.kB, rng=np.random.default_rng(seed))
    energies, temperatures = [], []

    def record() -> None:
        energies.append(atoms.get_total_energy() / len(atoms))
        temperatures.append(atoms.get_temperature())

    dynamics = VelocityVerlet(atoms, timestep * units.fs)
    dynamics.attach(record, interval=1)
    steps = round(1000 * picoseconds / timestep)
    start = time.perf_counter()
    dynamics.run(steps)
    elapsed = time.perf_counter() - start
    times = np.arange(len(energies)) * timestep / 1000
    slope = np.polyfit(times, energies, 1)[0]
    return {
        "picoseconds": picoseconds,
        "drift_meV_per_atom": float(1e3 * slope * picoseconds),
        "largest_departure_meV_per_atom": float(1e3 * np.abs(np.array(energies) - energies[0]).max()),
        "mean_temperature_K": float(np.mean(temperatures)),
        "ms_per_step": 1e3 * elapsed / steps,
    }


def main() -> None:
    """Parse the command line, run, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("structure")
    parser.add_argument("--temperature", type=float, default=300.0)
    parser.add_argument("--ps", type=float, default=1.0)
    parser.add_argument("--timestep", type=float, default=0.5)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    result = nve_drift(
        options.model, options.structure, options.temperature, options.ps, options.timestep, options.seed
    )
    print(json.dumps(result, indent=1))
    if options.json:
        options.json.write_text(json.dumps(result))


if __name__ == "__main__":
    main()
