"""Runs in an interpreter that has NequIP: writes a checkpoint or a package of a model that another process describes.

``python peer_export.py FOLDER OUTPUT`` reads ``FOLDER/request.json`` and ``FOLDER/arrays.npz``, without pickles. It
knows nothing of nequip_like, which wrote them (``exporting.py``).
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

PREDICTIONS = "predictions.npz"


def export(folder: Path, output: Path) -> None:
    """Build the model, give it the weights, predict, and write it.

    Args:
        folder: It has the request; predictions are written there.
        output: The checkpoint, or with the suffix ``.nequip.zip`` the package.
    """
    import torch
    from nequip.train import NequIPLightningModule
    from nequip.utils import get_current_code_versions
    from nequip.utils.global_state import get_latest_global_state, set_global_state

    torch.set_num_threads(1)
    set_global_state()
    request = json.loads((folder / "request.json").read_text(encoding="utf-8"))
    module_config = {"_target_": "nequip.train.NequIPLightningModule", "model": request["model"]}
    info = {
        "versions": get_current_code_versions(),
        "data": request["data"],
        "trainer": {"_target_": "lightning.Trainer"},
        "global_options": get_latest_global_state(),
        "runs": [],
        "training_module": module_config,
    }
    datasets = {"train": 1, "val": 0, "test": 0, "predict": 0}
    module = NequIPLightningModule(model=request["model"], num_datasets=datasets, info_dict=info)
    model = module.model["sole_model"]
    with np.load(folder / "arrays.npz", allow_pickle=False) as stored:
        arrays = {name: stored[name] for name in stored.files}
    load_weights(model, {name.removeprefix("weights|"): array for name, array in arrays.items() if "weights|" in name})
    np.savez(folder / PREDICTIONS, **predict_structures(model, arrays))  # type: ignore[arg-type] # names are not those of options
    checkpoint = output if not str(output).endswith(".nequip.zip") else folder / "model.ckpt"
    torch.save(
        {
            "epoch": 0,
            "global_step": 0,
            "pytorch-lightning_version": request["lightning"],
            "state_dict": module.state_dict(),
            "hparams_name": "kwargs",
            "hyper_parameters": dict(module.hparams),
            "loops": {},
            "callbacks": {},
            "optimizer_states": [],
            "lr_schedulers": [],
        },
        checkpoint,
    )
    if checkpoint != output:
        from nequip.scripts.package import main

        main(["build", str(checkpoint), str(output)])


def load_weights(model: Any, weights: dict[str, np.ndarray]) -> None:
    """Put flat weights into the model; each of its parameters has to get one of exactly its size."""
    import torch

    parameters = dict(model.named_parameters())
    if parameters.keys() != weights.keys():
        sys.exit(f"its weights have other names: {sorted(parameters.keys() ^ weights.keys())[:4]}")
    with torch.no_grad():
        for name, parameter in parameters.items():
            parameter.copy_(torch.from_numpy(weights[name]).reshape(parameter.shape))


def predict_structures(model: Any, arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """What the model says of each structure of the request."""
    import torch

    predictions = {}
    model.eval()
    for structure in {name.split("|")[1] for name in arrays if name.startswith("structure|")}:
        prefix = f"structure|{structure}|"
        inputs = {key.removeprefix(prefix): torch.from_numpy(arrays[key]) for key in arrays if key.startswith(prefix)}
        for key, value in model(inputs).items():
            if key in ("total_energy", "atomic_energy", "forces", "stress") and value.numel():
                predictions[f"predicted|{structure}|{key}"] = value.detach().numpy().astype(np.float64)
    return predictions


if __name__ == "__main__":
    sys.path.pop(0)  # this folder, whose files are of another package
    export(Path(sys.argv[1]), Path(sys.argv[2]))
