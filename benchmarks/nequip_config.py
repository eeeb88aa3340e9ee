"""A config of NequIP 0.19.1 for a training, as its tutorial has it, for benchmarks that train it beside us."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import yaml

# The architecture of the tutorial, which both codes train; it has parity there, which takes longer.
ARCHITECTURE = {
    "num_layers": 4,
    "l_max": 1,
    "parity": False,
    "num_features": 32,
    "radial_mlp_depth": 2,
    "radial_mlp_width": 64,
}
CUTOFF = 5.0  # Angstrom
CSV_LOGGER = "lightning.pytorch.loggers.CSVLogger"
MONITORED = "val0_epoch/weighted_sum"
_LOADER = {"_target_": "torch.utils.data.DataLoader"}
_EVALUATION_LOADER = {**_LOADER, "batch_size": 10}


def write_nequip_config(
    types: Sequence[str],
    data: Mapping[str, Any],
    trainer: Mapping[str, Any],
    module: Mapping[str, Any],
    model: Mapping[str, Any],
    *,
    batch_size: int = 5,
    tests: bool = False,
) -> str:
    """Write a config that trains one of NequIP's models with averaged weights, on a CPU.

    Args:
        types: Symbols of the species.
        data: Where the frames are, and the seed of their order.
        trainer: Arguments of Lightning's trainer: how long, loggers and callbacks.
        module: Loss, metrics, optimizer and schedule, see :func:`weigh_errors`.
        model: Arguments of the model in place of :data:`ARCHITECTURE`, or beside it.
        batch_size: Frames of a step.
        tests: Whether the data have a test set, which is tested in the end.

    Returns:
        The config, YAML.
    """
    config = {
        "run": ["train", *(["test"] if tests else [])],
        "types": list(types),
        "data": {
            "_target_": "nequip.data.datamodule.ASEDataModule",
            **data,
            "transforms": [
                {"_target_": "nequip.data.transforms.ChemicalSpeciesToAtomTypeMapper", "model_type_names": "${types}"},
                {"_target_": "nequip.data.transforms.NeighborListTransform", "r_max": CUTOFF},
            ],
            "train_dataloader": {**_LOADER, "batch_size": batch_size, "shuffle": True},
            "val_dataloader": _EVALUATION_LOADER,
            **({"test_dataloader": _EVALUATION_LOADER} if tests else {}),
            "stats_manager": {"_target_": "nequip.data.CommonDataStatisticsManager", "type_names": "${types}"},
        },
        "trainer": {"_target_": "lightning.Trainer", "accelerator": "cpu", "num_sanity_val_steps": 0, **trainer},
        "training_module": {
            "_target_": "nequip.train.EMALightningModule",
            **module,
            "model": {
                "_target_": "nequip.model.NequIPGNNModel",
                "model_dtype": "float32",
                "type_names": "${types}",
                "r_max": CUTOFF,
                **ARCHITECTURE,
                "avg_num_neighbors": "${training_data_stats:num_neighbors_mean}",
                "per_type_energy_scales": "${training_data_stats:per_type_forces_rms}",
                "per_type_energy_shifts": "${training_data_stats:per_atom_energy_mean}",
                **model,
            },
        },
    }
    return yaml.dump(config, Dumper=_WithoutAliases, sort_keys=False)


def weigh_errors(kind: str, errors: Sequence[str], has_stress: bool, **arguments: Any) -> dict[str, Any]:
    """A loss or metrics of energies and forces, and of stress where there is one.

    Args:
        kind: ``Loss`` or ``Metrics``.
        errors: Their names, each with the weight 1.
        has_stress: Whether NequIP's class with stress is taken.
        **arguments: Further ones of the class.

    Example:
        >>> weigh_errors("Loss", ["total_energy", "forces"], False)
        {'_target_': 'nequip.train.EnergyForceLoss', 'coeffs': {'total_energy': 1.0, 'forces': 1.0}}
    """
    target = f"nequip.train.EnergyForce{'Stress' if has_stress else ''}{kind}"
    return {"_target_": target, **arguments, "coeffs": dict.fromkeys(errors, 1.0)}


class _WithoutAliases(yaml.SafeDumper):
    """Writes what stands twice twice."""

    def ignore_aliases(self, data: Any) -> bool:
        """Called by YAML."""
        return True
