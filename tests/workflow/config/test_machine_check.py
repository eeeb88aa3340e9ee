"""What a machine lacks is told before data are read, in ``--check`` and in a run."""

# ruff: noqa: E501 (messages stand here as they are printed, in one line)

from __future__ import annotations

import os

import pytest
import torch

from nequip_like.errors import ConfigError, DataError, ModelFileError, NequipLikeError, OutputError
from nequip_like.workflow.config import machine_check
from nequip_like.workflow.config.check import check_config
from nequip_like.workflow.config.machine_check import check_machine
from nequip_like.workflow.train import train


def told(config):
    with pytest.raises(NequipLikeError) as caught:
        check_machine(check_config(config))
    return type(caught.value), caught.value.message, caught.value.advice


def with_gpus(monkeypatch, number):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: number)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    monkeypatch.setattr(torch.version, "cuda", "13.0")


def without(monkeypatch, *packages):
    known = machine_check.find_spec
    monkeypatch.setattr(machine_check, "find_spec", lambda name: None if name in packages else known(name))


def test_a_sound_machine(compose):
    check_machine(check_config(compose()))


# --- devices


@pytest.mark.parametrize(
    ("gpus", "overrides", "error", "advice"),
    [
        (0, "accelerator=gpu", "trainer.accelerator is 'gpu', but there is no GPU here", "trainer.accelerator=auto takes what there is"),
        (0, "accelerator=cuda", "trainer.accelerator is 'cuda', but there is no GPU here", "trainer.accelerator=auto takes what there is"),
        (0, "accelerator=mps", "trainer.accelerator is 'mps', but there is no Apple GPU here", "trainer.accelerator=auto takes what there is"),
        (0, "accelerator=tpu", "trainer.accelerator is 'tpu', but there is no TPU here", "trainer.accelerator=auto takes what there is"),
        (0, "devices=[0,1]", "trainer.devices is [0, 1], but there is no GPU here", "on a CPU give a number of processes: 1"),
        (0, "devices=-1", "trainer.devices is -1, but there is no GPU here", "on a CPU give a number of processes: 1"),
        (2, "devices=4", "trainer.devices is 4, but there are 2 GPUs here", "trainer.devices=2, or auto, takes all"),
        (1, "devices='2'", "trainer.devices is 2, but there is 1 GPU here", "trainer.devices=1, or auto, takes all"),
        (2, "devices=[0,2]", "trainer.devices is [0, 2], but there are 2 GPUs here, numbers 0 to 1", "trainer.devices=2, or auto, takes all"),
        (1, "devices='0,1'", "trainer.devices is 0,1, but there is 1 GPU here, number 0", "trainer.devices=1, or auto, takes all"),
    ],
)  # fmt: skip
def test_devices_that_are_not_there(gpus, overrides, error, advice, compose, monkeypatch):
    with_gpus(monkeypatch, gpus)
    accelerator = () if overrides.startswith("acc") else ("trainer.accelerator=auto",)
    assert told(compose(*accelerator, f"trainer.{overrides}")) == (ConfigError, error, advice)


def test_torch_without_cuda_is_said(compose, monkeypatch):
    with_gpus(monkeypatch, 0)
    monkeypatch.setattr(torch.version, "cuda", None)
    assert told(compose("trainer.accelerator=gpu"))[1].endswith("no GPU here; this torch is built without CUDA")


@pytest.mark.parametrize(
    ("gpus", "overrides"),
    [
        (0, ("accelerator=cpu", "devices=4")),
        (0, ("accelerator=auto", "devices=auto")),
        (2, ("accelerator=gpu", "devices=2")),
        (2, ("accelerator=gpu", "devices=[1]")),
        (2, ("accelerator=auto", "devices='0,1'")),
        (2, ("accelerator=gpu", "devices=-1")),
        (2, ("accelerator=cpu", "devices=8")),
    ],
)
def test_devices_that_are_there(gpus, overrides, compose, monkeypatch):
    with_gpus(monkeypatch, gpus)
    check_machine(check_config(compose(*(f"trainer.{override}" for override in overrides))))


# --- packages


