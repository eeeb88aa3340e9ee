"""What is used in practice goes to other processes: by pickle, spawn and deepcopy; the numbers are the same there."""

from __future__ import annotations

import copy
import multiprocessing
import pickle
from multiprocessing.reduction import ForkingPickler

import numpy as np
import pytest
import torch
from ase.build import molecule

from nequip_like.data import fields
from nequip_like.data.graph import collate
from nequip_like.inference.evaluation import evaluate
from nequip_like.inference.predictor import Predictor
from nequip_like.integrations.ase import NequIPCalculator
from nequip_like.optim.averaging import averaged_copy, mean_copy
from nequip_like.training.averaged_module import EMALightningModule
from nequip_like.workflow import setup
from nequip_like.workflow.train import train

GATED, UNGATED = 1, 0  # l_max: without vectors there is nothing to gate
WAYS = {"pickle": lambda thing: pickle.loads(pickle.dumps(thing)), "deepcopy": copy.deepcopy}


def results_of(calculator):
    """Energy, forces and kernel, for the ethanol molecule and for a shaken one."""
    atoms = molecule("CH3CH2OH")
    atoms.calc = calculator
    found = [atoms.get_potential_energy(), atoms.get_forces()]
    atoms.positions += 0.02 * np.sin(np.arange(27).reshape(9, 3))
    return [*found, atoms.get_potential_energy(), atoms.get_forces(), calculator.potential.kernel_in_use]


def predictions_of(potential, dataset):
    return Predictor(potential).predict_batch(collate(list(dataset)))[fields.FORCES].numpy()


def look_at_data(dataset):
    return len(dataset), dataset.labels, dataset.origin(3), dataset[3][fields.FORCES].numpy()


def give_back(thing):
    return thing


