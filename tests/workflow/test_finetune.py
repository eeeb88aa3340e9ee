"""Fine-tuning: step 0 is the source, frozen numbers stay bit for bit, low-rank adaptation."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from omegaconf import OmegaConf

from nequip_like.data import fields
from nequip_like.data.graph import collate
from nequip_like.errors import ConfigError, ModelError
from nequip_like.inference import load_any
from nequip_like.workflow import setup
from nequip_like.workflow.finetune import run as finetune
from nequip_like.workflow.finetune.agreement import compare_with_source
from nequip_like.workflow.train import train
from tests.workflow.test_resume import last
from tests.workflow.tuning import (
    EXACT,
    KERNELS,
    READOUT,
    begun,
    plain,
    source_potential,
)

# --- step 0


@pytest.mark.parametrize("module", ["ema", "default"])
@pytest.mark.parametrize("kernel", KERNELS)
def test_step_0_is_the_source(module: str, kernel: str, tune: Any) -> None:
    """Raw and averaged weights, also with adaptation, on data with other statistics and another order of species."""
    for way in ("finetune.lora=null", "finetune.lora={rank:2}"):
        config = tune(f"training_module={module}", f"model.kernel={kernel}", way)
        tuning, data, training = begun(config)
        assert data.type_names == ["O", "H", "C", "N"]  # the data, by itself: H, C, O
        batch = collate(list(data.val_sets["val"]))
        expected = tuning.source(batch)
        for model in (training.model, training.evaluation_model):
            found = model.eval()(batch)
            for name in (fields.TOTAL_ENERGY, fields.FORCES):
                assert (found[name] - expected[name]).abs().max() < (EXACT if kernel == "fused" else 1e-300), name
        own = training.model.config["arguments"]
        assert own["avg_num_neighbors"] == 7.5
        assert own["per_type_energy_shifts"] == {"O": -3.0, "H": -1.0, "C": -2.0, "N": -4.0}


def test_what_is_printed(tune: Any, capsys: pytest.CaptureFixture) -> None:
    train(tune("run=[train]", "trainer.max_epochs=1", "finetune.modules=[readout]"))
    shown = " ".join(capsys.readouterr().out.replace("│", " ").split())
    assert "trained 4 of 468 parameters, in readout.weights" in shown
    assert "species O H C N" in shown
    assert "shifts as the source" in shown
    assert "energies to 0.0e+00 eV/atom, forces to 0.0e+00" in shown


def test_evaluation_alone(tune: Any) -> None:
    """Without training, metrics are those of the source."""
    config = tune("run=[val]")
    result = train(config)
    tuning, data, _ = begun(tune())
    batch = collate(list(data.val_sets["val"]))
    error = (tuning.source(batch)[fields.FORCES] - batch[fields.FORCES]).square().mean().sqrt()
    assert result.metrics["val0_epoch/forces_rmse"] == pytest.approx(float(error), rel=EXACT)


def test_a_model_that_is_not_its_source_stops_the_run(tune: Any) -> None:
    tuning, data, module = begun(tune())
    assert compare_with_source(tuning, module.model, data).forces == 0.0
    with torch.no_grad():
        module.model.energy_model.readout.weights[0].add_(0.1)
    with pytest.raises(ModelError, match=r"does not begin as its source: energies differ by .* eV/atom"):
        compare_with_source(tuning, module.model, data)


# --- the model is the source's


def test_the_model_need_not_be_repeated(tmp_path: Path, source: Path, molecule_file: Path) -> None:
    """A config with nothing but data and source."""
    config = plain(f"data.train={molecule_file}", f"finetune.source={source}", f"output_dir={tmp_path}")
    tuning, data, module = begun(config)
    assert module.model.config["arguments"] == {**tuning.source.config["arguments"], "kernel": "auto"}
    assert config.cutoff_radius == data.cutoff_radius == 4.0
    assert config.training_module.model.num_bessels == 8
    assert config.training_module.model._target_ == "nequip_like.model.FullNequIPGNNModel"
    assert list(config.chemical_species) == ["O", "H", "C", "N"]


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("model.num_layers=3", "model.num_layers is 3, but the model of .*source.safetensors has 2"),
        ("model.l_max=3", "model.l_max is 3, but .* has 1"),
        ("model.num_features=8", r"model.num_features is 8, but .* has \[4, 4\]"),
        ("model.radial_mlp_width=16", r"model.radial_mlp_width is 16, but .* has \[8, 8\]"),
        ("model.num_bessels=6", "model.num_bessels is 6, but .* has 8"),
        ("model.avg_num_neighbors=3.0", "model.avg_num_neighbors is 3.0, but .* has 7.5"),
        ("model.per_type_energy_shifts={H:-1,C:-2,O:-9,N:-4}", "model.per_type_energy_shifts is .*, but .* has"),
        ("model.pair_potential=zbl", "model.pair_potential is zbl, but .* has null"),
        ("cutoff_radius=3.5", "cutoff_radius is 3.5, but .* has 4.0"),
    ],
)
def test_what_the_config_says_otherwise_is_refused(override: str, message: str, tune: Any) -> None:
    with pytest.raises(ConfigError, match=message):
        finetune.begin(tune(override), None)


def test_another_size_is_refused(source: Path) -> None:
    config = plain("model=nequip_S", f"finetune.source={source}", "data.train=a.xyz", "output_dir=.")
    with pytest.raises(ConfigError, match=r"model.preset is S \(parity False\), but the model of .* has True"):
        finetune.begin(config, None)


def test_the_same_said_again_is_welcome(tune: Any) -> None:
    same = (
        "model.num_layers=2",
        "model.num_features=[4,4]",
        "model.avg_num_neighbors=7.5",
        "model.model_dtype=float64",
    )
    assert finetune.begin(tune(*same, "model.type_embed_num_features=4"), None) is not None


def test_a_model_within_the_training_module(tune: Any) -> None:
    """As NequIP's configs have it."""

    def within(layers: int) -> Any:
        config = tune()
        OmegaConf.set_struct(config, False)
        node = {"_target_": "nequip_like.model.NequIPGNNModel", "num_layers": layers, "kernel": "batched"}
        config.training_module.model = node
        del config["model"]
        return config

    config = within(2)
    *_, module = begun(config)
    assert module.model.type_names == ["O", "H", "C", "N"]
    assert config.training_module.model._target_ == "nequip_like.model.FullNequIPGNNModel"
    with pytest.raises(ConfigError, match=r"training_module.model.num_layers is 3, but the model of"):
        finetune.begin(within(3), None)


