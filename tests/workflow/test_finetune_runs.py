"""Fine-tuning: what it begins from, going on with it, several processes, the command line."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest
import torch
from omegaconf import OmegaConf
from rich.console import Console

from nequip_like.errors import ConfigError
from nequip_like.inference import model_file
from nequip_like.training.csv_logger import read_rows
from nequip_like.workflow.finetune.report import print_worse_than_source
from nequip_like.workflow.train import train
from tests.processes import run_python
from tests.workflow.test_resume import differences, history, last
from tests.workflow.tuning import (
    MOVED,
    REFERENCES,
    as_source,
    begun,
    nothing,
    shaken,
    write,
)

# --- sources, and going on


@pytest.mark.parametrize("module", ["ema", pytest.param("default", marks=pytest.mark.slow)])
def test_checkpoints_and_folders_are_sources(module: str, compose: Any, tmp_path: Path) -> None:
    """Of a checkpoint with an average, that is what is taken; it is what was exported, too."""
    first = train(compose("run=[train]", f"training_module={module}", "trainer.max_epochs=1"))
    exported = model_file.read_model(first.model_file)
    for path in (first.best_checkpoint, first.folder, first.model_file):
        tuning, _, training = begun(compose(f"finetune.source={path}", f"output_dir={tmp_path / 'next'}"))
        for name, tensor in exported.state_dict().items():
            assert torch.equal(training.model.state_dict()[name], tensor), name
            assert torch.equal(training.evaluation_model.state_dict()[name], tensor), name
        assert Path(tuning.info["source"]).is_file()


WAYS = {
    "all": (),
    "readout": ("finetune.freeze=head_only",),
    "lora": ("finetune.lora={rank:2}", "optimizer=adamw"),
    "refit and replay": ("finetune.shifts=refit", "data.replay={file:OLD,fraction:0.25,weight:0.5}"),
    "new species": ("data.train=NEW", REFERENCES, "finetune.new_species=mean"),
}
# Two of them at once stand for each alone.
QUICK = "lora, refit and replay"
WAYS[QUICK] = WAYS["lora"] + WAYS["refit and replay"]


@pytest.mark.parametrize("way", [pytest.param(way, marks=[pytest.mark.slow] * (way != QUICK)) for way in WAYS])
def test_goes_on_without_the_source(way: str, tune: Any, source: Path, with_sulphur: Path, tmp_path: Path) -> None:
    """Three epochs straight, and one, then two more after the source was deleted: the same bits."""
    names = ["H2O", "CH4", "CO2"]
    old = write(tmp_path / "old.xyz", shaken(names, 3, seed=1), as_source(source, {}))
    options = [option.replace("OLD", f"'{old}'").replace("NEW", f"'{with_sulphur}'") for option in WAYS[way]]

    def run(name: str, *more: str) -> Path:
        return train(tune("run=[train]", *options, f"output_dir={tmp_path / name}", *more)).folder

    whole = run("whole", "trainer.max_epochs=3")
    run("part", "trainer.max_epochs=1")
    source.unlink()
    part = run("part", "trainer.max_epochs=3", "resume=auto")
    assert differences(last(whole), last(part)) == []
    assert history(whole) == history(part)
    one, two = (model_file.read_model(folder / "model.safetensors").state_dict() for folder in (whole, part))
    assert differences(one, two) == []


@pytest.mark.slow
@pytest.mark.parametrize("way", ["refit and replay", "new species"])
def test_the_config_of_a_run_folder_is_whole(
    way: str, tune: Any, source: Path, with_sulphur: Path, tmp_path: Path
) -> None:
    """It begins the same fine-tuning again, and goes on with the one that there is."""
    old = write(tmp_path / "old.xyz", shaken(["H2O"], 3, seed=1), as_source(source, {}))
    options = [option.replace("OLD", f"'{old}'").replace("NEW", f"'{with_sulphur}'") for option in WAYS[way]]
    first = train(tune("run=[train]", "trainer.max_epochs=1", *options))
    written = OmegaConf.load(first.folder / "config.yaml")
    written.output_dir = str(tmp_path / "again")
    one, two = (model_file.read_model(result.model_file).state_dict() for result in (first, train(written)))
    assert differences(one, two) == []
    written = OmegaConf.load(first.folder / "config.yaml")
    written.resume = "auto"
    written.trainer.max_epochs = 2
    assert last(train(written).folder)["epoch"] == 1


def test_what_may_not_change(tune: Any, tmp_path: Path) -> None:
    train(tune("run=[train]", "trainer.max_epochs=1", "finetune.lora={rank:2}"))
    with pytest.raises(ConfigError, match=r"finetune.lora.rank was 2 in the run that .* is of, and is 3 now"):
        train(tune("run=[train]", "resume=auto", "finetune.lora={rank:3}"))
    with pytest.raises(ConfigError, match=r"model.per_type_energy_shifts_trainable is True, but .*last.ckpt has False"):
        train(
            tune("run=[train]", "resume=auto", "finetune.lora={rank:2}", "model.per_type_energy_shifts_trainable=true")
        )
    with pytest.raises(ConfigError, match=r"model.num_layers is 3, but the model of .*last.ckpt has 2"):
        train(tune("run=[train]", "resume=auto", "finetune.lora={rank:2}", "model.num_layers=3"))


def test_a_checkpoint_of_another_run_is_no_fine_tuning(compose: Any, tune: Any, tmp_path: Path) -> None:
    first = train(compose("run=[train]", "trainer.max_epochs=1", f"output_dir={tmp_path / 'first'}"))
    with pytest.raises(ConfigError, match=r"is no checkpoint of a fine-tuning run\n.*finetune.source="):
        train(tune("run=[train]", f"ckpt_path={first.best_checkpoint}"))


def test_the_check(tune: Any, compose: Any, tmp_path: Path) -> None:
    from nequip_like.workflow.config.check import check_config
    from nequip_like.workflow.printing import plan

    assert plan(check_config(tune()))["model"].endswith("source.safetensors, fine-tuned")
    with pytest.raises(ConfigError, match=r"finetune.source: no such file or folder: .*nowhere"):
        check_config(compose("finetune.source=nowhere"))
    check_config(compose("finetune.source=nowhere", "resume=auto"))
    with pytest.raises(ConfigError, match=r"model.num_layers is 3, but the model of .* has 2"):
        check_config(tune("model.num_layers=3"))
    with pytest.raises(ConfigError, match=r"data.replay.fraction is 2"):
        check_config(compose("data.replay={file:a.xyz,fraction:2}"))


@pytest.mark.slow
def test_two_processes_are_one(tune: Any, tiny: list[str], source: Path, molecule_file: Path, tmp_path: Path) -> None:
    """With adaptation, refitted shifts and replay: 14 frames and 2 old ones are steps of 4 on both."""
    old = write(tmp_path / "old.xyz", shaken(["H2O", "CH4", "CO2"], 2), nothing)
    options = [
        *("run=[train]", "model.kernel=batched", "finetune.lora={rank:2}", "finetune.shifts=refit", "~logger"),
        *(f"data.replay={{file:{old},fraction:0.125}}", "~callbacks.learning_rate", f"finetune.source={source}"),
    ]
    one = train(tune(*options[:4], options[5], "data.batch_size=4", f"output_dir={tmp_path / 'one'}")).model_file
    data = [f"data.train={molecule_file}", "data.val=5", "data.test=5", "cutoff_radius=4.0", "data.batch_size=2"]
    places = [f"output_dir={tmp_path / 'two'}", "trainer.devices=2", "trainer.strategy=ddp"]
    places += ["optimizer=adam", "lr_scheduler=plateau"]  # as compose has it
    command = ("-m", "nequip_like.cli.train", "-cn", "train", *tiny, *data, *options, *places)
    done = run_python(*command, cwd=tmp_path, timeout=500)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("Fine-tuning") == 1
    first, second = (model_file.read_model(path).state_dict() for path in (one, tmp_path / "two" / "model.safetensors"))
    for name, tensor in first.items():
        assert torch.allclose(second[name], tensor, rtol=0, atol=1e-9), name


@pytest.mark.slow
def test_by_the_command_line(tmp_path: Path, molecule_file: Path, source: Path) -> None:
    """As a user does it: train, fine-tune the exported model with replay, and evaluate the result."""
    quiet = ("~logger", "~callbacks.learning_rate")
    small = ("model.num_features=4", "model.num_layers=2", "model.radial_mlp_width=8", "trainer.max_epochs=2")
    (tmp_path / "first.yaml").write_text(
        f"defaults: [train, _self_]\ndata: {{train: {molecule_file}, val: 5, test: 5}}\ncutoff_radius: 4.0\n"
    )
    new = write(tmp_path / "new.xyz", shaken(["H2O", "CH4", "CO2", "H2", "CO", "CH3OH"], 3), as_source(source, MOVED))
    (tmp_path / "second.yaml").write_text(
        f"defaults: [train, _self_]\ndata:\n  train: {new}\n  val: 4\n"
        f"  replay: {{file: {molecule_file}, fraction: 0.2}}\nrun: [train, val]\n"
    )

    def command(name: str, *arguments: str) -> subprocess.CompletedProcess:
        done = run_python("-m", f"nequip_like.cli.{name}", *arguments, cwd=tmp_path)
        assert done.returncode == 0, done.stdout + done.stderr
        return done

    command("train", "-cn", "first", "hydra.run.dir=one", *small, *quiet)
    options = ("finetune.source=one/model.safetensors", "finetune.shifts=refit", "finetune.lora={rank:2}")
    limit = ("hydra.run.dir=two", *quiet)
    said = command("train", "-cn", "second", *options, *limit, "trainer.max_epochs=1")
    assert "Fine-tuning" in said.stdout
    assert "4 of 24 frames in each epoch, beside 14 of train: 22.22% of it; weight 1" in " ".join(
        said.stdout.replace("│", " ").split()
    )
    (tmp_path / "one" / "model.safetensors").unlink()
    command("train", "-cn", "second", *options, *limit, "trainer.max_epochs=2", "resume=auto")
    command("test", "two/model.safetensors", str(new))


# --- what the source is worth on the new data


def lines_before(text: str) -> list[str]:
    return [line for line in text.splitlines() if line.startswith("before ")]


def test_the_source_is_validated_before_the_first_step(tune: Any, source: Path, capsys: Any, tmp_path: Path) -> None:
    """A row, a line of metrics.csv, and the result; and not again in a run that goes on."""
    result = train(tune("run=[train]", "trainer.max_epochs=1"))
    said = capsys.readouterr().out.splitlines()
    (row,) = lines_before("\n".join(said))
    assert said.index(row) + 1 == next(i for i, line in enumerate(said) if line.startswith("epoch "))
    # What nequip-test says of the source on the validation set.
    alone = train(tune("run=[val]", f"output_dir={tmp_path / 'alone'}")).metrics
    assert result.before == alone
    energy, forces = (1e3 * alone[f"val0_epoch/{name}_rmse"] for name in ("per_atom_energy", "forces"))
    total = alone["val0_epoch/weighted_sum"]
    shown = f"val0: E rmse {energy:.4g} meV/atom, F rmse {forces:.4g} meV/A, weighted sum {total:.4g}"
    assert row.startswith(f"before     | step      0 | {shown}")
    first = next(row for row in read_rows(result.folder / "metrics.csv") if row["val0_epoch/forces_rmse"])
    assert (first["step"], float(first["val0_epoch/forces_rmse"])) == ("0", alone["val0_epoch/forces_rmse"])
    capsys.readouterr()
    source.unlink()
    again = train(tune("run=[train]", "trainer.max_epochs=2", "resume=auto"))
    assert lines_before(capsys.readouterr().out) == []
    assert again.before == alone
    assert last(again.folder)["nequip_like"]["finetune"]["before"] == alone


def test_a_validation_that_was_done_is_not_done_again(tune: Any, capsys: Any) -> None:
    result = train(tune("run=[val,train]", "trainer.max_epochs=1"))
    assert len(lines_before(capsys.readouterr().out)) == 1
    rows = [row for row in read_rows(result.folder / "metrics.csv") if row["val0_epoch/forces_rmse"]]
    assert [row["step"] for row in rows] == ["0", "2"]


@pytest.mark.parametrize(("before", "best", "said"), [(0.1, 0.2, True), (0.2, 0.1, False), (None, 0.1, False)])
def test_a_source_that_was_better_is_told(before: float | None, best: float, said: bool, capsys: Any) -> None:
    print_worse_than_source(Console(), "val0_epoch/weighted_sum", before, best)
    line = "worse than the source: val0_epoch/weighted_sum is 0.2, and was 0.1 before the first step; "
    assert capsys.readouterr().out.startswith(line) == said
    if before is not None:
        print_worse_than_source(Console(), "val0_epoch/r2", before, best, larger_is_better=True)
        assert bool(capsys.readouterr().out) != said


def test_other_runs_have_no_such_row(compose: Any, capsys: Any) -> None:
    assert train(compose("run=[train]", "trainer.max_epochs=1")).before == {}
    assert lines_before(capsys.readouterr().out) == []
