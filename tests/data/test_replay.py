"""Replay: the asked fraction of each epoch, which frames, their weight, and what stays as it was."""

from __future__ import annotations

from collections import Counter

import lightning
import pytest
import torch

from nequip_like.data import fields
from nequip_like.data.datamodule import DataModule
from nequip_like.data.replay import Replay
from nequip_like.data.sampling.samplers import MixtureSampler
from nequip_like.errors import ConfigError, DataError


@pytest.fixture
def made(write, molecules):
    """A data module of 12 frames of which 3 are held out, and 7 frames to replay: ``made(fraction=0.25)``."""

    def made(replay=None, **arguments):
        train, old = write("new.xyz", molecules(12)), write("old.xyz", molecules(7, seed=1))
        entry = None if replay is None else {"file": str(old), **replay}
        return DataModule(str(train), val=3, cutoff_radius=2.0, batch_size=4, replay=entry, **arguments).prepare()

    return made


def sampler_of(new, old, drawn, batch_size, **arguments):
    return MixtureSampler([range(new), range(new, new + old)], [new, drawn], batch_size, **arguments)


def epoch_of(sampler, epoch):
    sampler.set_epoch(epoch)
    return [index for batch in sampler for index in batch]


# --- order


@pytest.mark.parametrize("shuffle", [True, False])
@pytest.mark.parametrize(("new", "old", "drawn"), [(9, 7, 3), (10, 3, 10), (5, 1, 2)])
def test_each_epoch_has_all_new_frames_and_the_asked_number_of_old_ones(new, old, drawn, shuffle):
    sampler = sampler_of(new, old, drawn, 4, shuffle=shuffle, seed=5)
    seen = Counter()
    for epoch in range(2 * old):
        frames = epoch_of(sampler, epoch)
        assert sorted(index for index in frames if index < new) == list(range(new))
        replayed = [index for index in frames if index >= new]
        assert len(replayed) == drawn
        assert max(Counter(replayed).values()) <= -(-drawn // old) + 1
        seen.update(replayed)
    assert seen == dict.fromkeys(range(new, new + old), 2 * drawn)  # all equally often


def test_order_is_a_function_of_seed_and_epoch():
    one, two = (sampler_of(9, 7, 3, 4, shuffle=True, seed=seed) for seed in (5, 6))
    third = epoch_of(one, 3)
    assert epoch_of(one, 1) != third
    assert epoch_of(sampler_of(9, 7, 3, 4, shuffle=True, seed=5), 3) == third
    assert epoch_of(two, 3) != third


def test_without_shuffling_old_frames_are_spread():
    sampler = sampler_of(6, 4, 3, 3, shuffle=False, seed=0)
    assert [index < 6 for index in epoch_of(sampler, 0)] == [True, True, False] * 3
    assert [index for index in epoch_of(sampler, 0) if index < 6] == list(range(6))


def test_processes_share_the_same_order():
    whole = sampler_of(9, 7, 3, 4, shuffle=True, seed=5)
    parts = [sampler_of(9, 7, 3, 2, shuffle=True, seed=5, rank=rank, world_size=2) for rank in (0, 1)]
    for epoch in (0, 4):
        for sampler in (whole, *parts):
            sampler.set_epoch(epoch)
        assert [one + two for one, two in zip(*parts, strict=True)] == list(whole)


@pytest.mark.parametrize(
    ("frames", "fraction", "count"), [(90, 0.1, 10), (50, 0.5, 50), (1, 0.75, 3), (1000, 0.001, 1), (9, 0.25, 3)]
)
def test_fraction(frames, fraction, count):
    assert Replay.read({"file": "a.xyz", "fraction": fraction}).count(frames) == count


def test_fraction_that_is_no_frame():
    with pytest.raises(ConfigError, match=r"^replay.fraction is 0.001, which is less than half a frame beside 10"):
        Replay.read({"file": "a.xyz", "fraction": 0.001}).count(10)


# --- data


def test_batches_mix_the_asked_fraction(made):
    data = made({"fraction": 0.25, "weight": 0.5})
    loader = data.train_dataloader()
    for epoch in range(3):
        loader.batch_sampler.sampler.set_epoch(epoch)
        frames = torch.cat([batch[fields.FRAME_INDEX] for batch in loader])
        weights = torch.cat([batch[fields.FRAME_WEIGHT] for batch in loader]).flatten()
        assert len(frames) == 12
        assert int((frames >= 9).sum()) == 3
        assert torch.equal(weights, torch.where(frames >= 9, 0.5, 1.0).double())
    assert (data.num_replayed, data.replay_weight) == (3, 0.5)


def test_frames_are_named_by_their_own_file(made):
    data = made({"fraction": 0.25})
    assert data.trained_on.origin(8).rpartition("/")[2].startswith("new.xyz frame")
    assert data.trained_on.origin(9).endswith("old.xyz frame 0")
    for index, frame in enumerate(data.trained_on.frames):
        assert int(frame[fields.FRAME_INDEX]) == index


def test_nothing_else_changes(made):
    """Sets, statistics, reference energies, and validation are those of a run without replay."""
    plain, data = made(), made({"fraction": 0.25, "weight": 0.5})
    assert data.statistics == plain.statistics
    assert data.reference == plain.reference
    assert len(data.train_set) == len(plain.train_set) == 9
    assert data.train_set.labels == plain.train_set.labels
    assert plain.trained_on is plain.train_set
    assert plain.replay_set is None
    for one, two in zip(data.val_dataloader()[0], plain.val_dataloader()[0], strict=True):
        assert one.keys() == two.keys()
        assert all(torch.equal(one[key], two[key]) for key in one)
    assert [each.name for each in data.inspections] == ["train", "val", "replay"]


def test_weight_of_one_adds_no_field(made):
    data = made({"fraction": 0.25})
    assert fields.FRAME_WEIGHT not in data.trained_on.frames[0]


def test_labels_that_only_one_of_both_has_are_missing_in_the_other(write, molecules, labelled):
    train = write("new.xyz", [labelled(frame, energy=1.0) for frame in molecules(4)])
    old = write("old.xyz", molecules(3, seed=1))
    data = DataModule(train, cutoff_radius=2.0, replay={"file": old, "fraction": 0.5}).prepare()
    frames = data.trained_on.frames
    assert frames[0].keys() == frames[-1].keys()
    assert torch.isnan(frames[0][fields.FORCES]).all()
    assert not torch.isnan(frames[-1][fields.FORCES]).any()


def test_moved_energies(made):
    """Water: O + 2 H."""
    data = made({"fraction": 0.25})
    before = [float(frame[fields.TOTAL_ENERGY]) for frame in data.trained_on.frames]
    data.move_replay({"H": 0.25, "O": 10.0})
    after = [float(frame[fields.TOTAL_ENERGY]) for frame in data.trained_on.frames]
    assert after[:9] == before[:9]
    assert after[9:] == [energy + 10.5 for energy in before[9:]]


def test_a_replayed_frame_that_is_held_out_is_refused(write, molecules):
    train, old = write("new.xyz", molecules(5)), write("old.xyz", molecules(6, seed=1))
    test = write("test.xyz", molecules(6, seed=1)[5:])
    with pytest.raises(DataError, match=r"same structure is in train \(.*old.xyz frame 5\) and in test"):
        DataModule(train, test=test, cutoff_radius=2.0, replay={"file": old, "fraction": 0.5}).prepare()


def test_resumes_within_an_epoch(made):
    """Batches after the second one of epoch 4, as the uninterrupted loader gives them."""
    trainer = lightning.Trainer(accelerator="cpu", logger=False, enable_progress_bar=False)
    loaders = []
    for _ in range(2):
        data = made({"fraction": 0.25})
        data.trainer = trainer
        loaders.append(data.train_dataloader())
    whole, rest = loaders
    whole.batch_sampler.sampler.set_epoch(4)
    batches = [batch[fields.FRAME_INDEX].tolist() for batch in whole]
    passed = iter(whole)
    next(passed), next(passed)
    rest.load_state_dict(whole.state_dict())
    assert [batch[fields.FRAME_INDEX].tolist() for batch in rest] == batches[2:]


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ("old.xyz", r"^replay is 'old.xyz'\n.*fraction: 0.1"),
        ({"file": "a.xyz"}, r"^replay has no 'fraction'"),
        ({"fraction": 0.1}, r"^replay needs its file, once"),
        ({"file": "a.xyz", "fraction": 1.0}, r"^replay.fraction is 1.0\n.*above 0 and below 1"),
        ({"file": "a.xyz", "fraction": 0.0}, r"^replay.fraction is 0.0"),
        ({"file": "a.xyz", "fraction": 0.1, "weight": 0.0}, r"^replay.weight is 0.0\n.*above 0"),
        ({"file": "a.xyz", "fracton": 0.1}, r"^replay: unknown key 'fracton'\n.*did you mean 'fraction'\?"),
    ],
)
def test_wrong_entries(entry, message):
    with pytest.raises(ConfigError, match=message):
        Replay.read(entry)
