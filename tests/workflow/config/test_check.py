"""What the check of a config lets pass, and what it must never let pass. Mistakes are in tests/mistakes/configs.py."""

from __future__ import annotations

import sys
import time

import pytest
from omegaconf import OmegaConf

from nequip_like.arguments import NOT_KNOWN_YET
from nequip_like.errors import ConfigError
from nequip_like.workflow.config.check import check_config
from tests.processes import run_python

METRICS = "+training_module.val_metrics.extra_metrics"
STEPS = "torch.optim.lr_scheduler"


# --- sound configs


@pytest.mark.parametrize(
    "overrides",
    [
        [],
        ["run=test", "data.val=null"],
        ["trainer.strategy=ddp", "trainer.devices=2"],
        ["trainer.devices=[0,1]"],
        ["trainer.devices='0,1'"],
        ["trainer.devices=auto", "+trainer.precision=bf16-mixed"],
        ["+trainer.precision=32", "+trainer.limit_val_batches=0.5", "+trainer.deterministic=warn"],
        ["trainer.max_time={hours:1}", "trainer.max_epochs=-1"],
        ["trainer.max_time='00:00:10:00'", "trainer.val_check_interval=0.25"],
        ["trainer.gradient_clip_val=1", "trainer.check_val_every_n_epoch=null", "trainer.val_check_interval=100"],
        ["trainer.gradient_clip_val=${training_data_stats:num_neighbors_mean}"],
        ["training_module.gradient_clip={norm:${training_data_stats:num_neighbors_mean}}"],
        ["trainer.accumulate_grad_batches=${training_data_stats:num_neighbors_mean}"],
        ["lr_scheduler=cosine"],
        ["~training_module.lr_scheduler"],
        ["training_module.optimizer._target_=torch.optim.SGD", "+training_module.optimizer.momentum=0.9"],
        ["optimizer=adamw", "+training_module.optimizer.betas=[0.9,0.99]"],
        ["model.num_features=[32,16]", "model.avg_num_neighbors=12"],
        ["model.pair_potential={name:zbl,units:real}"],
        ["model.pair_potential={_target_:nequip_like.nn.pair_potential.ZBL,units:metal}"],
        ["chemical_species=[H,C,O]", "model.per_type_energy_shifts={H:-13.6,C:-1,O:-2}"],
        ["chemical_species=[H,C,O]", "model.per_edge_type_cutoff={H:3.0,C:{H:3.0}}"],
        ["data.val=[10,0.1,c.xyz]", "monitored_metric=val2_epoch/forces_mae"],
        ["data.test={hot:h.xyz,cold:c.xyz}", "data.reference_energies={H:-13.6}", "+data.path=/nowhere"],
        ["data.train={file:a.xyz,index:':100',units:{energy:kcal/mol}}", "data.key_mapping={e:total_energy}"],
        ["logger=wandb", "+logger.wandb.tags=[a,b]", "+logger.wandb.entity=me"],
        [
            "~logger",
            "~callbacks.learning_rate",
            "callbacks.early_stopping=null",
            "callbacks.best_checkpoint.save_top_k=3",
        ],
        ["+callbacks.s={_target_:lightning.pytorch.callbacks.StochasticWeightAveraging,swa_lrs:0.01}"],
        ["+callbacks.s={_target_:lightning.pytorch.callbacks.GradientAccumulationScheduler,scheduling:{0:1,4:2}}"],
        ["+callbacks.s={_target_:lightning.pytorch.callbacks.ModelCheckpoint,monitor:train_loss_epoch/weighted_sum}"],
        [f"{METRICS}=[{{metric:{{_target_:torchmetrics.R2Score}},field:total_energy,name:r2}}]"],
        [
            f"{METRICS}=[{{metric:{{_target_:nequip_like.metrics.HuberLoss}},field:forces,per_type:true}}]",
            "monitored_metric=val0_epoch/F_huber_H",
        ],
        [
            f"{METRICS}=[{{metric:{{_target_:nequip_like.metrics.MeanAbsoluteError}},"
            "field:{_target_:nequip_like.metrics.modifiers.PerAtomModifier,field:total_energy,factor:1000}}]"
        ],
        ["+training_module.loss.per_type_forces_coeffs={H:1,C:2}"],
        ["training_module=default", "targets=energy_force_stress", "training_module.loss.coeffs.forces=null"],
        ["+my_seed=3", "model.seed=${my_seed}"],
    ],
    ids=lambda overrides: " ".join(overrides)[:60],
)
def test_sound_configs_pass(overrides, compose):
    check_config(compose(*overrides))


