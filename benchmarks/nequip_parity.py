"""Given the same hyper-parameters and weights, does nequip_like give the numbers of nequip 0.19.1?

    python benchmarks/nequip_parity.py --make-env build/nequip      # once: an environment with nequip
    python benchmarks/nequip_parity.py --peer build/nequip/bin/python [--json FILE] [--store DIR]

nequip runs in a process of its own environment; the two exchange .npz files without pickles. For each case both
models are built from the same arguments. Then nequip's weights are loaded here, and ours there, and parameter counts,
energies, atomic energies, forces, stress and virial of a molecule and of a triclinic crystal are compared. An error is
the largest difference over the largest magnitude. ``--store`` writes the small reference that the tests read.

A second table compares logged numbers, gradients of losses, and statistics of data: see nequip_parity_metrics.py.
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path

import nequip_parity_metrics
import numpy as np
import torch

from nequip_like.compat.nequip_weights import load_nequip_weights, to_nequip_weights
from nequip_like.model import NequIPGNNModel, PresetNequIPGNNModel
from nequip_like.testing.structures import crystal, graph_of, molecule

BUILDERS = {"NequIPGNNModel": NequIPGNNModel, "PresetNequIPGNNModel": PresetNequIPGNNModel}
LIMITS = {"float64": 1e-9, "float32": 1e-5}
TYPE_NAMES = ["H", "C", "O"]
BASE = {
    "type_names": TYPE_NAMES,
    "r_max": 3.5,
    "avg_num_neighbors": {"H": 5.0, "C": 7.0, "O": 6.0},
    "per_type_energy_scales": {"H": 1.0, "C": 2.0, "O": 3.0},
    "per_type_energy_shifts": {"H": -0.5, "C": 1.0, "O": 0.25},
}
ZBL = {"_target_": "nequip.nn.pair_potential.ZBL", "units": "metal", "chemical_species": TYPE_NAMES}
SHAPE = {"num_layers": 3, "num_features": 4, "type_embed_num_features": 5, "radial_mlp_width": 16}
# Arguments beyond BASE and SHAPE; each runs in both dtypes.
VARIANTS = {
    **{
        f"l={l_max} parity={'on' if parity else 'off'}": {
            "l_max": l_max,
            "parity": parity,
            "num_features": [8, 7, 5, 4, 3][: l_max + 1],
        }
        for l_max in range(5)
        for parity in (True, False)
    },
    "ZBL": {"l_max": 1, "pair_potential": ZBL},
    "pair cutoffs": {"l_max": 2, "per_edge_type_cutoff": {"H": {"C": 2.1}, "O": 2.5}},
    "pair cutoffs, ZBL": {"l_max": 1, "per_edge_type_cutoff": {"H": 2.0, "C": {"C": 3.0}}, "pair_potential": ZBL},
    "all trainable": {
        "l_max": 1,
        "bessel_trainable": True,
        "per_type_energy_scales_trainable": True,
        "per_type_energy_shifts_trainable": True,
    },
    "one number for all types": {
        "avg_num_neighbors": 6.0,
        "per_type_energy_scales": 1.5,
        "per_type_energy_shifts": -0.5,
    },
    "resnet": {"l_max": 2, "convnet_resnet": True},
    "learnable shift": {"l_max": 1, "learnable_shift": True},
    "no self-connection": {"l_max": 2, "convnet_sc": False},
    "readout MLP": {
        "l_max": 1,
        "readout_mlp_hidden_layers_depth": 2,
        "readout_mlp_hidden_layers_width": 6,
        "readout_mlp_nonlinearity": "mish",
    },
    "deep radial MLP, p=4": {"l_max": 1, "radial_mlp_depth": 2, "num_bessels": 5, "polynomial_cutoff_p": 4},
    "linear radial MLP": {"l_max": 1, "radial_mlp_depth": 0},
    "other activations": {
        "l_max": 2,
        "convnet_nonlinearity_scalars": {"e": "ssp", "o": "abs"},
        "convnet_nonlinearity_gates": {"e": "silu", "o": "abs"},
    },
    "one layer": {"l_max": 2, "num_layers": 1},
}
STORED = {
    "l=1 parity=on": {"l_max": 1, "parity": True},
    "l=3 parity=off": {"l_max": 3, "parity": False},
    "l=2, ZBL, pair cutoffs, trainable": {
        "l_max": 2,
        "parity": True,
        "pair_potential": ZBL,
        "per_edge_type_cutoff": {"H": {"C": 2.1}, "O": 2.5},
        "bessel_trainable": True,
        "per_type_energy_scales_trainable": True,
    },
}
STORED_SHAPE = {"num_layers": 2, "num_features": 2, "type_embed_num_features": 3, "radial_mlp_width": 4}


def cases():
    """Every case: a name, a builder, its arguments, and whether only parameters are counted."""
    found = [
        case(f"{name} {dtype}", "NequIPGNNModel", {**BASE, **SHAPE, **arguments, "model_dtype": dtype})
        for name, arguments in VARIANTS.items()
        for dtype in LIMITS
    ]
    for preset in ("S", "M", "L", "XL"):
        arguments = {**BASE, "preset": preset, "model_dtype": "float64"}
        found.append(case(f"preset {preset} float64", "PresetNequIPGNNModel", arguments, count_only=preset != "S"))
    return found


def case(name, builder, arguments, count_only=False):
    return {"name": name, "builder": builder, "arguments": {"seed": 1, **arguments}, "count_only": count_only}


def build(entry, seed):
    return BUILDERS[entry["builder"]](**{**entry["arguments"], "seed": seed}).eval()


def structures():
    """Name to graph, with all edges within the cutoff; a molecule has no cell."""
    potential = NequIPGNNModel(**BASE, num_layers=1, num_features=1)
    graphs = {"molecule": graph_of(molecule(), potential), "crystal": graph_of(crystal(), potential)}
    for key in ("cell", "pbc", "edge_cell_shift"):
        del graphs["molecule"][key]
    return graphs


def run_peer(python, entries, graphs):
    """The peer's numbers: its own weights and ours, which are drawn with another seed."""
    sent = {"cases": np.array(json.dumps(entries))}
    for name, graph in graphs.items():
        sent.update({f"structure|{name}|{key}": value.numpy() for key, value in graph.items() if key != "num_atoms"})
    for entry in entries:
        if not entry["count_only"]:
            weights = to_nequip_weights(build(entry, seed=2))
            sent.update({f"weights|{entry['name']}|{key}": value.numpy() for key, value in weights.items()})
    return nequip_parity_metrics.exchange(python, "nequip_parity_peer.py", sent)


