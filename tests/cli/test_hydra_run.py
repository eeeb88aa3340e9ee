"""A composed config runs as Hydra would run it, and is not composed again."""

from __future__ import annotations

import subprocess
import sys

import pytest
import yaml

from nequip_like.cli.hydra_run import is_single_run
from nequip_like.composition.arguments import parse
from nequip_like.composition.hydra_compose import compose_arguments

RUN = """
import sys
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from nequip_like.composition.arguments import parse
from nequip_like.composition.hydra_compose import compose_arguments
from nequip_like.cli.hydra_run import run_composed

known = parse(["-cn", "mine", "seed=3", "hydra.run.dir=out/${seed}"])
config = compose_arguments(known, ".")
ConfigLoaderImpl.load_configuration = None

def task(config):
    hydra = HydraConfig.get()
    print(sorted(config)[:2], "hydra" in config, config.seed, config.output_dir)
    print(hydra.mode.name, hydra.job.name, list(hydra.overrides.task), hydra.job.config_name)
    print(GlobalHydra.instance().is_initialized())
    if "--fail" in sys.argv:
        raise KeyError("broken")

run_composed(known, config, ".", task)
print(GlobalHydra.instance().is_initialized())
"""


@pytest.fixture
def run(tmp_path):
    (tmp_path / "mine.yaml").write_text("defaults: [train, _self_]\ncutoff_radius: 3.5\n")

    def run(*arguments):
        command = [sys.executable, "-c", RUN.replace('"."', repr(str(tmp_path))), *arguments]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=100)

    return run


def test_as_hydra_does(run, tmp_path):
    done = run()
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        f"['budget', 'callbacks'] False 3 {tmp_path / 'out' / '3'}",
        "RUN train ['seed=3'] mine",
        "True",
        "False",
    ]
    written = tmp_path / "out" / "3"
    assert yaml.safe_load((written / ".hydra" / "overrides.yaml").read_text()) == ["seed=3"]
    assert yaml.safe_load((written / ".hydra" / "config.yaml").read_text())["cutoff_radius"] == 3.5
    assert (written / "train.log").is_file()


def test_an_error_ends_the_process_with_its_traceback(run):
    done = run("--fail")
    assert done.returncode == 1
    assert "KeyError: 'broken'" in done.stderr
    assert "HYDRA_FULL_ERROR=1" in done.stderr
    assert "hydra/" not in done.stderr


@pytest.mark.parametrize(
    ("arguments", "single"),
    [
        ([], True),
        (["seed=3", "--run"], True),
        (["hydra.mode=RUN"], True),
        (["--cfg", "job"], False),
        (["--info", "all"], False),
        (["--multirun"], False),
        (["hydra.mode=MULTIRUN"], False),
        (["--cfg", "job", "--resolve"], False),
        (["hydra.verbose=true"], False),
    ],
)
def test_what_is_left_to_hydra(arguments, single, tmp_path):
    (tmp_path / "mine.yaml").write_text("defaults: [train, _self_]\n")
    known = parse(["-cn", "mine", *arguments])
    assert is_single_run(known, compose_arguments(known, str(tmp_path))) is single
