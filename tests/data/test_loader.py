"""The order of batches through a real Trainer: other in each epoch, and the same after stopping and resuming."""

import lightning
import pytest
import torch

from nequip_like.data.datamodule import DataModule
from nequip_like.data.dataset import GraphDataset
from nequip_like.data.loader import ResumableLoader
from nequip_like.data.samplers import FrameBatchSampler
from nequip_like.errors import ConfigError


class Recorder(lightning.LightningModule):
    """Notes which frames each step sees; its one weight goes nowhere."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1, dtype=torch.float64))
        self.steps = []
        self.validated = []

    def training_step(self, batch):
        self.steps.append((self.current_epoch, tuple(batch["frame_index"].tolist())))
        return (self.weight * batch["total_energy"].sum()).sum()

    def validation_step(self, batch, batch_idx, dataloader_idx=0):
        self.validated.append((dataloader_idx, tuple(batch["frame_index"].tolist())))

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.0)


class SaveAt(lightning.Callback):
    def __init__(self, step, path):
        self.step, self.path = step, path

    def on_train_batch_end(self, trainer, *_):
        if trainer.global_step == self.step:
            trainer.save_checkpoint(self.path)


def trainer(**kwargs):
    return lightning.Trainer(
        accelerator="cpu",
        devices=1,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
        **kwargs,
    )


@pytest.fixture
def data(write, molecules):
    file = write("m.xyz", molecules(12))
    return lambda size=2, **kwargs: DataModule(file, val=3, cutoff_radius=2.0, batch_size=size, seed=4, **kwargs)


def test_orders_differ_between_epochs_and_repeat_between_runs(data):
    runs = []
    for _ in range(2):
        model = Recorder()
        trainer(max_epochs=3).fit(model, datamodule=data())
        runs.append(model.steps)
    assert runs[0] == runs[1]
    epochs = [[batch for epoch, batch in runs[0] if epoch == wanted] for wanted in range(3)]
    assert [len(epoch) for epoch in epochs] == [5, 5, 5]
    assert len({str(epoch) for epoch in epochs}) == 3
    for epoch in epochs:
        assert sorted(i for batch in epoch for i in batch) == list(range(9))


def test_validation_sees_each_frame_once(data):
    model = Recorder()
    trainer(max_epochs=1, num_sanity_val_steps=0).fit(model, datamodule=data())
    assert model.validated == [(0, (0, 1)), (0, (2,))]


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize("stop", [1, 4, 5, 7, 10])
def test_resumed_run_sees_the_same_batches(data, tmp_path, stop, workers):
    whole = Recorder()
    save = SaveAt(stop, tmp_path / "stop.ckpt")
    trainer(max_epochs=3, callbacks=[save]).fit(whole, datamodule=data(num_workers=workers))
    resumed = Recorder()
    trainer(max_epochs=3).fit(
        resumed, datamodule=data(num_workers=workers), ckpt_path=tmp_path / "stop.ckpt", weights_only=True
    )
    assert resumed.steps == whole.steps[stop:]


@pytest.mark.parametrize(("stop", "workers"), [(2, 0), (2, 1), (5, 0)])
def test_resumed_run_sees_the_same_packed_batches(data, tmp_path, stop, workers):
    """Nine molecules of 3 atoms, up to three in a batch: three or more steps in each of three epochs."""
    options = {"num_workers": workers, "size": {"atoms": 9}}
    whole = Recorder()
    trainer(max_epochs=3, callbacks=[SaveAt(stop, tmp_path / "stop.ckpt")]).fit(whole, datamodule=data(**options))
    resumed = Recorder()
    other = data(**options | {"num_workers": 1 - workers})
    trainer(max_epochs=3).fit(resumed, datamodule=other, ckpt_path=tmp_path / "stop.ckpt", weights_only=True)
    assert resumed.steps == whole.steps[stop:]
    assert len(whole.steps) >= 9
    with pytest.raises(ConfigError, match=r"steps of 9 atoms on each of 1 processes; now a step has 4 frames"):
        trainer(max_epochs=3).fit(
            Recorder(), datamodule=data(size=4), ckpt_path=tmp_path / "stop.ckpt", weights_only=True
        )


def test_resuming_after_a_limited_epoch(data, tmp_path):
    whole = Recorder()
    save = SaveAt(3, tmp_path / "stop.ckpt")
    trainer(max_epochs=3, limit_train_batches=3, callbacks=[save]).fit(whole, datamodule=data())
    resumed = Recorder()
    trainer(max_epochs=3, limit_train_batches=3).fit(
        resumed, datamodule=data(), ckpt_path=tmp_path / "stop.ckpt", weights_only=True
    )
    assert resumed.steps == whole.steps[3:]


def test_state_is_what_was_taken(make_graph):
    dataset = GraphDataset([make_graph("H", [[x, 0, 0]]) for x in range(6)], 0.5, ["H"])

    def loader():
        return ResumableLoader(dataset, FrameBatchSampler(6, 2, shuffle=True, seed=0))

    first = loader()
    batches = iter(first)
    next(batches)
    state = first.state_dict()
    assert state == {"epoch": 0, "batches": 1, "frames": 2}
    rest = [batch["frame_index"].tolist() for batch in batches]
    second = loader()
    second.load_state_dict(state)
    assert len(second) == 3
    assert [batch["frame_index"].tolist() for batch in second] == rest
    second.batch_sampler.sampler.set_epoch(1)
    assert len(list(second)) == 3


def test_batches_of_another_size_go_on_at_the_end_of_an_epoch_only(make_graph):
    """Within an epoch nobody can tell which frames were taken; a state without a size is of an older version."""
    dataset = GraphDataset([make_graph("H", [[x, 0, 0]]) for x in range(6)], 0.5, ["H"])

    def loader(batch_size):
        return ResumableLoader(dataset, FrameBatchSampler(6, batch_size, shuffle=True, seed=0))

    with pytest.raises(ConfigError, match=r"an epoch of steps of 2 frames; now a step has 3 frames\n.*batch_size"):
        loader(3).load_state_dict({"epoch": 0, "batches": 1, "frames": 2})
    at_the_end = loader(3)
    at_the_end.load_state_dict({"epoch": 0, "batches": 3, "frames": 2})
    at_the_end.batch_sampler.sampler.set_epoch(1)
    assert len(list(at_the_end)) == 2
    loader(3).load_state_dict({"epoch": 0, "batches": 1})


def test_loading_draws_no_random_numbers(make_graph):
    """Torch's own generator is that of the model: a resumed run begins its passes at other times."""
    dataset = GraphDataset([make_graph("H", [[0, 0, 0]])], 0.5, ["H"])
    before = torch.get_rng_state()
    assert len(list(ResumableLoader(dataset, FrameBatchSampler(1, 1, shuffle=True, seed=0)))) == 1
    assert torch.equal(torch.get_rng_state(), before)


def test_batches_are_those_of_torchs_iterator(make_graph):
    dataset = GraphDataset([make_graph("HH", [[0, 0, 0], [x, 0, 1]]) for x in range(7)], 3.0, ["H"])
    loader = ResumableLoader(dataset, FrameBatchSampler(7, 3, shuffle=True, seed=5))
    ours, torchs = list(loader), list(torch.utils.data.DataLoader.__iter__(loader))
    assert len(ours) == len(torchs) == 3
    for batch, torchs_batch in zip(ours, torchs, strict=True):
        assert list(batch) == list(torchs_batch)
        assert all(torch.equal(batch[key], torchs_batch[key]) for key in batch)
