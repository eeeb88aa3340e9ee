"""A tiny training, as a user types it, in the environments that users have."""

from __future__ import annotations

import contextlib
import io
import json
import logging
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import ase.io
import pytest

from nequip_like.cli.test import main as nequip_test
from nequip_like.cli.train import main as nequip_train
from nequip_like.integrations.ase import NequIPCalculator
from nequip_like.nn.native.compiler import find_compiler
from nequip_like.process_settings import warn_once

CONFIG = """\
defaults: [train, _self_]
data: {train: data.xyz, val: 1, test: 1, batch_size: 1}
cutoff_radius: 4.0
model: {num_layers: 1, num_features: 2, l_max: 1, radial_mlp_depth: 1, radial_mlp_width: 4}
trainer: {max_epochs: 1, accelerator: cpu, log_every_n_steps: 1}
"""
NOWHERE = "/proc/nobody"  # where nobody, root neither, can make a folder
WRITTEN = {"config.yaml", "metrics.csv", "metrics.json", "model.safetensors", "predictions.extxyz", "checkpoints"}
VARIABLES = ("SLURM_", "PYTEST", "PL_", "HYDRA", "OMPI_", "TORCHELASTIC_")

needs_compiler = pytest.mark.skipif(find_compiler() is None, reason="there is no C compiler")


@pytest.fixture(scope="module")
def frames(molecule_file):
    return ase.io.read(molecule_file, ":4")


@pytest.fixture
def folder(tmp_path, frames, monkeypatch):
    """Four frames and a config, in the current folder; no job of SLURM's, whatever the machine."""
    folder = tmp_path / "work"
    folder.mkdir()
    ase.io.write(folder / "data.xyz", frames)
    (folder / "config.yaml").write_text(CONFIG)
    monkeypatch.chdir(folder)
    for name in [name for name in os.environ if name.startswith(VARIABLES[:1])]:
        monkeypatch.delenv(name)
    return folder


@pytest.fixture
def here(monkeypatch):
    """Runs ``nequip-train`` in this process: exit status, and what it printed as an error and warned of."""
    monkeypatch.setenv("MPLCONFIGDIR", os.environ.get("MPLCONFIGDIR") or tempfile.gettempdir())
    warn_once.cache_clear()
    handlers, lightning = list(logging.root.handlers), logging.getLogger("lightning.pytorch")
    level = lightning.level

    def run(*arguments: str, recorded=None) -> tuple[int, str]:
        stream = io.StringIO()
        monkeypatch.setattr(sys, "argv", ["nequip-train", *arguments])
        with contextlib.redirect_stderr(stream):
            try:
                nequip_train()
            except SystemExit as end:
                return int(end.code or 0), stream.getvalue()
        return 0, stream.getvalue()

    yield run
    lightning.setLevel(level)
    for handler in set(logging.root.handlers) - set(handlers):
        logging.root.removeHandler(handler)
        handler.close()


