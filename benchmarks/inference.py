"""Time of one step of molecular dynamics and memory, through ASE calculators: ours and peers' in turn.

    python benchmarks/inference.py --molecule 3bpa.xyz --water water.xyz --peer nequip=PYTHON \\
        --peer nequip_compiled=PYTHON --peer mace=PYTHON --peer sevenn=PYTHON --json out.json

PYTHON is the interpreter of an environment with the peer: ``pip install nequip==0.19.1``, ``mace-torch``, ``sevenn``.
``nequip_compiled`` is nequip through AOTInductor, compiled as ``nequip-compile --target ase`` does (``compile_s``).

A step is energy and forces of a structure that has moved as far as atoms do in 0.5 fs at 300 K, neighbour list
included; see systems.Walk. The systems are the first frame of a molecule and boxes of liquid water, made from the
first frame of a file of water. Models: NequIP with 4 layers of 32 features, float32, never trained; nequip gets our
weights (``force_difference``, eV/Angstrom: the largest difference of a component at the first structure). mace has 2
layers of 32 channels, correlation 3, and sevenn its own NequIP with 4 layers of 32 features, both with random weights.

A round's time is the mean over its steps, so it has its share of neighbour lists that are built anew.
``ratio`` is the peer's time over ours (median of the rounds, with the least and the largest); above 1 we are faster.
``peak_mb`` is the largest resident memory of the whole process from the first step on (what ``ru_maxrss`` means),
``step_mb`` is that minus the resident memory before the system's first step, when everything is imported, the model
built, and the forces of two atoms computed (a first step brings in 5 to 9 MB of the libraries' machine code, whatever
the size of the system); ``memory_ratio`` is the peer's ``step_mb`` over ours.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import command
import systems
from cases import ARCHITECTURE, CASES
from md import PEERS, PRINTED, Bench, add_options

ATOMS_A_ROUND = 6000
FEWEST = 8  # steps; a kept neighbour list of 4,000 atoms of water lasts about as long
MOLECULES = (64, 343, 1331)


def steps_of(atoms: int, most: int) -> int:
    """Steps of a round: more for a small system."""
    return min(most, max(FEWEST, ATOMS_A_ROUND // atoms))


def main() -> None:
    """Run the cases and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--molecule", help="a file whose first frame is a molecule of H, C, N, O (3BPA)")
    parser.add_argument("--water", help="a file whose first frame is a box of liquid water")
    parser.add_argument("--molecules", type=int, nargs="*", default=MOLECULES, help="of water: sizes of the boxes")
    parser.add_argument("--cases", nargs="*", default=["l1", "l2"], choices=list(CASES))
    add_options(parser, rounds=5, steps=40)
    options = parser.parse_args()
    if not options.molecule and not options.water:
        parser.error("give --molecule FILE, --water FILE, or both")
    pythons = command.pythons_of(parser, options, PEERS)

    found = {"molecule": systems.molecule(options.molecule)} if options.molecule else {}
    if options.water:
        found |= {f"water {3 * count}": systems.water(options.water, count) for count in options.molecules}
    table = command.Table(options.json, command.machine(options.threads), PRINTED)
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(pythons, options, ARCHITECTURE["type_names"], Path(folder))
        for case in options.cases:
            for name, system in found.items():
                crew = bench.run(case, system, steps_of(len(system["numbers"]), options.steps))
                table.add([{"system": name, **row} for row in bench.rows(case, crew)], crew)


if __name__ == "__main__":
    main()
