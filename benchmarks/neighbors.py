"""Time and memory of neighbour lists, library by library; each list in a process of its own.

    python benchmarks/neighbors.py --json neighbors.json
    PYTHONPATH=. /path/to/python/with/pymatgen benchmarks/neighbors.py   # what is not installed is left out

Every library gives the same: both directions of each pair within the cutoff, with translations, in float64. ``ours``
is :func:`nequip_like.data.neighbors.add_neighbors`: vesin, the checks, the sorting by centre, and tensors. The others
are the bare library, unsorted where it does not sort; brute force is numpy's, all distances at once. Times are the
least of some repetitions: on the wall, and of the processor (all threads together), which other programs disturb less.
The peak is the growth of the process's peak memory.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import subprocess
import sys
import time

SECONDS = 1.5  # repeated for so long, but at least twice
BRUTE_LIMIT = 3_000  # atoms; memory grows with their square


# --- cases -----------------------------------------------------------------------------------------------------------


def molecule():
    import numpy as np
    from ase import Atoms

    grid = np.argwhere(np.ones((3, 3, 3))) * 1.5
    return [Atoms("C27", positions=grid + np.random.default_rng(0).normal(scale=0.1, size=grid.shape))]


def water(copies: int):
    """Water at the density of the liquid, the atoms in no order."""
    import numpy as np
    from ase.build import molecule

    rng = np.random.default_rng(0)
    atoms = molecule("H2O", cell=[3.1] * 3, pbc=True).repeat(copies)
    atoms.positions += rng.normal(scale=0.1, size=atoms.positions.shape)
    return [atoms[rng.permutation(len(atoms))]]


def crystal(copies: int, constant: float):
    from ase.build import bulk

    atoms = bulk("Cu", cubic=True, a=constant).repeat(copies)
    atoms.rattle(0.05, seed=0)
    return [atoms]


def small_cell():
    """One atom with hundreds of its own images."""
    from ase.build import bulk

    return [bulk("Cu", a=3.6)]


def slab():
    from ase.build import fcc111

    atoms = fcc111("Cu", (8, 8, 6), vacuum=10.0)
    atoms.rattle(0.05, seed=0)
    return [atoms]


CASES = {
    "molecule_27": (molecule, 5.0),
    "frames_200x27": (lambda: molecule() * 200, 5.0),
    "small_cell_1": (small_cell, 8.0),
    "slab_384": (slab, 5.0),
    "water_192": (lambda: water(4), 5.5),
    "water_3993": (lambda: water(11), 5.5),
    "crystal_97556": (lambda: crystal(29, 3.6), 5.5),
    "dense_crystal_97556": (lambda: crystal(29, 3.2), 5.5),
}


# --- libraries: a function from Atoms and cutoff to the number of pairs ----------------------------------------------


def ours(atoms, cutoff):
    from nequip_like.data.io.structures import graph_from_atoms
    from nequip_like.data.neighbors import add_neighbors

    return add_neighbors(graph_from_atoms(atoms), cutoff)["edge_index"].shape[1]


def vesin(atoms, cutoff, threads=1, ordered=False):
    from vesin import NeighborList

    search = NeighborList(cutoff=cutoff, full_list=True, sorted=ordered, n_threads=threads)
    return len(search.compute(atoms.positions, atoms.cell.array, atoms.pbc, "PS")[0])


def matscipy(atoms, cutoff):
    import numpy as np
    from matscipy.neighbours import neighbour_list

    cell = atoms.cell.array if atoms.cell.rank == 3 else np.diag(np.ptp(atoms.positions, axis=0) + 1.0)
    found = neighbour_list("ijS", positions=atoms.positions, cell=cell, pbc=atoms.pbc, cutoff=cutoff)
    return len(found[0])


def ase(atoms, cutoff):
    from ase.neighborlist import neighbor_list

    return len(neighbor_list("ijS", atoms, cutoff)[0])


def pymatgen(atoms, cutoff):
    import numpy as np
    from pymatgen.optimization.neighbors import find_points_in_spheres

    lattice = atoms.cell.array if atoms.cell.rank == 3 else np.eye(3) * 100.0
    pbc = atoms.pbc.astype(np.int64)
    centre, neighbour, shift, _ = find_points_in_spheres(atoms.positions, atoms.positions, cutoff, pbc, lattice)
    return int(((centre != neighbour) | shift.any(axis=1)).sum())


def brute(atoms, cutoff):
    """All distances, for each translation that can matter."""
    import itertools

    import numpy as np

    if len(atoms) > BRUTE_LIMIT:
        return None
    inside = np.array(atoms.get_positions(wrap=True))
    reach = np.zeros(3, dtype=int)
    if atoms.pbc.any():
        reach[atoms.pbc] = np.ceil(cutoff * np.linalg.norm(atoms.cell.reciprocal()[:], axis=1)[atoms.pbc])
    found = []
    between = inside[None] - inside[:, None]
    for shift in itertools.product(*(range(-extent, extent + 1) for extent in reach)):
        vectors = between + np.array(shift) @ atoms.cell.array
        near = np.einsum("ijx,ijx->ij", vectors, vectors) < cutoff**2
        if not any(shift):
            np.fill_diagonal(near, False)
        pairs = np.argwhere(near)
        found.append((pairs, np.tile(shift, (len(pairs), 1))))
    return len(np.concatenate([pairs for pairs, _ in found]))


LIBRARIES = {
    "ours": ours,
    "vesin": vesin,
    "vesin_sorted": lambda atoms, cutoff: vesin(atoms, cutoff, ordered=True),
    "vesin_2_threads": lambda atoms, cutoff: vesin(atoms, cutoff, threads=2),
    "matscipy": matscipy,
    "ase": ase,
    "pymatgen": pymatgen,
    "brute": brute,
}
SLOW = {"ase": 10_000}  # atoms; minutes above


# --- measuring -------------------------------------------------------------------------------------------------------


def peak_mb() -> float:
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmHWM")) / 1e3


def measure(case: str, library: str) -> None:
    """Print one result as JSON; run in a process of its own."""
    make, cutoff = CASES[case]
    structures, find = make(), LIBRARIES[library]
    if len(structures[0]) > SLOW.get(library, 10**9):
        return print("null")
    find(molecule()[0], 2.0)  # imports what it needs
    before = peak_mb()
    counts = [find(atoms, cutoff) for atoms in structures]
    if counts[0] is None:
        return print("null")
    result = {"pairs": sum(counts), "peak_mb": peak_mb() - before, "s": float("inf"), "cpu_s": float("inf")}
    end, rounds = time.perf_counter() + SECONDS, 0
    while rounds < 2 or time.perf_counter() < end:
        wall, cpu = time.perf_counter(), time.process_time()
        for atoms in structures:
            find(atoms, cutoff)
        result["s"] = min(result["s"], time.perf_counter() - wall)
        result["cpu_s"] = min(result["cpu_s"], time.process_time() - cpu)
        rounds += 1
    print(json.dumps(result))


def available() -> list[str]:
    needs = {"vesin_sorted": "vesin", "vesin_2_threads": "vesin", "ours": "nequip_like", "brute": "numpy"}
    return [name for name in LIBRARIES if importlib.util.find_spec(needs.get(name, name))]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--case", nargs="+", choices=CASES, default=list(CASES))
    parser.add_argument("--library", nargs="+", choices=LIBRARIES, default=available())
    parser.add_argument("--json", help="write the results to this file")
    parser.add_argument("--one", action="store_true", help="measure in this process")
    arguments = parser.parse_args()
    if arguments.one:
        return measure(arguments.case[0], arguments.library[0])
    results = []
    print(f"{'case':20} {'library':16} {'ms':>10} {'cpu ms':>10} {'peak MB':>9} {'pairs':>9}", flush=True)
    for case in arguments.case:
        counts = set()
        for library in arguments.library:
            command = [sys.executable, __file__, "--one", "--case", case, "--library", library]
            result = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
            if result is None:
                continue
            counts.add(result["pairs"])
            results.append({"case": case, "library": library, **result})
            times = f"{1e3 * result['s']:10.3f} {1e3 * result['cpu_s']:10.3f}"
            print(f"{case:20} {library:16} {times} {result['peak_mb']:9.0f} {result['pairs']:9}", flush=True)
        if len(counts) > 1:
            sys.exit(f"{case}: the libraries do not find the same pairs")
    if arguments.json:
        with open(arguments.json, "w") as file:
            json.dump(results, file, indent=1)


if __name__ == "__main__":
    main()
