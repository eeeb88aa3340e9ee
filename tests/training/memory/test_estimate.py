import dataclasses

import lightning
import pytest
import torch

from nequip_like.data.datamodule import DataModule
from nequip_like.data.graph import collate
from nequip_like.nn.native.compiler import find_compiler
from nequip_like.process_settings import available_memory
from nequip_like.training.memory import estimate
from nequip_like.training.memory.estimate import BatchContent, StepMemory, estimate_run, estimate_step, find_largest
from nequip_like.training.memory.live_bytes import LiveBytes

CPU = torch.device("cpu")


@pytest.fixture
def data(tmp_path, write_labelled):
    file = write_labelled(tmp_path / "d.xyz", frames=30)
    return DataModule(
        str(file), val=8, cutoff_radius=3.0, batch_size={"atoms": 60}, val_batch_size=3, reference_energies=None
    ).prepare()


def test_live_bytes_are_those_at_once():
    kept = torch.ones(1000, dtype=torch.float64)
    with LiveBytes([kept]) as live:
        view = kept[1:]  # no memory of its own
        first = torch.ones(500, dtype=torch.float64)
        del first
        second = view + 1
        third = second * 2
    assert live.peak == 2 * 999 * 8
    assert len(third) == 999


def test_live_bytes_of_a_gradient():
    """What a graph holds is alive, though no name in Python refers to it."""
    weight = torch.ones(1000, dtype=torch.float64, requires_grad=True)
    with LiveBytes([weight]) as live:
        loss = weight.exp().exp().sum()
        loss.backward()
    assert 3 * 8000 <= live.peak <= 4 * 8000 + 100


def test_largest_batch(data):
    table = data.train_set.table
    content = find_largest(data.list_training_batches(), table)
    sums = [(int(table.edges[b].sum()), int(table.atoms[b].sum()), len(b)) for b in data.list_training_batches()]
    assert (content.edges, content.atoms, content.frames) == max(sums)
    assert content.atoms <= 60
    assert str(BatchContent(1, 2000, 12345)) == "1 frame, 2,000 atoms, 12,345 edges"


@pytest.mark.parametrize("kernel", ["batched", "auto"])
def test_estimate_is_near_what_is_taken(data, make_potential, kernel):
    """Of compiled code, and of torch's: what tensors of a step of the largest batch take together, within 30 %."""
    if kernel == "auto" and find_compiler() is None:
        pytest.skip("needs a C compiler")
    model = make_potential(kernel=kernel, num_features=16)
    batches = data.list_training_batches()
    content = find_largest(batches, data.train_set.table)
    frames = next(b for b in batches if data.train_set.table.edges[b].sum() == content.edges)
    before = [parameter.detach().clone() for parameter in model.parameters()]
    needed = estimate_step(model, data.train_set, content, CPU, train=True)
    assert not model.training
    assert all(parameter.grad is None for parameter in model.parameters())
    assert all(torch.equal(old, new) for old, new in zip(before, model.parameters(), strict=True))
    model.train()
    parameters = list(model.parameters())
    optimizer = torch.optim.Adam(parameters)
    with LiveBytes([*parameters, *model.buffers()]) as live:
        batch = collate(data.train_set.__getitems__(frames))
        prediction = model(batch)
        (prediction["total_energy"].square().sum() + prediction["forces"].square().sum()).backward()
        del prediction
        optimizer.step()
    taken = live.peak * (estimate._WITH_GAPS if kernel == "batched" else 1.0)
    assert 0.7 < needed / taken < 1.3
    # A prediction needs less.
    assert estimate_step(model, data.train_set, content, CPU, train=False) < 0.8 * needed


def test_replayed_frames_count(tmp_path, write_labelled, make_potential):
    """They are numbered behind the frames of the training set."""
    files = [write_labelled(tmp_path / name, frames=count, seed=count) for name, count in (("a.xyz", 8), ("b.xyz", 30))]
    replay = {"file": str(files[1]), "fraction": 0.5}
    data = DataModule(str(files[0]), cutoff_radius=3.0, batch_size={"atoms": 30}, replay=replay).prepare()
    trainer = lightning.Trainer(accelerator="cpu", devices=1, logger=False, enable_checkpointing=False)
    (training,) = estimate_run(data, make_potential(kernel="batched"), trainer)
    largest = max(sum(int(data.trained_on[i]["num_atoms"]) for i in batch) for batch in data.list_training_batches())
    assert training.content.atoms <= largest <= 30


def test_of_a_run(data, make_potential):
    trainer = lightning.Trainer(accelerator="cpu", devices=1, logger=False, enable_checkpointing=False)
    training, validation = estimate_run(data, make_potential(kernel="batched"), trainer)
    assert (training.task, training.setting) == ("training", "data.batch_size (60 atoms)")
    assert (validation.content.frames, validation.setting) == (3, "data.val_batch_size (3 frames)")
    assert training.warning is None
    assert available_memory() is None or training.free > 0
    small = dataclasses.replace(training, free=1e6)
    assert small.warning.startswith("the largest batch of training (")
    assert "1 MB are free (cpu): give a smaller data.batch_size (60 atoms) or a smaller model" in small.warning
    unknown = StepMemory("training", BatchContent(2, 10, 100), 3e9, None, "mps", "")
    assert unknown.warning is None
    assert unknown.describe() == "some 3.0 GB for the largest batch: 2 frames, 10 atoms, 100 edges"
