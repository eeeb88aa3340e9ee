"""Runs that learn from a teacher first: what is kept, what goes on, and what the folder holds."""

from __future__ import annotations

import hashlib
import json
import math
import signal
from pathlib import Path
from typing import Any

import ase.io
import pytest
import torch
from omegaconf import OmegaConf

from nequip_like.errors import ConfigError
from nequip_like.inference import model_file
from nequip_like.training.csv_logger import read_rows
from nequip_like.workflow.pretrain import run as pretraining
from nequip_like.workflow.train import TrainingResult, train
from nequip_like.workflow.trials import Trial, TrialInterrupt
from tests.processes import run_python

# The teacher is what labelled the molecules.
MORSE = "{_target_: ase.calculators.morse.MorsePotential, epsilon: 1.0, r0: 1.2, rho0: 3.0, rcut1: 3.0, rcut2: 3.5}"
TEACHER = (
    f"pretrain.teacher={MORSE}",
    "trusted_packages=[ase.calculators.morse]",
    "pretrain.frames=30",
    "pretrain.epochs=2",
    "pretrain.temperature=400",
    "model.kernel=batched",
)
LONG_ENOUGH = ("pretrain.epochs=20", "training_module.optimizer.lr=0.02")
METRIC = "val0_epoch/weighted_sum"


def control(fresh: float, pretrained: float) -> Any:
    """Stands for the control: errors after it, by name."""
    errors = {"fresh weights": fresh, "pretrained weights": pretrained}

    def run_trial(label: str, overrides: Any, seconds: float, folder: Path, train: Any) -> Trial:
        return Trial(label, (), 0.0, errors[label], "" if math.isfinite(errors[label]) else "it diverged")

    return run_trial


def read_report(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "pretrain" / "report.json").read_text())


@pytest.fixture
def begun(compose: Any, capsys: Any) -> tuple[TrainingResult, str]:
    """A whole run, with a control of its own, and what it printed."""
    result = train(compose(*TEACHER, *LONG_ENOUGH, "run=[train]"))
    return result, capsys.readouterr().out


def test_a_pretraining_that_helps(begun: tuple[TrainingResult, str], compose: Any, capsys: Any) -> None:
    """The run begins with the pretrained weights, says so, and keeps the record; and it goes on as one whole."""
    result, printed = begun
    report = read_report(result.folder)
    check, folder = report["control"], result.folder / "pretrain"
    assert check["kept"] is True
    assert check["pretrained"] < check["fresh"]
    assert (
        f"pretraining: kept: after 20 steps from each, {METRIC} is {check['pretrained']:.4g} from the pretrained "
        f"weights and {check['fresh']:.4g} from fresh ones"
    ) in printed
    frames = ase.io.read(folder / "teacher.xyz", ":")
    assert len(frames) == report["labels"]["frames"] == 30
    assert {len(atoms) for atoms in frames} == {4}
    # Each control was 20 steps of the same data, and was judged by its annealed end.
    for name in ("fresh", "pretrained"):
        rows = read_rows(folder / "control" / name / "metrics.csv")
        values = [float(row[METRIC]) for row in rows if row.get(METRIC)]
        # A fine-tuning validates before its first step, too.
        assert values[name == "pretrained" :] == [pytest.approx(check[name])]
    first = model_file.read_model(folder / "model.safetensors")
    scales = OmegaConf.load(folder / "config.yaml").model.per_type_energy_scales
    own = OmegaConf.load(result.folder / "config.yaml")
    source = Path(own.finetune.source)
    assert source.read_bytes() == (folder / "model.safetensors").read_bytes()
    digest = hashlib.sha256(source.read_bytes()).hexdigest()
    assert source == folder / f"model-{digest[:8]}.safetensors"
    assert own.pretrain is None
    assert own.finetune.shifts == "refit"
    assert own.training_module.optimizer.lr == pytest.approx(0.005)  # a quarter
    # One scale for both, from the user's data; the run's model has it through its source.
    assert own.model.per_type_energy_scales == scales
    assert first.type_names == ["H", "C", "O"]
    card = model_file.read_card(result.model_file)
    assert card["provenance"]["pretrain"]["kept"] is True
    # To go on, nothing is labelled or pretrained again.
    stamp = (folder / "report.json").stat().st_mtime_ns
    longer = train(compose(*TEACHER, *LONG_ENOUGH, "run=[train]", "resume=auto", "trainer.max_epochs=3"))
    again = capsys.readouterr().out
    assert "going on from" in again
    assert "labels structures" not in again
    assert (folder / "report.json").stat().st_mtime_ns == stamp
    with pytest.raises(ConfigError, match=r"pretrain.frames is not that of the pretraining in .*last\.ckpt"):
        train(compose(*TEACHER, *LONG_ENOUGH, "run=[train]", "resume=auto", "pretrain.frames=31"))
    assert longer.folder == result.folder