@pytest.mark.parametrize("name", ["torch.optim.Adam", "torch.optim.SGD", "nequip_like.optim.muon.MuonAndAdamW"])
def test_another_optimizer_takes_the_place_of_the_default(name, compose):
    """In configs that name a class only: the default has no keys that others lack."""
    config = compose("optimizer=soap", f"training_module.optimizer._target_={name}")
    assert check_config(config).values["training_module"]["optimizer"] == {"_target_": name, "lr": 0.005}


@pytest.mark.parametrize("size", ["S", "M", "L", "XL"])
def test_presets_pass(size):
    """A preset without the tiny model's keys."""
    from hydra import compose, initialize_config_module

    with initialize_config_module("nequip_like.conf", version_base="1.3"):
        config = compose("tutorial", [f"model=nequip_{size}", "~model.num_layers", "output_dir=x"])
    assert check_config(config).values["model"]["preset"] == size


@pytest.mark.parametrize(
    "schedule",
    [
        {
            "_target_": f"{STEPS}.SequentialLR",
            "schedulers": [
                {"_target_": f"{STEPS}.LinearLR", "total_iters": 3},
                {"_target_": f"{STEPS}.CosineAnnealingLR", "T_max": 10},
            ],
            "milestones": [3],
        },
        {
            "scheduler": {"_target_": f"{STEPS}.OneCycleLR", "max_lr": 0.01, "total_steps": 100},
            "interval": "step",
        },
        {
            "_target_": f"{STEPS}.ChainedScheduler",
            "schedulers": [{"_target_": f"{STEPS}.ExponentialLR", "gamma": 0.9}],
        },
    ],
)
def test_schedules_pass(schedule, compose):
    config = compose()
    OmegaConf.set_struct(config, False)
    config.training_module.lr_scheduler = schedule
    check_config(config)


def test_packaged_configs_pass():
    from hydra import compose, initialize_config_module

    for name, overrides in (("tutorial", []), ("train", ["experiment=3bpa"])):
        with initialize_config_module("nequip_like.conf", version_base="1.3"):
            checked = check_config(compose(name, [*overrides, "output_dir=x"]))
        assert checked.tasks == ["train", "val", "test"]


def test_what_it_finds(compose):
    checked = check_config(compose("data.val=[5,0.2]"))
    assert checked.tasks == ["train", "val", "test"]
    assert checked.values["model"]["avg_num_neighbors"] is NOT_KNOWN_YET
    assert checked.values["data"]["species"] is NOT_KNOWN_YET
    assert checked.parts.sets == {"train": ["train"], "val": ["val", "val_2"], "test": ["test"]}
    assert checked.parts.managers["loss"].coeffs == {"per_atom_energy_mse": 0.5, "forces_mse": 0.5}
    assert set(checked.parts.monitored.values()) == {"val0_epoch/weighted_sum"}


def test_it_reads_and_changes_nothing(compose, tmp_path):
    config = compose("data.train=nowhere.xyz")
    before = OmegaConf.to_yaml(config)
    check_config(config)
    assert OmegaConf.to_yaml(config) == before
    assert not (tmp_path / "run").exists()


def test_it_downloads_nothing(compose, tmp_path, monkeypatch):
    monkeypatch.setenv("NEQUIP_LIKE_CACHE", str(tmp_path / "cache"))
    checked = check_config(compose("+data.path=${published_data:3bpa}"))
    assert checked.values["data"]["path"] == str(tmp_path / "cache" / "3bpa")
    assert not (tmp_path / "cache").exists()


def test_it_is_quick(compose):
    config = compose()
    check_config(config)
    start = time.process_time()
    check_config(config)
    assert time.process_time() - start < 1.0


def test_smaller_cutoff_of_the_model_is_a_warning(compose):
    with pytest.warns(UserWarning, match=r"r_max is 3\.0, but data\.cutoff_radius is 4\.0.*cost time"):
        check_config(compose("model.r_max=3.0"))


def test_monitored_names_of_species_not_known_yet(compose):
    per_type = f"{METRICS}=[{{metric:{{_target_:nequip_like.metrics.HuberLoss}},field:forces,per_type:true}}]"
    with pytest.raises(ConfigError, match="monitored_metric is 'val0_epoch/F_huber_water', which is not logged"):
        check_config(compose(per_type, "monitored_metric=val0_epoch/F_huber_water"))
    with pytest.raises(ConfigError, match="monitored_metric is 'val0_epoch/F_huber_N', which is not logged"):
        check_config(compose(per_type, "chemical_species=[H,C,O]", "monitored_metric=val0_epoch/F_huber_N"))


