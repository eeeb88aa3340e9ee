"""Members of a committee: what each is given, what is noted of them, and what is left of one that failed."""

import io
import json
import os
import signal
import sys
import threading
import time
from pathlib import Path

import pytest
from omegaconf import OmegaConf
from rich.console import Console

import nequip_like as nl
from nequip_like.committee import Committee
from nequip_like.errors import ConfigError, ModelFileError, OutputError
from nequip_like.inference import load, save
from nequip_like.inference.evaluation import evaluate
from nequip_like.model.committee import CommitteePotential
from nequip_like.workflow.setup import build_data
from nequip_like.workflow.uncertainty import processes
from nequip_like.workflow.uncertainty.plan import plan_committee
from nequip_like.workflow.uncertainty.run import train_committee


@pytest.fixture
def shared(compose, tmp_path):
    return compose("run=[train]", "data.split_seed=${seed}")


@pytest.fixture
def trainer(tmp_path, make_potential, monkeypatch):
    """Members are copies of models; ``trainer(failing={"12": "loss is NaN"})`` says what becomes of each seed."""
    models = {}
    monkeypatch.setattr(processes, "_POLL", 0.01)
    for seed in (11, 12, 13):
        path = tmp_path / f"{seed}.safetensors"
        card = {"metrics": {"val0_epoch/forces_rmse": seed / 10}, "provenance": {"train_set": "abc"}}
        save(make_potential(seed=seed), path, card)
        models[str(seed)] = str(path)

    def prepare(**plan):
        (tmp_path / "fake.json").write_text(json.dumps({"models": models, **plan}))
        script = Path(__file__).with_name("fake_member.py")
        monkeypatch.setattr(processes, "TRAIN", (sys.executable, "-IS", str(script)))

    prepare()
    return prepare


def run(config, tmp_path, **options):
    printed = io.StringIO()
    console = Console(file=printed, width=200)
    arguments = {"members": 3, "base_seed": 11, "output": tmp_path / "run", "console": console, **options}
    return train_committee(config, **arguments), printed.getvalue()


def read_calls(tmp_path, number):
    lines = (tmp_path / "run" / f"member_{number:03d}" / "calls.txt").read_text().splitlines()
    return [json.loads(line) for line in lines]


def test_layout_and_metadata(shared, tmp_path, trainer):
    result, printed = run(shared, tmp_path, parallel=2)
    folder = tmp_path / "run"
    metadata = json.loads((folder / "committee_metadata.json").read_text())
    assert metadata["schema_version"] == "1.0"
    assert metadata["execution_mode"] == "parallel"
    assert metadata["failures"] == []
    assert metadata["committee_config"] == {
        "num_members": 3,
        "base_seed": 11,
        "member_seeds": [11, 12, 13],
        "max_parallel": 2,
        "devices": ["cpu"] * 3,
        "output_dir": str(folder),
        "bootstrap": False,
    }
    for i, member in enumerate(metadata["members"]):
        assert (member["member_index"], member["seed"], member["status"], member["error"]) == (i, 11 + i, "done", None)
        assert member["metrics"] == {"val0_epoch/forces_rmse": (11 + i) / 10, "test/held_out/forces_rmse": 11.0 + i}
        for key in ("member_dir", "model_path", "summary_path"):
            assert Path(member[key]).exists()
        assert json.loads(Path(member["summary_path"]).read_text())["seed"] == 11 + i
    assert result.stats["test/held_out/forces_rmse"] == {
        "mean": 12.0, "std": pytest.approx((2 / 3) ** 0.5), "min": 11.0, "max": 13.0, "n": 3,
    }  # fmt: skip
    assert "12.00 ± 0.8165" in printed
    assert isinstance(load(folder), CommitteePotential)
    assert len(Committee.load(folder)) == 3


def test_what_members_are_given(shared, tmp_path, trainer):
    """Other seeds, and one split, although the config ties it to the seed."""
    shared.seed = 5
    run(shared, tmp_path)
    for i in range(3):
        (call,) = read_calls(tmp_path, i)
        folder = tmp_path / "run" / f"member_{i:03d}"
        assert call["overrides"] == [
            f"seed={11 + i}",
            "data.split_seed=5",
            "trainer.accelerator=cpu",
            f"hydra.run.dir='{folder}'",
        ]
    text = (tmp_path / "run" / "committee.yaml").read_text()
    assert OmegaConf.create(text)._get_node("output_dir")._value() == "${hydra:runtime.output_dir}"


