import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from nequip_like.data.dataset import GraphDataset
from nequip_like.data.graph import frame_key
from nequip_like.data.prepared.frames import list_keys
from nequip_like.data.splits import check_disjoint, duplicates, split_frames
from nequip_like.errors import ConfigError, DataError


@given(
    frames=st.integers(20, 200),
    val=st.one_of(st.integers(1, 8), st.floats(0.01, 0.4)),
    test=st.one_of(st.integers(1, 8), st.floats(0.01, 0.4)),
    seed=st.integers(0, 2**32),
)
def test_parts_are_disjoint_complete_and_repeatable(frames, val, test, seed):
    parts = split_frames(frames, {"val": val, "test": test}, seed)
    assert parts == split_frames(frames, {"val": val, "test": test}, seed)
    assert sorted(i for part in parts.values() for i in part) == list(range(frames))
    for part, size in (("val", val), ("test", test)):
        assert len(parts[part]) == (size if isinstance(size, int) else max(1, round(size * frames)))
        assert parts[part] == sorted(parts[part])


def test_other_seeds_give_other_parts():
    assert len({tuple(split_frames(100, {"val": 10}, seed)["val"]) for seed in range(20)}) == 20


def test_kept_frames_are_never_held_out():
    for seed in range(20):
        assert {1, 2, 3} <= set(split_frames(10, {"val": 5}, seed, keep_in_train={1, 2, 3})["train"])


@pytest.mark.parametrize("size", [0, -1, 0.0, 1.0, 1.5, -0.1, True])
def test_sizes_that_make_no_sense(size):
    with pytest.raises(ConfigError, match="val"):
        split_frames(10, {"val": size}, 0)


def test_something_must_be_left_to_train_on():
    with pytest.raises(DataError, match="val: 6, test: 4 of 10"):
        split_frames(10, {"val": 6, "test": 4}, 0)
    with pytest.raises(DataError, match="more than once"):
        split_frames(10, {"val": 6}, 0, keep_in_train={1, 2, 3, 4, 5})


def test_key_of_a_frame(make_graph):
    positions = [[0, 0, 0], [0, 0, 1.0]]
    key = frame_key(make_graph("HO", positions))
    assert key == frame_key(make_graph("HO", positions, cell=[50, 50, 50]))  # a box around a molecule means nothing
    assert key == frame_key(make_graph("HO", positions, total_energy=[[3.0]]))
    others = [
        make_graph("HC", positions),
        make_graph("OH", positions),
        make_graph("HO", [[0, 0, 0], [0, 0, 1.001]]),
        make_graph("HO", positions, cell=[50, 50, 50], pbc=True),
        make_graph("HO", positions, cell=[51, 50, 50], pbc=True),
    ]
    assert len({key, *map(frame_key, others)}) == 6


def test_rounding_hides_the_digits_of_a_file(make_graph):
    assert frame_key(make_graph("H", [[0.1, 0, 0]])) == frame_key(make_graph("H", [[0.1 + 1e-9, -1e-9, 0]]))


def test_duplicates_point_to_the_first(make_graph):
    frames = [make_graph("H", [[x, 0, 0]]) for x in (0.0, 1.0, 0.0, 2.0, 0.0)]
    assert duplicates(list_keys(frames)) == {2: 0, 4: 0}


def dataset(make_graph, name, places):
    frames = [make_graph("H", [[x, 0, 0]]) for x in places]
    return GraphDataset(frames, 1.0, ["H"], name=name)


def test_overlap_names_both_frames(make_graph):
    train, val = dataset(make_graph, "a", [0.0, 1.0, 1.0]), dataset(make_graph, "b", [2.0, 3.0, 1.0])
    check_disjoint({"train": [train], "val": []})
    with pytest.raises(DataError, match=r"train \(a frame 1\) and in val \(b frame 2\)"):
        check_disjoint({"train": [train], "val": [val]})


def test_sets_of_one_group_may_overlap(make_graph):
    sets = [dataset(make_graph, "a", [0.0]), dataset(make_graph, "b", [0.0, 1.0])]
    check_disjoint({"train": [dataset(make_graph, "t", [5.0])], "test": sets})
    with pytest.raises(DataError, match=r"in val .* and in test"):
        check_disjoint({"val": sets[:1], "test": sets[1:]})


def test_random_state_is_left_alone():
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    split_frames(10, {"val": 2}, 0)
    assert torch.equal(torch.rand(1), expected)


@pytest.mark.parametrize("seed", range(5))
def test_some_of_what_is_left_is_trained_on(seed):
    whole = split_frames(20, {"val": 4}, seed, keep_in_train={3, 8})
    some = split_frames(20, {"val": 4}, seed, keep_in_train={3, 8}, train_size=6)
    assert some["val"] == whole["val"]
    assert len(some["train"]) == 6
    assert {3, 8} <= set(some["train"]) <= set(whole["train"])
    assert split_frames(20, {"val": 4}, seed, train_size=16) == split_frames(20, {"val": 4}, seed)
    with pytest.raises(DataError, match="train_size is 17, but 16 of 20 frames"):
        split_frames(20, {"val": 4}, seed, train_size=17)
