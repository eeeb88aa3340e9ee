"""The output folder of ``nequip-train``: a name of its own, refused while another run holds it."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from nequip_like.cli.output import hold_output_folder
from nequip_like.composition.arguments import parse
from nequip_like.composition.hydra_compose import compose_arguments
from tests.processes import environment, run_python

CONFIG = """\
defaults: [train, _self_]
run: [train]
data: {train: molecules.xyz, val: 5}
cutoff_radius: 4.0
model: {num_layers: 1, num_features: 2, radial_mlp_depth: 1, radial_mlp_width: 4, kernel: batched}
trainer: {max_epochs: 1, accelerator: cpu, log_every_n_steps: 1}
"""
HOLD = (
    "import sys\nfrom pathlib import Path\nfrom nequip_like.workflow.run_folder.claims import claimed\n"
    "with claimed(Path(sys.argv[1]), 'output_dir=FOLDER'):\n    print('held', flush=True)\n    sys.stdin.read()\n"
)


@pytest.fixture
def folder(tmp_path, molecule_file, monkeypatch) -> Path:
    (tmp_path / "molecules.xyz").write_bytes(molecule_file.read_bytes())
    (tmp_path / "config.yaml").write_text(CONFIG)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def start(*arguments: str, module: str = "nequip_like.cli.train", launcher: tuple[str, ...] = ()) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, *launcher, "-m", module, *arguments],
        env=environment(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def end(command: subprocess.Popen) -> tuple[int, str, str]:
    output, errors = command.communicate(timeout=300)
    return command.returncode, output, errors


def run(*arguments: str, module: str = "nequip_like.cli.train") -> tuple[int, str, str]:
    """Exit status, output and errors of a command that nobody has to watch."""
    done = run_python("-m", module, *arguments, cwd=Path.cwd())
    return done.returncode, done.stdout, done.stderr


@pytest.fixture
def hold():
    """Let another process hold a folder."""
    children = []

    def hold(folder: Path) -> int:
        command = [sys.executable, "-c", HOLD, str(folder)]
        children.append(
            subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment())
        )
        assert children[-1].stdout.readline() == "held\n"
        return children[-1].pid

    yield hold
    for child in children:
        child.communicate()


def named(section: str, *overrides: str) -> str:
    """The folder that a command line gets, made and claimed."""
    config = compose_arguments(parse(["-cn", "config", *overrides]), str(Path.cwd()))
    with hold_output_folder(config, section) as folder:
        assert config.hydra[section].dir == str(folder)
    return str(folder)


# --- names


@pytest.mark.parametrize("section", ["run", "sweep"])
def test_names_of_the_same_second(section, folder):
    """Hydra's own names, and those of the user with the time in it."""
    assert Path(named(section)).parts[0] == {"run": "outputs", "sweep": "multirun"}[section]
    names = []
    for _ in range(3):
        config = compose_arguments(parse(["-cn", "config", f"hydra.{section}.dir=mine/${{now:%Y}}"]), str(folder))
        with hold_output_folder(config, section) as made:
            names.append(made.name.partition("-")[2])
    assert names == ["", "2", "3"]
    assert all(path.is_dir() for path in (folder / "mine").iterdir())


def test_a_fixed_name_stays(folder):
    assert [named("run", "hydra.run.dir=runs/a") for _ in range(2)] == ["runs/a", "runs/a"]


def test_further_processes_have_no_part_in_the_name(folder, monkeypatch):
    """torchrun starts them one by one; what they write of their own stays apart, nothing else is left."""
    monkeypatch.setenv("RANK", "1")
    assert named("run", "hydra.run.dir=runs/a") == "runs/a"
    assert named("run", "hydra.run.dir=mine/${now:%Y}").endswith("-rank1")
    assert not (folder / "mine").exists()


# --- a second command


@pytest.mark.parametrize(
    ("held", "arguments", "option"),
    [
        ("runs/a", ["hydra.run.dir=runs/a"], "hydra.run.dir=FOLDER"),
        ("runs/a", ["hydra.run.dir=runs/a", "resume=auto", "hydra.verbose=true"], "hydra.run.dir=FOLDER"),
        ("runs/a", ["output_dir=runs/a"], "output_dir=FOLDER"),
        ("many", ["--multirun", "seed=1,2", "hydra.sweep.dir=many"], "hydra.sweep.dir=FOLDER"),
    ],
)
def test_refused_before_anything_is_read_or_moved(held, arguments, option, folder, hold):
    """The data could not be read; what the living run has written stays as it is."""
    (folder / "unreadable.xyz").write_text("no structures\n")
    place = folder / held
    (place / "checkpoints").mkdir(parents=True)
    (place / "metrics.csv").write_text("of the first run")
    pid = hold(place)
    before = {path: path.read_bytes() for path in place.rglob("*") if path.is_file()}
    status, output, errors = run("config.yaml", "data.train=unreadable.xyz", *arguments)
    assert status == 2, output + errors
    lines = [line for line in errors.splitlines() if line.startswith(("error", "  ->"))]
    assert len(lines) == 2, output + errors
    assert lines[0].startswith(f"error: {place} belongs to a run that is going on: process {pid} on ")
    assert lines[1].startswith(f"  -> wait until it has ended, stop it (kill {pid} on ")
    assert lines[1].endswith(f"or give another folder: {option}")
    assert "Traceback" not in errors
    assert {path: path.read_bytes() for path in place.rglob("*") if path.is_file()} == before


