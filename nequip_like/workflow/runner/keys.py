"""Keys of a run file: what may stand under each. What they do is written in ``docs/reference/run-yaml.md``."""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from typing import Annotated, Any, Literal

from nequip_like.arguments import Count, FromZero, NotNegative, Positive, Range
from nequip_like.workflow.config.packaged import read_packaged

TASKS = ("train", "finetune", "resume", "evaluate", "infer", "export", "backend")
TRAINING_TASKS = ("train", "finetune", "resume")
#: Trainers of others: NequIP in an interpreter of its own, and any program that speaks the protocol.
NEQUIP_EXTERNAL, EXTERNAL = "nequip_external", "external"

_Between = Annotated[float, Range(low=0, high=1, low_open=True, high_open=True)]
_Share = Annotated[float, Range(low=0, high=1, low_open=True)]
_Files = str | list[str]
_SUBSET: dict[str, Any] = {
    "max_samples": Count | None,
    "shuffle": bool | None,
    "seed": NotNegative | None,
    "indices_path": str | None,
}

RUN: dict[str, Any] = {
    "name": str,
    "id": str | int,
    "backend": str,
    "task": Literal[TASKS],
    "mode": Literal[TASKS],
    "run_dir": str,
    "model_in": str | dict[str, Any] | None,
    "model": dict[str, Any] | None,
    "device": str,
    "backend_python": str | None,
    "backend_env": dict[str, Any] | None,
    "backend_args": list[Any] | None,
    "backend_command": list[Any] | None,
    "backend_script": str | None,
    "backend_cwd": str | None,
    "backend_time_limit": Positive | None,
    "backend_silence_limit": Positive | None,
    "data": dict[str, Any] | None,
    "train": dict[str, Any] | None,
    "eval": dict[str, Any] | None,
    "output": dict[str, Any] | None,
    "export": dict[str, Any] | None,
}
MODEL: dict[str, Any] = {"manifest": str | None, "weights": str | None}
MODEL_IN: dict[str, Any] = {**MODEL, "path": str | None, "source": str | None}
TRAIN: dict[str, Any] = {
    "input_json": str | None,
    "epochs": Count,
    "batch_size": Count,
    "num_workers": NotNegative,
    "seed": NotNegative,
    "lr": Positive,
    "weight_decay": FromZero,
    "no_decay_keywords": list[str] | None,
    "optimizer": str,
    "amp": bool,
    "accum_steps": Count,
    "drop_last": bool,
    "cycle_steps": int,
    "max_grad_norm": Positive | None,
    "save_every": Count,
    "log_every": Count | None,
    "progress_bar": Literal["auto"] | bool,
    "progress_mininterval": FromZero,
    "freeze": Literal["head_only", "none"] | None,
    "scheduler": Literal["plateau", "step"] | None,
    "lr_factor": _Between,
    "plateau_patience": NotNegative,
    "patience": NotNegative,
    "step_size": Count,
    "gamma": _Share,
    "scheduler_step_unit": Literal["epoch", "cycle"],
    "energy_weight": FromZero,
    "force_weight": FromZero,
    "loss_energy": Literal["mse", "mae"],
    "loss_force": Literal["mse", "mae", "l2mae", "atomwisel2"],
    "head_key": str | None,
    "early_stop_factor": NotNegative,
    "use_core": bool,
    "force_core": bool,
    "config_yml": str | None,
    "identifier": str | None,
}
EVAL: dict[str, Any] = {"energy_only": bool, "amp": bool, "on_error": Literal["stop", "skip"]}
OUTPUT: dict[str, Any] = {
    "dir": str,
    "metrics_json": str | None,
    "metrics_csv": str | None,
    "predictions_csv": str | None,
    "predictions": str | None,
}
EXPORT: dict[str, Any] = {"standard_artifacts": bool}
# Of the file alone: where the data are. All else below data is a key of our own data section, and goes there.
DATA: dict[str, Any] = {
    "train": _Files | None,
    "val": _Files | int | float | None,
    "test": _Files | int | float | None,
    "lmdb": _Files,
    "path": _Files,
    "src": _Files,
    "indices": list[int] | None,
    "indices_path": str | None,
    "train_indices": dict[str, Any] | None,
    "val_indices": dict[str, Any] | None,
    "test_indices": dict[str, Any] | None,
    "trust_pickle": bool,
    "batch_size": Count,
}
SUBSET = _SUBSET
EVALUATED = ("lmdb", "path", "src")  # names of the files that are evaluated; after them data.test


@cache
def list_families() -> tuple[str, ...]:
    """Our model families, as ``model=...`` of ``nequip-train`` names them."""
    entries = files("nequip_like.conf").joinpath("model").iterdir()
    return tuple(sorted(entry.name.removesuffix(".yaml") for entry in entries if entry.name.endswith(".yaml")))


def name_family(backend: str) -> str:
    """The family of models that a backend of ours trains, as model files name it.

    Example:
        >>> name_family("nequip_M"), name_family("descriptor_ann")
        ('nequip', 'descriptor_ann')
    """
    return "nequip" if backend.startswith("nequip") else backend


@cache
def list_optimizers() -> tuple[str, ...]:
    """Names of the packaged optimizers."""
    entries = files("nequip_like.conf").joinpath("optimizer").iterdir()
    return tuple(sorted(entry.name.removesuffix(".yaml") for entry in entries if entry.name.endswith(".yaml")))


@cache
def list_data_keys() -> tuple[str, ...]:
    """Keys of our own data section that a run file may have beside those of :data:`DATA`."""
    own = read_packaged("data/default.yaml")
    return tuple(sorted(set(own) - set(DATA) - {"_target_", "species", "base_targets", "replay"}))
