"""Several processes: gradients are summed once, and two processes are one."""

from __future__ import annotations

import csv
import socket
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from torch import nn

from nequip_like.data.datamodule import DataModule
from nequip_like.data.fields import Graph
from nequip_like.data.graph import collate
from nequip_like.data.samplers import FrameBatchSampler
from nequip_like.metrics import EnergyForceLoss
from nequip_like.metrics.manager import MetricsManager
from nequip_like.model import NequIPGNNModel
from nequip_like.training.gradients import sum_gradients
from nequip_like.workflow.train import train
from tests.processes import environment, run_python, run_side_by_side

# --- the sum alone


def parts() -> list[dict[str, list[float] | None]]:
    """Gradients of two processes: a on both, b on the second only, c on none."""
    return [
        {"a": [1.0, 2.0], "b": None, "c": None},
        {"a": [10.0, 20.0], "b": [5.0], "c": None},
    ]


def summed(rank: int, folder: str) -> None:
    dist.init_process_group("gloo", init_method=Path(folder, "meet").read_text(), rank=rank, world_size=2)
    given = parts()[rank]
    a = nn.Parameter(torch.zeros(2, dtype=torch.float64))
    b = nn.Parameter(torch.zeros(1, dtype=torch.float64))
    c = nn.Parameter(torch.zeros(3, dtype=torch.float64))
    frozen = nn.Parameter(torch.zeros(1), requires_grad=False)
    single = nn.Parameter(torch.zeros(2, 2, dtype=torch.float32))
    for parameter, value in zip((a, b, c), given.values(), strict=True):
        parameter.grad = None if value is None else torch.tensor(value, dtype=torch.float64)
    single.grad = torch.full((2, 2), 0.1 + rank, dtype=torch.float32)
    sum_gradients([a, frozen, single, b, c])
    found = {"a": a.grad, "b": b.grad, "c": c.grad, "frozen": frozen.grad, "single": single.grad}

    # The loss of a global batch of which the processes hold 3 and 1 elements.
    w = nn.Parameter(torch.tensor([2.0], dtype=torch.float64))
    x = torch.tensor([1.0, 2.0, 3.0, 4.0], dtype=torch.float64)
    mine = x[:3] if rank == 0 else x[3:]
    ((w * mine).square().sum() / 4).backward()
    sum_gradients([w])
    torch.save({**found, "w": w.grad}, f"{folder}/{rank}.pt")
    dist.destroy_process_group()


@pytest.mark.slow
def test_sum_of_gradients_of_two_processes(tmp_path):
    # Over TCP: a file store is deleted by the rank that leaves first, and the other may then wait for ever.
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        (tmp_path / "meet").write_text(f"tcp://127.0.0.1:{free.getsockname()[1]}")
    run_side_by_side(summed, str(tmp_path))
    for rank in range(2):
        found = torch.load(tmp_path / f"{rank}.pt", weights_only=True)
        assert found["a"].tolist() == [11.0, 22.0]
        assert found["b"].tolist() == [5.0]
        assert found["c"] is None
        assert found["frozen"] is None
        assert found["single"].dtype == torch.float32
        torch.testing.assert_close(found["single"], torch.full((2, 2), 1.2))
        # d/dw of mean (w x)^2 is 2 w mean x^2
        assert found["w"].item() == pytest.approx(2 * 2.0 * (1 + 4 + 9 + 16) / 4, rel=1e-15)


# --- batches of about the same number of atoms

SIZE = {"atoms": 30}


def build_step(file: str, rank: int | None) -> tuple[nn.Module, MetricsManager, Graph]:
    """Model, loss and the batch of one of two processes in the first step; of both together without a rank."""
    data = DataModule(file, cutoff_radius=3.0, batch_size=SIZE, reference_energies=None).prepare()
    table, ranks = data.train_set.table, [0, 1] if rank is None else [rank]
    costs = data.batch_size.measure_frames(table)
    options = {"costs": costs, "shuffle": True, "seed": 0, "world_size": 2}
    steps = [list(FrameBatchSampler(len(table), data.batch_size.limit, rank=one, **options)) for one in ranks]
    frames = [frame for batches in steps for frame in batches[0]]
    model = NequIPGNNModel(
        type_names=data.type_names, r_max=3.0, num_layers=2, num_features=4, avg_num_neighbors=5.0, seed=3,
        model_dtype="float64", kernel="batched",
    ).train()  # fmt: skip
    loss = EnergyForceLoss(type_names=data.type_names)
    return model, loss, collate(data.train_set.__getitems__(frames))


def train_packed(rank: int, folder: str, file: str) -> None:
    dist.init_process_group("gloo", init_method=Path(folder, "meet").read_text(), rank=rank, world_size=2)
    model, loss, batch = build_step(file, rank)
    loss.step(model(batch), batch)["weighted_sum"].backward()
    sum_gradients(model.parameters())
    gradients = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    torch.save({"gradients": gradients, "atoms": int(batch["num_atoms"].sum())}, f"{folder}/{rank}.pt")
    dist.destroy_process_group()


