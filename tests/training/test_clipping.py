"""Gradients are clipped by value and by norm, once for each step, after they were judged."""

from __future__ import annotations

import math

import lightning
import pytest
import torch
from torch import nn

from nequip_like.errors import ConfigError
from nequip_like.metrics import EnergyForceLoss
from nequip_like.training import NequIPLightningModule
from nequip_like.training.gradients import GradientClip


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ({"norm": 6.5}, [1.5, -2.0, 6.0]),  # the norm of (3, -4, 12) is 13
        ({"norm": 14.0}, [3.0, -4.0, 12.0]),
        ({"value": 3.5}, [3.0, -3.5, 3.5]),
        # (3, -3.5, 3.5) has the norm sqrt(33.5)
        ({"value": 3.5, "norm": 2.0}, [x * 2.0 / math.sqrt(33.5) for x in (3.0, -3.5, 3.5)]),
        ({"value": 3.5, "norm": None}, [3.0, -3.5, 3.5]),
    ],
)
def test_numbers_by_hand(config, expected, quiet_trainer):
    """Two parameters of one optimizer: the norm is that of both."""
    weights = nn.ParameterList([torch.zeros(2, dtype=torch.float64), torch.zeros(1, dtype=torch.float64)])
    weights[0].grad, weights[1].grad = torch.tensor([3.0, -4.0]).double(), torch.tensor([12.0]).double()
    clip = GradientClip.of(config)
    assert clip is not None
    clip.apply(quiet_trainer(), torch.optim.SGD(weights, lr=1.0))
    assert [*weights[0].grad.tolist(), *weights[1].grad.tolist()] == pytest.approx(expected, rel=1e-6)


def test_gradients_that_are_not_there(quiet_trainer):
    weights = nn.ParameterList([torch.zeros(2)])
    clip = GradientClip.of({"norm": 1.0, "value": 1.0})
    assert clip is not None
    clip.apply(quiet_trainer(), torch.optim.SGD(weights, lr=1.0))
    assert weights[0].grad is None


def test_nothing_to_clip():
    assert GradientClip.of(None) is None
    assert GradientClip.of({"norm": None, "value": None}) is None
    assert GradientClip.choose(None) is None
    assert GradientClip.choose(None, 0.0, None) is None  # Lightning's: no limit


@pytest.mark.parametrize(
    ("setting", "expected"),
    [
        ((6.5, None), GradientClip(norm=6.5)),
        ((6.5, "norm"), GradientClip(norm=6.5)),
        ((6.5, "value"), GradientClip(value=6.5)),
    ],
)
def test_lightnings_words_for_the_same(setting, expected):
    assert GradientClip.choose(None, *setting) == expected
    with pytest.raises(ConfigError) as error:
        GradientClip.choose(GradientClip(norm=1.0), *setting)
    same = f"training_module.gradient_clip.{setting[1] or 'norm'}=6.5"
    assert error.value.advice == f"write {same} in place of trainer.gradient_clip_val"


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"norm": 0}, r"gradient_clip\.norm is 0\n  -> give a number, above 0, or null$"),
        ({"norm": -1.0}, r"gradient_clip\.norm is -1\.0\n"),
        ({"norm": math.inf}, r"gradient_clip\.norm is inf\n"),
        ({"norm": 1.0, "value": "much"}, r"gradient_clip\.value is 'much'\n"),
        (5.0, r"gradient_clip is 5\.0\n  -> give a mapping: \{norm: 5\.0\}$"),
        (True, r"gradient_clip is true\n  -> give a mapping or null$"),
        ({}, r"gradient_clip has no limit\n  -> give \{norm: 10\.0\}, or null$"),
        ({"nrom": 1.0}, r"gradient_clip has the unknown key 'nrom'\n  -> did you mean 'norm'\?"),
    ],
)
def test_mistakes(config, message):
    with pytest.raises(ConfigError, match=rf"^{message}"):
        GradientClip.of(config)


@pytest.fixture
def make_module(make_potential):
    def make(**changes):
        arguments = {
            "model": make_potential().train(),
            "loss": EnergyForceLoss(),
            "optimizer": {"_target_": "torch.optim.SGD", "lr": 1e-4},
            "gradient_clip": {"norm": 1e-3, "value": 1e-4},
        }
        return NequIPLightningModule(**{**arguments, **changes})

    return make


class Watch(lightning.Callback):
    """Norm and largest value of the gradient that each step is taken with."""

    def __init__(self):
        self.seen = []

    def on_train_start(self, trainer, module):
        def look(optimizer, *_):
            found = [p.grad for p in module.model.parameters() if p.grad is not None]
            if found:
                flat = torch.cat([gradient.flatten() for gradient in found])
                self.seen.append((flat.norm().item(), flat.abs().max().item()))

        # Lightning computes and clips the gradients within the step.
        trainer.optimizers[0].register_step_post_hook(look)


@pytest.mark.parametrize(("accumulate", "steps"), [(1, 3), (2, 2)])
def test_steps_of_a_run(accumulate, steps, make_data, make_module, quiet_trainer, monkeypatch):
    """14 frames in batches of 5; clipped once for each step of the optimizer."""
    calls = []
    apply = GradientClip.apply
    monkeypatch.setattr(GradientClip, "apply", lambda *given: (calls.append(1), apply(*given)))
    watch = Watch()
    trainer = quiet_trainer(callbacks=[watch], accumulate_grad_batches=accumulate)
    trainer.fit(make_module(), datamodule=make_data())
    assert len(calls) == len(watch.seen) == steps
    for norm, value in watch.seen:
        assert norm == pytest.approx(1e-3, rel=2e-3)  # torch divides by the norm and 1e-6
        assert norm <= 1e-3
        assert value <= 1e-4


@pytest.mark.parametrize(("accumulate", "kind"), [(1, "norm"), (2, "value")])
def test_both_keys_train_alike(accumulate, kind, make_data, make_module, quiet_trainer):
    """Bit for bit: a run that was begun with one of them can go on with the other."""
    weights = []
    for clip, lightnings in (
        ({kind: 1e-3}, {}),
        (None, {"gradient_clip_val": 1e-3, "gradient_clip_algorithm": kind}),
    ):
        torch.manual_seed(0)
        module = make_module(gradient_clip=clip)
        quiet_trainer(accumulate_grad_batches=accumulate, **lightnings).fit(module, datamodule=make_data())
        weights.append(torch.cat([parameter.detach().flatten() for parameter in module.model.parameters()]))
    assert torch.equal(*weights)


@pytest.mark.parametrize("how", [{}, {"gradient_clip_val": 1.0, "gradient_clip_algorithm": "value"}])
def test_a_step_is_judged_before_it_is_clipped(how, make_data, make_module, quiet_trainer):
    """A clipped infinity would be finite. Of a step that is left out there is nothing to clip."""
    module, data = make_module(on_non_finite="skip", **({"gradient_clip": None} if how else {})), make_data()
    calls = []
    parameter = next(p for p in module.model.parameters() if p.dim() > 0)
    parameter.register_hook(lambda g: (calls.append(1), g * math.inf if len(calls) == 2 else g)[1])
    with pytest.warns(UserWarning, match="is not finite; batch of 5: "):
        quiet_trainer(**how).fit(module, datamodule=data)
    assert module.guard.skipped_steps == 1


def test_only_one_of_two_ways(make_data, make_module, quiet_trainer):
    trainer = quiet_trainer(gradient_clip_val=1.0)
    with pytest.raises(ConfigError, match=r"gradient_clip and trainer\.gradient_clip_val are both given"):
        trainer.fit(make_module(), datamodule=make_data())
