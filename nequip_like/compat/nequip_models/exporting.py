"""A model of NequIP's from a potential: a checkpoint or a package that NequIP's tools load."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import ase.io
import numpy as np
import torch
from ase import Atoms
from ase.data import atomic_numbers

from nequip_like.compat.nequip_models.contents import NequIPContent
from nequip_like.compat.nequip_models.importing import compare_predictions
from nequip_like.compat.nequip_models.packages import SUFFIX
from nequip_like.compat.nequip_models.peer_dump import build_structures
from nequip_like.compat.nequip_models.peer_export import PREDICTIONS
from nequip_like.compat.nequip_models.peers import run_in_nequip
from nequip_like.compat.nequip_weights import to_nequip_weights
from nequip_like.errors import ConfigError, ModelError
from nequip_like.model.nequip import NequIPEnergy
from nequip_like.model.potential import Potential
from nequip_like.whole_files import path_of, temporary_folder, written_whole

# Arguments that NequIP does not have: how weights begin, and how they are evaluated.
_OURS = ("type_embedding_start", "kernel")


def export_to_nequip(potential: Potential, output: str | Path, python: str | Path | None) -> dict[str, float]:
    """Write a potential for NequIP 0.19.

    A package (``.nequip.zip``) has all that ``nequip-compile``, ``ModelFromPackage`` and NequIP's calculators need. A
    checkpoint (``.ckpt``) is what ``nequip-package`` and ``ModelFromCheckpoint`` take; it names a file with one
    structure, which is written beside it. An uncertainty is left out: NequIP has none.

    Args:
        potential: Of the family ``nequip``.
        output: The file, with one of these suffixes.
        python: An interpreter that has NequIP, which writes the file.

    Returns:
        The largest differences between its predictions and NequIP's with the new file, by quantity.

    Raises:
        ConfigError: If there is no such interpreter, it has no NequIP, or the file has another suffix.
        ModelError: If the potential is of another family.
        ModelFileError: If NequIP cannot build the model, or predicts something else.
        OutputError: If a file cannot be written.
    """
    path = path_of(output)
    if not path.name.endswith((SUFFIX, ".ckpt")):
        raise ConfigError(f"{path} is to be a model of NequIP's", f"give a name that ends in {SUFFIX} or .ckpt")
    if python is None:
        raise ConfigError("NequIP's files are written by NequIP", "name its interpreter: --nequip-python PYTHON")
    if not isinstance(potential.energy_model, NequIPEnergy):
        raise ModelError(
            f"a potential of the family '{potential.config.get('family')}' cannot be written for NequIP",
            "only those of the family nequip can; of a committee write each member",
        )
    structures = build_structures(len(potential.type_names), potential.cutoff)
    example = name_example(path)
    with tempfile.TemporaryDirectory(dir=temporary_folder()) as name:
        folder = Path(name)
        if example is not None:
            with written_whole(example) as partial:
                ase.io.write(partial, _make_example(structures["crystal"], potential), format="extxyz")
        else:
            ase.io.write(folder / "example.xyz", _make_example(structures["crystal"], potential), format="extxyz")
        request = {
            "model": {"_target_": "nequip.model.FullNequIPGNNModel", **describe_arguments(potential)},
            "data": _describe_data(example or folder / "example.xyz", potential),
            "lightning": version("lightning"),
        }
        (folder / "request.json").write_text(json.dumps(request), encoding="utf-8")
        weights = {f"weights|{key}": value.numpy() for key, value in to_nequip_weights(potential).items()}
        graphs = {
            f"structure|{of}|{key}": value
            for of, structure in structures.items()
            for key, value in structure.items()
            if structure["cell"].any() or key not in ("cell", "edge_cell_shift")
        }
        np.savez(folder / "arrays.npz", **weights, **graphs)  # type: ignore[arg-type] # names are not those of options
        target = folder / f"written{SUFFIX if example is None else '.ckpt'}"  # the suffix tells NequIP what it is
        run_in_nequip(python, "peer_export.py", [str(folder), str(target)], f"write {path}")
        differences = _check_predictions(potential, structures, folder, path)
        with written_whole(path) as partial:
            partial.write_bytes(target.read_bytes())
    return differences


def name_example(output: Path) -> Path | None:
    """The file with one structure that a checkpoint names, which stands beside it; None for a package."""
    return output.with_name(f"{output.stem}.example.xyz") if output.suffix == ".ckpt" else None


def describe_arguments(potential: Potential) -> dict[str, Any]:
    """Arguments of NequIP's ``FullNequIPGNNModel`` that build the same model.

    Example:
        >>> from nequip_like.model import NequIPGNNModel
        >>> tiny = {"r_max": 3, "num_layers": 2, "num_features": 4, "avg_num_neighbors": 2, "kernel": "reference"}
        >>> arguments = describe_arguments(NequIPGNNModel(type_names=["H", "O"], pair_potential="zbl", **tiny))
        >>> arguments["feature_irreps_hidden"], arguments["pair_potential"]["_target_"], arguments["r_max"]
        (['4x0e+4x0o+4x1e+4x1o', '4x0e'], 'nequip.nn.pair_potential.ZBL', 3.0)
    """
    arguments = {key: value for key, value in potential.config["arguments"].items() if key not in _OURS}
    model = potential.energy_model
    if not isinstance(model, NequIPEnergy):
        raise ModelError("only a potential of the family nequip has arguments of NequIP's")
    names = list(potential.type_names)
    arguments["r_max"] = float(potential.cutoff)
    exponent = float(arguments["polynomial_cutoff_p"])
    arguments["polynomial_cutoff_p"] = int(exponent) if exponent.is_integer() else exponent
    # NequIP takes 2.0 for a radius, and not 2.
    arguments["per_edge_type_cutoff"] = _convert_to_floats(arguments.get("per_edge_type_cutoff"))
    arguments["avg_num_neighbors"] = _convert_to_floats(arguments.get("avg_num_neighbors"))
    for kind in ("scales", "shifts"):
        values = getattr(model.scale_shift, kind).detach().cpu().tolist()
        arguments[f"per_type_energy_{kind}"] = dict(zip(names, values, strict=True))
    arguments["pair_potential"] = _describe_pair_potential(arguments.get("pair_potential"), names)
    for kind in ("scalars", "gates"):  # NequIP takes no null for its defaults, and all parities or none
        if (given := arguments.pop(f"convnet_nonlinearity_{kind}")) is not None:
            arguments[f"convnet_nonlinearity_{kind}"] = {"e": "silu", "o": "tanh", **given}
    return arguments


def _convert_to_floats(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _convert_to_floats(entry) for key, entry in value.items()}
    return float(value) if isinstance(value, int) and not isinstance(value, bool) else value


def _describe_pair_potential(value: str | Mapping[str, Any] | None, names: list[str]) -> dict[str, Any] | None:
    if value is None:
        return None
    given = {} if isinstance(value, str) else {k: v for k, v in value.items() if k not in ("name", "_target_")}
    needed = {"units": "metal", "chemical_species": names}
    return {"_target_": "nequip.nn.pair_potential.ZBL", **needed, **given}


def _make_example(structure: Mapping[str, np.ndarray], potential: Potential) -> Atoms:
    """A structure for NequIP to trace its model with."""
    numbers = [atomic_numbers[potential.type_names[kind]] for kind in structure["atom_types"]]
    return Atoms(numbers, positions=structure["pos"], cell=structure["cell"][0], pbc=True)


def _describe_data(example: Path, potential: Potential) -> dict[str, Any]:
    """The section ``data`` of a config of NequIP's that has one structure."""
    names = list(potential.type_names)
    transforms = "nequip.data.transforms"
    return {
        "_target_": "nequip.data.datamodule.ASEDataModule",
        "seed": 0,
        "train_file_path": str(example.absolute()),
        "val_file_path": str(example.absolute()),  # without one NequIP opens no data
        "transforms": [
            {"_target_": f"{transforms}.ChemicalSpeciesToAtomTypeMapper", "model_type_names": names},
            {"_target_": f"{transforms}.NeighborListTransform", "r_max": potential.cutoff},
        ],
        "train_dataloader": {"_target_": "torch.utils.data.DataLoader", "batch_size": 1},
        "val_dataloader": {"_target_": "torch.utils.data.DataLoader", "batch_size": 1},
    }


def _check_predictions(
    potential: Potential, structures: Mapping[str, Mapping[str, np.ndarray]], folder: Path, path: Path
) -> dict[str, float]:
    with np.load(folder / PREDICTIONS, allow_pickle=False) as stored:
        predicted: dict[str, dict[str, torch.Tensor]] = {}
        for name in stored.files:
            _, structure, key = name.split("|")
            predicted.setdefault(structure, {})[key] = torch.from_numpy(stored[name])
    graphs = {
        name: {key: torch.from_numpy(value) for key, value in structure.items()}
        for name, structure in structures.items()
    }
    dtype = potential.config["arguments"]["model_dtype"]
    return compare_predictions(potential, NequIPContent(path, {"model_dtype": dtype}, {}, {}, graphs, predicted))
