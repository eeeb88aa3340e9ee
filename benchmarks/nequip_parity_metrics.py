"""Given the same config and predictions, does nequip_like log the numbers of nequip 0.19.1?

Part of nequip_parity.py, which starts it; alone:

    python benchmarks/nequip_parity_metrics.py --peer build/nequip/bin/python [--store DIR]

Both metrics managers get the same three batches of unequal frames, in float64. Compared are the names and values of
each step and of the epoch, and the gradients of each step's ``weighted_sum`` with respect to predicted energies, forces
and stress; and the statistics of data that configs refer to. Where nequip has a defect, its number is corrected first,
as the row says. ``--store`` writes the small reference that the tests read.
"""

import argparse
import json
import math
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch
from nequip_parity_cases import CUTOFF, FIELDS, STATISTICS, TYPE_NAMES, cases, make_batches, make_frames

from nequip_like.data.dataset import GraphDataset
from nequip_like.data.statistics import training_statistics
from nequip_like.metrics import elementwise, presets
from nequip_like.metrics.manager import MetricsManager
from nequip_like.metrics.modifiers import PerAtomModifier

LIMIT = 1e-12

# --- our side


def build_manager(case):
    if "preset" in case:
        arguments = {"ignore_nan": False, "type_names": TYPE_NAMES, **case["arguments"]}
        return getattr(presets, case["preset"])(**arguments)
    entries = []
    for given in case["metrics"]:
        changed = {"ignore_nan": False, **given}  # nequip's default
        changed["metric"] = getattr(elementwise, given["metric"])(**changed.pop("arguments", {}))
        if given["field"].startswith("per_atom:"):
            changed["field"] = PerAtomModifier(given["field"].removeprefix("per_atom:"))
        entries.append(changed)
    return MetricsManager(entries, type_names=case["type_names"])


def measure(case, batches):
    """What nequip_parity_metrics_peer.py measures."""
    out, manager = {}, build_manager(case)
    for index, name in enumerate(case["batches"]):
        batch = {key: torch.from_numpy(value) for key, value in batches[name].items()}
        prediction = dict(batch)
        for key in FIELDS:
            prediction[key] = batch[f"predicted_{key}"].clone().requires_grad_()
        values = manager.step(prediction, batch)
        out.update({f"step{index}|{key}": value.item() for key, value in values.items()})
        total = values.get("weighted_sum")
        if total is not None and total.requires_grad:
            leaves = [prediction[key] for key in FIELDS]
            for key, gradient in zip(FIELDS, torch.autograd.grad(total, leaves, allow_unused=True), strict=True):
                if gradient is not None:
                    out[f"gradient{index}|{key}"] = gradient.numpy()
    out.update({f"epoch|{key}": float(value) for key, value in manager.compute().items()})
    return out


def dataset_of(names, frames):
    numbers = np.array([1, 6, 8])
    graphs = []
    for name in names:
        frame = frames[name]
        atoms = len(frame["pos"])
        graph = {key: torch.from_numpy(frame[key]) for key in ("pos", "total_energy", "forces")}
        graph["atomic_numbers"] = torch.from_numpy(numbers[frame["atom_types"]])
        graph |= {"num_atoms": torch.tensor([atoms]), "batch": torch.zeros(atoms, dtype=torch.int64)}
        graph |= {"cell": torch.zeros(1, 3, 3, dtype=torch.float64), "pbc": torch.zeros(1, 3, dtype=torch.bool)}
        graphs.append(graph)
    return GraphDataset(graphs, CUTOFF, TYPE_NAMES)


# --- nequip's numbers, corrected where it has a defect


def right(case, peer, batches, results):
    """Right values and words for what nequip does instead."""
    name = case["correction"]
    if name is None:
        return peer, ""
    if name == "as sorted":
        return results["stratified Huber"], f"nequip: {peer.get('error', 'another value')}; the value of sorted bounds"
    if name == "by hand":
        return by_hand(case, batches), f"nequip: {peer.get('error')}; computed by hand"
    fixed = dict(peer)
    coeffs = build_manager(case).coeffs
    stages = sorted({key.split("|")[0] for key in peer if not key.startswith("gradient")})
    if name == "zero":
        fixed["gradient0|forces"] = np.zeros_like(peer["gradient0|forces"])
        return fixed, "nequip: gradient NaN; 0"
    for stage in stages:
        present = [key for key in coeffs if math.isfinite(peer[f"{stage}|{key}"])]
        if name == "mean of the present":
            fix_means(fixed, stage, case)
            present = list(coeffs)
        else:
            for key in coeffs:  # nequip's maximum of nothing is minus infinity
                if key not in present:
                    fixed[f"{stage}|{key}"] = math.nan
        fixed[f"{stage}|weighted_sum"] = sum((coeffs[key] or 0.0) * fixed[f"{stage}|{key}"] for key in present)
    return fixed, f"nequip: NaN; {name}"