def test_threads_are_shared(shared, tmp_path, trainer, monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(processes, "count_usable_cores", lambda: 9)
    run(shared, tmp_path, parallel=2)
    assert read_calls(tmp_path, 1)[0]["threads"] == "4"


def test_spreads_are_calibrated_on_the_validation_frames(shared, tmp_path, trainer):
    """In the file, the folder and the metadata; none where the config says so."""
    assert "calibration: none, for uncertainty is none" in run(shared, tmp_path)[1]
    metadata = json.loads((tmp_path / "run" / "committee_metadata.json").read_text())
    assert metadata["calibration"] is None
    shared.uncertainty = {"method": "committee", "calibration": "scale"}
    result, printed = run(shared, tmp_path, output=tmp_path / "calibrated")
    metadata = json.loads(result.metadata_path.read_text())
    calibration = metadata["calibration"]
    assert (calibration["method"], calibration["frames"]) == ("scale", 5)
    assert calibration["counts"] == {"total_energy": 5, "forces": 60}
    assert "scaled to the errors of 5 frames (validation frames, " in printed
    committee = Committee.load(result.folder)
    assert committee.calibration.describe() == calibration == load(result.folder).calibration.describe()
    # Of the frames that all members left out: the errors have the claimed size there.
    shared.data.split_seed = shared.seed
    held_out = next(iter(build_data(shared, committee.potential.type_names).val_sets.values()))
    quality = evaluate(committee.potential, held_out).uncertainty
    ratios = quality["per_atom_energy"].errors / quality["per_atom_energy"].spreads
    assert float((ratios**2).mean()) == pytest.approx(1.0)


def test_bootstrap_draws_with_replacement_from_the_same_frames(compose):
    """As many frames as there are, other ones by the seed; the sets are the same."""
    drawn, sets = [], []
    for seed in (11, 12):
        data = build_data(compose(f"data.sampling={{bootstrap:{seed}}}", f"seed={seed}", "data.split_seed=5"))
        drawn.append(sorted(frame for batch in data.list_training_batches() for frame in batch))
        sets.append([dataset.table.energy.tolist() for dataset in (data.train_set, *data.val_sets.values())])
    assert sets[0] == sets[1]
    for frames in drawn:
        assert len(frames) == 14
        assert len(set(frames)) < 14
    assert drawn[0] != drawn[1]


def test_bootstrap(shared, tmp_path, trainer):
    run(shared, tmp_path, bootstrap=True)
    assert "data.sampling={bootstrap:12}" in read_calls(tmp_path, 1)[0]["overrides"]


def test_a_failure_is_noted_and_the_rest_go_on(shared, tmp_path, trainer):
    trainer(failing={"12": "loss is NaN"})
    result, printed = run(shared, tmp_path)
    assert result.failures == {1: "loss is NaN"}
    assert [outcome.status for outcome in result.outcomes] == ["done", "failed", "done"]
    assert result.model_file is None
    assert result.stats["val0_epoch/forces_rmse"]["n"] == 2
    assert "member 1 failed: loss is NaN" in printed
    metadata = json.loads((tmp_path / "run" / "committee_metadata.json").read_text())
    assert metadata["failures"] == [{"member_index": 1, "status": "failed", "error": "loss is NaN"}]
    with pytest.raises(ModelFileError, match="member 1 is not trained: loss is NaN"):
        Committee.load(tmp_path / "run")
    trainer()
    result, _ = run(shared, tmp_path, resume=True)
    assert result.failures == {}
    assert result.model_file == tmp_path / "run" / "model.safetensors"
    assert [len(read_calls(tmp_path, i)) for i in range(3)] == [1, 2, 1]
    assert read_calls(tmp_path, 1)[1]["overrides"][3] == "resume=auto"


def test_a_folder_is_of_one_committee(shared, tmp_path, trainer):
    run(shared, tmp_path)
    with pytest.raises(OutputError, match="member_000 has a member of an earlier committee"):
        run(shared, tmp_path)
    shared.trainer.max_epochs = 3
    with pytest.raises(OutputError, match="has a committee of another config"):
        run(shared, tmp_path, resume=True)


def test_a_job_that_was_queued_again_goes_on(shared, tmp_path, trainer, monkeypatch):
    trainer(failing={"12": "loss is NaN"})
    run(shared, tmp_path, member=1)
    monkeypatch.setenv("SLURM_RESTART_COUNT", "1")
    trainer()
    result, _ = run(shared, tmp_path, member=1)
    assert result.outcomes[1].status == "done"
    assert "resume=auto" in read_calls(tmp_path, 1)[1]["overrides"]


def test_tasks_of_an_array(shared, tmp_path, trainer):
    """Each trains its own member; the last one has the whole committee."""
    for number in (2, 0):
        result, _ = run(shared, tmp_path, member=number)
        assert result.model_file is None
    assert [outcome.status for outcome in result.outcomes] == ["done", "not run", "done"]
    result, _ = run(shared, tmp_path, member=1)
    assert result.model_file is not None
    with pytest.raises(ConfigError, match="give one from 0 to 2"):
        run(shared, tmp_path, member=3)


def test_data_that_changed(shared, tmp_path, trainer, make_potential):
    save(make_potential(seed=13), tmp_path / "13.safetensors", {"provenance": {"train_set": "other"}})
    with pytest.raises(OutputError, match="were trained on different frames"):
        run(shared, tmp_path)


def test_a_signal_ends_all(shared, tmp_path, trainer):
    trainer(waiting=["11", "12"])

    def send() -> None:
        folders = [tmp_path / "run" / f"member_{i:03d}" / "waits" for i in range(2)]
        while not all(path.exists() for path in folders):
            time.sleep(0.05)
        os.kill(os.getpid(), signal.SIGTERM)

    sender = threading.Thread(target=send)
    sender.start()
    result, _ = run(shared, tmp_path, parallel=2)
    sender.join()
    assert result.stopped_by == signal.SIGTERM
    assert [outcome.status for outcome in result.outcomes] == ["stopped", "stopped", "not run"]
    assert result.failures[0] == "stopped by signal 15"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"members": 1}, "has no spread"),
        ({"members": 0}, "members"),
        ({"seeds": [1, 1], "members": None, "base_seed": None}, r"seeds are \[1, 1\]"),
        ({"seeds": [1, 2], "members": 3, "base_seed": None}, "2 seeds for 3 members"),
        ({"seeds": [1, 2]}, "base_seed and seeds are given"),
        ({"parallel": 0}, "parallel"),
        ({"devices": ["gpu"]}, "unknown device"),
    ],
)
def test_numbers_that_make_no_sense(shared, tmp_path, options, message):
    with pytest.raises(ConfigError, match=message):
        run(shared, tmp_path, **options)


