"""Batches that are joined in runs: the same as one by one, in memory of their own, and only of usual frames."""

import copy
import pickle

import numpy as np
import pytest
import torch

from nequip_like.data.batches import packed_frames
from nequip_like.data.batches.packed_frames import PackedFrames
from nequip_like.data.dataset import GraphDataset
from nequip_like.data.graph import collate
from nequip_like.data.loader import ResumableLoader
from nequip_like.data.samplers import FrameBatchSampler

BATCHES = [[0], [3, 1], [2, 2, 4], [5, 0, 1, 2, 3], [4]]


@pytest.fixture
def dataset(make_graph):
    """Six structures of 1 to 4 atoms, without and with neighbours, a cell, and labels that some of them lack."""
    frames = [make_graph("H", [[0, 0, 0]]), make_graph("H2", [[0, 0, 0], [0, 0, 0.8]])]
    frames += [make_graph("OH2", [[0, 0, 0], [0.9, 0, 0.1 * i], [-0.3, 0.9, 0]]) for i in range(3)]
    frames.append(make_graph("H4", [[0, 0, 0], [0, 0, 1], [0, 1, 0], [1, 0, 0]], cell=[2.1, 2.2, 2.3], pbc=True))
    for i in (1, 3):
        frames[i]["forces"] = torch.full((len(frames[i]["pos"]), 3), float(i), dtype=torch.float64)
        frames[i]["total_energy"] = torch.tensor([[-1.5 * i]], dtype=torch.float64)
    return GraphDataset(frames, 1.5, ["H", "O"])


def refuse(frames):
    raise AssertionError("no batch is joined alone")


def join(packed, batches=BATCHES):
    return list(packed.join(batches, refuse))


def assert_same(batch, expected):
    assert list(batch) == list(expected)
    for name, tensor in expected.items():
        assert (batch[name].dtype, batch[name].shape) == (tensor.dtype, tensor.shape), name
        assert tensor.numel() == 0 or batch[name].stride() == tensor.stride(), name
        assert batch[name].numpy().tobytes() == tensor.numpy().tobytes(), name


def test_batches_are_those_that_are_joined_alone(dataset):
    expected = [collate([dataset[i] for i in indices]) for indices in BATCHES]
    batches = join(dataset.pack_frames(2))
    assert len(batches) == len(expected)
    for batch, alone in zip(batches, expected, strict=True):
        assert_same(batch, alone)
    assert batches[1]["batch"].tolist() == [0, 0, 0, 1, 1]
    assert batches[1]["edge_index"].tolist() == [[0, 0, 1, 2, 3, 4], [1, 2, 0, 0, 4, 3]]
    assert batches[1]["total_energy"].tolist() == [[-4.5], [-1.5]]


def test_each_array_has_its_own_memory(dataset):
    """What is done to one batch changes no other one, nor the frames, nor what autograd has kept of another field."""
    frames = [copy.deepcopy(dataset[i]) for i in range(6)]
    batches = join(dataset.pack_frames(2), [[1, 3], [1, 3]])
    kept = {name: tensor.clone() for name, tensor in batches[1].items()}
    for name, tensor in batches[0].items():
        assert tensor.untyped_storage().nbytes() == tensor.nbytes, name
        assert tensor.is_contiguous()
        if tensor.dtype == torch.float64:
            assert tensor.data_ptr() % 64 == 0, name
        tensor.zero_()
    assert_same(batches[1], kept)
    assert {tensor._version for tensor in batches[1].values()} == {0}
    for frame, before in zip(dataset.frames, frames, strict=True):
        assert_same(frame, before)


def test_frames_are_not_held_twice(dataset):
    before = [copy.deepcopy(frame) for frame in dataset.frames]
    packed = dataset.pack_frames(2)
    assert dataset.pack_frames(2) is packed
    for frame, unpacked in zip(dataset.frames, before, strict=True):
        assert_same(frame, unpacked)
        for name, tensor in frame.items():
            assert tensor.numel() == 0 or np.shares_memory(tensor.numpy(), packed._arrays[name])
            assert tensor.untyped_storage().nbytes() == tensor.nbytes


def test_what_is_in_frames_may_change(dataset):
    packed = dataset.pack_frames(2)
    dataset.frames[1]["forces"].fill_(7.0)
    assert join(packed, [[1], [3]])[0]["forces"].tolist() == [[7.0] * 3] * 2


@pytest.mark.parametrize("change", [{"forces": torch.ones(2, 3)}, {"forces_weight": torch.ones(1, 1)}, None])
def test_a_frame_that_was_exchanged_is_joined_alone(dataset, change):
    packed = dataset.pack_frames(2)
    if change is None:
        dataset.frames[1] = {**dataset.frames[1], "pos": torch.zeros(2, 3)}
    else:
        dataset.frames[1].update(change)
    alone = []
    assert len(list(packed.join([[0], [1], [2]], lambda frames: alone.append(frames) or {}))) == 3
    assert [[len(frame["pos"]) for frame in frames] for frames in alone] == [[1], [2], [3]]
    assert alone[1][0] is dataset.frames[1]
    assert len(join(packed, [[0], [2]])) == 2


def test_other_frames_are_packed_anew(dataset):
    first = dataset.pack_frames(2)
    dataset.frames = [dict(frame) for frame in dataset.frames[:2]]
    assert dataset.pack_frames(2) is not first
    assert dataset.pack_frames(2).frames is dataset.frames


