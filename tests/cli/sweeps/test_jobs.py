"""The runs of a ``--multirun``, composed and checked before the first begins."""

from __future__ import annotations

from pathlib import Path

import pytest
from omegaconf import OmegaConf

from nequip_like.cli.sweeps.jobs import compose_job, list_jobs
from nequip_like.composition.arguments import parse
from nequip_like.composition.hydra_compose import compose_arguments
from nequip_like.errors import ConfigError
from tests.cli.test_output import folder, run  # noqa: F401 (a fixture)


def jobs(*overrides: str):
    known = parse(["-cn", "config", "--multirun", *overrides])
    config = compose_arguments(known, str(Path.cwd()))
    found = list_jobs(known, config, str(Path.cwd()))
    return found, [compose_job(known, config, str(Path.cwd()), job) for job in found or ()]


def test_each_run_has_its_values_and_its_folder(folder):  # noqa: F811
    found, configs = jobs("seed=1,2", "cutoff_radius=3.5", "hydra.sweep.dir=many", "model=nequip,nequip_S")
    assert [job.varied for job in found] == [
        [f"seed={seed}", f"model={model}"] for seed in (1, 2) for model in ("nequip", "nequip_S")
    ]
    assert found[3].describe() == "run 3: seed=2 model=nequip_S"
    assert [config.seed for config in configs] == [1, 1, 2, 2]
    assert {config.cutoff_radius for config in configs} == {3.5}
    assert [config.model.get("preset") for config in configs] == [None, "S", None, "S"]
    assert [config.hydra.job.num for config in configs] == [0, 1, 2, 3]
    assert [config.hydra.runtime.output_dir for config in configs] == [str(folder / "many" / str(i)) for i in range(4)]


def test_runs_that_the_config_names(folder):  # noqa: F811
    """Ranges, options by a pattern, parameters of the sweeper, and a name with the time in it."""
    with (folder / "config.yaml").open("a") as file:
        file.write("hydra: {sweeper: {params: {cutoff_radius: '3.0,3.5'}}}\n")
    found, configs = jobs("seed=range(4,6)")
    assert [(config.cutoff_radius, config.seed) for config in configs] == [(3.0, 4), (3.0, 5), (3.5, 4), (3.5, 5)]
    assert len({Path(config.hydra.runtime.output_dir).parent for config in configs}) == 1
    found, _ = jobs("model=glob(nequip_*)")
    assert [job.varied[1] for job in found[:4]] == [f"model=nequip_{size}" for size in ("L", "M", "S", "XL")]


def test_a_single_run(folder):  # noqa: F811
    found, _ = jobs()
    assert [job.describe() for job in found] == ["run 0"]


def test_a_sweeper_that_chooses_as_it_goes(folder):  # noqa: F811
    known = parse(["-cn", "config", "--multirun", "seed=1,2"])
    config = compose_arguments(known, str(folder))
    OmegaConf.set_readonly(config.hydra, False)
    config.hydra.sweeper._target_ = "hydra_plugins.hydra_optuna_sweeper.optuna_sweeper.OptunaSweeper"
    assert list_jobs(known, config, str(folder)) is None


def test_values_that_cannot_be_listed_are_refused(folder):  # noqa: F811
    with pytest.raises(ConfigError, match=r"'seed=interval\(1,3\)' does not say which values"):
        jobs("seed=interval(1,3)")


@pytest.mark.slow
def test_no_run_begins_if_a_later_one_is_wrong(folder):  # noqa: F811
    status, output, errors = run("config.yaml", "-m", "seed=1,2", "model.num_layers=1,0", "hydra.sweep.dir=many")
    assert (status, output) == (2, "")
    assert errors == (
        "error: model.num_layers is 0 (run 1: seed=1 model.num_layers=0)\n  -> give a whole number, 1 or more\n"
    )
    assert not (folder / "many").exists()


def test_what_several_runs_would_do(folder):  # noqa: F811
    """The first run as a whole, and of the second what differs."""
    status, output, errors = run(
        "config.yaml", "-m", "--check", "seed=7", "cutoff_radius=3.0,3.5", "hydra.sweep.dir=many"
    )
    assert (status, errors) == (0, "")
    lines = output.splitlines()
    assert lines[:2] == ["The configs are sound. There would be 2 runs", "run 0: cutoff_radius=3.0"]
    assert lines[lines.index("run 1: cutoff_radius=3.5") + 1 :] == [
        "  cutoff  3.5 Angstrom",
        f"  output  {folder}/many/1",
        "Not checked: structures and labels in the files of data; they are read when the run starts.",
    ]
    assert not (folder / "many").exists()
