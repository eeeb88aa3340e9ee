"""The mistakes that users of NequIP make in their configs: each is one error that names the key."""

from __future__ import annotations

import contextlib
import copy

import pytest
from omegaconf import OmegaConf

from nequip_like.compat.nequip_config import as_own_config, to_own_config
from nequip_like.errors import ConfigError
from tests.compat.flat_config import FLAT, flat, model, transforms

SETS = ("train", "val", "test")

MISTAKES = {
    "section": ([("trainr", {"max_epochs": 3})], "nothing uses 'trainr'", "did you mean 'trainer'"),
    "no section": ([("trainer", ...)], "the config has no 'trainer'", "run, data"),
    "data module": ([("data._target_", "nequip.data.datamodule.ASEDataModul")], "ASEDataModul", "'ASEDataModule'"),
    "other module": ([("data._target_", "nequip.data.datamodule.MD22DataModule")], "no MD22DataModule", "npz"),
    "data key": ([("data.train_file", "a.xyz")], "unknown key 'train_file'", "did you mean 'train_file_path'"),
    "our key in it": ([("data.train", "a.xyz")], "unknown key 'train'", "train_file_path"),
    "no file": ([(f"data.{kind}_file_path", ...) for kind in SETS], "names no file", "val_file_path"),
    "split key": ([("data.split_dataset", {"file_path": "a", "tran": 5, "val": 5})], "'tran'", "did you mean 'train'"),
    "split sum": ([("data.split_dataset", {"file_path": "a", "train": 0.8, "val": 0.1})], "0.9, not to 1", "change"),
    "split kinds": ([("data.split_dataset", {"file_path": "a", "train": 5, "val": 0.1})], "all as numbers", ""),
    "split file": ([("data.split_dataset", {"train": 5, "val": 5})], "no file_path", "path"),
    "split of a test file": (
        [("data.split_dataset", {"file_path": "b.xyz", "val": 5, "test": 5})], "nothing is trained on", "of their own",
    ),
    "two training sets": ([("data.train_file_path", ["a", "b"])], "2 training sets", "list of files"),
    "prediction": ([("data.predict_file_path", "a")], "no task predict", "nequip-test"),
    "ase_args": ([("data.ase_args", {"index": ":10"})], "ase_args has 'index'", "index: ':100'"),
    "mapped types": ([transforms(("ChemicalSpeciesToAtomTypeMapper", {
        "chemical_species_to_atom_type_map": {"H": "H1", "O": "O"}}))], "the type 'H1' of H", "symbols"),
    "other types": (
        [transforms(("ChemicalSpeciesToAtomTypeMapper", {"model_type_names": ["O", "H"]}))], "O, H", "same list",
    ),
    "short lists": ([transforms(r_max=3.5)], "longer edges would be missing", "cutoff_radius"),
    "no transform": ([transforms(("NeighborListTransfrm", {}))], "NeighborListTransfrm", "did you mean"),
    "transform argument": (
        [transforms(("NeighborListTransform", {"r_max": 4.0, "per_edge_cutoff": None}))],
        "NeighborListTransform has the unknown argument 'per_edge_cutoff'", "did you mean 'per_edge_type_cutoff'?",
    ),
    "virial of the other sign": (
        [transforms(("VirialToStressTransform", {}), ("StressSignFlipTransform", {}))], "VirialToStress", "in the file",
    ),
    "loader": ([("data.train_dataloader.batchsize", 5)], "train_dataloader.batchsize", "did you mean 'batch_size'"),
    "sampler": ([("data.train_dataloader.sampler", {"_target_": "x.Y"})], "train_dataloader.sampler", "known are"),
    "manager": ([("data.stats_manager._target_", "nequip.data.CommonStatisticsManager")], "CommonStat", "did you mean"),
    "statistics of a manager that has its own": (
        [("data.stats_manager.metrics", [])],
        "data.stats_manager has the unknown key 'metrics'", "known are dataloader_kwargs, type_names",
    ),
    "statistic": (
        [("data.stats_manager", {"_target_": "nequip.data.DataStatisticsManager", "metrics": [
            {"field": "forces", "metric": {"_target_": "nequip.data.RMS"}}]})], "RMS", "RootMeanSquare",
    ),
    "big data": ([model("avg_num_neighbors", "${big_dataset_stats:OMat,6.0}")], "big_dataset", "training_data_stats"),
    "interpolation": ([model("r_max", "${cutof}")], "cutof", ""),
    "model": ([model("_target_", "nequip.model.ModelFromCheckpoint")], "no ModelFromCheckpoint", "convert it"),
    "modified model": ([model("_target_", "nequip.model.modify")], "no modify", "kernel"),
    "embedded charge": ([model("categorical_graph_field_embed", [{"field": "charge"}])], "categorical", "leave it out"),
    "norm": ([model("convnet_nonlinearity_type", "norm")], "convnet_nonlinearity_type is norm", "gate"),
    "no types": ([model("type_names", ...)], "no type_names", "[H, C, O]"),
    "module": ([("training_module._target_", "nequip.train.ScheduleFreeLightningModule")], "ScheduleFree", "name: Sch"),
    "misspelt loss": ([("training_module.loss._target_", "nequip.train.EnergyForcesLoss")], "loss._target_", "did you"),
    "optimizer": ([("training_module.optimizer._target_", "nequip.train.MuonWithAuxAdam")], "Muon", "name: Muon"),
    "tf32": (
        [("trainer.callbacks", [{"_target_": "nequip.train.callbacks.TF32Scheduler", "schedule": {0: True}}])],
        "switches TF32 on", "leave it out",
    ),
    "callback without a class": ([("trainer.callbacks", [{"monitor": "x"}])], "trainer.callbacks has", "_target_"),
}  # fmt: skip


@pytest.mark.parametrize(("changes", "message", "advice"), MISTAKES.values(), ids=MISTAKES)
def test_mistakes(changes, message, advice):
    with pytest.raises(ConfigError) as caught:
        to_own_config(flat(*changes))
    assert message in caught.value.message + caught.value.advice
    assert advice in caught.value.advice


def test_hybrids_are_refused_too(compose):
    """Our own defaults with NequIP's data module in them."""
    config = compose("data._target_=nequip_like.data.datamodule.ASEDataModule", "+data.train_file_path=a.xyz")
    with pytest.raises(ConfigError, match="defaults"):
        as_own_config(config)


ANYTHING = (None, 5, -1, 2.5, "x", "", True, [], {}, [1], [None], {"a": 1}, {"_target_": 5}, "${nowhere}", "???")


def places(value, place=()):
    """Every key of a nested config, as a tuple."""
    entries = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, entry in entries:
        yield (*place, key)
        yield from places(entry, (*place, key))


@pytest.mark.slow
@pytest.mark.parametrize("place", list(places(FLAT)), ids=lambda place: ".".join(map(str, place)))
def test_anything_in_any_place_is_translated_or_refused(place):
    for value in ANYTHING:
        config = copy.deepcopy(FLAT)
        node = config
        for key in place[:-1]:
            node = node[key]
        node[place[-1]] = value
        with contextlib.suppress(ConfigError):
            as_own_config(OmegaConf.create(config))
