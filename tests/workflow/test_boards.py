"""Dashboards of whole runs, offline, read back with their own readers."""

from __future__ import annotations

import csv
import importlib.util
import json
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch

from nequip_like.training.csv_logger import read_rows
from nequip_like.workflow.train import train
from tests.processes import environment, run_python

pytestmark = pytest.mark.filterwarnings("ignore")  # of what the services import


def load_wandb_files() -> Any:
    path = Path(__file__).parents[1] / "report" / "boards" / "wandb_files.py"
    spec = importlib.util.spec_from_file_location("wandb_files", path)
    module = importlib.util.module_from_spec(spec)  # type: ignore[arg-type]
    spec.loader.exec_module(module)  # type: ignore[union-attr]
    return module


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("WANDB_MODE", raising=False)
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "nobody"))
    monkeypatch.setenv("WANDB_SILENT", "true")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)


@pytest.mark.slow
@pytest.mark.usefixtures("offline")
def test_wandb(compose: Any, capsys: pytest.CaptureFixture[str]) -> None:
    """An offline run has numbers, axes, pictures, tables, structures and the model; a resumed one is the same run."""
    pytest.importorskip("wandb")
    files = load_wandb_files()
    folder = train(compose("run=[train,test]", "trainer.max_epochs=2", "logger=[csv,wandb]", "report.html=true")).folder
    (first,) = folder.glob("wandb/offline-run-*")
    assert f"upload: wandb sync {first}\n" in capsys.readouterr().out
    run = files.OfflineRun(first)
    assert run.config["chemical_species"] == ["H", "C", "O"]
    assert run.axes["val0_epoch/*"] == run.axes["train_loss_epoch/*"] == run.axes["species_*"] == "epoch"
    assert run.axes["*"] == "trainer/global_step"

    history = run.history
    logged = {key for row in history for key in row}
    assert {
        *("learning_rate", "loss_coeff/forces_mse", "training_stats/resident_memory"),
        *("training_stats/epoch_frames_per_second", "train_loss_epoch/weighted_sum", "trainer/global_step"),
        *(f"species_{symbol}/val_forces_{kind}" for symbol in "HCO" for kind in ("mae", "rmse")),
    } <= logged
    rows = read_rows(folder / "metrics.csv")
    errors = [float(row["val0_epoch/forces_rmse"]) for row in rows if row["val0_epoch/forces_rmse"]]
    assert [row["val0_epoch/forces_rmse"] for row in history if "val0_epoch/forces_rmse" in row] == errors
    # Pictures of the first epoch, whose files are there, and of the test.
    for name in ("validation/parity", "validation/errors", "test/parity", "test/errors"):
        (row,) = [row for row in history if f"{name}/path" in row]
        assert (first / "files" / row[f"{name}/path"]).read_bytes()[:4] == b"\x89PNG"

    metrics = json.loads((folder / "metrics.json").read_text())["test"]
    (row,) = [row for row in history if "test/error_table/path" in row]
    table = json.loads((first / "files" / row["test/error_table/path"]).read_text())
    assert ["test", "forces", "meV/Å", *(1e3 * metrics[f"forces_{kind}"] for kind in ("mae", "rmse", "maxabserr"))] in (
        table["data"]
    )
    (row,) = [row for row in history if "test/worst_frames/path" in row]
    worst = json.loads((first / "files" / row["test/worst_frames/path"]).read_text())
    assert worst["columns"][-1] == "structure"
    assert len(worst["data"]) == 5
    forces = [frame[5] for frame in worst["data"]]
    assert forces == sorted(forces, reverse=True)
    # What the table shows of a structure is a file of the artifact that holds the table.
    (artifact,) = [artifact for artifact in run.artifacts if "worst_frames" in artifact.name]
    structures = {Path(entry.path).name: Path(entry.local_path) for entry in artifact.manifest.contents}
    assert {f"set0-frame{frame[1]}.pdb" for frame in worst["data"]} <= set(structures)
    text = structures[f"set0-frame{worst['data'][0][1]}.pdb"].read_text()
    assert [line.split()[-1] for line in text.splitlines() if line.startswith("ATOM")] == ["C", "O", "H", "H"]

    (model,) = [artifact for artifact in run.artifacts if artifact.type == "model"]
    assert sorted(entry.path for entry in model.manifest.contents) == [
        *("config.yaml", "metrics.json", "model.safetensors", "report.html"),
    ]

    train(compose("run=[train]", "trainer.max_epochs=3", "resume=auto", "logger=[csv,wandb]"))
    names = {path.name.rpartition("-")[2] for path in folder.glob("wandb/offline-run-*")}
    assert names == {run.run_id} == {(folder / "wandb-run-id.txt").read_text().strip()}
    import wandb

    assert wandb.run is None