def fix_means(fixed, stage, case):
    """Means over the species that are present, from nequip's values of species."""
    for key, given in zip(build_manager(case).coeffs, case["metrics"], strict=True):
        weights = given.get("per_type_coeffs") or dict.fromkeys(TYPE_NAMES, 1.0)
        values = {of: fixed[f"{stage}|{key}_{of}"] for of in TYPE_NAMES}
        for of, value in values.items():
            fixed[f"{stage}|{key}_{of}"] = value if math.isfinite(value) else math.nan
        present = [of for of in TYPE_NAMES if math.isfinite(values[of])]
        total = sum(weights[of] for of in present)
        fixed[f"{stage}|{key}"] = sum(weights[of] * values[of] for of in present) / total


def by_hand(case, batches):
    """The RMSE of forces by species, in numpy."""
    out, errors, types = {}, [], []
    for index, name in enumerate([*case["batches"], None]):
        if name is None:
            stage, error, of = "epoch", np.concatenate(errors), np.concatenate(types)
        else:
            batch = batches[name]
            stage, error, of = f"step{index}", batch["predicted_forces"] - batch["forces"], batch["atom_types"]
            errors.append(error)
            types.append(of)
        values = []
        gradient = np.zeros_like(error)
        for i, type_name in enumerate(TYPE_NAMES):
            known = error[of == i][~np.isnan(error[of == i])]
            values.append(float(np.sqrt(np.mean(known**2))) if known.size else math.nan)
            out[f"{stage}|F_rmse_{type_name}"] = values[-1]
            if known.size:
                gradient[of == i] = error[of == i] / (values[-1] * known.size * len(TYPE_NAMES))
        missing = all(math.isnan(value) for value in values)
        out[f"{stage}|F_rmse"] = math.nan if missing else float(np.mean(values))
        out[f"{stage}|weighted_sum"] = 0.0 if missing else out[f"{stage}|F_rmse"]
        if name is not None:
            out[f"gradient{index}|forces"] = np.nan_to_num(gradient)
    return out


def right_statistics(case, peer, frames):
    """nequip's statistics with the per-species means that its counting mixes up, or NaN labels, done in numpy."""
    fixed = {key: value for key, value in peer.items() if not isinstance(value, dict)}
    fixed |= {f"{key} {of}": x for key, value in peer.items() if isinstance(value, dict) for of, x in value.items()}
    types = np.concatenate([frames[name]["atom_types"] for name in case["frames"]])
    if case["correction"] == "counted by atom":
        counts = []
        for name in case["frames"]:
            positions = frames[name]["pos"]
            near = np.linalg.norm(positions[:, None] - positions[None], axis=-1) < CUTOFF
            counts.append(near.sum(1) - 1)
        counts = np.concatenate(counts)
        for i, of in enumerate(TYPE_NAMES):
            fixed[f"per_type_num_neighbors_mean {of}"] = float(counts[types == i].mean())
    if case["correction"] == "of those there are":
        forces = np.concatenate([frames[name]["forces"] for name in case["frames"]])
        fixed["forces_rms"] = float(np.sqrt(np.nanmean(forces**2)))
        for i, of in enumerate(TYPE_NAMES):
            fixed[f"per_type_forces_rms {of}"] = float(np.sqrt(np.nanmean(forces[types == i] ** 2)))
    return fixed


# --- comparison


def difference(actual, expected):
    """Largest difference over the largest magnitude; NaN equals NaN."""
    actual, expected = np.asarray(actual), np.asarray(expected)
    if actual.shape != expected.shape or not np.array_equal(np.isnan(actual), np.isnan(expected)):
        return math.inf
    same = (actual == expected) | np.isnan(expected)
    if same.all():
        return 0.0
    error = np.abs(np.where(same, 0.0, actual - expected)).max() / np.abs(np.nan_to_num(expected)).max()
    return float(error) if np.isfinite(error) else math.inf


def compare_values(name, ours, expected, note):
    """One row: number of values, and the largest relative error of steps, epoch and gradients."""
    row = {"case": name, "values": len(expected), "names": ours.keys() == expected.keys(), "errors": {}, "note": note}
    for key in (ours.keys() & expected.keys()) - {"error"}:
        kind = key.split("|")[0].rstrip("0123456789")
        row["errors"][kind] = max(row["errors"].get(kind, 0.0), difference(ours[key], expected[key]))
    return row


def is_equal(row):
    """Whether the names are the same and all values, too."""
    return row["names"] and all(error <= LIMIT for error in row["errors"].values())


def compare(peer, batches, frames):
    """All rows."""
    results = {c["name"]: part(peer, c["name"]) for c in cases()}
    rows = []
    for c in cases():
        expected, note = right(c, results[c["name"]], batches, results)
        # A gradient that is left out (the term is absent) is zero.
        ours = {
            k: v for k, v in measure(c, batches).items() if k in expected or not k.startswith("gradient") or np.any(v)
        }
        rows.append(compare_values(c["name"], ours, expected, note))
        rows[-1]["as nequip"] = is_equal(compare_values(c["name"], ours, results[c["name"]], ""))
    for c in STATISTICS:
        given = json.loads(str(peer[f"{c['name']}|statistics"]))
        expected = right_statistics(c, given, frames)
        found = training_statistics(dataset_of(c["frames"], frames))
        ours = {f"statistics|{key}": value for key, value in flat(found).items() if key in expected}
        expected = {f"statistics|{key}": value for key, value in expected.items()}
        note = f"nequip: per-species values mixed up or NaN; {c['correction']}" if c["correction"] else ""
        rows.append(compare_values(c["name"], ours, expected, note))
        uncorrected = right_statistics({**c, "correction": None}, given, frames)
        uncorrected = {f"statistics|{key}": value for key, value in uncorrected.items()}
        rows[-1]["as nequip"] = is_equal(compare_values(c["name"], ours, uncorrected, ""))
    return rows


