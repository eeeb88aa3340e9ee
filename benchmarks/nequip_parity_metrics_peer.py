"""The side of nequip_parity_metrics.py that runs with nequip 0.19.1: its metrics, loss gradients and statistics.

It reads cases, batches and frames from one .npz file and writes nequip's numbers to another (no pickle).
"""

import json
import sys
import warnings

import numpy as np
import torch

warnings.filterwarnings("ignore")


def group(inputs, kind):
    """``kind|name|field`` -> {name: {field: tensor}}."""
    found = {}
    for key in inputs.files:
        parts = key.split("|")
        if parts[0] == kind:
            found.setdefault(parts[1], {})[parts[2]] = torch.from_numpy(inputs[key])
    return found


def build_manager(case):
    from nequip import train
    from nequip.data import PerAtomModifier

    if "preset" in case:
        return getattr(train, case["preset"])(**case["arguments"])
    metrics = []
    for entry in case["metrics"]:
        changed = dict(entry)
        if "delta_dict" in entry.get("arguments", {}) and not case.get("text_keys"):
            strata = {float(key): value for key, value in entry["arguments"]["delta_dict"].items()}
            changed["arguments"] = {**entry["arguments"], "delta_dict": strata}
        changed["metric"] = getattr(train, entry["metric"])(**changed.pop("arguments", {}))
        if entry["field"].startswith("per_atom:"):
            changed["field"] = PerAtomModifier(entry["field"].removeprefix("per_atom:"))
        metrics.append(changed)
    return train.MetricsManager(metrics, type_names=case["type_names"])


def measure(case, batches):
    """Logged values of each step and of the epoch, and gradients of each step's weighted sum."""
    out = {}
    try:
        manager = build_manager(case)
        for index, name in enumerate(case["batches"]):
            batch = batches[name]
            keys = [key for key in ("total_energy", "forces", "stress") if key in batch]
            prediction = dict(batch)
            for key in keys:
                prediction[key] = batch[f"predicted_{key}"].clone().requires_grad_()
            values = manager(prediction, batch)
            for key, value in values.items():
                out[f"step{index}|{key}"] = float(value)
            total = values.get("weighted_sum")
            if total is not None and total.requires_grad:
                leaves = [prediction[key] for key in keys]
                gradients = torch.autograd.grad(total, leaves, allow_unused=True)
                for key, gradient in zip(keys, gradients, strict=True):
                    if gradient is not None:
                        out[f"gradient{index}|{key}"] = gradient.numpy()
        for key, value in manager.compute().items():
            out[f"epoch|{key}"] = float(value)
    except Exception as error:  # what nequip does with such a config is a result
        out["error"] = type(error).__name__
    return out


def statistics(frames, names, type_names):
    from nequip.data import AtomicDataDict, CommonDataStatisticsManager, EnergyOnlyDataStatisticsManager

    found = {}
    data = AtomicDataDict.batched_from_list([dict(frames[name]) for name in names])
    for manager in (CommonDataStatisticsManager, EnergyOnlyDataStatisticsManager):
        for key, value in manager(type_names=type_names).get_statistics([data]).items():
            if not isinstance(value, torch.Tensor):
                found[key] = value
    return found


def main(source, target):
    import nequip
    from nequip.utils.global_state import set_global_state

    set_global_state()
    torch.set_num_threads(1)
    inputs = np.load(source, allow_pickle=False)
    spec = json.loads(str(inputs["spec"]))
    batches, frames = group(inputs, "batch"), group(inputs, "frame")
    out = {"version": np.array(nequip.__version__)}
    for case in spec["cases"]:
        for key, value in measure(case, batches).items():
            out[f"{case['name']}|{key}"] = np.array(value)
    for case in spec["statistics"]:
        found = statistics(frames, case["frames"], spec["type_names"])
        out[f"{case['name']}|statistics"] = np.array(json.dumps(found))
    np.savez_compressed(target, **out)


if __name__ == "__main__":
    main(*sys.argv[1:])
