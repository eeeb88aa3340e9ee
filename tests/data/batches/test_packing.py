"""Batches of about the same cost: each frame once, none over the limit, the same on all processes."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nequip_like.data.batches.packing import cut_in_order
from nequip_like.data.samplers import FrameBatchSampler
from nequip_like.data.sampling.samplers import ErrorWeightedSampler, MixtureSampler, RoundsSampler, WeightedSampler
from nequip_like.errors import DataError


def pack(costs, limit, world_size=1, epoch=0, seed=1, shuffle=True, **options):
    """Batches of each process."""
    result = []
    for rank in range(world_size):
        sampler = FrameBatchSampler(
            len(costs), limit, costs=np.array(costs), rank=rank, world_size=world_size, seed=seed, shuffle=shuffle,
            **options,
        )  # fmt: skip
        sampler.set_epoch(epoch)
        result.append(list(sampler))
        assert len(result[-1]) == len(sampler)
    return result


def flatten(taken):
    return [frame for batches in taken for batch in batches for frame in batch]


def mixture(frames=3000, seed=0):
    """Sizes of molecules and slabs: most between 3 and 30, a tenth between 60 and 110."""
    rng = np.random.default_rng(seed)
    return np.where(rng.random(frames) < 0.1, rng.integers(60, 111, frames), rng.integers(3, 31, frames))


@settings(deadline=None, max_examples=60)
@given(
    costs=st.lists(st.integers(1, 60), min_size=4, max_size=120),
    limit=st.integers(1, 100),
    world_size=st.integers(1, 4),
    epoch=st.integers(0, 3),
    shuffle=st.booleans(),
)
def test_each_frame_is_in_one_batch_and_none_is_too_large(costs, limit, world_size, epoch, shuffle):
    taken = pack(costs, limit, world_size, epoch, shuffle=shuffle)
    assert len({len(batches) for batches in taken}) == 1
    assert len(taken[0]) == len(pack(costs, limit, world_size, epoch + 1, shuffle=shuffle)[0])
    flat = flatten(taken)
    assert len(flat) == len(set(flat))
    assert set(flat) <= set(range(len(costs)))
    if world_size == 1:
        assert len(flat) == len(costs)  # with several, less than one frame of each may be left
    else:
        assert len(costs) - len(flat) < world_size
    for batch in (batch for batches in taken for batch in batches):
        assert batch
        assert len(batch) == 1 or sum(costs[frame] for frame in batch) <= limit


@settings(deadline=None, max_examples=60)
@given(costs=st.lists(st.integers(1, 60), max_size=60), limit=st.integers(1, 100), world_size=st.integers(1, 4))
def test_evaluation_keeps_the_order(costs, limit, world_size):
    taken = pack(costs, limit, world_size, shuffle=False, even=False)
    whole = cut_in_order(range(len(costs)), np.array(costs, dtype=int), limit)
    assert [frame for batch in whole for frame in batch] == list(range(len(costs)))
    assert taken == [whole[rank::world_size] for rank in range(world_size)]
    for first, second in itertools.pairwise(whole):  # none could have been filled more
        assert sum(costs[frame] for frame in first) + costs[second[0]] > limit


@pytest.mark.parametrize("world_size", [1, 4])
def test_batches_are_full_and_processes_have_the_same_work(world_size):
    costs = mixture()
    loads = np.array([[costs[batch].sum() for batch in batches] for batches in pack(costs, 256, world_size)])
    assert loads.mean() > 0.96 * 256
    assert loads.min() > 0.9 * 256
    assert (loads.max(axis=0) / loads.mean(axis=0)).mean() < 1.003


def test_frames_of_one_size_are_dealt_out_evenly():
    """Of 100 frames of 9 atoms 14 fit into 130: eight batches, of 12 or 13."""
    sizes = sorted(map(len, pack([9] * 100, 130)[0]))
    assert sizes == [12] * 4 + [13] * 4


def test_order_is_a_function_of_seed_and_epoch():
    costs = mixture(400)
    orders = [pack(costs, 128, seed=seed, epoch=epoch) for seed, epoch in ((0, 3), (0, 3), (0, 4), (1, 3))]
    assert orders[0] == orders[1]
    assert orders[0] != orders[2]
    assert orders[0] != orders[3]


def test_who_shares_a_batch_is_drawn_anew():
    """Of two epochs none of 40 batches is the same, though the whole set is one window and all sizes differ."""
    costs = np.arange(20, 220)
    epochs = [{frozenset(batch) for batch in pack(costs, 600, epoch=epoch)[0]} for epoch in range(4)]
    assert len(epochs[0]) == len(epochs[1]) >= 40
    assert not any(epochs[i] & epochs[j] for i in range(4) for j in range(i))


def test_steps_are_shuffled_and_costs_do_not_drift_within_an_epoch():
    costs = mixture()
    firsts = [costs[pack(costs, 256, epoch=epoch)[0][0]].mean() for epoch in range(30)]
    assert np.mean(firsts) == pytest.approx(costs.mean(), rel=0.15)


def test_larger_frames_are_batches_of_their_own():
    taken = pack([300, 5, 5, 120, 5], 100)[0]
    assert sorted(map(sorted, taken)) == [[0], [1, 2, 4], [3]]
    assert pack([300, 5, 5, 120, 5], 100, shuffle=False)[0] == [[0], [1, 2], [3], [4]]


def test_a_frame_without_another_for_the_second_process_sits_out():
    """Five frames that fill a batch each: two steps of two, and which is left depends on the epoch."""
    left = set()
    for epoch in range(20):
        taken = pack([7] * 5, 7, 2, epoch)
        assert [len(batches) for batches in taken] == [2, 2]
        left |= set(range(5)) - set(flatten(taken))
    assert left == set(range(5))
    with pytest.raises(DataError, match=r"1 training frames are too few: 2 make one step on 2 processes"):
        pack([7], 7, 2)


def test_order_of_the_file_is_kept_without_shuffling():
    taken = pack([4, 3, 2, 6, 1, 1, 9], 8, 2, shuffle=False)
    assert taken == [[[0, 1], [4, 5]], [[2, 3], [6]]]
    # Three batches make no two steps: the largest is divided.
    assert pack([4, 3, 2, 6, 1, 1], 8, 2, shuffle=False) == [[[0], [2, 3]], [[1], [4, 5]]]


def test_drawn_frames_are_packed_too():
    costs = mixture(200)
    options = {"costs": costs, "shuffle": True, "seed": 0}
    weighted = WeightedSampler(np.arange(1.0, 201.0), 150, 256, **options)
    rounds = RoundsSampler(200, 150, 256, **options)
    errors = ErrorWeightedSampler(200, 150, 256, **options)
    replay = MixtureSampler([range(150), range(150, 200)], [150, 20], 256, **options)
    for sampler, count in ((weighted, 150), (rounds, 150), (errors, 150), (replay, 170)):
        number = len(sampler)
        for epoch in range(6):
            sampler.set_epoch(epoch)
            batches = list(sampler)
            assert len(batches) == number == len(sampler)
            assert all(len(batch) == 1 or costs[batch].sum() <= 256 for batch in batches)
            taken = [frame for batch in batches for frame in batch]
            order = sampler.order()
            assert sorted(taken) == sorted(order[: len(taken)])  # what does not fit is the end of the order
            assert len(taken) > 0.75 * count
    # All frames become large ones: as many batches as before, each full.
    errors.update(np.where(costs > 50, 1.0, 0.0), np.ones(200))
    assert len(list(errors)) == len(errors)


def test_what_a_step_is_in_words():
    sampler = FrameBatchSampler(9, 50, costs=np.full(9, 5), measure="atoms", shuffle=True, seed=0, world_size=2)
    assert sampler.step_size == "50 atoms on each of 2 processes"
    assert FrameBatchSampler(9, 2, shuffle=True, seed=0, world_size=2).step_size == "4 frames"
