"""Gradients without autograd's engine: those of the engine bit for bit, and the engine's wherever somebody watches."""

from pathlib import Path

import pytest
import torch

import nequip_like as nl
from nequip_like.data import fields
from nequip_like.metrics import EnergyForceStressLoss
from nequip_like.metrics.terms import WEIGHTED_SUM
from nequip_like.nn.native import compiler
from nequip_like.testing.structures import crystal, molecule
from nequip_like.training.lean_steps import epoch_loop
from nequip_like.training.lean_steps.direct_gradients import differentiate_directly
from tests.nn.test_native import batch_of, model_of

pytestmark = pytest.mark.skipif(compiler.find_compiler() is None, reason="there is no C compiler")
ETHANOL = Path(__file__).parents[3] / "tutorials" / "data" / "ethanol" / "train.xyz"
LABELS = (fields.TOTAL_ENERGY, fields.FORCES, fields.STRESS)


@pytest.fixture
def model():
    return model_of("fused", model_dtype="float32")


def compute_loss(model, structures=(molecule, crystal), observe=None):
    """A loss of energies, forces and stresses, with labels that say nothing."""
    batch = batch_of([make() for make in structures], model)
    prediction = model(batch)
    generator = torch.Generator().manual_seed(0)
    labels = {name: torch.rand(prediction[name].shape, generator=generator, dtype=torch.float64) for name in LABELS}
    labels[fields.STRESS][prediction[fields.STRESS].isnan()] = torch.nan
    if observe is not None:
        observe(prediction)
    return EnergyForceStressLoss().step(prediction, batch | labels)[WEIGHTED_SUM]


def read_gradients(model):
    return {name: parameter.grad for name, parameter in model.named_parameters() if parameter.grad is not None}


def assert_same(one, other):
    assert one.keys() == other.keys()
    assert all(torch.equal(other[name], gradient) for name, gradient in one.items())


def expect(model, **options):
    """Gradients of the engine."""
    model.zero_grad()
    compute_loss(model, **options).backward()
    expected = read_gradients(model)
    model.zero_grad()
    return expected


def test_equals_the_engine(model):
    for structures in ((molecule, crystal), (molecule,), (crystal, crystal, molecule)):
        expected = expect(model, structures=structures)
        assert differentiate_directly(compute_loss(model, structures))
        assert_same(expected, read_gradients(model))
        assert len(expected) > 20


def test_frozen_parameters_get_none(model):
    model.energy_model.layers[0].requires_grad_(False)
    model.energy_model.readout.requires_grad_(False)
    expected = expect(model)
    assert differentiate_directly(compute_loss(model))
    assert_same(expected, read_gradients(model))
    model.energy_model.layers[0].requires_grad_(True)
    expected = expect(model)
    assert differentiate_directly(compute_loss(model))
    assert_same(expected, read_gradients(model))


def take_address(model):
    assert differentiate_directly(compute_loss(model))
    address = next(iter(read_gradients(model).values())).data_ptr()
    model.zero_grad()
    return address


def test_memory_serves_again_unless_somebody_holds_it(model):
    first = take_address(model)
    assert take_address(model) == first
    assert differentiate_directly(compute_loss(model))
    kept = {name: gradient.detach()[..., 0] for name, gradient in read_gradients(model).items()}
    copies = {name: gradient.clone() for name, gradient in kept.items()}
    model.zero_grad()
    assert take_address(model) != first
    assert differentiate_directly(compute_loss(model, (crystal,)))
    assert_same(copies, kept)


def test_gradients_add_up_in_the_engine(model):
    assert differentiate_directly(compute_loss(model))
    once = {name: gradient.clone() for name, gradient in read_gradients(model).items()}
    loss = compute_loss(model)
    assert not differentiate_directly(loss)
    loss.backward()
    assert_same({name: 2.0 * gradient for name, gradient in once.items()}, read_gradients(model))


@pytest.mark.parametrize("watched", ["parameter", "accumulation", "forces", "energies", "kept", "loss"])
def test_hooks_are_called(model, watched):
    seen = []
    parameter = model.energy_model.layers[1].linear_out.weights[0]

    def observe(prediction):
        if watched == "parameter":
            parameter.register_hook(lambda gradient: seen.append(gradient))
        elif watched == "accumulation":
            parameter.register_post_accumulate_grad_hook(lambda each: seen.append(each.grad))
        elif watched == "forces":
            prediction[fields.FORCES].register_hook(lambda gradient: seen.append(gradient))
        elif watched == "energies":
            prediction[fields.TOTAL_ENERGY].register_hook(lambda gradient: seen.append(gradient))
        elif watched == "kept":
            prediction[fields.FORCES].retain_grad()
            seen.append(prediction[fields.FORCES])

    loss = compute_loss(model, observe=observe)
    if watched == "loss":
        loss.register_hook(lambda gradient: seen.append(gradient))
    assert not differentiate_directly(loss)
    assert read_gradients(model) == {}
    loss.backward()
    assert len(seen) == 1
    assert watched != "kept" or seen[0].grad.abs().sum() > 0


@pytest.mark.filterwarnings("ignore:Anomaly Detection")
def test_other_losses_are_the_engines(model):
    loss = compute_loss(model)
    for other in (loss * 2.0, loss.detach(), torch.ones((), requires_grad=True).square()):
        assert not differentiate_directly(other)
    batched = model_of("batched", model_dtype="float32")
    assert not differentiate_directly(compute_loss(batched))
    with torch.autograd.detect_anomaly(check_nan=False):
        assert not differentiate_directly(loss)


def test_once_only(model):
    loss = compute_loss(model)
    assert differentiate_directly(loss)
    model.zero_grad()
    with pytest.raises(RuntimeError, match="asked for already"):
        differentiate_directly(loss)
    with pytest.raises(RuntimeError, match="asked for already"):
        loss.backward()


def test_changed_parameters_are_refused(model):
    loss = compute_loss(model)
    with torch.no_grad():
        model.energy_model.layers[1].linear_out.weights[0].mul_(2.0)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        differentiate_directly(loss)


def test_a_run_has_the_weights_of_the_engine(tmp_path, monkeypatch):
    """In training there is no engine, and nothing of the result changes."""
    calls = []
    backward = torch.autograd.backward
    monkeypatch.setattr(
        torch.autograd, "backward", lambda *given, **options: calls.append(1) or backward(*given, **options)
    )
    weights = []
    for folder, directly in (("direct", True), ("engine", False)):
        if not directly:
            monkeypatch.setattr(epoch_loop, "differentiate_directly", lambda loss: False)
        overrides = [
            "run=[train]", "cutoff_radius=4.0", "model.num_layers=2", "model.num_features=4", "trainer.max_epochs=2",
            f"data.train={ETHANOL}", "+data.train_size=8", "data.val=2", f"hydra.run.dir={tmp_path / folder}",
        ]  # fmt: skip
        result = nl.train(nl.compose("train", overrides))
        last = torch.load(result.folder / "checkpoints" / "last.ckpt", weights_only=False)
        weights.append({name: value for name, value in last["state_dict"].items() if isinstance(value, torch.Tensor)})
        assert len(calls) == (0 if directly else 4)
    assert_same(*weights)