@pytest.mark.parametrize(
    ("override", "packages", "error", "advice"),
    [
        ("logger=wandb", ("wandb",), "logger.wandb needs the package wandb, which is not installed", 'pip install "nequip_like[wandb]"'),
        ("logger=tensorboard", ("tensorboard", "tensorboardX"), "logger.tensorboard needs the package tensorboard, which is not installed", 'pip install "nequip_like[tensorboard]"'),
        ("logger=mlflow", ("mlflow",), "logger.mlflow needs the package mlflow, which is not installed", 'pip install "nequip_like[mlflow]"'),
        ("model.kernel=triton", ("triton",), "model.kernel is triton, which needs the package triton; it is not installed", "pip install triton, or write model.kernel=batched"),
        ("model.kernel=cuequivariance", ("cuequivariance_torch",), "model.kernel is cuequivariance, which needs the package cuequivariance_torch; it is not installed", 'pip install "nequip_like[gpu]", or write model.kernel=batched'),
    ],
)  # fmt: skip
def test_packages_that_are_not_installed(override, packages, error, advice, compose, monkeypatch):
    without(monkeypatch, *packages)
    assert told(compose(override)) == (ConfigError, error, advice)


def test_a_kernel_for_gpus_without_one(compose, monkeypatch):
    with_gpus(monkeypatch, 0)
    monkeypatch.setattr(machine_check, "find_spec", lambda name: object())
    assert told(compose("model.kernel=triton"))[1] == "model.kernel is triton, but there is no GPU here"


# --- files


@pytest.mark.parametrize(
    ("override", "name"),
    [
        ("data.train=nosuch.xyz", "nosuch.xyz"),
        ("data.val=no*.xyz", "no*.xyz"),
        ("data.test={NO: nosuch.xyz}", "nosuch.xyz"),
        ("data.test=[{file: nosuch.xyz}]", "nosuch.xyz"),
    ],
)
def test_data_that_are_not_there(override, name, compose, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    advice = f"relative paths are looked up from the current folder, {tmp_path}"
    assert told(compose(override)) == (DataError, f"no such file: {tmp_path / name}", advice)


def test_references_and_replay_that_are_not_there(compose, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    error, message, _ = told(compose("data.reference_energies=iso.xyz"))
    assert (error, message) == (
        ConfigError,
        f"data.reference_energies: 'iso.xyz' is no rule and no file ({tmp_path}/iso.xyz)",
    )
    error, message, _ = told(compose("data.replay={file: old.xyz, fraction: 0.1}"))
    assert (error, message) == (DataError, f"no such file: {tmp_path}/old.xyz")


def test_files_below_a_folder(compose, tmp_path, molecule_file):
    check_machine(check_config(compose(f"+data.path={molecule_file.parent}", f"data.train={molecule_file.name}")))
    assert told(compose("+data.path=nowhere", "data.train=a.xyz"))[1].endswith("nowhere/a.xyz")


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="the superuser may read everything")
def test_a_file_that_may_not_be_read(compose, tmp_path):
    closed = tmp_path / "closed.xyz"
    closed.touch(mode=0)
    assert told(compose(f"data.train={closed}"))[1] == f"cannot read {closed}: Permission denied"


def test_published_data_are_downloaded_later(compose, tmp_path, monkeypatch):
    monkeypatch.setenv("NEQUIP_LIKE_CACHE", str(tmp_path / "cache"))
    check_machine(check_config(compose("data=3bpa")))


@pytest.mark.parametrize("path", ["nosuch.ckpt", "~/nosuch.ckpt"])
def test_a_checkpoint_that_is_not_there(path, compose, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    config = compose()
    config.ckpt_path = path
    assert told(config) == (
        ModelFileError,
        f"there is no checkpoint {tmp_path}/nosuch.ckpt",
        "give a file ending in .ckpt",
    )


def test_an_output_folder_that_cannot_be_made(compose, tmp_path):
    (tmp_path / "file").touch()
    folder = tmp_path / "file" / "run"
    assert told(compose(f"output_dir={folder}")) == (
        OutputError,
        f"cannot write to {folder}: {tmp_path / 'file'} is a file",
        "give another folder: hydra.run.dir=FOLDER",
    )


# --- where it is asked


def test_a_run_asks_before_it_reads(compose, monkeypatch, tmp_path):
    with_gpus(monkeypatch, 0)
    broken = tmp_path / "broken.xyz"
    broken.write_text("no structure\n")
    with pytest.raises(ConfigError, match="there is no GPU here"):
        train(compose("trainer.accelerator=gpu", f"data.train={broken}"))
    assert not (tmp_path / "run").exists()
