"""The side of nequip_parity.py that runs in an environment with nequip 0.19.1 and knows nothing of nequip_like.

It reads cases, structures and weights from one .npz file and writes its models' numbers to another (no pickle).
"""

import json
import sys
import warnings

import numpy as np
import torch

warnings.filterwarnings("ignore")


def predict(model, structure):
    data = {key: torch.from_numpy(value) for key, value in structure.items()}
    result = model(data)
    keys = ["total_energy", "atomic_energy", "forces"] + (["stress", "virial"] if "cell" in data else [])
    return {key: result[key].detach().numpy().astype(np.float64) for key in keys}


def load(model, flat):
    """Put flat weights into the model; each of its parameters has to get one of exactly its size."""
    with torch.no_grad():
        parameters = dict(model.named_parameters())
        assert parameters.keys() == flat.keys(), parameters.keys() ^ flat.keys()
        for name, parameter in parameters.items():
            parameter.copy_(torch.from_numpy(flat[name]).reshape(parameter.shape))


def main(source, target):
    import nequip
    from nequip.model import NequIPGNNModel, PresetNequIPGNNModel
    from nequip.utils.global_state import set_global_state

    set_global_state()
    torch.set_num_threads(1)
    builders = {"NequIPGNNModel": NequIPGNNModel, "PresetNequIPGNNModel": PresetNequIPGNNModel}
    inputs = np.load(source, allow_pickle=False)
    grouped = {}
    for key in inputs.files:
        if key != "cases":
            grouped.setdefault(tuple(key.split("|")[:2]), {})[key.split("|")[2]] = inputs[key]
    structures = {key[1]: value for key, value in grouped.items() if key[0] == "structure"}
    out = {"version": np.array(nequip.__version__)}
    for case in json.loads(str(inputs["cases"])):
        name = case["name"]
        model = builders[case["builder"]](**case["arguments"]).eval()
        out[f"{name}|count"] = np.array(sum(p.numel() for p in model.parameters() if p.requires_grad))
        if case["count_only"]:
            continue
        for key, value in model.state_dict().items():
            out[f"{name}|state|{key}"] = value.numpy().copy()  # load() below writes into the model
        for of, structure in structures.items():
            out.update({f"{name}|own|{of}|{key}": value for key, value in predict(model, structure).items()})
        load(model, grouped[("weights", name)])
        for of, structure in structures.items():
            out.update({f"{name}|ours|{of}|{key}": value for key, value in predict(model, structure).items()})
    np.savez_compressed(target, **out)


if __name__ == "__main__":
    main(*sys.argv[1:])