@pytest.mark.slow
def test_two_processes_are_one_run(tiny: list[str], molecule_file: Path, tmp_path: Path) -> None:
    """The first process of two logs: one run of wandb, each number once, and those of the table."""
    pytest.importorskip("wandb")
    files = load_wandb_files()
    data = [f"data.train={molecule_file}", "data.val=5", "data.test=5", "data.global_batch_size=4"]
    overrides = [*data, "trainer.max_epochs=2", "run=[train,test]"]
    several = ["trainer.devices=2", "trainer.strategy=ddp", "trainer.log_every_n_steps=1", "logger=[csv,wandb]"]
    variables = environment(NETRC=str(tmp_path / "nobody"), WANDB_MODE="offline", WANDB_SILENT="true")
    done = run_python(
        *("-m", "nequip_like.cli.train", "-cn", "train", *tiny, *overrides, *several, "hydra.run.dir=run"),
        cwd=tmp_path,
        env=variables,
        timeout=500.0,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    (place,) = tmp_path.glob("**/offline-run-*")
    assert place.parent == tmp_path / "run" / "wandb"
    run, rows = files.OfflineRun(place), read_rows(tmp_path / "run" / "metrics.csv")
    for name, number in (("val0_epoch/forces_rmse", 2), ("train_loss_step/weighted_sum", 2 * 4)):
        logged = [row[name] for row in run.history if name in row]
        assert logged == [float(row[name]) for row in rows if row.get(name)]
        assert len(logged) == number
    assert done.stdout.count("upload: wandb sync ") == 1
    assert len([artifact for artifact in run.artifacts if artifact.type == "model"]) == 1


@pytest.mark.slow
@pytest.mark.usefixtures("offline")
def test_tensorboard(compose: Any) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    folder = train(compose("run=[train,test]", "trainer.max_epochs=1", "logger=[csv,tensorboard]")).folder
    events = EventAccumulator(str(folder / "tensorboard"), size_guidance={"images": 0, "tensors": 0})
    events.Reload()
    assert set(events.Tags()["images"]) == {
        *("validation/parity", "validation/errors", "test/parity", "test/errors"),
    }
    assert events.Images("test/parity")[0].width == 1260
    metrics = json.loads((folder / "metrics.json").read_text())["test"]
    table = events.Tensors("test/error_table/text_summary")[0].tensor_proto.string_val[0].decode()
    assert f"| test | forces | meV/Å | {1e3 * metrics['forces_mae']!r} |" in table
    assert "species_O/val_forces_mae" in events.Tags()["scalars"]
    assert "best/val0_epoch/forces_rmse" in events.Tags()["scalars"]


@pytest.mark.slow
@pytest.mark.usefixtures("offline")
def test_mlflow(compose: Any) -> None:
    pytest.importorskip("mlflow")
    from mlflow.tracking import MlflowClient

    folder = train(
        compose("run=[train,test]", "trainer.max_epochs=1", "logger=[csv,mlflow]", "report.html=true")
    ).folder
    run_id = (folder / "mlflow-run-id.txt").read_text().strip()
    client = MlflowClient((folder / "mlruns").as_uri())
    values = {row["val0_epoch/forces_rmse"] for row in read_rows(folder / "metrics.csv")} - {""}
    assert {repr(metric.value) for metric in client.get_metric_history(run_id, "val0_epoch/forces_rmse")} == values
    assert client.get_run(run_id).data.params["model/num_features"] == "4"
    kept = {place: {Path(file.path).name for file in client.list_artifacts(run_id, place)} for place in (
        "model", "pictures/test", "tables/test", "tables/test/structures",
    )}  # fmt: skip
    assert kept["model"] == {"config.yaml", "metrics.json", "model.safetensors", "report.html"}
    assert kept["pictures/test"] == {"parity-epoch1.png", "errors-epoch1.png"}
    assert {"error_table.csv", "worst_frames.csv"} <= kept["tables/test"]
    assert len(kept["tables/test/structures"]) == 5
    table = client.download_artifacts(run_id, "tables/test/worst_frames.csv")
    with Path(table).open(newline="", encoding="utf-8") as file:
        assert len(list(csv.reader(file))) == 1 + 5

    train(compose("run=[train]", "trainer.max_epochs=2", "resume=auto", "logger=[csv,mlflow]"))
    assert len(client.get_metric_history(run_id, "train_loss_epoch/weighted_sum")) == 2
    # A value of a run cannot change there.
    data = client.get_run(run_id).data
    assert (data.params["trainer/max_epochs"], data.tags["changed/trainer/max_epochs"]) == ("1", "2")


def test_a_dashboard_changes_nothing_of_a_run(compose: Any) -> None:
    """What it predicts in between leaves random numbers, order and weights as they are."""
    pytest.importorskip("tensorboard")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        folder = train(compose("run=[train]", "trainer.max_epochs=2", "logger=tensorboard")).folder
    weights = torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
    alone = train(compose("run=[train]", "trainer.max_epochs=2")).folder
    same = torch.load(alone / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
    tensors = [name for name, value in weights.items() if isinstance(value, torch.Tensor)]
    assert len(tensors) > 20
    assert weights.keys() == same.keys()
    assert all(torch.equal(weights[name], same[name]) for name in tensors)
