"""A whole config of NequIP's: ``nequip-train -cp RUN -cn config`` runs it by itself, too."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from nequip_like.workflow.runner.external.nequip.settings import MONITORED, NequIPSettings

CHECKPOINTS = "checkpoints"
_LOADER = {"_target_": "torch.utils.data.DataLoader"}
_PER_ATOM_ENERGY = {"_target_": "nequip.data.PerAtomModifier", "field": "total_energy"}


def build_nequip_config(
    settings: NequIPSettings,
    run_dir: Path,
    files: Mapping[str, Sequence[Path]],
    labels: Mapping[str, bool],
    model: Mapping[str, Any] | None,
) -> dict[str, Any]:
    """Build the config of a training.

    Args:
        settings: What the run says.
        run_dir: Its folder.
        files: Extended XYZ files of ``train``, ``val`` and ``test``.
        labels: ``energy`` and ``forces`` as far as the data have them; true where some frame lacks them.
        model: The section ``training_module.model``; None where a model is taken whose file NequIP has to read first.

    Returns:
        The config. Without a model, ``types``, ``cutoff`` and the model are null.
    """
    types = None if model is None else list(model["type_names"])
    module = {
        "_target_": "nequip.train.EMALightningModule",
        "ema_decay": 0.999,
        "loss": _build_metrics(_list_losses(settings, labels)),
        "val_metrics": _build_metrics(_list_errors(settings, labels)),
        "test_metrics": _build_metrics(_list_errors(settings, labels)),
        "optimizer": settings.optimizer,
        "lr_scheduler": settings.scheduler,
        "model": None if model is None else {**model, "type_names": "${types}", "r_max": "${cutoff}"},
    }
    return {
        "run": ["train", "test"] if files["test"] else ["train"],
        "hydra": {"run": {"dir": str(run_dir / "logs" / "hydra")}, "job": {"chdir": False}},
        "types": types,
        "cutoff": None if model is None else model["r_max"],
        "data": _build_data(settings, files),
        "trainer": _build_trainer(settings, run_dir),
        "training_module": module,
    }


def _build_data(settings: NequIPSettings, files: Mapping[str, Sequence[Path]]) -> dict[str, Any]:
    training = {"batch_size": settings.batch_size, "shuffle": True, "drop_last": settings.drop_last}
    workers = {"num_workers": settings.num_workers}
    return {
        "_target_": "nequip.data.datamodule.ASEDataModule",
        "seed": settings.seed,
        **{f"{name}_file_path": [str(file) for file in of_set] for name, of_set in files.items()},
        "ase_args": {"format": "extxyz"},
        "transforms": [
            {"_target_": "nequip.data.transforms.ChemicalSpeciesToAtomTypeMapper", "model_type_names": "${types}"},
            {"_target_": "nequip.data.transforms.NeighborListTransform", "r_max": "${cutoff}"},
        ],
        "train_dataloader": {**_LOADER, **training, **workers},
        "val_dataloader": {**_LOADER, "batch_size": 10, **workers},
        "test_dataloader": {**_LOADER, "batch_size": 10, **workers},
    }


def _build_trainer(settings: NequIPSettings, run_dir: Path) -> dict[str, Any]:
    callbacks: list[dict[str, Any]] = [
        {
            "_target_": "lightning.pytorch.callbacks.ModelCheckpoint",
            "dirpath": str(run_dir / CHECKPOINTS),
            "filename": "best",
            "monitor": MONITORED,
            "enable_version_counter": False,
        },
        {
            "_target_": "lightning.pytorch.callbacks.ModelCheckpoint",
            "dirpath": str(run_dir / CHECKPOINTS),
            "filename": "last",
            "every_n_epochs": settings.save_every,
            "enable_version_counter": False,
        },
    ]
    if settings.stop_after:
        callbacks.append(
            {
                "_target_": "lightning.pytorch.callbacks.EarlyStopping",
                "monitor": MONITORED,
                "patience": settings.stop_after,
            }
        )
    return {
        "_target_": "lightning.Trainer",
        **settings.trainer,
        "num_sanity_val_steps": 0,
        "enable_progress_bar": False,
        "logger": [
            {
                "_target_": "lightning.pytorch.loggers.CSVLogger",
                "save_dir": str(run_dir / "logs"),
                "name": "nequip",
                "version": "",
            }
        ],
        "callbacks": callbacks,
    }


def _build_metrics(entries: list[dict[str, Any]]) -> dict[str, Any]:
    return {"_target_": "nequip.train.MetricsManager", "metrics": entries}


def _list_losses(settings: NequIPSettings, labels: Mapping[str, bool]) -> list[dict[str, Any]]:
    return [
        {
            **_build_entry(name, "mae" if settings.losses[name].endswith("AbsoluteError") else "mse", is_partial),
            "coeff": settings.weights[name],
        }
        for name, is_partial in labels.items()
        if settings.weights[name]
    ]


def _list_errors(settings: NequIPSettings, labels: Mapping[str, bool]) -> list[dict[str, Any]]:
    """Errors of energies per atom and of forces; the best model is that with the least RMSE, weighted as the loss."""
    return [
        {
            **_build_entry(name, metric, is_partial),
            "coeff": settings.weights[name] if metric == "rmse" and settings.weights[name] else None,
        }
        for name, is_partial in labels.items()
        for metric in ("mae", "rmse")
    ]


def _build_entry(name: str, metric: str, is_partial: bool) -> dict[str, Any]:
    kinds = {"mae": "MeanAbsoluteError", "mse": "MeanSquaredError", "rmse": "RootMeanSquaredError"}
    return {
        "name": f"{'per_atom_energy' if name == 'energy' else name}_{metric}",
        "field": dict(_PER_ATOM_ENERGY) if name == "energy" else "forces",
        "metric": {"_target_": f"nequip.train.{kinds[metric]}"},
        "ignore_nan": is_partial,
    }