def test_a_second_test_in_the_same_folder(folder, hold):
    pid = hold(folder / "test-results")
    status, output, errors = run("model.safetensors", "molecules.xyz", module="nequip_like.cli.test")
    assert (status, output) == (2, "")
    assert errors.startswith(f"error: {folder}/test-results belongs to a run that is going on: process {pid} on ")
    assert errors.endswith("or give another folder: --output FOLDER\n")


@pytest.mark.slow
def test_signals_and_kills(folder):
    """Ended by a signal while it trains or before, or killed: the next command goes on, and nothing is left behind."""
    endless = (
        "config.yaml",
        "hydra.run.dir=run",
        "resume=auto",
        "trainer.max_epochs=100000",
    )
    for number, status in ((signal.SIGKILL, -9), (signal.SIGTERM, 143), (signal.SIGINT, 130)):
        command = start(*endless)
        last = folder / "run" / "checkpoints" / "last.ckpt"
        while not last.exists() or not list(folder.glob(f"run/.running-*-{command.pid}-*")):
            assert command.poll() is None, command.communicate()
            time.sleep(0.05)
        time.sleep(1)
        command.send_signal(number)
        assert end(command)[0] == status
        assert len(list(folder.glob("run/.running-*"))) == (1 if number == signal.SIGKILL else 0)
    status, output, errors = run(*endless[:3], "trainer.max_epochs=100001", "trainer.max_time=00:00:00:00")
    assert status == 0, errors
    assert "going on from" in output
    assert not list(folder.glob("run/metrics.*.csv"))


@pytest.mark.slow
def test_a_checkpoint_of_a_living_run(folder):
    """Going on with it elsewhere is refused; testing and fine-tuning it are not."""
    command = start("config.yaml", "hydra.run.dir=live", "trainer.max_epochs=100000")
    last = folder / "live" / "checkpoints" / "last.ckpt"
    try:
        while not last.exists():
            assert command.poll() is None, command.communicate()
            time.sleep(0.05)
        (folder / "unreadable.xyz").write_text("no structures\n")
        status, _, errors = run("config.yaml", f"ckpt_path={last}", "hydra.run.dir=other", "data.train=unreadable.xyz")
        assert status == 2
        assert f"error: {folder}/live belongs to a run that is going on: process {command.pid} on " in errors
        assert f"or begin with its weights: finetune.source={last}\n" in errors
        status, _, errors = run("config.yaml", f"ckpt_path={last}", "hydra.run.dir=other", "run=[val]")
        assert status == 0, errors
    finally:
        command.terminate()
        end(command)


@pytest.mark.slow
def test_processes_of_torchrun_share_one_folder(folder):
    launcher = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2")
    arguments = ("config.yaml", "trainer.strategy=ddp")
    status, output, errors = end(start(*arguments, "trainer.devices=2", launcher=launcher))
    assert status == 0, output + errors
    (run,) = folder.glob("outputs/*/*")
    assert (run / "model.safetensors").is_file()
    assert not list(run.glob(".running-*"))
    status, output, errors = end(start("config.yaml", "hydra.run.dir=each", launcher=launcher))
    assert status != 0
    assert "a launcher started several processes, this is number 1 (from 0), but the config asks for one" in errors


@pytest.mark.slow
def test_pairs_of_whole_runs(folder, tmp_path_factory):
    """Started at the same instant; by hand two hundred of them: tests/workflow/run_folder/run_pairs.py."""
    from tests.workflow.run_folder.run_pairs import AFTER, run_pairs

    outcomes = run_pairs(5, folder / "molecules.xyz", tmp_path_factory.mktemp("pairs"))
    assert outcomes.pop("own folders: statuses [0, 0]") == 2
    assert outcomes["one folder: statuses [0, 2]"] + outcomes[f"one folder: {AFTER}"] == outcomes.total() == 3