@pytest.mark.slow
def test_packed_batches_of_two_processes_are_one(tmp_path, write_labelled):
    """The sum of the gradients of both is that of their batches together, though these have other numbers of frames."""
    file = str(write_labelled(tmp_path / "d.xyz", frames=40))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        (tmp_path / "meet").write_text(f"tcp://127.0.0.1:{free.getsockname()[1]}")
    run_side_by_side(train_packed, str(tmp_path), file)
    found = [torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in range(2)]
    assert all(25 <= part["atoms"] <= 30 for part in found)
    model, loss, batch = build_step(file, None)
    loss.step(model(batch), batch)["weighted_sum"].backward()
    expected = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    for part in found:
        assert part["gradients"].keys() == expected.keys()
        for name, gradient in expected.items():
            torch.testing.assert_close(part["gradients"][name], gradient, rtol=1e-10, atol=1e-12, msg=name)
    assert any(float(gradient.abs().max()) > 1e-3 for gradient in expected.values())


# --- whole runs

# 12 frames train (3 global batches of 4), 7 validate: odd; a second set of 1 leaves one process without frames.
# SGD: Adam would blow up the rounding of gradients that are zero.
RUN = [
    "data.val=[7,1]",
    "data.test=4",
    "training_module.optimizer._target_=torch.optim.SGD",
    "training_module.lr_scheduler=null",
    "seed=3",
]


def weights(folder: Path) -> dict[str, torch.Tensor]:
    state = torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
    return {name: tensor for name, tensor in state.items() if isinstance(tensor, torch.Tensor)}