def test_packed_frames_stay_where_they_are(dataset):
    dataset.pack_frames(2)
    other = pickle.loads(pickle.dumps(dataset))
    assert other._packed is None
    assert_same(other[5], dataset[5])


def test_runs_are_short_enough(dataset, monkeypatch):
    """Five batches of a molecule of 3 atoms: in runs of two, and one by one where one is too large already."""
    packed = dataset.pack_frames(2)
    size = packed._sizes[2]
    assert size == sum(tensor.nbytes for tensor in dataset.frames[2].values())
    runs = []
    monkeypatch.setattr(packed_frames, "_MOST_BYTES", 2 * size)
    for limit in (64, 1):
        monkeypatch.setattr(packed_frames, "_MOST_BATCHES", limit)
        runs.append([len(run) for run in packed._cut_runs([[2]] * 5)])
    monkeypatch.setattr(packed_frames, "_MOST_BYTES", size - 1)
    alone = list(packed.join([[2]] * 3, lambda frames: len(frames)))
    assert (runs, alone) == ([[2, 2, 1], [1, 1, 1, 1, 1]], [1, 1, 1])
    assert PackedFrames.of(dataset.frames, 1) is None


BROKEN = {
    "another type": lambda frame: frame.update(forces=frame["forces"].float()),
    "another shape": lambda frame: frame.update(forces=frame["forces"].reshape(3, 2)),
    "another rank": lambda frame: frame.update(edge_cell_shift=torch.zeros(0, dtype=torch.float64)),
    "another number": lambda frame: frame.update(num_atoms=torch.tensor([3])),
    "an unknown field": lambda frame: frame.update(charge=torch.zeros(1)),
    "joined before": lambda frame: frame.update(batch=torch.zeros(2, dtype=torch.int64)),
    "a gradient": lambda frame: frame["pos"].requires_grad_(),
    "a parameter": lambda frame: frame.update(pos=torch.nn.Parameter(frame["pos"], requires_grad=False)),
    "no neighbours": lambda frame: frame.pop("edge_index"),
}


@pytest.mark.parametrize("break_frame", BROKEN.values(), ids=BROKEN)
@pytest.mark.parametrize("everywhere", [False, True])
def test_what_is_unusual_is_not_packed(dataset, break_frame, everywhere):
    frames = [dict(dataset[1]) for _ in range(3)]
    for frame in frames if everywhere else frames[1:2]:
        break_frame(frame)
    before = [dict(frame) for frame in frames]
    assert PackedFrames.of(frames, 1) is None
    assert all(frame[name] is tensor for frame, old in zip(frames, before, strict=True) for name, tensor in old.items())


def test_frames_with_different_fields_are_not_packed(dataset):
    del dataset.frames[1]["forces"]
    assert dataset.pack_frames(2) is None


def test_the_same_frame_twice_is_not_packed(dataset):
    assert PackedFrames.of([dataset.frames[0]] * 2, 1) is None
    assert PackedFrames.of(tuple(dataset.frames), 1) is None


def load(dataset, **options):
    return ResumableLoader(dataset, FrameBatchSampler(6, 2, shuffle=True, seed=3, **options))


def test_loader_joins_in_runs_and_remembers_how_far_it_came(dataset, monkeypatch):
    expected = [[collate([dataset[i] for i in batch]) for batch in FrameBatchSampler(6, 2, shuffle=True, seed=3)]]
    loader = load(dataset)
    monkeypatch.setattr("nequip_like.data.loader.collate", refuse)
    batches = iter(loader)
    first = next(batches)
    assert loader.state_dict()["batches"] == 1
    for batch, alone in zip([first, *batches], *expected, strict=True):
        assert_same(batch, alone)


def test_many_frames_are_packed_in_the_second_epoch(dataset, monkeypatch):
    monkeypatch.setattr("nequip_like.data.loader._MANY", 5)
    loader, packed = load(dataset), []
    for epoch in range(2):
        loader.frame_order.set_epoch(epoch)
        assert sorted(i for batch in loader for i in batch["frame_index"].tolist()) == list(range(6))
        packed.append(dataset._packed is not None)
    assert packed == [False, True]


def test_process_without_a_frame(dataset):
    """Five frames in steps of four on two processes: in the last step one of them has none."""
    loaders = [
        ResumableLoader(dataset, FrameBatchSampler(5, 2, shuffle=False, seed=0, rank=r, world_size=2)) for r in (0, 1)
    ]
    indices = [[batch["frame_index"].tolist() for batch in loader] for loader in loaders]
    assert indices == [[[0, 1], [-1]], [[2, 3], [4]]]
    assert dataset._packed is not None


def test_own_way_of_reading_frames_is_asked_for_each_batch(dataset):
    class Noisy(GraphDataset):
        def __getitems__(self, indices):
            return [{**self.frames[i], "pos": self.frames[i]["pos"] + torch.rand(1)} for i in indices]

    dataset.__class__ = Noisy
    torch.manual_seed(0)
    shifts = []
    for batch in load(dataset):
        first = dataset.frames[int(batch["frame_index"][0])]["pos"][0]
        shifts.append(batch["pos"][0, 0] - first[0])
        torch.manual_seed(len(shifts))
    torch.manual_seed(1)
    assert shifts[1].item() == pytest.approx(torch.rand(1).item(), abs=1e-12)
    assert dataset._packed is None
