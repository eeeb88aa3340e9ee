"""planting, to be completed"""
from __future__ import annotations
import numpy as np, ase.io
from ase.calculators.singlepoint import SinglePointCalculator

def read_set(path, frames):
    return ase.io.read(path, index=f":{frames}" if frames else ":")
def labels(atoms):
    return atoms.get_potential_energy(), atoms.get_forces(apply_constraint=False).copy()
def put(atoms, energy, forces):
    stress = atoms.calc.results.get("stress")
    extra = {} if stress is None else {"stress": stress}
    atoms.calc = SinglePointCalculator(atoms, energy=energy, forces=forces, **extra)
def plant(images, counts, seed):
    rng = np.random.default_rng(seed)
    forces_rms = np.sqrt(np.mean(np.concatenate([labels(a)[1].ravel() for a in images])**2))
    kinds = [k for k, n in counts.items() for _ in range(n)]
    # candidates shuffled; each kind takes the next that admits
    order = list(rng.permutation(len(images)))
    species = sorted({s for a in images for s in a.get_chemical_symbols()})
    shift = {s: rng.uniform(0.1, 0.5)*rng.choice([-1,1]) for s in species}
    planted = {}
    for kind in kinds:
        while True:
            i = int(order.pop()); atoms = images[i]; energy, forces = labels(atoms); n=len(atoms)
            if n < 2: continue
            if kind == "swapped":
                a, b = rng.choice(n, 2, replace=False)
                if np.linalg.norm(forces[a]-forces[b]) < forces_rms: order.insert(0,i); continue
                forces[[a,b]] = forces[[b,a]]; what=(int(a),int(b))
            elif kind == "replaced":
                a = int(rng.integers(n)); other = images[int(rng.integers(len(images)))]
                same = [k for k in range(len(other)) if other[k].symbol==atoms[a].symbol]
                new = labels(other)[1][rng.choice(same)] if same else None
                if new is None or np.linalg.norm(new-forces[a]) < forces_rms: order.insert(0,i); continue
                forces[a]=new; what=(a,)
            elif kind == "energy":
                change = rng.uniform(0.02,0.06)*rng.choice([-1,1]); energy += change*n; what=(change,)
            elif kind == "functional":
                energy = energy + sum(shift[s] for s in atoms.get_chemical_symbols()); forces = 1.05*forces; what=()
            elif kind == "species":
                sym = atoms.get_chemical_symbols(); a,b = rng.choice(n,2,replace=False)
                if sym[a]==sym[b]: order.insert(0,i); continue
                num = atoms.numbers.copy(); num[[a,b]]=num[[b,a]]; c=atoms.calc; atoms.numbers=num; what=(int(a),int(b))
            put(atoms, energy, forces); planted[i]=(kind,what); break
    return planted
