"""The search, with trainings that are made up: which trials it makes, and what it takes of them."""

import json
import re
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from omegaconf import DictConfig

from nequip_like.auto import data_files, run
from nequip_like.auto.data_files import ReadingCost
from nequip_like.auto.step_time import StepTime, measure_step
from nequip_like.data.prepared.preparing import prepare_set
from nequip_like.data.prepared.tasks import PreparationRequest
from nequip_like.errors import ConfigError, DataError, TrainingError
from nequip_like.workflow.train import TrainingResult

SHORT = 3.9  # minutes in which nothing is tried, and enough for a busy machine to read some frames


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> list[DictConfig]:
    """Replaces trainings by a formula: best at a rate of 0.03 and 64 features, and better the longer they take.

    A rate of 0.06 fails. The configs of all trainings are kept.
    """
    configs: list[DictConfig] = []

    def train(config: DictConfig, **_: Any) -> TrainingResult:
        configs.append(config.copy())
        rate, features = config.training_module.optimizer.lr, config.model.num_features
        if rate == 0.06:
            raise TrainingError("it diverged")
        error = (1.0 if rate == 0.03 else 2.0) * (1.0 if features == 64 else 3.0)
        if config.data.get("train_size"):
            error *= 2
        return TrainingResult(Path(config.output_dir), best=error * float(config.budget[:-1]) ** -0.5)

    times = {"1": 0.005, "2": 0.01, "3": 0.03}
    monkeypatch.setattr(run, "train", train)
    monkeypatch.setattr(run, "measure_step", lambda config, data, limit: StepTime(times[str(config.model.l_max)], 1000))
    return configs


@pytest.fixture(autouse=True)
def empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The current folder, in which configs are looked for, has none, so that composing is quick."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")


@pytest.fixture
def data(tmp_path: Path, write_labelled: Callable[..., Path]) -> Path:
    return write_labelled(tmp_path / "train.xyz", 30, stress=False)


def test_what_is_tried_and_chosen(tmp_path: Path, data: Path, trained: list[DictConfig], capsys: Any) -> None:
    result = run.find_potential([data], 20.0, output=tmp_path / "run")
    labels = [trial.label for trial in result.trials]
    assert labels == [
        *("rate 0.015", "rate 0.03", "rate 0.06"),
        *("l=3, 64 features", "l=2, 64 features", "l=2, 32 features"),
        "half of the frames",
    ]
    assert result.trials[2].problem == "it diverged"
    values = {setting.key: setting.value for setting in result.settings}
    assert values["training_module.optimizer.lr"] == "0.03"
    assert (values["model.l_max"], values["model.num_features"]) == ("3", "64")  # of equal ones the first
    last = trained[-1]
    assert (last.training_module.optimizer.lr, last.model.l_max, last.data.val) == (0.03, 3, 3)
    assert last.output_dir == str(tmp_path / "run")
    # 13 frames have twice the error of 27: 2^-(log 2 / log (27 / 13)) is 0.52
    assert "twice the data would bring the validation error to some 52% of it" in result.outlook[1]
    assert json.loads((tmp_path / "run" / "auto.json").read_text())["trials"][0]["label"] == "rate 0.015"
    assert re.search(r"rate 0\.06 \(\d+ s\): failed: it diverged", capsys.readouterr().out)  # 30 s, less what began


def test_what_is_typed_is_not_tried(tmp_path: Path, data: Path, trained: list[DictConfig]) -> None:
    typed = ["training_module.optimizer.lr=0.003", "model.l_max=1", "data.batch_size=2"]
    result = run.find_potential([data], 20.0, output=tmp_path / "run", overrides=typed)
    assert [trial.label for trial in result.trials] == ["all frames", "half of the frames"]
    last = trained[-1]
    assert (last.training_module.optimizer.lr, last.model.l_max, last.data.batch_size) == (0.003, 1, 2)
    assert not {"training_module.optimizer.lr", "model.l_max"} & {setting.key for setting in result.settings}


def test_an_optimizer_has_its_own_rate(tmp_path: Path, data: Path, trained: list[DictConfig]) -> None:
    result = run.find_potential([data], 5.0, output=tmp_path / "run", overrides=["optimizer=sgd", "model.l_max=1"])
    assert result.trials == []
    assert trained[-1].training_module.optimizer._target_ == "torch.optim.SGD"
    assert "training_module.optimizer.lr" not in {setting.key for setting in result.settings}


@pytest.mark.parametrize("override", ["budget=1min", "output_dir=x", "run=[test]", "data.train=a.xyz"])
def test_what_it_sets_itself_is_refused(override: str, data: Path) -> None:
    with pytest.raises(ConfigError, match="is not for nequip-auto to be told"):
        run.find_potential([data], 5.0, overrides=[override])


def test_a_short_time_is_trained(tmp_path: Path, data: Path, trained: list[DictConfig]) -> None:
    result = run.find_potential([data], SHORT, output=tmp_path / "run", overrides=["model.kernel=batched"])
    assert result.trials == []
    (config,) = trained
    assert (config.training_module.optimizer.lr, config.model.l_max) == (0.03, 2)
    assert 0.0 < float(config.budget[:-1]) <= 60.0 * SHORT


