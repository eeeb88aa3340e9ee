"""Which frames train with their forces: how many, which, in which epochs; the same with workers and in resumed runs."""

import lightning
import numpy as np
import pytest
import torch

from nequip_like.data import fields
from nequip_like.data.datamodule import DataModule
from nequip_like.data.sampling.force_supervision import ForceSupervision
from nequip_like.data.sampling.policies import Sampling
from nequip_like.data.tables.frame_table import tabulate
from nequip_like.errors import ConfigError


@pytest.fixture
def table(make_graph):
    """12 frames of two atoms, of which the first two have no forces."""
    pair = [[0, 0, 0], [0, 0, 0.74]]
    bare = [make_graph("H2", pair, forces=np.full((2, 3), np.nan)) for _ in range(2)]
    return tabulate([*bare, *(make_graph("H2", pair, forces=np.zeros((2, 3))) for _ in range(10))])


@pytest.fixture
def made(write, molecules):
    """A data module of ten waters with forces: ``made(force_fraction=0.3)``; batches of 4."""

    def made(batch_size=4, num_workers=0, **sampling):
        file = str(write("m.xyz", molecules(10)))
        return DataModule(file, cutoff_radius=2.0, batch_size=batch_size, num_workers=num_workers, sampling=sampling)

    return made


def supervision_of(table, seed=0, **keys):
    return ForceSupervision(table, Sampling.read(keys), seed)


@pytest.mark.parametrize(
    ("fraction", "fewest", "count"), [(0.3, 1, 3), (0.05, 1, 1), (0.05, 0, 0), (0.3, 5, 5), (0.3, 99, 10), (0.99, 1, 9)]
)
def test_number_of_frames(table, fraction, fewest, count):
    supervision = supervision_of(table, force_fraction=fraction, force_min_structures_per_epoch=fewest)
    assert supervision.count_frames() == (count, 10)
    assert supervision.draw(0).sum() == count
    assert not supervision.draw(0)[:2].any()


def test_fractions_are_not_rounded_down_by_the_computer(make_graph):
    frames = [make_graph("H", [[0, 0, 0]], forces=np.zeros((1, 3)))] * 100
    assert int(100 * 0.29) == 28
    assert supervision_of(tabulate(frames), force_fraction=0.29).count_frames() == (29, 100)


@pytest.mark.parametrize(
    ("keys", "windows"),
    [
        ({}, [0, 0, 0, 0, 0, 0]),
        ({"force_sampling": "fixed"}, [0, 0, 0, 0, 0, 0]),
        ({"force_resample_num_epochs": 1}, [0, 1, 2, 3, 4, 5]),
        ({"force_resample_num_epochs": 2}, [0, 0, 1, 1, 2, 2]),
        ({"force_resample_num_epochs": 4}, [0, 0, 0, 0, 1, 1]),
    ],
)
def test_subsets_over_six_epochs(table, keys, windows):
    """Epochs of one window have the same frames, those of others have other ones."""
    supervision = supervision_of(table, force_fraction=0.5, **keys)
    subsets = [tuple(np.flatnonzero(supervision.draw(epoch)).tolist()) for epoch in range(6)]
    assert all(len(subset) == 5 for subset in subsets)
    for i in range(6):
        for j in range(i):
            assert (subsets[i] == subsets[j]) == (windows[i] == windows[j])


def test_subsets_are_a_function_of_seed_and_epoch(table):
    keys = {"force_fraction": 0.5, "force_resample_num_epochs": 1}
    first, again, other = (supervision_of(table, seed=seed, **keys) for seed in (3, 3, 4))
    first.draw(1)
    assert (first.draw(7) == again.draw(7)).all()
    assert (first.draw(7) != other.draw(7)).any()
    counts = sum(first.draw(epoch).astype(int) for epoch in range(2000))[2:]
    # Each frame is in half of the epochs: chi-square of 10 counts with variance n / 4, above 29.6 once in 1000 times.
    assert float(((counts - 1000) ** 2 / 500).sum()) < 29.6


@pytest.mark.parametrize("workers", [0, 2])
def test_batches_lack_the_forces_of_the_others(made, workers):
    """Energies stay; frames keep all of their forces or none; workers change nothing."""
    data = made(num_workers=workers, force_fraction=0.3, force_resample_num_epochs=1).prepare()
    loader = data.train_dataloader()
    for epoch in range(2):
        loader.frame_order.set_epoch(epoch)
        supervised = data.force_supervision.draw(epoch)
        assert supervised.sum() == 3
        seen = []
        for batch in loader:
            has_forces = ~torch.isnan(batch[fields.FORCES]).reshape(-1, 9)
            expected = torch.from_numpy(supervised[batch[fields.FRAME_INDEX].numpy()])
            assert (has_forces == expected[:, None]).all()
            assert not torch.isnan(batch[fields.TOTAL_ENERGY]).any()
            seen += batch[fields.FRAME_INDEX].tolist()
        assert sorted(seen) == list(range(10))
    # The frames themselves are as they were.
    assert not any(torch.isnan(frame[fields.FORCES]).any() for frame in data.train_set.frames)


def test_resumed_epoch_has_the_same_forces(made):
    trainer = lightning.Trainer(accelerator="cpu", logger=False, enable_progress_bar=False)
    loaders = []
    for _ in range(2):
        data = made(force_fraction=0.3, force_resample_num_epochs=2)
        data.trainer = trainer
        loaders.append(data.prepare().train_dataloader())
    whole, rest = loaders
    whole.frame_order.set_epoch(5)
    batches = list(whole)
    passed = iter(whole)
    next(passed)
    rest.load_state_dict(whole.state_dict())
    for one, two in zip(batches[1:], rest, strict=True):
        assert torch.equal(one[fields.FRAME_INDEX], two[fields.FRAME_INDEX])
        assert torch.equal(one[fields.FORCES].nan_to_num(99.0), two[fields.FORCES].nan_to_num(99.0))


def test_replayed_frames_count_as_well(write, molecules):
    train, old = write("new.xyz", molecules(6)), write("old.xyz", molecules(4, seed=1))
    replay = {"file": str(old), "fraction": 0.4}
    data = DataModule(str(train), cutoff_radius=2.0, replay=replay, sampling={"force_fraction": 0.5}).prepare()
    assert data.force_supervision.count_frames() == (5, 10)
    assert data.train_dataloader().frame_order.drawn == [6, 4]


def test_all_forces_by_default(made):
    assert made().prepare().force_supervision is None
    assert made(force_fraction=1.0).prepare().force_supervision is None


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ({"force_fraction": 0.0}, "sampling.force_fraction is 0.0"),
        ({"force_fraction": 1.5}, "sampling.force_fraction is 1.5"),
        ({"force_fraction": 0.5, "force_sampling": "fix"}, r"sampling.force_sampling is 'fix'\n.*random, fixed"),
        ({"force_fraction": 0.5, "force_resample_num_epochs": -1}, "sampling.force_resample_num_epochs is -1"),
        ({"force_fraction": 0.5, "force_scale_unbiased": 1}, "sampling.force_scale_unbiased is 1"),
        ({"force_scale_unbiased": True}, "sampling.force_scale_unbiased is given, but all forces are trained on"),
        (
            {"force_fraction": 0.5, "force_sampling": "fixed", "force_resample_num_epochs": 2},
            "sampling.force_sampling is fixed, but force_resample_num_epochs is 2",
        ),
    ],
)
def test_mistakes(section, message):
    with pytest.raises(ConfigError, match=message):
        Sampling.read(section)