def logged(folder: Path) -> dict[str, list[float]]:
    """Columns of metrics.csv without their gaps."""
    with (folder / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    return {name: [float(row[name]) for row in rows if row[name]] for name in rows[0]}


def same_weights(one: Path, two: Path) -> None:
    single, double = weights(one), weights(two)
    assert single.keys() == double.keys()
    for name, tensor in single.items():
        torch.testing.assert_close(double[name], tensor, rtol=1e-12, atol=1e-12, msg=name)


def same_numbers(one: Path, two: Path) -> None:
    single, double = logged(one), logged(two)
    assert single.keys() == double.keys()
    for name in single:
        # NaN is the error of forces in a step that has none.
        assert double[name] == pytest.approx(single[name], rel=1e-10, nan_ok=True), name
    assert any(name.startswith("val1_epoch") for name in single)


def settings() -> dict[str, str]:
    """The environment: with callbacks that are defined in tests, wherever these are run from."""
    return environment(PYTHONWARNINGS="default", PYTHONPATH=str(Path(__file__).parents[2]))


def run(command: list[str], folder: Path) -> str:
    done = run_python(*command, cwd=folder, env=settings())
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.fixture
def one_process(compose, tmp_path):
    """The same run in one process, with twice the batch size: ``(folder, overrides without batch size)``."""

    def start(*changes: str) -> Path:
        train(compose(*RUN, "data.batch_size=4", f"output_dir={tmp_path / 'one'}", *changes))
        return tmp_path / "one"

    return start


def overrides_of(tiny, molecule_file, folder: Path) -> list[str]:
    return [
        *("-cn", "train", f"data.train={molecule_file}", "cutoff_radius=4.0", *tiny, *RUN),
        *("data.batch_size=2", f"output_dir={folder}", "trainer.devices=2", "trainer.strategy=ddp"),
    ]


def test_two_processes_are_one(one_process, tiny, molecule_file, tmp_path):
    """Two epochs of three global steps each: the same weights, the same numbers in metrics.csv, the same files."""
    single, double = one_process(), tmp_path / "two"
    command = ["-m", "nequip_like.cli.train", *overrides_of(tiny, molecule_file, double)]
    output = run(command, tmp_path)
    same_weights(single, double)
    same_numbers(single, double)
    assert output.count("epoch    0 |") == 1  # one process speaks
    assert "recommended to use" not in output
    assert "deprecated" not in output
    assert {path.name for path in double.iterdir()} >= {"model.safetensors", "metrics.json", "predictions.extxyz"}


@pytest.mark.slow
def test_two_processes_draw_alike(one_process, compose, tiny, molecule_file, tmp_path):
    """By the errors of all processes, and the forces of the same frames: else the weights were not those of one."""
    force_keys = "force_fraction:0.5,force_resample_num_epochs:1,force_scale_unbiased:true"
    sampling = f"data.sampling={{policy:error_weighted,{force_keys}}}"
    single, double = one_process(sampling), tmp_path / "two"
    command = ["-m", "nequip_like.cli.train", *overrides_of(tiny, molecule_file, double), sampling]
    run(command, tmp_path)
    same_weights(single, double)
    same_numbers(single, double)
    plain = train(compose(*RUN, "data.batch_size=4", f"output_dir={tmp_path / 'plain'}")).folder
    assert any(not torch.equal(tensor, weights(plain)[name]) for name, tensor in weights(single).items())


@pytest.mark.slow
@pytest.mark.parametrize("rate", [0.01, 1e-9], ids=["not finite", "far too large"])
def test_two_processes_go_back_alike(rate, one_process, tiny, molecule_file, tmp_path):
    """Weights that are made too large after the 4th step, and get worse or stay so: both processes go back."""
    kick = ("trusted_packages=[tests]", "trainer.max_epochs=4", "+callbacks.kick._args_=[4]")
    changes = (
        *kick,
        f"training_module.optimizer.lr={rate}",
        "+callbacks.kick._target_=tests.workflow.test_resume.KickAt",
    )
    single, double = one_process(*changes), tmp_path / "two"
    command = ["-m", "nequip_like.cli.train", *overrides_of(tiny, molecule_file, double), *changes]
    output = run(command, tmp_path)
    assert output.count("back to the weights of step ") == 1  # one process speaks
    same_weights(single, double)
    assert set(logged(double)["rollbacks"]) == {1.0}


@pytest.mark.slow
def test_one_step_of_two_processes(one_process, tiny, molecule_file, tmp_path):
    """One step with batches of 2 x 5 and 1 x 10."""
    single = one_process("data.batch_size=10", "trainer.max_steps=1")
    double = tmp_path / "two"
    command = ["-m", "nequip_like.cli.train", *overrides_of(tiny, molecule_file, double)]
    run([*command, "data.batch_size=5", "trainer.max_steps=1"], tmp_path)
    same_weights(single, double)


@pytest.mark.slow
@pytest.mark.parametrize("strategy", ["ddp", "auto"])
def test_torchrun(strategy, one_process, tiny, molecule_file, tmp_path):
    """Processes that someone else starts, with the strategy named and not."""
    single, double = one_process(), tmp_path / "two"
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    command = [*launcher, "-m", "nequip_like.cli.train", *overrides_of(tiny, molecule_file, double)]
    run([*command, f"trainer.strategy={strategy}"], tmp_path)
    same_weights(single, double)
    same_numbers(single, double)


@pytest.mark.slow
def test_stopped_and_resumed(tiny, molecule_file, tmp_path):
    """A signal to one of two processes stops both at the same step; together they go on to the very same weights."""
    folders = {name: tmp_path / name for name in ("whole", "part")}
    commands = {
        name: ["-m", "nequip_like.cli.train", *overrides_of(tiny, molecule_file, folder)]
        for name, folder in folders.items()
    }
    run(commands["whole"], tmp_path)
    kill = "+callbacks.kill={_target_: tests.workflow.test_resume.KillAt, number: 15, batch: 4}"
    stopped = run_python(*commands["part"], kill, "trusted_packages=[tests]", cwd=tmp_path, env=settings())
    assert stopped.returncode == 128 + 15, stopped.stdout + stopped.stderr
    assert "stopped by SIGTERM" in stopped.stdout
    last = torch.load(folders["part"] / "checkpoints" / "last.ckpt", weights_only=True)
    assert last["global_step"] == 4
    assert len(last["nequip_like"]["processes"]) == 2
    run([*commands["part"], "resume=auto"], tmp_path)
    single, double = weights(folders["whole"]), weights(folders["part"])
    assert all(torch.equal(tensor, double[name]) for name, tensor in single.items())
    assert logged(folders["whole"]) == logged(folders["part"])


@pytest.mark.slow
def test_averages_cycles_and_kept_checkpoints(one_process, tiny, molecule_file, tmp_path):
    """Both processes decide alike: a mean of weights, both sets evaluated, cycles by updates and by the clock."""
    way = [
        *("training_module=swa", "training_module.swa_start=2", "training_module.swa_interval=step"),
        *("training_module.evaluate=both", "validate_every_n_updates=2", "callbacks=[default,periodic_checkpoint]"),
        *("callbacks.periodic_checkpoint.every_n_updates=null", "callbacks.periodic_checkpoint.every_n_minutes=1e-9"),
        *("callbacks.periodic_checkpoint.keep_newest=2", "callbacks.best_checkpoint.save_top_k=2", "run_name=a"),
    ]
    single, double = one_process(*way), tmp_path / "two"
    run(["-m", "nequip_like.cli.train", *overrides_of(tiny, molecule_file, double), *way], tmp_path)
    single_files, double_files = ({path.name for path in (at / "checkpoints").iterdir()} for at in (single, double))
    assert single_files == double_files
    assert {"a_best.ckpt", "a_best.json", "a_last.ckpt", "a_step5.ckpt", "a_step6.ckpt"} < double_files
    lasts = [at / "checkpoints" / "a_last.ckpt" for at in (single, double)]
    states = [torch.load(path, weights_only=True)["state_dict"] for path in lasts]
    for name in (name for name in states[0] if name.startswith(("model.", "ema."))):
        torch.testing.assert_close(states[1][name], states[0][name], rtol=1e-12, atol=1e-12, msg=name)
    same_numbers(single, double)