def in_process_of_its_own(*arguments: str, prefix: str = "", **variables: str) -> subprocess.CompletedProcess[str]:
    """Types a command into a shell; ``prefix`` stands after it, as redirections do."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith(VARIABLES)}
    environment |= {"OMP_NUM_THREADS": "1", "PYTHON": sys.executable, **variables}
    command = f'"$PYTHON" -m nequip_like.cli.train "$@" {prefix}'
    return subprocess.run(
        ["/bin/sh", "-c", command, "sh", *arguments],
        env=environment,
        capture_output=True,
        encoding="utf-8",
        errors="replace",
        timeout=300,
    )


def check_run(folder: Path) -> None:
    """The run is whole, and its numbers are numbers."""
    assert {path.name for path in folder.iterdir()} >= WRITTEN
    assert json.loads((folder / "metrics.json").read_text(encoding="utf-8"))["test"]["forces_rmse"] > 0


# --- SLURM

BATCH = {"JOB_ID": "1", "PROCID": "0", "LOCALID": "0", "NODEID": "0", "JOB_NAME": "train"}


@pytest.mark.parametrize("tasks", [{"NTASKS": "4"}, {"NTASKS": "2", "NTASKS_PER_NODE": "2"}])
def test_batch_script_without_srun(folder, here, monkeypatch, tasks):
    for name, value in (BATCH | tasks).items():
        monkeypatch.setenv(f"SLURM_{name}", value)
    assert here("config.yaml", "hydra.run.dir=run", "data.train=not_even_looked_for.xyz") == (
        2,
        f"error: this SLURM job has {tasks['NTASKS']} tasks, but the command was not started by srun\n"
        "  -> write srun before the command, or ask for one task: --ntasks=1, with --cpus-per-task for its threads\n",
    )
    assert not (folder / "run").exists()


@pytest.mark.parametrize(
    "variables",
    [
        pytest.param({"JOB_ID": "1", "NTASKS": "4"}, id="shell of salloc"),
        pytest.param(BATCH | {"NTASKS": "4", "JOB_NAME": "interactive"}, id="interactive", marks=pytest.mark.slow),
        pytest.param(BATCH | {"NTASKS": "1"}, id="one task", marks=pytest.mark.slow),
    ],
)
def test_one_process_in_a_job(folder, here, monkeypatch, variables):
    for name, value in variables.items():
        monkeypatch.setenv(f"SLURM_{name}", value)
    assert here("config.yaml", "hydra.run.dir=run") == (0, "")
    check_run(folder / "run")


@pytest.mark.slow
def test_srun_without_a_job(folder, tmp_path):
    (tmp_path / "srun").write_text("#!/bin/sh\nexit 1\n")
    (tmp_path / "srun").chmod(0o755)
    done = in_process_of_its_own("config.yaml", "hydra.run.dir=run", PATH=f"{tmp_path}:{os.environ['PATH']}")
    assert (done.returncode, done.stderr) == (0, "")
    assert "`srun`" not in done.stdout
    check_run(folder / "run")


# --- folders that cannot be written


@needs_compiler
@pytest.mark.parametrize(
    "variable",
    ["HOME", *(pytest.param(name, marks=pytest.mark.slow) for name in ("NEQUIP_LIKE_CACHE", "XDG_CACHE_HOME"))],
)
def test_folder_of_the_cache_cannot_be_written(folder, here, monkeypatch, tmp_path, variable):
    """The compiled kernel is used all the same, and it is said once."""
    for name in ("NEQUIP_LIKE_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv(variable, NOWHERE)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    where = {"HOME": "/.cache/nequip_like", "NEQUIP_LIKE_CACHE": "", "XDG_CACHE_HOME": "/nequip_like"}[variable]
    with pytest.warns(UserWarning, match="cannot write") as told:
        assert here("config.yaml", "hydra.run.dir=run")[0] == 0
    kept = tmp_path / f"nequip_like-{os.getuid()}"
    assert [str(each.message) for each in told] == [
        f"cannot write {NOWHERE}{where}/kernels: No such file or directory; compiled kernels are kept in {kept}"
    ]
    assert {path.suffix for path in kept.iterdir()} == {".c", ".so"}
    check_run(folder / "run")


@pytest.mark.slow
@needs_compiler
def test_damaged_library_in_the_cache(folder, monkeypatch, tmp_path):
    """What a killed job or a full disk left behind; in processes of their own, which a bus error would kill."""
    cache = tmp_path / "cache"
    arguments = ("config.yaml", "hydra.run.dir=results", "run=[val]")
    assert in_process_of_its_own(*arguments, NEQUIP_LIKE_CACHE=str(cache)).returncode == 0
    sizes = {path.name: path.stat().st_size for path in (cache / "kernels").glob("*.so")}
    assert len(sizes) == 2  # the network, and the passes over weights
    for name in sizes:
        os.truncate(cache / "kernels" / name, 5000)
    done = in_process_of_its_own(*arguments, NEQUIP_LIKE_CACHE=str(cache))
    assert (done.returncode, done.stderr) == (0, "")
    assert {path.name: path.stat().st_size for path in (cache / "kernels").glob("*.so")} == sizes


@pytest.mark.slow  # the cache alone is quick, above
def test_nothing_can_be_written(folder, tmp_path):
    """No home, no folder for temporary files, letters of 1963: matplotlib and the compiler do what they can."""
    done = in_process_of_its_own(
        *("config.yaml", "hydra.run.dir=run"),
        **{"HOME": NOWHERE, "TMPDIR": f"{NOWHERE}/tmp", "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
        **{"NEQUIP_LIKE_CACHE": "", "XDG_CACHE_HOME": "", "XDG_CONFIG_HOME": ""},
    )
    assert done.returncode == 0, done.stderr
    assert "Matplotlib" not in done.stderr
    assert done.stderr.count("cannot write") == (1 if find_compiler() else 0)
    assert "meV/?" in done.stdout  # for the letter that ASCII lacks
    check_run(folder / "run")


@pytest.mark.skipif(sys.platform != "linux", reason="/proc is Linux's")
def test_current_folder_cannot_be_written(folder, here, monkeypatch):
    monkeypatch.chdir("/proc")
    config = folder / "config.yaml"
    arguments = (str(config), f"data.train={folder / 'data.xyz'}", "run=[val]")
    status, error = here(*arguments)
    assert status == 2
    assert error.startswith("error: cannot write /proc/outputs/")
    assert error.endswith(": No such file or directory\n  -> look at the folder and its free space\n")
    assert here(*arguments, f"hydra.run.dir={folder / 'run'}") == (0, "")
    assert (folder / "run" / "config.yaml").is_file()


def test_current_folder_is_deleted(folder, here, monkeypatch, tmp_path, capsys):
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    expected = "error: the current folder is not there any more\n  -> change to another one: cd\n"
    assert here(str(folder / "config.yaml")) == (2, expected)
    assert nequip_test(["model.safetensors", "data.xyz"]) == 2
    assert capsys.readouterr().err == expected


# --- no compiler


@pytest.mark.parametrize(
    "variables",
    [{"PATH": NOWHERE}, pytest.param({"PATH": NOWHERE, "CC": f"{NOWHERE}/gcc"}, marks=pytest.mark.slow)],
)
def test_no_compiler(folder, here, monkeypatch, variables, capsys):
    monkeypatch.delenv("CC", raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert here("config.yaml", "hydra.run.dir=run") == (0, "")
    shown = " ".join(capsys.readouterr().out.replace("│", "").split())
    assert "a C compiler, gcc or $CC, would make it several times as fast" in shown
    check_run(folder / "run")
    assert here("config.yaml", "hydra.run.dir=other", "model.kernel=fused") == (
        2,
        "error: model.kernel is fused, which needs a C compiler, and there is none\n"
        "  -> install gcc, name a compiler in the environment variable CC, or write model.kernel=batched\n",
    )


# --- locale


@pytest.mark.slow
def test_locale_of_another_country(folder, monkeypatch):
    """Numbers are written with points, and files are UTF-8, whatever LC_ALL says, be it known here or not."""
    shutil.move("data.xyz", "Größe.xyz")
    (folder / "config.yaml").write_text(CONFIG.replace("data.xyz", "Größe.xyz"), encoding="utf-8")
    done = in_process_of_its_own("config.yaml", "hydra.run.dir=run", LC_ALL="de_DE.UTF-8", LANG="de_DE.UTF-8")
    assert done.returncode == 0, done.stderr
    check_run(folder / "run")
    assert "train: Größe.xyz" in (folder / "run" / "config.yaml").read_text(encoding="utf-8")
    rows = (folder / "run" / "metrics.csv").read_text(encoding="utf-8").splitlines()
    assert {row.count(",") for row in rows} == {rows[0].count(",")}


# --- paths


@pytest.mark.slow
def test_home_folder(folder, here, monkeypatch, tmp_path, capsys):
    """Wherever a path is given; shells leave it after ``key=`` as it is."""
    home = tmp_path / "home"
    shutil.copytree(folder, home)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("NEQUIP_LIKE_CACHE", "~/cache")
    plain = "lr_scheduler=plateau"  # one of the whole run would say that the run is longer now
    assert here("~/config.yaml", "data.train=~/data.xyz", "hydra.run.dir=~/run", plain) == (0, "")
    check_run(home / "run")
    on = ("data.train=~/data.xyz", "output_dir=~/further", "trainer.max_epochs=2", "hydra.run.dir=hydra", plain)
    assert here("config.yaml", *on, "ckpt_path=~/run/checkpoints/last.ckpt") == (0, "")
    check_run(home / "further")
    assert "2 epochs" not in capsys.readouterr().out
    tuned = ("+data.path=~/", "data.train=~/data.xyz", "hydra.run.dir=tuned", "finetune.source=~/run", "run=[val]")
    assert here("config.yaml", *tuned)[0] == 0
    assert here("config.yaml", "--plot-schedule=~/drawn.png")[0] == 0
    assert (home / "drawn.png").is_file()
    assert nequip_test(["~/run", "~/data.xyz", "--output", "~/tested", "--device", "cpu"]) == 0
    assert (home / "tested" / "metrics.json").is_file()
    atoms = ase.io.read("data.xyz")
    for name in ("~/run", "~/run/model.safetensors", "~/run/checkpoints/last.ckpt"):
        atoms.calc = NequIPCalculator(name)
        assert atoms.get_potential_energy() < 0
    assert (home / "cache" / "kernels").is_dir() == (find_compiler() is not None)
    assert not (folder / "~").exists()


@pytest.mark.slow  # the command line alone is quick, in tests/composition/test_quoting.py
def test_odd_letters(folder, here, monkeypatch, tmp_path):
    """In the names of folders, configs and data, and where the run goes to; in the config and on the command line."""
    odd = tmp_path / 'a =b, Größe\'s [x] #1 "q" 100% (日本)'
    shutil.copytree(folder, odd)
    monkeypatch.chdir(odd)
    (odd / "config.yaml").rename(odd / "my =config, ü's.yaml")
    assert here("my =config, ü's.yaml", "run=[val]", "hydra.run.dir=Läufe/a=1") == (0, "")
    assert (odd / "Läufe" / "a=1" / "config.yaml").is_file()
    monkeypatch.chdir(folder)
    config, data = odd / "my =config, ü's.yaml", odd / "data, (1)ü.xyz"
    (odd / "data.xyz").rename(data)
    assert here(str(config), f"data.train={data}", f"hydra.run.dir={odd}/Übung") == (0, "")
    check_run(odd / "Übung")
    again = ("run=[train,test]", f"ckpt_path={odd}/Übung/checkpoints/last.ckpt", "hydra.run.dir=again")
    assert here(str(config), f"data.train={data}", *again) == (0, "")
    assert nequip_test([str(odd / "Übung"), str(data), "--output", str(odd / "tested, ü"), "--device", "cpu"]) == 0
    assert (odd / "tested, ü" / "metrics.json").is_file()


# --- output


@pytest.mark.slow
@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full")
def test_log_file_on_a_full_disk(folder):
    done = in_process_of_its_own("config.yaml", "hydra.run.dir=run", prefix=">/dev/full")
    assert done.returncode == 0
    assert done.stderr == "warning: output cannot be written: No space left on device; the run goes on\n"
    check_run(folder / "run")


@pytest.mark.slow
@pytest.mark.parametrize("redirected", [">&-", ">&- 2>&-", "| head -n 1"])
def test_closed_output(folder, redirected):
    done = in_process_of_its_own("config.yaml", "hydra.run.dir=run", prefix=redirected)
    assert (done.returncode, done.stderr) == (0, "")
    check_run(folder / "run")
