"""``nequip-train`` as a user types it: in a folder with a config and data, in a process of its own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from omegaconf import OmegaConf

from nequip_like.cli.train import main as nequip_train
from tests.processes import call_command, environment, run_python

CONFIG = """\
defaults: [train, _self_]
data: {train: molecules.xyz, val: 5, test: 5}
cutoff_radius: 4.0
model: {num_layers: 2, num_features: 4, radial_mlp_depth: 1, radial_mlp_width: 8}
trainer: {max_epochs: 1, accelerator: cpu, log_every_n_steps: 1}
"""


@pytest.fixture
def folder(tmp_path, molecule_file) -> Path:
    """What a user has: data, and a config beside it."""
    (tmp_path / "molecules.xyz").write_bytes(molecule_file.read_bytes())
    (tmp_path / "config.yaml").write_text(CONFIG)
    return tmp_path


@pytest.fixture
def type_in(folder):
    """Run a command: ``type_in("config.yaml", "seed=1")``; gives exit status, output, error stream.

    Not as a module, but by its script, it is started as a user starts it, and takes its time.
    """

    def run(*arguments: str, module: bool = True) -> subprocess.CompletedProcess[str]:
        if module:
            return run_python("-m", "nequip_like.cli.train", *arguments, cwd=folder)
        script = Path(sys.executable).with_name("nequip-train")
        return subprocess.run(
            [str(script), *arguments], cwd=folder, env=environment(), capture_output=True, text=True, timeout=300
        )

    return run


@pytest.fixture
def call(folder):
    """Run a command that only looks and prints, in this process: ``call("config.yaml", "seed=1", "--check")``."""

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return call_command(nequip_train, *arguments, cwd=folder)

    return run


@pytest.fixture
def composed(call):
    """The config that a command line composes."""

    def compose(*arguments: str):
        done = call(*arguments, "--cfg", "job")
        assert done.returncode == 0, done.stderr
        return OmegaConf.create(yaml.safe_load(done.stdout))

    return compose


def is_user_error(done: subprocess.CompletedProcess[str], *parts: str) -> None:
    """Exit status 2, one line and one of advice, no traceback."""
    assert done.returncode == 2, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    errors = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1, done.stderr
    for part in parts:
        assert part in done.stderr


@pytest.mark.parametrize(
    ("arguments", "printed"),
    [
        ("--cfg job --package trainer.max_epochs seed=4 trainer.max_epochs=7", "7\n"),
        ("--cfg hydra --package hydra.job.name", "train\n"),
        ("--cfg all --package hydra.overrides seed=4", "# @package hydra.overrides\nhydra: []\ntask:\n- seed=4\n"),
        ("--cfg job --package run_name --resolve run_name=${seed} seed=4", "4\n"),
    ],
)
def test_config_is_printed(arguments, printed, call):
    done = call("-cn", "tutorial", *arguments.split())
    assert (done.returncode, done.stdout) == (0, printed), done.stderr


@pytest.mark.parametrize(
    "arguments", ["--cfg job --multirun", "--info all --cfg job", "--cfg hydra hydra.mode=MULTIRUN"]
)
def test_what_cannot_be_shown_together(arguments, call):
    is_user_error(call("-cn", "tutorial", *arguments.split()), "give one of --cfg, --info and --multirun")


def test_package_that_the_config_lacks(call):
    done = call("-cn", "tutorial", "--cfg", "job", "--package", "nothing")
    assert (done.returncode, done.stdout, done.stderr) == (2, "", "package 'nothing' not found in config\n")


# --- whole runs


def test_a_config_by_its_path(type_in, folder):
    done = type_in("config.yaml", "hydra.run.dir=run", "trainer.max_epochs=2", module=False)
    assert done.returncode == 0, done.stderr
    assert {path.name for path in (folder / "run").iterdir()} >= {
        *("checkpoints", "config.yaml", "metrics.csv", "metrics.json", "model.safetensors"),
        *("parity.png", "predictions.extxyz", "training.png", "report.html", "run.json"),
    }
    for text in (
        "frames",
        "total_energy, forces",
        "trained parameters",
        "epoch    0 |",
        "epoch    1 |",
        "model.safetensors",
    ):
        assert text in done.stdout, text
    assert str(folder / "run") in done.stdout.replace("\n", "")
    assert "Traceback" not in done.stderr
    assert "deprecated" not in done.stderr
    saved = yaml.safe_load((folder / "run" / "config.yaml").read_text())
    assert saved["trainer"]["max_epochs"] == 2
    overrides = yaml.safe_load((folder / "run" / ".hydra" / "overrides.yaml").read_text())
    assert overrides == ["trainer.max_epochs=2"]


def test_output_has_a_folder_of_its_own(type_in, folder):
    done = type_in("config.yaml", "run=[val]", "--config-dir", str(folder))
    assert done.returncode == 0, done.stderr
    assert list(folder.glob("outputs/*/*/metrics.csv"))


def test_a_statistic_as_an_override(type_in, folder):
    """What is typed is noted as it was typed: nothing in it is looked up before the data are read."""
    override = "model.avg_num_neighbors=${training_data_stats:num_neighbors_mean}"
    done = type_in("config.yaml", override, "run=[val]", "hydra.run.dir=run")
    assert done.returncode == 0, done.stderr
    text = (folder / "run" / "config.yaml").read_text()
    assert text.splitlines()[1] == f"# overrides: {override} run=[val]"
    assert yaml.safe_load(text)["model"]["avg_num_neighbors"] == 3.0


def test_multirun(type_in, folder):
    done = type_in("config.yaml", "--multirun", "seed=1,2", "run=[val]", "hydra.sweep.dir=many")
    assert done.returncode == 0, done.stderr
    seeds = [yaml.safe_load((folder / "many" / str(i) / "config.yaml").read_text())["seed"] for i in range(2)]
    assert seeds == [1, 2]
    values = [(folder / "many" / str(i) / "metrics.csv").read_text() for i in range(2)]
    assert values[0] != values[1]


def test_without_test_data(type_in, folder):
    done = type_in("config.yaml", "data.test=null", "hydra.run.dir=run")
    assert done.returncode == 0, done.stderr
    assert "note: no test, for data.test is not given" in done.stdout
    assert (folder / "run" / "model.safetensors").is_file()
    assert not (folder / "run" / "predictions.extxyz").exists()


@pytest.mark.slow
def test_multirun_over_sets_of_several_kinds(type_in, folder):
    (folder / "no.xyz").write_bytes((folder / "molecules.xyz").read_bytes())
    (folder / "config.yaml").write_text(CONFIG.replace("test: 5", "test: [other.xyz]"))
    varied = "data.test={NO: no.xyz},{on: no.xyz},no.xyz"
    done = type_in(
        *("config.yaml", "--multirun", varied, "run=[test]", "+data.allow_overlap=true", "hydra.sweep.dir=many")
    )
    assert done.returncode == 0, done.stderr
    sets = [set(yaml.safe_load((folder / "many" / str(i) / "metrics.json").read_text())) for i in range(3)]
    assert [names & {"NO", "on", "no"} for names in sets] == [{"NO"}, {"on"}, {"no"}]


def test_warnings_of_the_check_are_a_line(type_in):
    """Without validation, half of what is advised."""
    done = type_in("config.yaml", "data.val=null", "monitored_metric=train_loss_epoch/weighted_sum", "--check")
    assert done.returncode == 0
    assert done.stderr == (
        "warning: callbacks.best_checkpoint would act after validations, but there is no data.val; write "
        "callbacks.best_checkpoint.save_on_train_epoch_end=true\n"
    )


@pytest.mark.parametrize("check", [("--check",), ()])
@pytest.mark.parametrize(
    ("override", "error"),
    [
        ("data.val=nosuch.xyz", "error: no such file: {folder}/nosuch.xyz"),
        ("ckpt_path=~/nosuch.ckpt", "error: there is no checkpoint {home}/nosuch.ckpt"),
        ("hydra.run.dir=config.yaml/run", "error: cannot write to {folder}/config.yaml/run: {folder}/config.yaml"),
    ],
)  # fmt: skip
def test_what_is_not_there_is_told_first(check, override, error, call, folder):
    done = call("config.yaml", override, *check)
    is_user_error(done, error.format(folder=folder, home=Path.home()))
    assert not (folder / "outputs").exists()


# --- configs and overrides


def test_config_by_its_name(composed, folder):
    assert composed("-cn", "config").cutoff_radius == 4.0
    assert composed("--config-name", "config.yaml").cutoff_radius == 4.0
    assert composed("--config-name=config").cutoff_radius == 4.0


@pytest.mark.parametrize("option", ["-cp", "--config-path"])
def test_config_by_folder_and_name(option, composed, folder):
    (folder / "deep").mkdir()
    (folder / "deep" / "mine.yaml").write_text(CONFIG.replace("4.0", "3.5"))
    assert composed(option, "deep", "-cn", "mine").cutoff_radius == 3.5
    assert composed(option, str(folder / "deep"), "-cn", "mine").cutoff_radius == 3.5
    assert composed(f"{option}=deep", "-cn", "mine").cutoff_radius == 3.5
    assert composed("deep/mine.yaml", "cutoff_radius=3").cutoff_radius == 3


def test_config_of_the_package(composed, folder):
    tutorial = OmegaConf.to_container(composed("-cn", "tutorial"), resolve=False)
    assert tutorial["data"]["train"] == "${tutorial_data:ethanol/train.xyz}"
    assert composed("-cn", "train").seed == 0


def test_overrides(composed):
    config = composed(
        "config.yaml",
        "~callbacks.progress_bar",
        "callbacks.learning_rate.logging_interval=step",
        "model=nequip_S",
        "targets=energy",
        "+trainer.limit_train_batches=2",
    )
    assert "progress_bar" not in config.callbacks
    assert config.callbacks.learning_rate.logging_interval == "step"
    assert config.model.preset == "S"
    assert config.training_module.loss["_target_"].endswith("EnergyOnlyLoss")
    assert config.trainer.limit_train_batches == 2
    stopping = ("callbacks=[default,early_stopping]", "callbacks.early_stopping.patience=3")
    assert composed(*stopping, "config.yaml").callbacks.early_stopping.patience == 3


def test_own_groups_beside_the_config(composed, folder):
    """``defaults: [train, {model: mine}]`` finds ``model/mine.yaml`` of the user."""
    (folder / "model").mkdir()
    (folder / "model" / "mine.yaml").write_text("defaults: [nequip]\nl_max: 2\n")
    (folder / "own.yaml").write_text(
        "defaults: [train, {override model: mine}, _self_]\ndata: {train: molecules.xyz}\n"
    )
    config = composed("own.yaml")
    assert (config.model.l_max, config.model.num_layers) == (2, 4)


# --- help


@pytest.mark.parametrize("arguments", [["--help"], ["-h"], []])
def test_help(arguments, type_in):
    done = type_in(*arguments, module=False)
    assert done.returncode == 0
    assert "nequip-train config.yaml" in done.stdout
    assert "callbacks.epoch_printer.every_n" in done.stdout


@pytest.mark.parametrize("arguments", ["--help", "config.yaml --cfg job", "config.yaml lr=1"])
def test_answers_that_need_no_torch(arguments, folder):
    """Torch takes seconds to import."""
    code = (
        "import sys\n"
        f"sys.argv = ['nequip-train', *{arguments.split()}]\n"
        "from nequip_like.cli.train import main\n"
        "try:\n    main()\n"
        "except SystemExit:\n    pass\n"
        "print('torch' in sys.modules, 'lightning' in sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, timeout=100)
    assert done.stdout.splitlines()[-1] == "False False", done.stderr


# --- mistakes


def test_unknown_config_file(call, folder):
    is_user_error(call("nowhere.yaml"), str(folder / "nowhere.yaml"))


def test_config_that_hides_the_package(call, folder):
    (folder / "train.yaml").write_text(CONFIG)
    is_user_error(call("train.yaml"), "own name", "my_train.yaml")
    is_user_error(call("config.yaml"), "own name", "my_train.yaml")


def test_check_stops_before_the_run(call, folder):
    """No folder, and no data are read: the file need not even hold any."""
    (folder / "molecules.xyz").write_text("no structures\n")
    done = call("-cn", "config", "data.train=molecules.xyz", "--check")
    assert done.returncode == 0, done.stderr
    assert "The config is sound" in done.stdout
    assert "molecules.xyz" in done.stdout
    assert str(folder / "outputs") in done.stdout
    assert {path.name for path in folder.iterdir()} == {"config.yaml", "molecules.xyz"}


def test_wrong_config_leaves_no_folder(call, folder):
    is_user_error(call("config.yaml", "model.num_layers=0"), "error: model.num_layers is 0\n  -> give a whole number")
    assert {path.name for path in folder.iterdir()} == {"config.yaml", "molecules.xyz"}


def test_multirun_is_checked_before_hydra_calls_anything(type_in, folder):
    (folder / "evil.yaml").write_text(CONFIG + "hydra: {callbacks: {x: {_target_: os.mkdir, path: made}}}\n")
    is_user_error(type_in("evil.yaml", "--multirun", "seed=1,2"), "hydra.callbacks.x._target_ is 'os.mkdir'")
    assert not (folder / "made").exists()
    done = type_in("config.yaml", "--multirun", "model.num_layers=1,0", "run=[val]", "hydra.sweep.dir=many")
    assert done.returncode == 2
    assert "error: model.num_layers is 0" in done.stderr


def test_mistakes_that_we_find(call, folder):
    """Few of them; the rest is in tests/workflow."""
    is_user_error(call("config.yaml", "data.train=nowhere.xyz"), "no such file", "nowhere.xyz")
    (folder / "bare.yaml").write_text("data: {train: molecules.xyz}\n")
    is_user_error(call("bare.yaml"), "the config has no 'run'", "defaults: [train, _self_]")


def test_debug_shows_the_traceback(type_in):
    done = type_in("config.yaml", "run=[tain]", "--debug")
    assert done.returncode != 0
    assert "Traceback" in done.stderr
    assert "ConfigError" in done.stderr


def test_a_process_that_goes_on_is_left_as_it_was(folder, monkeypatch):
    """Messages name the command line only while one is being run."""
    from hydra.core.hydra_config import HydraConfig

    from nequip_like.cli.train import main

    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "argv", ["nequip-train", "config.yaml", "data.train=nosuch.xyz"])
    with pytest.raises(SystemExit) as end:
        main()
    assert end.value.code == 2
    assert not HydraConfig.initialized()


def test_batches_by_atoms_and_edges(type_in, folder):
    """Molecules of 4 atoms and 12 edges: larger than a batch of training, told once; two fit in validation."""
    done = type_in("-cn", "config", "data.batch_size={atoms: 3}", "data.val_batch_size={edges: 24}", "data.test=null")
    assert done.returncode == 0, done.stderr
    printed = " ".join(done.stdout.replace("│", " ").split())
    assert "largest batch: 1 frame, 4 atoms, 12 edges" in printed
    assert "largest batch: 2 frames, 8 atoms, 24 edges" in printed
    message = "warning: train: 19 frames have more than 3 atoms, each a batch of its own; the largest has 4"
    assert done.stderr.count(message) == 1
