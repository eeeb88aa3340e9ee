"""Predictions of long files, and Hessians: CPU time against a loop over ASE's ``Atoms`` and against forces.

    python benchmarks/prediction.py frames.xyz --frames 2000 --loop 300
    python benchmarks/prediction.py frames.xyz --formats npz --memory --loop 0
    python benchmarks/prediction.py --hessian --atoms 9 30

Times are CPU times of this process on one thread, so that other work on the machine does not count. ``--memory`` shows
the largest resident set so far after each tenth of the file: flat is what it should be.
"""

import argparse
import resource
import tempfile
import time
from pathlib import Path

import ase.io
import numpy as np
import torch
from ase import Atoms

from nequip_like.data import fields
from nequip_like.data.io.structures import graph_from_atoms
from nequip_like.data.neighbors import add_neighbors
from nequip_like.integrations.ase import NequIPCalculator
from nequip_like.model import NequIPGNNModel
from nequip_like.workflow.prediction.run import predict_files

SPECIES = ["H", "C", "N", "O"]


def build(layers, features, l_max, dtype="float32"):
    arguments = {"num_layers": layers, "num_features": features, "l_max": l_max, "avg_num_neighbors": 8.0}
    return NequIPGNNModel(type_names=SPECIES, r_max=5.0, seed=1, model_dtype=dtype, **arguments).eval()


def resident():
    """Largest resident set of the process so far, MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def cut(path, frames, folder):
    """The first frames of a file as a file."""
    if frames is None:
        return path
    short = Path(folder, "short.xyz")
    with path.open() as file, short.open("w") as out:
        for _ in range(frames):
            head = file.readline()
            out.write(head + "".join(file.readline() for _ in range(int(head) + 1)))
    return short


def predict(path, model, name, options, memory, folder):
    begin, told = time.process_time(), set()

    def show(done, runs, frames):
        tenth = 10 * done // max(runs, 1)
        if memory and tenth not in told:
            told.add(tenth)
            print(f"    {frames:7d} frames: {resident():6.0f} MB at most", flush=True)

    output = Path(folder, f"predicted.{'aselmdb' if name == 'lmdb' else name}")
    summary = predict_files(model, path, output, progress=show, overwrite=True, **options)
    return (time.process_time() - begin) / summary.frames, summary.frames


def loop(path, model, frames, forces, folder):
    """What users do without the command: read, a new structure each time, ask the calculator, write."""
    calculator = NequIPCalculator(model)
    begin, count = time.process_time(), 0
    with Path(folder, "loop.extxyz").open("w") as out:
        for atoms in ase.io.iread(str(path), index=f":{frames}"):
            fresh = Atoms(numbers=atoms.numbers, positions=atoms.positions, cell=atoms.cell, pbc=atoms.pbc)
            fresh.calc = calculator
            fresh.get_potential_energy()
            if forces:
                fresh.get_forces()
            ase.io.write(out, fresh, format="extxyz")
            count += 1
    return (time.process_time() - begin) / count


def measure_hessian(atoms, model, repeats):
    random = np.random.default_rng(1)
    places = np.stack(np.meshgrid(*[np.arange(8)] * 3), -1).reshape(-1, 3)[:atoms] * 1.5
    structure = Atoms(random.choice(SPECIES, atoms), positions=places + random.normal(0, 0.05, (atoms, 3)))
    graph = add_neighbors(graph_from_atoms(structure), 5.0)
    graph[fields.ATOM_TYPES] = model.assign_types(graph[fields.ATOMIC_NUMBERS])
    model(graph)
    hessian = model.hessian(graph)  # compiles
    times = {"forces": [], "hessian": []}
    for _ in range(repeats):
        begin = time.process_time()
        for _ in range(20):
            model(graph)
        middle = time.process_time()
        model.hessian(graph)
        times["forces"].append((middle - begin) / 20)
        times["hessian"].append(time.process_time() - middle)
    one, whole = min(times["forces"]), min(times["hessian"])
    worst = 0.0
    for column in (0, 3 * atoms - 1):
        change = torch.zeros(3 * atoms, dtype=torch.float64)
        change[column] = 1e-4

        def forces(factor, change=change):
            moved = {**graph, fields.POSITIONS: graph[fields.POSITIONS] + factor * change.view(-1, 3)}
            return model(moved)[fields.FORCES].flatten()

        differences = (8 * (forces(-1) - forces(1)) - (forces(-2) - forces(2))) / 12e-4
        worst = max(worst, float((hessian[column] - differences).abs().max() / differences.abs().max()))
    edges = graph[fields.EDGE_INDEX].shape[1]
    print(
        f"{atoms} atoms, {edges} edges: forces {one * 1e3:.2f} ms, Hessian {whole * 1e3:.2f} ms = "
        f"{whole / one / (3 * atoms):.2f} x 3N forces; differences of forces agree to {worst:.1e}"
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path, nargs="?", help="extended XYZ of small molecules of H, C, N, O")
    parser.add_argument("--frames", type=int, help="only so many")
    parser.add_argument("--loop", type=int, default=300, help="frames of the loop over Atoms; 0 for none")
    parser.add_argument("--formats", nargs="+", default=["csv", "extxyz", "npz", "lmdb"])
    parser.add_argument("--memory", action="store_true")
    parser.add_argument("--hessian", action="store_true")
    parser.add_argument("--atoms", type=int, nargs="+", default=[9, 30])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--model", type=int, nargs=3, default=[2, 16, 1], metavar=("LAYERS", "FEATURES", "L_MAX"))
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    if arguments.hessian:
        model = build(*arguments.model, dtype="float64")
        model.cache_parameters()
        for atoms in arguments.atoms:
            measure_hessian(atoms, model, arguments.repeats)
    if arguments.file is None:
        return
    model = build(*arguments.model)
    with tempfile.TemporaryDirectory() as folder:
        path = cut(arguments.file, arguments.frames, folder)
        predict(cut(arguments.file, 50, folder) if arguments.frames is None else path, model, "csv", {}, False, folder)
        for energy_only in (False, True):
            kind = "energies" if energy_only else "energies and forces"
            per_loop = loop(path, model, arguments.loop, not energy_only, folder) if arguments.loop else None
            if per_loop:
                print(f"{kind}, loop over Atoms: {per_loop * 1e6:.0f} us of a frame", flush=True)
            for name in arguments.formats:
                options = {"energy_only": energy_only}
                per_frame, frames = predict(path, model, name, options, arguments.memory, folder)
                ratio = f", {per_loop / per_frame:.1f} times as fast as the loop" if per_loop else ""
                print(f"{kind}, {name}: {frames} frames, {per_frame * 1e6:.0f} us of a frame{ratio}", flush=True)


if __name__ == "__main__":
    main()