# --- code of the user's


@pytest.fixture
def own_package(tmp_path, monkeypatch):
    (tmp_path / "own_parts.py").write_text(
        "import os\n"
        "from lightning.pytorch.callbacks import Callback\n"
        "from nequip_like.training import EMALightningModule\n"
        "class Mine(Callback):\n"
        "    def __init__(self, every: int = 1) -> None:\n"
        "        self.every = every\n"
        "class Module(EMALightningModule):\n"
        "    def __init__(self, extra: float = 1.0, **arguments) -> None:\n"
        "        super().__init__(**arguments)\n"
        "def groups(model, scale: float = 1.0):\n"
        "    return list(model.parameters())\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    yield "own_parts"
    sys.modules.pop("own_parts", None)


def test_trusted_package_passes_and_is_checked(own_package, compose):
    trust = f"trusted_packages=[{own_package}]"
    callback = "+callbacks.mine={_target_:own_parts.Mine,every:2}"
    with pytest.raises(ConfigError, match=r"in no trusted package\n.*trusted_packages: \[own_parts\]"):
        check_config(compose(callback))
    assert "own_parts" not in sys.modules
    assert check_config(compose(callback, trust)).trusted == ("own_parts",)
    check_config(compose(trust, "+training_module.optimizer.param_groups={_target_:own_parts.groups,scale:2.0}"))
    module = "training_module._target_=own_parts.Module"
    check_config(compose(trust, module, "+training_module.extra=2.0"))
    for override, message in (
        ("+training_module.extr=2.0", "Module takes no 'extr'\n  -> did you mean 'extra'"),
        ("training_module.ema_decay=2", r"training_module\.ema_decay is 2"),
        ("+training_module.optimizer.param_groups={_target_:own_parts.groups,scal:2.0}", "groups takes no 'scal'"),
        ("+callbacks.mine={_target_:own_parts.os.system}", "leads to os, not to a trusted package"),
    ):
        with pytest.raises(ConfigError, match=message):
            check_config(compose(trust, module, override))


# --- what must never pass


@pytest.mark.parametrize(
    "key",
    [
        "callbacks.mine",
        "training_module.val_metrics.deep",
        "data.x",
        "trainer.x",
        "model.pair_potential",
        "global_options",
    ],
)
def test_code_is_found_at_any_depth(key, compose):
    config = compose()
    OmegaConf.set_struct(config, False)
    OmegaConf.update(config, key, {"_target_": "nequip_like.metrics.HuberLoss", "x": [{"_target_": "os.system"}]})
    with pytest.raises(ConfigError, match=rf"{key}\.x\[0\]\._target_ is 'os.system', which is in no trusted package"):
        check_config(config)


def test_nothing_untrusted_is_imported(tmp_path):
    """In a process of its own: the modules that come in."""
    (tmp_path / "evil.py").write_text("open('imported', 'w')\n")
    (tmp_path / "config.yaml").write_text(
        "defaults: [train, _self_]\ndata: {train: a.xyz}\ncallbacks: {x: {_target_: evil.Callback}}\n"
        "hydra: {callbacks: {x: {_target_: evil.Callback}}}\n"
    )
    (tmp_path / "search.yaml").write_text("defaults: [train, _self_]\nhydra: {searchpath: ['pkg://evil']}\n")
    for name in ("config.yaml", "search.yaml"):
        done = run_python("-m", "nequip_like.cli.train", name, cwd=tmp_path)
        assert done.returncode == 2, done.stderr
        assert "in no trusted package" in done.stderr
    assert {path.name for path in tmp_path.iterdir()} == {"evil.py", "config.yaml", "search.yaml"}


@pytest.mark.parametrize("name", ["os", "subprocess", "builtins", "importlib.util", "hydra", "hydra.utils"])
def test_what_cannot_be_trusted(name, compose):
    with pytest.raises(ConfigError, match=f"trusted_packages has '{name}'"):
        check_config(compose(f"trusted_packages=[{name}]"))


@pytest.mark.parametrize("value", ["os", {"a": 1}, [1], 3])
def test_trusted_packages_is_a_list_of_names(value, compose):
    config = compose()
    config.trusted_packages = value
    with pytest.raises(ConfigError, match="trusted_packages is"):
        check_config(config)