@pytest.fixture(scope="module")
def pool():
    """One process of its own, started as multiprocessing does on every system."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        yield pool


def assert_same(ours, theirs, tolerance=0.0):
    assert ours[-1] == theirs[-1]  # the kernel
    for one, other in zip(ours[:-1], theirs[:-1], strict=True):
        np.testing.assert_allclose(other, one, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("l_max", [GATED, UNGATED], ids=["gated", "ungated"])
def test_calculator(l_max, dtype, make_potential, pool):
    """Unused, and with a list, a compiled network and results of an earlier call; what was sent goes on unchanged."""
    calculator = NequIPCalculator(make_potential(l_max=l_max, model_dtype=dtype))
    unused = pickle.dumps(calculator)
    before = results_of(calculator)
    assert before[0] != before[2]
    assert_same(before, results_of(pickle.loads(unused)))
    for way in WAYS.values():
        there = way(calculator)
        assert there.results.keys() == calculator.results.keys()
        assert there.potential is not calculator.potential
        assert_same(before, results_of(there))
    # Another process may have another number of threads.
    assert_same(before, pool.apply(results_of, (calculator,)), 1e-12 if dtype == "float64" else 1e-5)
    assert_same(before, results_of(calculator))


def test_calculator_is_sent_without_its_caches(make_potential):
    calculator = NequIPCalculator(make_potential())
    results_of(calculator)
    there = pickle.loads(pickle.dumps(calculator))
    assert there._structure is None
    assert there.neighbor_list._list is None
    assert (calculator.neighbor_list.builds, there.neighbor_list.builds) == (1, 1)
    results_of(there)
    assert there.neighbor_list.builds == 2


def test_many_calculations_at_once(make_potential, pool):
    """As in a pool that gets the calculator with each structure."""
    calculator = NequIPCalculator(make_potential())
    before = results_of(calculator)
    for found in pool.map(results_of, [calculator] * 20, chunksize=1):
        assert_same(before, found, 1e-12)


def test_compiler_of_the_other_process_is_asked(make_potential, monkeypatch):
    """A model that had to do without compiled code takes it where there is some."""
    potential = make_potential()
    potential.energy_model.native._failure = "no space"
    assert pickle.loads(pickle.dumps(potential)).energy_model.native._failure is None


def shared(graphs):
    return [key for graph in graphs for key, value in graph.items() if value.is_shared()]


def test_training_and_what_it_leaves(compose, pool):
    config = compose("trainer.max_epochs=1", "training_module.ema_decay=0.9")
    data = setup.build_data(config)
    unused = pickle.dumps(setup.build_module(config, data, {}))
    module = setup.build_module(config, data, {"note": "mine"})
    trainer = setup.build_trainer(config)
    trainer.fit(module, datamodule=data)
    dataset = data.test_sets["test"]
    weights = {name: value.detach().clone() for name, value in module.named_parameters()}
    assert isinstance(module, EMALightningModule)
    expected = predictions_of(module.evaluation_model, dataset)

    sent = {**WAYS, "spawn": lambda thing: pool.apply(give_back, (thing,))}
    for way in sent.values():
        theirs = way(module)
        assert all(torch.equal(value, weights[name]) for name, value in theirs.named_parameters())
        np.testing.assert_array_equal(predictions_of(theirs.evaluation_model, dataset), expected)

        there = way(data)
        assert there.trainer is None
        assert there.statistics == data.statistics
        assert list(there.trained_on.frames[0]) == list(data.trained_on.frames[0])
        ours, other = look_at_data(data.train_set), look_at_data(there.train_set)
        assert ours[:3] == other[:3]
        np.testing.assert_array_equal(ours[3], other[3])

        np.testing.assert_array_equal(predictions_of(way(Predictor(module.model)).potential, dataset),
                                      predictions_of(module.model, dataset))  # fmt: skip
    np.testing.assert_allclose(pool.apply(predictions_of, (module.evaluation_model, dataset)), expected, rtol=1e-9)
    assert dict(pickle.loads(unused).named_parameters()).keys() == weights.keys()

    evaluation = evaluate(module.evaluation_model, dataset)
    for way in sent.values():
        there = way(evaluation)
        assert (there.metrics, there.worst) == (evaluation.metrics, evaluation.worst)
        for one, other in zip(evaluation.pairs(fields.FORCES), there.pairs(fields.FORCES), strict=True):
            assert torch.equal(one, other)
    # Each of thousands of small tensors would be an open file.
    for graphs in (data.train_set.frames, dataset.frames, evaluation.predictions):
        assert shared(graphs) == []
    ForkingPickler.dumps(data)
    assert shared(data.train_set.frames) == []


def test_metrics_with_values_in_them(compose, pool):
    config = compose()
    data = setup.build_data(config)
    module = setup.build_module(config, data, {})
    batch = collate(list(data.val_sets["val"]))
    prediction = module.model.eval()(batch)
    metrics = module.val_metrics[0]
    metrics(prediction, batch)
    expected = {name: float(value) for name, value in metrics.compute().items()}
    assert expected["forces_rmse"] > 0
    for way in (*WAYS.values(), lambda thing: pool.apply(give_back, (thing,))):
        there = way(metrics)
        assert {name: float(value) for name, value in there.compute().items()} == expected
        there(prediction, batch)  # and it goes on
        assert float(there.compute()["forces_rmse"]) == pytest.approx(expected["forces_rmse"], rel=1e-12)
    assert pickle.loads(pickle.dumps(module.loss))(prediction, batch) == module.loss(prediction, batch)


def test_result_of_a_run(compose, pool):
    result = train(compose("trainer.max_epochs=1"))
    for way in (*WAYS.values(), lambda thing: pool.apply(give_back, (thing,))):
        assert way(result) == result


@pytest.mark.parametrize(
    "make",
    [
        lambda model: averaged_copy(model, 0.9),
        lambda model: averaged_copy(model, 0.9, warmup=False, bias_correction=True, start_step=1),
        mean_copy,
    ],
    ids=["ema", "bias corrected", "mean"],
)
def test_averages_go_on(make):
    """A copy mixes the next weights as the original does."""
    model = torch.nn.Linear(2, 1).double()
    averaged = make(model)
    with torch.no_grad():
        for _ in range(3):
            model.weight += 1.0
            averaged.update_parameters(model)
        there = pickle.loads(pickle.dumps(averaged))
        model.weight += 1.0
        averaged.update_parameters(model)
        there.update_parameters(model)
    assert torch.equal(there.module.weight, averaged.module.weight)
