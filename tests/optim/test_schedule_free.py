"""Schedule-free optimizers: what is trained, and what is evaluated and saved."""

from __future__ import annotations

import lightning
import pytest
import schedulefree
import torch
from torch import nn

from nequip_like.errors import ConfigError
from nequip_like.inference.loading import load_checkpoint
from nequip_like.metrics import EnergyForceLoss
from nequip_like.optim.build import build_optimizer
from nequip_like.optim.schedule_free import ScheduleFreeWeights
from nequip_like.training import EMALightningModule, NequIPLightningModule
from nequip_like.workflow.config.check import check_config

CONFIG = {"_target_": "nequip_like.optim.Optimizer", "name": "ScheduleFreeAdamW", "lr": 0.01}


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Linear(3, 2).double()


def train(model: nn.Module, optimizer, count: int, start: int = 0) -> None:
    for i in range(start, start + count):
        optimizer.zero_grad()
        model(torch.full((1, 3), 1.0 + i, dtype=torch.float64)).square().mean().backward()
        optimizer.step()


def flat(model: nn.Module) -> torch.Tensor:
    return torch.nn.utils.parameters_to_vector(model.parameters()).detach().clone()


@pytest.mark.parametrize("kind", ["AdamW", "SGD", "RAdam"])
def test_weights_are_those_of_the_library(kind):
    one, two = network(), network()
    own = build_optimizer({**CONFIG, "name": f"ScheduleFree{kind}"}, one)
    theirs = getattr(schedulefree, f"{kind}ScheduleFree")(two.parameters(), lr=0.01)
    theirs.train()
    pair = ScheduleFreeWeights.of(own, one)
    pair.begin()
    train(one, own, 8)
    train(two, theirs, 8)
    trained = flat(one)
    assert torch.equal(trained, flat(two))
    theirs.eval()
    pair.show_average()
    assert torch.equal(flat(one), flat(two))
    assert not torch.equal(flat(one), trained)
    pair.show_trained()
    assert torch.equal(flat(one), trained)


def test_evaluation_does_not_change_the_training():
    """The library goes from one set of weights to the other by a formula, which rounds."""
    often, never = network(), network()
    for model in (often, never):
        optimizer = build_optimizer(CONFIG, model)
        pair = ScheduleFreeWeights.of(optimizer, model)
        pair.begin()
        for i in range(10):
            train(model, optimizer, 1, start=i)
            if model is often:
                pair.show_average()
                pair.show_trained()
    assert torch.equal(flat(often), flat(never))


def test_a_step_that_is_left_out_does_not_count():
    model = network()
    optimizer = build_optimizer(CONFIG, model)
    ScheduleFreeWeights.of(optimizer, model).begin()
    train(model, optimizer, 2)
    before = {key: optimizer.param_groups[0][key] for key in ("k", "weight_sum", "lr_max")}
    optimizer.zero_grad()
    assert optimizer.step(lambda: 5.0) == 5.0
    assert {key: optimizer.param_groups[0][key] for key in before} == before


def test_other_optimizers_have_one_set_of_weights():
    model = network()
    pair = ScheduleFreeWeights.of(torch.optim.SGD(model.parameters(), lr=0.1), model, "ema")
    before = flat(model)
    pair.begin()
    pair.show_average()
    state = {"model.weight": torch.zeros(1)}
    assert pair.put_average(state) is None
    assert state == {"model.weight": torch.zeros(1)}
    assert torch.equal(flat(model), before)


# --- runs


@pytest.fixture
def make_module(make_potential):
    def make(kind=NequIPLightningModule, **changes):
        arguments = {
            "model": make_potential().train(),
            "loss": EnergyForceLoss(),
            "optimizer": CONFIG,
            "val_metrics": {"_target_": "nequip_like.metrics.EnergyForceMetrics"},
        }
        return kind(**{**arguments, **changes})

    return make


class Watch(lightning.Callback):
    """Weights at the moments of a run, and a checkpoint written at each."""

    def __init__(self, folder):
        self.folder, self.validated, self.trained, self.files = folder, [], [], []

    def save(self, trainer):
        self.files.append(self.folder / f"{len(self.files)}.ckpt")
        trainer.save_checkpoint(self.files[-1])

    def on_validation_batch_end(self, trainer, module, *_):
        self.validated.append(flat(module.model))
        self.save(trainer)

    def on_train_batch_end(self, trainer, module, *_):
        self.trained.append(flat(module.model))
        self.save(trainer)


def test_what_a_run_evaluates_and_saves(make_data, make_module, quiet_trainer, tmp_path):
    """Three steps, then a validation: it sees the average, as does whoever loads any of the checkpoints."""
    watch, module = Watch(tmp_path), make_module()
    trainer = quiet_trainer(callbacks=[watch], limit_val_batches=1.0)
    trainer.fit(module, datamodule=make_data())
    assert len(watch.trained) == 3
    average, trained = watch.validated[0], watch.trained[-1]
    assert (average - trained).abs().max() > 1e-6
    assert torch.equal(flat(module.model), average)  # what is exported
    order = [name for name, _ in module.model.named_parameters()]
    for path in watch.files:
        content = torch.load(path, weights_only=True)["nequip_like"]
        kept = torch.cat([content["trained_weights"][name].flatten() for name in order])
        assert any(torch.equal(kept, weights) for weights in watch.trained)
    for path in watch.files[2:]:  # after the last step, and within the validation
        assert torch.equal(torch.cat([p.flatten() for p in load_checkpoint(path)[0].parameters()]), average)
        kept = torch.load(path, weights_only=True)["nequip_like"]["trained_weights"]
        assert torch.equal(torch.cat([kept[name].flatten() for name in order]), trained)


def test_two_averages_are_refused(make_data, make_module, compose):
    message = r"AdamWScheduleFree averages the weights itself.*\(ema\)\n  -> write training_module=default"
    with pytest.raises(ConfigError, match=message):
        make_module(EMALightningModule).configure_optimizers()
    with pytest.raises(ConfigError, match=message):
        check_config(compose("optimizer=schedulefree"))
    check_config(compose("optimizer=schedulefree", "training_module=default"))