def flat(statistics):
    plain = {key: value for key, value in statistics.items() if isinstance(value, float)}
    nested = {key: value for key, value in statistics.items() if isinstance(value, dict)}
    return plain | {f"{key} {of}": x for key, value in nested.items() for of, x in value.items()}


def part(peer, name):
    found = {key.removeprefix(f"{name}|"): value for key, value in peer.items() if key.startswith(f"{name}|")}
    return {key: str(v) if key == "error" else float(v) if v.shape == () else v for key, v in found.items()}


def exchange(python, script, sent):
    """What a script beside this one answers, in the environment of another python, to these arrays."""
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder, "in.npz"), Path(folder, "out.npz")
        np.savez(source, **sent)
        # -I: nothing of this environment's paths reaches the peer
        subprocess.run([python, "-I", str(Path(__file__).with_name(script)), str(source), str(target)], check=True)
        with np.load(target, allow_pickle=False) as stored:
            return {key: stored[key] for key in stored.files}


def run_peer(python, batches, frames):
    """nequip's numbers; it gets our neighbour lists."""
    sent = {"spec": np.array(json.dumps({"cases": cases(), "statistics": STATISTICS, "type_names": TYPE_NAMES}))}
    sent |= {f"batch|{name}|{key}": value for name, batch in batches.items() for key, value in batch.items()}
    for name, frame in frames.items():
        edges = dataset_of([name], frames)[0]["edge_index"].numpy()
        sent |= {f"frame|{name}|{key}": value for key, value in {**frame, "edge_index": edges}.items()}
    return exchange(python, "nequip_parity_metrics_peer.py", sent)


def print_table(rows, version):
    kinds = ("step", "epoch", "gradient", "statistics")
    print(f"\nlogged numbers, gradients, statistics against nequip {version}: largest relative difference, float64\n")
    print(f"{'case':42s} {'values':>6s} " + " ".join(f"{kind:>10s}" for kind in kinds) + "  equal")
    for row in rows:
        errors = " ".join(f"{row['errors'][k]:10.1e}" if k in row["errors"] else f"{'-':>10s}" for k in kinds)
        print(
            f"{row['case']:42s} {row['values']:6d} {errors}  {'yes' if is_equal(row) else 'NO'}  {row['note']}".rstrip()
        )
    worst = max(error for row in rows for error in row["errors"].values())
    print(f"\nworst error {worst:.1e}, allowed {LIMIT:.0e}")


def run(python):
    """Compare, print the table, and give its rows."""
    batches, frames = make_batches(), make_frames()
    peer = run_peer(python, batches, frames)
    rows = compare(peer, batches, frames)
    print_table(rows, peer["version"])
    return rows


def load(path):
    """What :func:`store` wrote: nequip's numbers, batches, frames."""
    with np.load(path, allow_pickle=False) as stored:
        entries = {key: stored[key] for key in stored.files}
    grouped = {"batch": {}, "frame": {}}
    peer = {key: np.array(value) for key, value in json.loads(str(entries.pop("numbers"))).items()}
    for key, value in entries.items():
        kind, rest = key.split("|", 1)
        if kind == "peer":
            peer[rest] = value
        else:
            name, field = rest.split("|")
            grouped[kind].setdefault(name, {})[field] = value
    return peer, grouped["batch"], grouped["frame"]


def store(python, folder):
    """Write nequip's numbers and what they were computed from, for tests without nequip."""
    batches, frames = make_batches(), make_frames()
    peer = run_peer(python, batches, frames)
    numbers = {key: float(value) for key, value in peer.items() if value.shape == () and value.dtype.kind == "f"}
    # One text for all numbers: thousands of entries in the archive would be ten times its size.
    kept = {"numbers": np.array(json.dumps(numbers))}
    kept |= {f"peer|{key}": value for key, value in peer.items() if key not in numbers}
    kept |= {f"batch|{name}|{key}": value for name, batch in batches.items() for key, value in batch.items()}
    kept |= {f"frame|{name}|{key}": value for name, frame in frames.items() for key, value in frame.items()}
    target = Path(folder, "nequip_metrics.npz")
    target.parent.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(target, **kept)
    print(f"wrote {target}, {target.stat().st_size} bytes, nequip {peer['version']}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peer", required=True, help="python of an environment with nequip 0.19.1")
    parser.add_argument("--store", help="write the reference of the tests into this folder instead of comparing")
    arguments = parser.parse_args()
    if arguments.store:
        return store(arguments.peer, arguments.store)
    return 0 if all(is_equal(row) for row in run(arguments.peer)) else 1


if __name__ == "__main__":
    sys.exit(main())
