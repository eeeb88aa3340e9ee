"""Suggest the place of a key that was written elsewhere in a config, or that has another name in another package."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from typing import Any

_MOST = 3  # places that a hint names
_CLOSE = 0.8  # a likeness; names of all sections are compared, and a far one would mislead

_SPECIES = ("species", "elements", "types", "type_names", "model_type_names", "chemical_symbols", "atomic_numbers")
_CUTOFF = ("r_max", "rmax", "cutoff", "r_cut", "rcut", "cutoff_r", "radial_cutoff")
_EPOCHS = ("epochs", "n_epochs", "num_epochs", "max_num_epochs", "nepochs", "max_epoch")
_TRAIN_FILE = ("train", "train_file", "train_file_path", "dataset_file_name", "dataset", "training_data", "train_data")
_VAL_FILE = ("val", "valid", "val_file", "valid_file", "val_file_path", "validation_dataset_file_name", "n_val")
_SHIFTS = ("E0s", "e0s", "per_species_rescale_shifts", "isolated_atom_energies", "atomic_energies", "atom_refs")

# Names that NequIP (flat and nested configs), MACE, and habit have for keys of ours.
OTHER_NAMES: dict[str, str] = {
    **dict.fromkeys(_SPECIES, "chemical_species"),
    **dict.fromkeys(_CUTOFF, "cutoff_radius"),
    **dict.fromkeys(_EPOCHS, "trainer.max_epochs"),
    **dict.fromkeys(("learning_rate", "lrate", "LR"), "training_module.optimizer.lr"),
    **dict.fromkeys(_TRAIN_FILE, "data.train"),
    **dict.fromkeys(_VAL_FILE, "data.val"),
    **dict.fromkeys(("test", "test_file", "test_file_path", "n_test"), "data.test"),
    **dict.fromkeys(("batch", "bs", "batchsize"), "data.batch_size"),
    **dict.fromkeys(("valid_batch_size", "validation_batch_size"), "data.val_batch_size"),
    **dict.fromkeys(("workers", "n_workers", "dataloader_num_workers"), "data.num_workers"),
    **dict.fromkeys(("energy_key", "forces_key", "stress_key"), "data.key_mapping"),
    **dict.fromkeys(_SHIFTS, "data.reference_energies"),
    "dataset_seed": "data.split_seed",
    **dict.fromkeys(("lmax", "max_ell", "max_L"), "model.l_max"),
    **dict.fromkeys(("layers", "n_layers", "num_interactions", "num_interaction_blocks"), "model.num_layers"),
    **dict.fromkeys(("features", "n_features", "channels", "num_channels"), "model.num_features"),
    **dict.fromkeys(("num_basis", "num_radial_basis", "num_bessel_functions"), "model.num_bessels"),
    "invariant_layers": "model.radial_mlp_depth",
    "invariant_neurons": "model.radial_mlp_width",
    "PolynomialCutoff_p": "model.polynomial_cutoff_p",
    **dict.fromkeys(("dtype", "default_dtype", "precision"), "model.model_dtype"),
    **dict.fromkeys(("device", "gpu", "cuda"), "trainer.accelerator"),
    **dict.fromkeys(("gpus", "n_gpus", "num_gpus", "ngpus"), "trainer.devices"),
    **dict.fromkeys(("nodes", "n_nodes"), "trainer.num_nodes"),
    **dict.fromkeys(("clip_grad", "gradient_clip_norm", "max_grad_norm"), "training_module.gradient_clip"),
    **dict.fromkeys(("time_limit", "max_hours", "walltime"), "trainer.max_time"),
    "scheduler": "lr_scheduler",
    "eval_interval": "trainer.check_val_every_n_epoch",
    **dict.fromkeys(("loss_coeffs", "loss_weights"), "training_module.loss.coeffs"),
    "energy_weight": "training_module.loss.coeffs.total_energy",
    "forces_weight": "training_module.loss.coeffs.forces",
    **dict.fromkeys(("metrics_key", "monitor"), "monitored_metric"),
    "early_stopping_patiences": "callbacks.early_stopping.patience",
    "lr_scheduler_patience": "training_module.lr_scheduler.scheduler.patience",
    "lr_scheduler_factor": "training_module.lr_scheduler.scheduler.factor",
    **dict.fromkeys(("checkpoint", "ckpt", "restart", "resume_from"), "ckpt_path"),
    **dict.fromkeys(("restart_latest", "append"), "resume"),
    **dict.fromkeys(("foundation_model", "pretrained"), "finetune.source"),
    **dict.fromkeys(("output", "out_dir", "outdir", "save_dir", "work_dir", "root"), "output_dir"),
    "name": "run_name",
}


def place_hint(name: str, config: Mapping[str, Any], written_key: str = "", *, exactly: bool = True) -> str:
    """Begin of an advice: ``did you mean 'trainer.max_epochs'?`` and a space, empty if nothing could be meant.

    Args:
        name: The last part of the key that was written.
        config: The config as plain values, interpolations as they are written: what only repeats another key is none.
        written_key: The key that was written, which is no place.
        exactly: Whether a name that is only much like a key's counts for nothing.
    """
    places = [place for place in _find_places(name, config, exactly) if place != written_key]
    # `early_stopping.patience` lacks only what stands before it.
    places = [place for place in places if place.endswith(f".{written_key}")] or places[:_MOST]
    return f"did you mean {' or '.join(repr(place) for place in places)}? " if places else ""


def _find_places(name: str, config: Mapping[str, Any], exactly: bool) -> list[str]:
    """Find our key for a name of another package; else all keys that end with it, or with a similar name."""
    if name in OTHER_NAMES:
        return [OTHER_NAMES[name]]
    keys_by_name: dict[str, list[str]] = {}
    for key in _walk_keys(config):
        keys_by_name.setdefault(key.rpartition(".")[2], []).append(key)
    close = [name] if exactly else difflib.get_close_matches(name, keys_by_name, n=1, cutoff=_CLOSE)
    return keys_by_name.get(close[0], []) if close else []


def _walk_keys(node: Mapping[str, Any], above: str = "") -> Iterator[str]:
    for key, value in node.items():
        if key == "hydra" or (isinstance(value, str) and value.startswith("${") and "training_data" not in value):
            continue
        yield f"{above}{key}"
        if isinstance(value, Mapping):
            yield from _walk_keys(value, f"{above}{key}.")
