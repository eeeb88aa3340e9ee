"""A config of NequIP's own kind, and changes of it."""

from __future__ import annotations

import copy

from omegaconf import OmegaConf

from nequip_like.compat.nequip_config import to_own_config

FLAT = {
    "run": ["train", "test"],
    "cutoff": 4.0,
    "types": ["H", "O"],
    "data": {
        "_target_": "nequip.data.datamodule.ASEDataModule",
        "seed": 3,
        "train_file_path": "train.xyz",
        "val_file_path": "val.xyz",
        "test_file_path": ["a.xyz", "b.xyz"],
        "transforms": [
            {
                "_target_": "nequip.data.transforms.ChemicalSpeciesToAtomTypeMapper",
                "model_type_names": "${types}",
                "chemical_species_to_atom_type_map": "${list_to_identity_dict:${types}}",
            },
            {"_target_": "nequip.data.transforms.NeighborListTransform", "r_max": "${cutoff}"},
        ],
        "train_dataloader": {"batch_size": 4, "shuffle": True, "num_workers": 2},
        "val_dataloader": {"batch_size": 7, "num_workers": "${..train_dataloader.num_workers}"},
        "test_dataloader": "${data.val_dataloader}",
        "stats_manager": {"_target_": "nequip.data.CommonDataStatisticsManager", "type_names": "${types}"},
    },
    "trainer": {
        "_target_": "lightning.Trainer",
        "max_epochs": 3,
        "logger": False,
        "enable_progress_bar": False,
        "callbacks": [
            {"_target_": "lightning.pytorch.callbacks.ModelCheckpoint", "monitor": "val0_epoch/forces_rmse"},
        ],
    },
    "training_module": {
        "_target_": "nequip.train.EMALightningModule",
        "loss": {"_target_": "nequip.train.EnergyForceLoss"},
        "val_metrics": {"_target_": "nequip.train.EnergyForceMetrics"},
        "test_metrics": "${training_module.val_metrics}",
        "optimizer": {"_target_": "torch.optim.Adam", "lr": 0.01},
        "model": {
            "_target_": "nequip.model.NequIPGNNModel",
            "seed": 5,
            "model_dtype": "float64",
            "type_names": "${types}",
            "r_max": "${cutoff}",
            "avg_num_neighbors": "${training_data_stats:num_neighbors_mean}",
        },
    },
}


def flat(*changes):
    """The flat config with changes ``(dotted key, value)``; the value ``...`` takes the key out."""
    config = OmegaConf.create(copy.deepcopy(FLAT))
    for key, value in changes:
        if value is ...:
            parent, _, name = key.rpartition(".")
            del (OmegaConf.select(config, parent) if parent else config)[name]
        else:
            OmegaConf.update(config, key, value, merge=False, force_add=True)
    return config


def own(*changes):
    """The translation as plain values, and the notes."""
    translation = to_own_config(flat(*changes))
    return OmegaConf.to_container(translation.config, resolve=False), translation.notes


def transforms(*more, r_max=4.0):
    prefix = "nequip.data.transforms"
    listed = [{"_target_": f"{prefix}.NeighborListTransform", "r_max": r_max}]
    return ("data.transforms", [*listed, *({"_target_": f"{prefix}.{name}", **given} for name, given in more)])


def model(name, value):
    return (f"training_module.model.{name}", value)
