import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nequip_like.data.samplers import FrameBatchSampler
from nequip_like.errors import ConfigError, DataError


def ranks(frames, batch_size, world_size, epoch=0, **kwargs):
    result = []
    for rank in range(world_size):
        sampler = FrameBatchSampler(frames, batch_size, rank=rank, world_size=world_size, seed=1, **kwargs)
        sampler.set_epoch(epoch)
        batches = list(sampler)
        assert len(batches) == len(sampler)
        result.append(batches)
    return result


def test_one_process_takes_everything_in_order():
    assert ranks(7, 3, 1, shuffle=False) == [[[0, 1, 2], [3, 4, 5], [6]]]
    assert ranks(7, 3, 1, shuffle=False, drop_last=True) == [[[0, 1, 2], [3, 4, 5]]]


def test_last_batch_is_shared_out():
    assert ranks(11, 3, 2, shuffle=False) == [[[0, 1, 2], [6, 7]], [[3, 4, 5], [8, 9, 10]]]


def test_of_a_rest_smaller_than_the_processes_some_get_nothing():
    assert ranks(13, 2, 4, shuffle=False)[0] == [[0, 1], [8]]
    assert ranks(11, 2, 4, shuffle=False) == [[[0, 1], []], [[2, 3], [8]], [[4, 5], [9]], [[6, 7], [10]]]


@given(
    frames=st.integers(8, 100),
    batch_size=st.integers(1, 9),
    world_size=st.integers(1, 8),
    epoch=st.integers(0, 5),
    drop_last=st.booleans(),
)
def test_training_is_even(frames, batch_size, world_size, epoch, drop_last):
    if drop_last and frames < batch_size * world_size:
        return
    taken = ranks(frames, batch_size, world_size, epoch, shuffle=True, drop_last=drop_last)
    assert len({len(batches) for batches in taken}) == 1
    flat = [i for batches in taken for batch in batches for i in batch]
    assert len(flat) == len(set(flat))
    left_out = frames - len(flat)
    assert left_out < (batch_size * world_size if drop_last else 1)
    for step in zip(*taken, strict=True):
        sizes = [len(batch) for batch in step]
        assert sum(sizes) >= 1
        assert max(sizes) - min(sizes) <= 1
        assert max(sizes) <= batch_size


@given(frames=st.integers(0, 50), batch_size=st.integers(1, 9), world_size=st.integers(1, 8))
def test_evaluation_takes_each_frame_once(frames, batch_size, world_size):
    taken = ranks(frames, batch_size, world_size, shuffle=False, even=False)
    assert sorted(i for batches in taken for batch in batches for i in batch) == list(range(frames))
    for rank, batches in enumerate(taken):
        assert [i for batch in batches for i in batch] == list(range(rank, frames, world_size))


def test_order_is_a_function_of_seed_and_epoch():
    def order(seed, epoch):
        sampler = FrameBatchSampler(30, 4, shuffle=True, seed=seed)
        sampler.set_epoch(epoch)
        return tuple(sampler.order())

    assert order(0, 0) == order(0, 0)
    assert len({order(seed, epoch) for seed in range(10) for epoch in range(10)}) == 100


def test_all_processes_see_the_same_order():
    whole = ranks(24, 12, 1, epoch=3, shuffle=True)[0]
    parts = ranks(24, 4, 3, epoch=3, shuffle=True)
    assert [a + b + c for a, b, c in zip(*parts, strict=True)] == whole


def test_going_back_to_an_epoch_gives_its_order_again():
    sampler = FrameBatchSampler(20, 3, shuffle=True, seed=0)
    first = list(sampler)
    sampler.set_epoch(1)
    assert list(sampler) != first
    sampler.set_epoch(0)
    assert list(sampler) == first


@pytest.mark.parametrize("world_size", [1, 2, 3, 5])
@pytest.mark.parametrize("frames", [11, 13, 15])
def test_steps_do_not_depend_on_the_number_of_processes(world_size, frames):
    """With a size of the global batch, also where its last one has fewer frames than there are processes."""
    options = {"frames_per_step": 5, "shuffle": True, "epoch": 2}
    steps = [list(itertools.chain(*step)) for step in zip(*ranks(frames, 9, world_size, **options), strict=True)]
    assert steps == ranks(frames, 5, 1, shuffle=True, epoch=2)[0]


def test_lightning_finds_set_epoch():
    sampler = FrameBatchSampler(20, 3, shuffle=True, seed=0)
    assert sampler.sampler is sampler


def test_too_few_frames():
    with pytest.raises(DataError, match="3 training frames are too few: 20 make one step on 4 processes"):
        FrameBatchSampler(3, 5, shuffle=True, seed=0, world_size=4, drop_last=True)
    with pytest.raises(DataError, match="too few"):
        FrameBatchSampler(3, 5, shuffle=True, seed=0, drop_last=True)


def test_arguments_are_checked():
    with pytest.raises(ConfigError, match="batch_size is 0"):
        FrameBatchSampler(3, 0, shuffle=True, seed=0)
    with pytest.raises(ConfigError, match="rank 2 of 2"):
        FrameBatchSampler(3, 1, shuffle=True, seed=0, rank=2, world_size=2)