def part(peer, prefix):
    return {key.removeprefix(prefix): value for key, value in peer.items() if key.startswith(prefix)}


def compare(entry, peer, graphs):
    """One row: parameter counts, and the largest relative error of each field over structures and directions."""
    name, ours = entry["name"], build(entry, seed=2)
    row = {
        "case": name,
        "parameters": sum(p.numel() for p in ours.parameters() if p.requires_grad),
        "parameters_nequip": int(peer[f"{name}|count"]),
        "errors": {},
    }
    if entry["count_only"]:
        return row
    theirs = build(entry, seed=3)
    load_nequip_weights(theirs, {k: torch.from_numpy(v) for k, v in part(peer, f"{name}|state|").items()})
    for direction, potential in (("own", theirs), ("ours", ours)):
        for of, graph in graphs.items():
            prediction = potential(graph)
            for key, expected in part(peer, f"{name}|{direction}|{of}|").items():
                error = relative_error(prediction[key].numpy(), expected)
                row["errors"][key] = max(row["errors"].get(key, 0.0), error)
    return row


def relative_error(actual, expected):
    error = float(np.abs(actual.reshape(expected.shape) - expected).max() / np.abs(expected).max())
    return error if np.isfinite(error) else float("inf")  # max() would lose a NaN


def is_equal(row):
    limit = LIMITS[row["case"].rsplit(" ", 1)[-1]]
    return row["parameters"] == row["parameters_nequip"] and all(error <= limit for error in row["errors"].values())


def print_table(rows, version):
    keys = ["total_energy", "atomic_energy", "forces", "stress", "virial"]
    print(f"nequip_like against nequip {version}: largest difference / largest magnitude, both ways, two structures\n")
    print(f"{'case':38s} {'parameters':>10s} {'nequip':>10s} " + " ".join(f"{key:>13s}" for key in keys) + "  equal")
    for row in rows:
        errors = " ".join(f"{row['errors'][key]:13.1e}" if row["errors"] else f"{'-':>13s}" for key in keys)
        equal = "yes" if is_equal(row) else "NO"
        print(f"{row['case']:38s} {row['parameters']:10d} {row['parameters_nequip']:10d} {errors}  {equal}")
    for dtype, limit in LIMITS.items():
        worst = max(max(row["errors"].values(), default=0.0) for row in rows if row["case"].endswith(dtype))
        print(f"\nworst {dtype} error {worst:.1e}, allowed {limit:.0e}", end="")
    print()


def store(python, folder, graphs):
    """Write tiny models with all weights and predictions of nequip, for tests without nequip."""
    entries = [
        case(f"{name} float64", "NequIPGNNModel", {**BASE, **STORED_SHAPE, **arguments, "model_dtype": "float64"})
        for name, arguments in STORED.items()
    ]
    peer = run_peer(python, entries, graphs)
    kept = {"cases": np.array(json.dumps(entries)), "version": peer["version"]}
    for name, graph in graphs.items():
        kept.update({f"structure|{name}|{key}": value.numpy() for key, value in graph.items()})
    kept.update({key: value for key, value in peer.items() if "|own|" in key or "|state|" in key or "|count" in key})
    target = Path(folder, "nequip.npz")
    target.parent.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(target, **kept)
    print(f"wrote {target}, {target.stat().st_size} bytes, nequip {peer['version']}")


def make_env(folder):
    subprocess.run([sys.executable, "-m", "venv", folder], check=True)
    python = str(Path(folder, "bin", "python"))
    subprocess.run([python, "-m", "pip", "install", "torch==2.13.0", "nequip==0.19.1"], check=True)
    print(f"now: python {sys.argv[0]} --peer {python}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peer", help="python of an environment with nequip 0.19.1")
    parser.add_argument("--json", type=Path, help="write the table as JSON")
    parser.add_argument("--store", help="write the reference of the tests into this folder instead of comparing")
    parser.add_argument("--make-env", metavar="DIR", help="make an environment with nequip 0.19.1 and stop")
    arguments = parser.parse_args()
    if arguments.make_env:
        return make_env(arguments.make_env)
    if not arguments.peer:
        parser.error("--peer or --make-env is needed")
    torch.set_num_threads(1)
    graphs = structures()
    if arguments.store:
        return store(arguments.peer, arguments.store, graphs)
    entries = cases()
    peer = run_peer(arguments.peer, entries, graphs)
    rows = [compare(entry, peer, graphs) for entry in entries]
    print_table(rows, peer["version"])
    metric_rows = nequip_parity_metrics.run(arguments.peer)
    if arguments.json:
        table = {"nequip": str(peer["version"]), "rows": rows, "metrics": metric_rows}
        arguments.json.write_text(json.dumps(table, indent=1))
    return 0 if all(is_equal(row) for row in rows) and all(map(nequip_parity_metrics.is_equal, metric_rows)) else 1


if __name__ == "__main__":
    sys.exit(main())
