import numpy as np
import pytest

from nequip_like.data.datamodule import DataModule
from nequip_like.data.sampling.policies import Sampling
from nequip_like.data.sampling.samplers import BootstrapSampler, ErrorWeightedSampler, RoundsSampler, WeightedSampler
from nequip_like.errors import ConfigError

OPTIONS = {"shuffle": True, "seed": 3}


def compute_chi_square(counts, probabilities):
    expected = counts.sum() * probabilities
    return float(((counts - expected) ** 2 / expected).sum())


def test_draws_have_the_probabilities():
    """260,000 draws of three frames: chi-square with 2 degrees of freedom is above 13.8 once in a thousand times."""
    probabilities = np.array([6, 4, 3]) / 13
    sampler = WeightedSampler(np.array([1.0, 2 / 3, 1 / 2]), 26_000, 10, **OPTIONS)
    counts = np.zeros(3)
    for epoch in range(10):
        sampler.set_epoch(epoch)
        counts += np.bincount(sampler.order(), minlength=3)
    assert counts.sum() == 260_000
    assert compute_chi_square(counts, probabilities) < 13.8
    assert compute_chi_square(counts, np.full(3, 1 / 3)) > 1000


def test_order_depends_on_seed_and_epoch_alone():
    weights = np.arange(1.0, 51.0)
    orders = []
    for seed, epoch in ((0, 4), (0, 4), (0, 5), (1, 4)):
        sampler = WeightedSampler(weights, 50, 5, shuffle=True, seed=seed)
        sampler.set_epoch(epoch)
        orders.append(sampler.order())
    assert orders[0] == orders[1]
    assert orders[0] != orders[2]
    assert orders[0] != orders[3]


def test_processes_share_the_draws():
    parts = [WeightedSampler(np.ones(9), 12, 2, rank=rank, world_size=2, **OPTIONS) for rank in (0, 1)]
    alone = WeightedSampler(np.ones(9), 12, 4, **OPTIONS)
    together = [first + second for first, second in zip(*map(list, parts), strict=True)]
    assert together == list(alone)


@pytest.mark.parametrize("samples", [3, 6, 14])
def test_rounds_see_all_frames_equally_often(samples):
    sampler = RoundsSampler(6, samples, 2, **OPTIONS)
    seen = []
    for epoch in range(6):
        sampler.set_epoch(epoch)
        seen += sampler.order()
    assert np.bincount(seen).tolist() == [samples] * 6
    assert len(sampler) == -(-samples // 2)
    in_order = RoundsSampler(6, 4, 2, shuffle=False, seed=0)
    in_order.set_epoch(1)
    assert in_order.order() == [4, 5, 0, 1]


def test_errors_change_the_weights():
    sampler = ErrorWeightedSampler(4, 4, 2, **OPTIONS)
    assert sampler.weights.tolist() == [1.0] * 4
    sampler.update(np.array([6.0, 0.0, 1.0, 0.0]), np.array([2.0, 0.0, 1.0, 1.0]))
    assert sampler.scores.tolist() == [3.0, 1.0, 1.0, 0.0]  # the second was not drawn
    assert sampler.weights == pytest.approx(np.array([3.0, 1.0, 1.0, 1e-12]) / 1.25, rel=1e-11)
    other = ErrorWeightedSampler(4, 4, 2, **OPTIONS)
    other.go_on(sampler.scores)
    assert other.scores.tolist() == sampler.scores.tolist()
    assert other.order() == sampler.order()


def test_of_the_data_module(write, molecules):
    """Molecule i has the energy -i: the last one is drawn twice as often as the first."""
    file = str(write("m.xyz", molecules(20)))
    data = DataModule(file, cutoff_radius=2.0, batch_size=4, sampling={"policy": "energy_weighted"}).prepare()
    sampler = data.train_dataloader().frame_order
    assert sampler.weights[[19, 0]].tolist() == [1.0, 0.5]
    assert sum(len(batch["num_atoms"]) for batch in data.train_dataloader()) == 20
    data = DataModule(file, cutoff_radius=2.0, batch_size=4, sampling={"samples_per_epoch": 10}).prepare()
    assert [len(batch["num_atoms"]) for batch in data.train_dataloader()] == [4, 4, 2]


def test_mistakes(write, molecules):
    file = str(write("m.xyz", molecules(8)))
    with pytest.raises(ConfigError, match=r"data\.sampling and data\.replay are given"):
        DataModule(file, cutoff_radius=2.0, sampling={"samples_per_epoch": 3}, replay={"file": file, "fraction": 0.5})
    with pytest.raises(ConfigError, match="but shuffle is false"):
        DataModule(file, cutoff_radius=2.0, sampling={"policy": "energy_weighted"}, shuffle=False)


def test_bootstrap_sample_is_drawn_once():
    """All epochs have the frames of one sample, some of them several times; another seed draws others."""
    sampler = BootstrapSampler(200, 200, 10, 3, shuffle=True, seed=0)
    assert sampler.sample == BootstrapSampler(200, 200, 10, 3, shuffle=True, seed=1).sample
    assert sampler.sample != BootstrapSampler(200, 200, 10, 4, shuffle=True, seed=0).sample
    assert 110 < len(set(sampler.sample)) < 145  # 1 - 1/e of 200 are 126
    for epoch in range(2):
        sampler.set_epoch(epoch)
        assert sorted(sampler.order()) == sampler.sample
    assert sampler.order() != sampler.sample


def test_bootstrap_replaces_no_policy():
    with pytest.raises(ConfigError, match=r"sampling\.bootstrap and sampling\.policy=energy_weighted"):
        Sampling.read({"bootstrap": 1, "policy": "energy_weighted"})
    with pytest.raises(ConfigError, match=r"sampling\.bootstrap"):
        Sampling.read({"bootstrap": -1})
    assert Sampling.read({"bootstrap": 1}) == Sampling(bootstrap=1)
