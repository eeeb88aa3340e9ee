"""Runs in an interpreter that has NequIP: opens one of its models, and writes what is in it as plain files.

``python peer_dump.py MODEL FOLDER`` writes ``FOLDER/model.json`` and ``FOLDER/arrays.npz``, without pickles. It knows
nothing of nequip_like, which reads them in another process (``dumps.py``). Beside the weights that NequIP evaluates it
writes what NequIP predicts with them for two structures of all species, so that the reader can compare.
"""

from __future__ import annotations

import json
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

FORMAT = "nequip model, dumped"
VERSION = 1
_FIELDS = ("total_energy", "atomic_energy", "forces", "stress")


def dump(source: Path, folder: Path) -> None:
    """Open a model and write what is in it.

    Args:
        source: A checkpoint or a package (``.nequip.zip``) of NequIP's.
        folder: Where to write; it is there.
    """
    import nequip
    import torch
    from nequip.model.saved_models import load_saved_model
    from nequip.utils.global_state import set_global_state

    torch.set_num_threads(1)
    set_global_state()
    models = load_saved_model(str(source), compile_mode="eager", model_key=None)
    if list(models) != ["sole_model"]:
        sys.exit(f"it holds the models {', '.join(models)}; one is expected")
    model = models["sole_model"].eval()
    module, facts = read_module(source)
    cutoff = float(model.metadata["r_max"])
    arrays: dict[str, np.ndarray] = {}
    for name, tensor in model.state_dict().items():
        if isinstance(tensor, torch.Tensor):
            arrays[f"state|{name}"] = tensor.detach().cpu().numpy().copy()
    derivatives = bool(getattr(model.model, "do_derivatives", True))
    for name, structure in build_structures(len(model.type_names), cutoff).items():
        arrays.update({f"structure|{name}|{key}": value for key, value in structure.items()})
        inputs = {key: torch.from_numpy(value) for key, value in structure.items()}
        if not structure["cell"].any():
            inputs = {key: inputs[key] for key in ("pos", "atom_types", "edge_index")}
        predicted = model(inputs)
        for key in _FIELDS:
            if key in predicted and not (key == "stress" and "cell" not in inputs):
                arrays[f"predicted|{name}|{key}"] = predicted[key].detach().numpy().astype(np.float64)
    content = {
        "format": FORMAT,
        "version": VERSION,
        "training_module": module,
        "type_names": list(model.type_names),
        "cutoff": cutoff,
        "do_derivatives": derivatives,
        "versions": {"nequip": nequip.__version__, "torch": str(torch.__version__)},
        **facts,
    }
    np.savez_compressed(folder / "arrays.npz", **arrays)  # type: ignore[arg-type] # names are not those of options
    (folder / "model.json").write_text(json.dumps(content, default=str), encoding="utf-8")


def read_module(source: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """The section ``training_module`` of the config that the model was trained with, and what else is told of it."""
    if str(source).endswith(".nequip.zip"):
        import yaml

        with zipfile.ZipFile(source) as package:
            name = next(name for name in package.namelist() if name.endswith("/model/config.yaml"))
            return yaml.safe_load(package.read(name))["training_module"], {}
    import torch

    checkpoint = torch.load(source, map_location="cpu", weights_only=False)
    module = checkpoint["hyper_parameters"]["info_dict"]["training_module"]
    return module, {"epoch": int(checkpoint["epoch"]), "step": int(checkpoint["global_step"])}


def build_structures(num_types: int, cutoff: float) -> dict[str, dict[str, np.ndarray]]:
    """A crystal and a molecule with atoms of all types, with all edges within the cutoff; the same in each call."""
    random = np.random.default_rng(0)
    atoms = max(8, num_types)
    side = int(np.ceil(atoms ** (1 / 3)))
    spacing = 0.55 * cutoff
    grid = np.stack(np.meshgrid(*[np.arange(side)] * 3, indexing="ij"), -1).reshape(-1, 3)
    positions = spacing * (grid + 0.12 * random.normal(size=grid.shape))
    types = random.permutation(np.arange(len(grid)) % num_types)
    cell = spacing * (side * np.eye(3) + 0.15 * random.normal(size=(3, 3)))
    molecule = slice(0, atoms)
    return {
        "crystal": _connect(positions, types, cell, cutoff),
        "molecule": _connect(positions[molecule], types[molecule], np.zeros((3, 3)), cutoff),
    }


def _connect(positions: np.ndarray, types: np.ndarray, cell: np.ndarray, cutoff: float) -> dict[str, np.ndarray]:
    """A structure with its edges, by all pairs of atoms and images."""
    periodic = bool(cell.any())
    reach = np.zeros(3, dtype=int)
    if periodic:
        heights = 1.0 / np.linalg.norm(np.linalg.inv(cell), axis=0)
        fractions = positions @ np.linalg.inv(cell)
        reach = np.ceil(cutoff / heights + np.ptp(fractions, axis=0)).astype(int)
    images = np.stack(np.meshgrid(*[np.arange(-n, n + 1) for n in reach], indexing="ij"), -1).reshape(-1, 3)
    centre, neighbour, shift = [], [], []
    for image in images:
        vectors = positions[None] - positions[:, None] + image @ cell
        near = np.linalg.norm(vectors, axis=2) < cutoff
        if not image.any():
            np.fill_diagonal(near, False)
        i, j = np.nonzero(near)
        centre.append(i)
        neighbour.append(j)
        shift.append(np.broadcast_to(image.astype(np.float64), (len(i), 3)))
    return {
        "pos": positions,
        "cell": cell[None],
        "atom_types": types.astype(np.int64),
        "edge_index": np.stack([np.concatenate(centre), np.concatenate(neighbour)]).astype(np.int64),
        "edge_cell_shift": np.concatenate(shift),
    }


if __name__ == "__main__":
    sys.path.pop(0)  # this folder, whose files are of another package
    dump(Path(sys.argv[1]), Path(sys.argv[2]))