def test_a_config_that_is_wrong_begins_nothing(shared, tmp_path, trainer):
    shared.data.batch_size = 0
    with pytest.raises(ConfigError, match="batch_size"):
        run(shared, tmp_path)
    assert not (tmp_path / "run" / "member_000").exists()


def test_seeds_and_devices(shared, tmp_path, monkeypatch):
    monkeypatch.setattr("nequip_like.workflow.uncertainty.plan.resolve_device", lambda device: device)
    plan = plan_committee(shared, tmp_path, seeds=[7, 3, 5], devices=["cuda:0", "cuda:1"])
    assert [(member.seed, member.device) for member in plan.members] == [(7, "cuda:0"), (3, "cuda:1"), (5, "cuda:0")]
    assert plan.list_overrides(plan.members[1], shared, resumes=False)[-1] == "trainer.accelerator=gpu"
    assert [member.seed for member in plan_committee(shared, tmp_path).members] == list(range(8))


@pytest.mark.slow
def test_real_members(compose, tmp_path, molecule_file):
    """Two members on one split, resampled, resumed, and their committee."""
    config = compose("run=[train,test]", "model.kernel=batched", "trainer.max_epochs=1")
    result, _ = run(config, tmp_path, members=2, bootstrap=True)
    assert result.failures == {}
    assert result.outcomes[0].train_set == result.outcomes[1].train_set
    assert any(name.startswith("test/") for name in result.stats)
    assert result.stats["val0_epoch/forces_rmse"]["std"] > 0
    predictions = nl.Committee.load(result.folder).predict(molecule_file)
    assert all(prediction.energy_std > 0 for prediction in predictions)