def test_data_that_see_less_far_are_refused(tune: Any) -> None:
    with pytest.raises(ConfigError, match=r"data.cutoff_radius is 3.0, but the model of .* sees 4.0 Angstrom far"):
        begun(tune("data.cutoff_radius=3.0"))


def test_trained_shifts(tune: Any) -> None:
    *_, module = begun(tune("model.per_type_energy_shifts_trainable=true", "finetune.freeze=head_only"))
    trained = [name for name, parameter in module.model.named_parameters() if parameter.requires_grad]
    assert trained == [READOUT, "energy_model.scale_shift.shifts"]


# --- frozen


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize(
    ("setting", "trained"),
    [
        ("finetune.freeze=head_only", [READOUT]),
        ("finetune.modules=[readout,type_embedding]", ["energy_model.type_embedding", READOUT]),
        pytest.param(
            "finetune.modules=[layers.1.linear_in]",
            ["energy_model.layers.1.linear_in.weights.*"],
            marks=pytest.mark.slow,
        ),
    ],
)
def test_frozen_parameters_stay_bit_for_bit(setting: str, trained: list[str], kernel: str, tune: Any) -> None:
    """With weight decay and an average; and the optimizer holds nothing for them."""
    result = train(tune("run=[train]", "optimizer=adamw", setting, f"model.kernel={kernel}"))
    checkpoint = last(result.folder)
    before = source_potential().state_dict()
    chosen = [name for name in before if any(name.startswith(each.rstrip("*")) for each in trained)]
    for name, tensor in before.items():
        for prefix in ("model.", "ema.module."):
            same = torch.equal(checkpoint["state_dict"][prefix + name], tensor)
            assert same == (name not in chosen), prefix + name
    groups = checkpoint["optimizer_states"][0]
    assert sum(len(group["params"]) for group in groups["param_groups"]) == len(chosen)
    assert len(groups["state"]) == len(chosen)


def test_unknown_module(tune: Any) -> None:
    with pytest.raises(ConfigError, match=r"finetune.modules: no parameter .* 'redout'.*\n.*did you mean 'readout'"):
        begun(tune("finetune.modules=[redout]"))


# --- LoRA


@pytest.mark.parametrize("kernel", KERNELS)
def test_adaptation(kernel: str, tune: Any, tmp_path: Path) -> None:
    """Weights stay bit for bit, the products do not; what is exported has them merged and predicts the same."""
    adapted = ("finetune.lora={rank:2,alpha:4}", "finetune.modules=[readout]", f"model.kernel={kernel}")
    result = train(tune("run=[train]", *adapted))
    state = last(result.folder)["state_dict"]
    for name, tensor in source_potential().state_dict().items():
        assert torch.equal(state[f"model.{name}"], tensor) == (name != READOUT), name
    changed = [name for name in state if name.startswith("model.") and "lora_b_" in name and bool(state[name].any())]
    assert changed
    exported, card = load_any(result.model_file)
    from_checkpoint, _ = load_any(result.folder / "checkpoints" / "best.ckpt")
    assert not [name for name in exported.state_dict() if "lora" in name]
    for name, tensor in from_checkpoint.state_dict().items():
        assert torch.equal(exported.state_dict()[name], tensor), name
    assert card["provenance"]["finetune"]["source"].endswith("source.safetensors")
    # A checkpoint by itself, with the structure of the run.
    by_itself = ("run=[val]", f"ckpt_path={result.best_checkpoint}", f"output_dir={tmp_path / 'val'}")
    for name, value in train(tune(*by_itself, *adapted)).metrics.items():
        assert value == pytest.approx(card["metrics"][name], rel=1e-9), name
    # The numbers on the card are those of the adapted network.
    batch = collate(list(setup.build_data(tune(), ["O", "H", "C", "N"]).val_sets["val"]))
    error = (exported(batch)[fields.FORCES] - batch[fields.FORCES]).square().mean().sqrt()
    assert card["metrics"]["val0_epoch/forces_rmse"] == pytest.approx(float(error), rel=1e-9)


def test_adaptation_of_nothing(tune: Any) -> None:
    with pytest.raises(ConfigError, match=r"finetune.modules names all linear layers, and finetune.lora none"):
        begun(tune("finetune.lora={rank:2}", "finetune.modules=[weights]"))
