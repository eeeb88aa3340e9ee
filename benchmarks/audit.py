"""How many planted faults of labels an audit finds, and how many right frames it names.

    python benchmarks/audit.py --sets ethanol=ethanol.xyz 3bpa=train_300K.xyz co2=co2_ni100.xyz

Ten faults are planted into each set, with a seed, on frames that are drawn at random; the other frames are taken to be
right. The kinds:

- ``swapped``: the forces of two atoms of a frame are exchanged;
- ``replaced``: the force of an atom is that of an atom of the same species in another frame;
- ``energy``: the energy of a frame is off by 20 to 60 meV/atom, as of a calculation that did not converge;
- ``functional``: the energy has another reference for each species (0.1 to 0.5 eV/atom, all in one direction, the
  same in all such frames of a set), and what is above it, and the forces, are 5 percent larger;
- ``species``: two atoms of different elements are exchanged (sets of one element have a swapped and a replaced force
  more).

Forces are changed by at least the root mean square of all force components; smaller changes drown in the errors of any
model that is trained in minutes. A fault is found if its frame is named, and told if the kind and the atoms are right.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import ase.io
import numpy as np
import torch
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator

from nequip_like.data.inspection.audit import read_to_examine
from nequip_like.workflow.label_audit.run import LabelAudit, audit_labels

COUNTS = {"swapped": 2, "replaced": 2, "energy": 2, "functional": 2, "species": 2}
COUNTS_OF_ONE_ELEMENT = {"swapped": 3, "replaced": 3, "energy": 2, "functional": 2, "species": 0}
# What the audit says of each kind.
TOLD = {
    "swapped": {"exchanged forces"},
    "replaced": {"force of an atom"},
    "energy": {"energy"},
    "functional": {"level of theory"},
    "species": {"exchanged species"},
}
ENERGY = (0.02, 0.06)  # eV/atom
SHIFT = (0.1, 0.5)  # eV/atom
FORCES = 1.05


@dataclass(frozen=True)
class Fault:
    """A fault that was planted.

    Attributes:
        frame: The frame.
        kind: Its kind.
        atoms: The atoms it is about.
        size: Change of the energy, eV/atom, or largest change of a force, eV/Angstrom.
    """

    frame: int
    kind: str
    atoms: tuple[int, ...]
    size: float


def plant(images: list[Atoms], seed: int) -> list[Fault]:
    """Plant faults into frames, which are changed in place.

    Args:
        images: Frames with energies and forces.
        seed: Of the draws.
    """
    rng = np.random.default_rng(seed)
    species = sorted({symbol for atoms in images for symbol in atoms.get_chemical_symbols()})
    counts = COUNTS if len(species) > 1 else COUNTS_OF_ONE_ELEMENT
    everything = np.concatenate([_get_labels(atoms)[1].ravel() for atoms in images])
    least = float(np.sqrt(np.mean(everything**2)))
    draws = [(float(rng.uniform(*SHIFT)), int(rng.choice([-1, 1]))) for _ in species]
    # All in one direction: with signs of their own they may cancel, and the frame is right to some meV/atom.
    shifts = {symbol: draws[0][1] * shift for symbol, (shift, _) in zip(species, draws, strict=True)}
    references = _fit_references(images, species)
    queue = rng.permutation(len(images)).tolist()
    faults = []
    for kind in [kind for kind, count in counts.items() for _ in range(count)]:
        fault = None
        while fault is None:
            frame = queue.pop(0)
            fault = _plant_one(images, frame, kind, rng, least, shifts, references)
            if fault is None:
                queue.append(frame)  # the next kind may fit
        faults.append(fault)
    return sorted(faults, key=lambda fault: fault.frame)


def _plant_one(
    images: list[Atoms],
    frame: int,
    kind: str,
    rng: np.random.Generator,
    least: float,
    shifts: dict[str, float],
    references: dict[str, float],
) -> Fault | None:
    """Plant a fault; None if this frame does not admit it."""
    atoms = images[frame]
    energy, forces = _get_labels(atoms)
    symbols, count = atoms.get_chemical_symbols(), len(atoms)
    if count < 4:
        return None
    first, second = (int(atom) for atom in rng.choice(count, 2, replace=False))
    chosen: tuple[int, ...] = ()
    if kind == "swapped":
        chosen, size = (min(first, second), max(first, second)), float(np.linalg.norm(forces[first] - forces[second]))
        forces[[first, second]] = forces[[second, first]]
    elif kind == "replaced":
        other = images[int(rng.integers(len(images)))]
        same = [i for i, symbol in enumerate(other.get_chemical_symbols()) if symbol == symbols[first]]
        if not same:
            return None
        new = _get_labels(other)[1][int(rng.choice(same))]
        chosen, size = (first,), float(np.linalg.norm(new - forces[first]))
        forces[first] = new
    elif kind == "energy":
        size = float(rng.uniform(*ENERGY) * rng.choice([-1, 1]))
        energy += size * count
    elif kind == "functional":
        reference = sum(references[symbol] for symbol in symbols)
        changed = reference + FORCES * (energy - reference) + sum(shifts[symbol] for symbol in symbols)
        size, energy, forces = (changed - energy) / count, changed, FORCES * forces
    else:
        if symbols[first] == symbols[second]:
            return None
        chosen, size = (min(first, second), max(first, second)), 0.0
        atoms.numbers[[first, second]] = atoms.numbers[[second, first]]
    if kind in ("swapped", "replaced") and size < least:
        return None
    stress = atoms.calc.results.get("stress")
    atoms.calc = SinglePointCalculator(
        atoms, energy=energy, forces=forces, **({} if stress is None else {"stress": stress})
    )
    return Fault(frame, kind, chosen, size)


def _get_labels(atoms: Atoms) -> tuple[float, np.ndarray]:
    return float(atoms.get_potential_energy()), atoms.get_forces(apply_constraint=False).copy()


def _fit_references(images: list[Atoms], species: list[str]) -> dict[str, float]:
    counts = np.array([[atoms.get_chemical_symbols().count(symbol) for symbol in species] for atoms in images])
    solution = np.linalg.lstsq(counts, np.array([_get_labels(atoms)[0] for atoms in images]), rcond=None)[0]
    return dict(zip(species, map(float, solution), strict=True))


def judge(faults: list[Fault], found: LabelAudit) -> dict:
    """Compare what was planted with what was found."""
    named = {suspect.frame: suspect for suspect in found.suspects}
    rows = []
    for fault in faults:
        suspect = named.pop(fault.frame, None)
        told = suspect is not None and suspect.kind in TOLD[fault.kind]
        told = told and (not fault.atoms or set(suspect.atoms) == set(fault.atoms))
        rows.append({**asdict(fault), "found": suspect is not None, "told": told, "as": suspect and suspect.kind})
    alarms = [{"frame": found.origins[s.frame], "kind": s.kind, "reason": s.reason} for s in named.values()]
    return {"faults": rows, "false_alarms": alarms, "typical": found.typical, "cleared": len(found.cleared)}


def run(file: Path, options: argparse.Namespace) -> dict:
    """Plant faults into a set, audit it, and print what was found."""
    images = ase.io.read(file, index=f":{options.frames}")
    faults = plant(images, options.seed)
    dataset = read_to_examine(images, options.cutoff)
    began, began_cpu = time.perf_counter(), time.process_time()
    found = audit_labels(dataset, steps=options.steps, seed=options.seed)
    result = judge(faults, found)
    result |= {"frames": len(images), "seconds": time.perf_counter() - began, "cpu": time.process_time() - began_cpu}
    for row in result["faults"]:
        print(f"  {row['kind']:11s} frame {row['frame']:4d} {row['size']:+8.3f}  {row['as'] or 'MISSED'}")
    for alarm in result["false_alarms"]:
        print(f"  false alarm: {alarm['frame']}: {alarm['reason']}")
    typical = {name: round(value, 5) for name, value in found.typical.items()}
    settings = f"{found.settings['steps']} steps, limit of forces {found.settings['force_limit']:.1f}"
    print(f"  {len(images)} frames, {result['cpu']:.0f} s of a core, {settings}, typical {typical}", flush=True)
    return result


def count_kinds(results: list[dict]) -> dict[str, dict[str, int]]:
    """Planted, found and told faults of each kind."""
    table = {kind: {"planted": 0, "found": 0, "told": 0} for kind in COUNTS}
    for row in [row for result in results for row in result["faults"]]:
        table[row["kind"]]["planted"] += 1
        table[row["kind"]]["found"] += row["found"]
        table[row["kind"]]["told"] += row["told"]
    return table


def main() -> None:
    """Plant into all sets, and print what was found."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sets", nargs="+", required=True, metavar="NAME=FILE")
    parser.add_argument("--frames", type=int, default=300, help="of each file, the first ones")
    parser.add_argument("--steps", type=int, default=2500, help="of each of the four models, both passes together")
    parser.add_argument("--seed", type=int, default=0, help="of the faults and of the models")
    parser.add_argument("--cutoff", type=float, default=5.0, help="of the models, Angstrom")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    results = []
    for entry in options.sets:
        name, _, file = entry.partition("=")
        print(name, flush=True)
        result = run(Path(file), options)
        results.append({"set": name, **result})
    table = count_kinds(results)
    print(f"{'kind':11s} {'planted':>7s} {'found':>5s} {'told':>5s}")
    for kind, counts in table.items():
        print(f"{kind:11s} {counts['planted']:7d} {counts['found']:5d} {counts['told']:5d}")
    totals = {key: sum(counts[key] for counts in table.values()) for key in ("planted", "found", "told")}
    print(f"{'all':11s} {totals['planted']:7d} {totals['found']:5d} {totals['told']:5d}")
    alarms = sum(len(result["false_alarms"]) for result in results)
    print(f"false alarms: {alarms}; {sum(result['cpu'] for result in results):.0f} s of a core")
    if options.json:
        settings = {key: value for key, value in vars(options).items() if key not in ("json", "sets")}
        content = {"settings": settings, "sets": results, "table": table, "false_alarms": alarms}
        options.json.write_text(json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
    main()