def test_steps_are_measured(tmp_path: Path, data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the statistics of the data that were read, although each model's config is composed anew."""
    measured = {}

    def train(config: DictConfig, **_: Any) -> TrainingResult:
        return TrainingResult(
            Path(config.output_dir), best=1.0, model_file=Path(config.output_dir, "model.safetensors")
        )

    def measure(config: DictConfig, data: Any, limit: float) -> StepTime:
        config.model.num_features = 4  # as small as it gets: what is tested is that there is a model
        measured[config.model.l_max] = measure_step(config, data, 0.0)
        return measured[config.model.l_max]

    monkeypatch.setattr(run, "train", train)
    monkeypatch.setattr(run, "measure_step", measure)
    typed = ["model.kernel=batched", "model.num_layers=2", "training_module.optimizer.lr=0.01"]
    run.find_potential([data], 20.0, output=tmp_path / "run", overrides=typed)
    assert set(measured) == {1, 2, 3}
    assert all(time.seconds > 0.002 for time in measured.values())
    assert measured[1].parameters < measured[2].parameters < measured[3].parameters


def test_a_signal_ends_the_search(tmp_path: Path, data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    configs: list[DictConfig] = []

    def train(config: DictConfig, **_: Any) -> TrainingResult:
        configs.append(config)
        return TrainingResult(Path(config.output_dir), best=1.0, stopped_by=signal.SIGINT)

    monkeypatch.setattr(run, "train", train)
    # A busy machine whose steps are slow has no time for trials.
    monkeypatch.setattr(run, "measure_step", lambda config, data, limit: StepTime(0.005, 1000))
    with pytest.raises(KeyboardInterrupt):
        run.find_potential([data], 20.0, output=tmp_path / "run", overrides=["model.l_max=1"])
    assert len(configs) == 1


def test_no_time(data: Path) -> None:
    with pytest.raises(ConfigError, match=r"minutes is 0\.1"):
        run.find_potential([data], 0.1)


def test_what_takes_long_is_read_once(
    tmp_path: Path, data: Path, trained: list[DictConfig], monkeypatch: pytest.MonkeyPatch
) -> None:
    """All trainings find the frames prepared, in the folder of the run."""
    monkeypatch.setattr(run, "_LONG_READING", 0.0)
    result = run.find_potential([data], 20.0, output=tmp_path / "run")
    assert len(trained) > 3
    assert {config.data.cache_dir for config in trained} == {str(tmp_path / "run" / "prepared")}
    assert len(list((tmp_path / "run" / "prepared").glob("*.frames"))) == 1
    (reason,) = [setting.reason for setting in result.settings if setting.key == "data.cache_dir"]
    assert reason.endswith("which is done once for all trainings")


def test_what_does_not_fit_into_memory_stays_on_disk(
    tmp_path: Path, data: Path, trained: list[DictConfig], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(data_files, "_SHORT", 0.0)
    monkeypatch.setattr(run, "available_memory", lambda: 1000.0)
    run.find_potential([data], SHORT, output=tmp_path / "run")
    (config,) = trained
    assert (config.data.cache_dir, config.data.held_memory) == (str(tmp_path / "run" / "prepared"), 0)
    # Repairs are of what is read from files, into memory.
    (tmp_path / "repair.json").write_text("[]")
    with pytest.raises(DataError, match=r"GB of frames with their neighbours; 1e-06 GB of memory are free"):
        run.find_potential([data], SHORT, output=tmp_path / "b", overrides=[f"data.repair={tmp_path}/repair.json"])


def test_prepared_frames_have_their_cutoff(tmp_path: Path, data: Path, trained: list[DictConfig]) -> None:
    prepare_set(PreparationRequest([str(data)], 3.5), tmp_path / "all.frames")
    result = run.find_potential([tmp_path / "all.frames"], SHORT, output=tmp_path / "run")
    assert trained[0].cutoff_radius == 3.5
    assert result.settings[0].reason == "that of the prepared set"
    assert trained[0].data.cache_dir is None


def test_what_cannot_be_read_in_time_is_not_begun(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cost = ReadingCost("big.xyz", size=3e9, memory=1e6, seconds=900.0)
    monkeypatch.setattr(run, "estimate_reading", lambda *_: cost)
    with pytest.raises(
        DataError, match=r"big\.xyz: to read 3 GB takes some 15 minutes here, and 10 are given\n.*--minutes 60"
    ):
        run.find_potential([data], 10.0)


def test_no_time_is_left(tmp_path: Path, data: Path, trained: list[DictConfig]) -> None:
    words = r"reading the data took \d+ s, which leaves no time of the 60 s to train\n  -> give more: --minutes \d"
    with pytest.raises(ConfigError, match=words):
        run.find_potential([data], 1.0, began=time.monotonic() - 51.0)
    assert trained == []


def test_pickles_are_trusted(tmp_path: Path, data: Path, trained: list[DictConfig]) -> None:
    run.find_potential(
        [data], SHORT, test=[data], output=tmp_path / "run", overrides=["+data.allow_overlap=true"], trust_pickle=True
    )
    (config,) = trained
    assert config.data.train == {"file": [str(data)], "trust_pickle": True}
    assert config.data.test == [{"file": str(data), "trust_pickle": True}]


def test_a_folder_without_a_name_is_new(
    tmp_path: Path, data: Path, trained: list[DictConfig], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Path] = []

    def make(path: Path) -> Path:
        asked.append(path)
        return tmp_path / "new"

    monkeypatch.setattr(run, "make_new", make)
    run.find_potential([data], SHORT)
    assert trained[0].output_dir == str(tmp_path / "new")
    (path,) = asked
    assert (path.parts[-3], path.name[:5]) == ("outputs", "auto-")


def test_trials_do_not_pretrain(tmp_path: Path, data: Path, trained: list[DictConfig]) -> None:
    """A teacher is for the training itself: it is in the last config, and in no other."""
    typed = ["pretrain.teacher=emt", "pretrain.frames=50", "model.l_max=1"]
    run.find_potential([data], 20.0, output=tmp_path / "run", overrides=typed)
    assert len(trained) > 3
    assert [None if config.pretrain is None else config.pretrain.teacher for config in trained] == [
        *(None for _ in trained[1:]),
        "emt",
    ]