def test_one_that_does_not_help(compose: Any, capsys: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The run is then, to the last bit, the one without a pretraining."""
    monkeypatch.setattr(pretraining, "run_trial", control(fresh=0.25, pretrained=0.5))
    result = train(compose(*TEACHER, "run=[train]"))
    printed = capsys.readouterr().out
    assert (
        "pretraining: not kept, the run begins with fresh weights: after 20 steps from each, "
        f"{METRIC} is 0.5 from the pretrained weights and 0.25 from fresh ones"
    ) in printed
    assert OmegaConf.load(result.folder / "config.yaml").finetune.source is None
    plain = train(compose("run=[train]", "model.kernel=batched", f"output_dir={tmp_path / 'plain'}"))
    weights, expected = (model_file.read_model(run.model_file).state_dict() for run in (result, plain))
    assert all(torch.equal(weights[name], expected[name]) for name in expected)


@pytest.mark.slow
def test_one_whose_control_fails(compose: Any, capsys: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pretraining, "run_trial", control(fresh=0.25, pretrained=math.inf))
    result = train(compose(*TEACHER, "run=[train]", "trainer.max_epochs=1"))
    assert model_file.read_card(result.model_file)["provenance"]["pretrain"]["control"]["pretrained"] is None
    assert "is nothing (it diverged) from the pretrained weights and 0.25 from fresh ones" in capsys.readouterr().out


def test_finished_stages_are_not_done_again(compose: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A run that was killed in its control goes on there; with another section or anew it does not."""

    def killed(*_: Any) -> Trial:
        raise TrialInterrupt(signal.SIGTERM)

    monkeypatch.setattr(pretraining, "run_trial", killed)
    stopped = train(compose(*TEACHER, "run=[train]"))
    assert stopped.stopped_by == signal.SIGTERM
    folder = tmp_path / "run" / "pretrain"
    assert sorted(read_report(tmp_path / "run")) == ["asked", "labels", "training", "used"]
    stamps = {name: (folder / name).stat().st_mtime_ns for name in ("teacher.xyz", "model.safetensors")}
    monkeypatch.setattr(pretraining, "run_trial", control(fresh=0.5, pretrained=0.25))
    with pytest.raises(ConfigError, match=r"pretrain.frames is not that of the pretraining in"):
        train(compose(*TEACHER, "run=[train]", "resume=auto", "pretrain.frames=40"))
    result = train(compose(*TEACHER, "run=[train]", "resume=auto"))
    assert stamps == {name: (folder / name).stat().st_mtime_ns for name in stamps}
    assert read_report(result.folder)["control"]["kept"] is True


@pytest.mark.slow
def test_a_new_run_moves_an_earlier_pretraining(compose: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Also one that was stopped before the run itself left anything."""

    def killed(*_: Any) -> Trial:
        raise TrialInterrupt(signal.SIGTERM)

    monkeypatch.setattr(pretraining, "run_trial", killed)
    train(compose(*TEACHER, "run=[train]"))
    stamp = (tmp_path / "run" / "pretrain" / "teacher.xyz").stat().st_mtime_ns
    train(compose(*TEACHER, "run=[train]"))
    assert (tmp_path / "run" / "earlier-run" / "pretrain" / "teacher.xyz").stat().st_mtime_ns == stamp


def test_a_run_without_one_does_not_go_on_with_one(compose: Any) -> None:
    train(compose("run=[train]", "trainer.max_epochs=1", "model.kernel=batched"))
    with pytest.raises(ConfigError, match=r"is of a run without a pretraining"):
        train(compose(*TEACHER, "run=[train]", "resume=auto"))


@pytest.mark.slow
def test_energies_alone(compose: Any, tmp_path: Path, molecule_file: Path) -> None:
    """The teacher's forces are trained where the user's data have none."""
    from ase.calculators.singlepoint import SinglePointCalculator

    frames = ase.io.read(molecule_file, ":")
    for atoms in frames:
        atoms.calc = SinglePointCalculator(atoms, energy=atoms.get_potential_energy())
    path = tmp_path / "energies.xyz"
    ase.io.write(path, frames)
    result = train(compose(*TEACHER, "run=[train]", f"data.train={path}", "targets=energy", "trainer.max_epochs=1"))
    assert read_report(result.folder)["training"]["metrics"]["val0_epoch/forces_rmse"] > 0


@pytest.mark.slow  # two minutes
def test_as_a_user_types_it(crystal_file: Path, tmp_path: Path) -> None:
    """With a budget: all of it, from the first label to the report, is done within it."""
    done = run_python(
        *("-m", "nequip_like.cli.train", f"data.train={crystal_file}", "data.val=5", "data.test=5"),
        *("cutoff_radius=4.0", "model.num_layers=1", "model.num_features=2", "model.kernel=batched"),
        *("targets=energy_force_stress", "model.radial_mlp_depth=1", "model.radial_mlp_width=4"),
        *("pretrain.teacher=emt", "pretrain.frames=25", "budget=120s", "trainer.accelerator=cpu"),
        *("report.format=[]", f"hydra.run.dir={tmp_path / 'run'}"),
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "pretraining: emt labels structures around 14 training frames" in done.stdout
    report = read_report(tmp_path / "run")
    assert report["labels"]["frames"] <= 25
    assert 0 < report["used"] < 90
    assert json.loads((tmp_path / "run" / "budget.json").read_text())["used"] < 125


@pytest.mark.slow
def test_tight_binding_from_the_command_line(molecule_file: Path, compose: Any) -> None:
    pytest.importorskip("tblite")
    section = ("pretrain.teacher=gfn2", "pretrain.frames=20", "pretrain.epochs=1", "pretrain.temperature=300")
    result = train(compose(*section, "run=[train]", "trainer.max_epochs=1", "model.kernel=batched"))
    assert read_report(result.folder)["labels"]["frames"] == 20
