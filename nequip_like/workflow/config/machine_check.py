"""Does this machine have what a config asks for? Files, devices, packages and a folder to write to; nothing is read."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.accelerators import AcceleratorRegistry

from nequip_like.errors import ConfigError, ModelFileError, naming_arguments
from nequip_like.training.budget.durations import read_budget
from nequip_like.training.budget.record_file import read_records
from nequip_like.whole_files import check_writable, path_of
from nequip_like.workflow.config.check import CheckedConfig
from nequip_like.workflow.config.data_files import check_data_files
from nequip_like.workflow.config.sections import DATA_ARGUMENTS
from nequip_like.workflow.run_folder.earlier_run import check_config_is_ours

# Class of a logger -> what it imports, one of them, and how to install it.
_OF_LOGGER = {
    "WandbLogger": (("wandb",), 'pip install "nequip_like[wandb]"'),
    "WandbRunLogger": (("wandb",), 'pip install "nequip_like[wandb]"'),
    "TensorBoardLogger": (("tensorboard", "tensorboardX"), 'pip install "nequip_like[tensorboard]"'),
    "MLFlowLogger": (("mlflow",), 'pip install "nequip_like[mlflow]"'),
    "MlflowRunLogger": (("mlflow",), 'pip install "nequip_like[mlflow]"'),
    "CometLogger": (("comet_ml",), "pip install comet-ml"),
    "NeptuneLogger": (("neptune",), "pip install neptune"),
}
_OF_KERNEL = {
    "triton": ("triton", "pip install triton, or write model.kernel=batched"),
    "cuequivariance": ("cuequivariance_torch", 'pip install "nequip_like[gpu]", or write model.kernel=batched'),
}
_ON_GPU = ("gpu", "cuda")


def check_machine(checked: CheckedConfig) -> None:
    """Refuse what would fail later because of the machine, in the words in which it would be refused then.

    Args:
        checked: A config that is sound in itself.

    Raises:
        ConfigError: For a device, a package or the plans of a budget that are not there.
        DataError: For a file of data that is not there, or may not be read.
        ModelFileError: For a checkpoint that is not there.
        OutputError: If the output folder cannot be made or written, or a config of the user's would be written over.
    """
    values = checked.values
    _check_devices(values["trainer"])
    _check_packages(values)
    folder = Path(str(values["output_dir"])).absolute()
    check_writable(folder, "give another folder: hydra.run.dir=FOLDER")
    check_config_is_ours(folder)
    if checked.parts.sets is not None:  # otherwise the data are described in a way of their own
        with naming_arguments("data", DATA_ARGUMENTS):
            check_data_files(values["data"])
    if (budget := read_budget(values.get("budget"))) is not None and budget.repeat is not None:
        read_records(budget.repeat)
    if (path := values.get("ckpt_path")) is not None and not path_of(path).is_file():
        raise ModelFileError(f"there is no checkpoint {path_of(path).absolute()}", "give a file ending in .ckpt")


# --- devices


def _check_devices(trainer: Mapping[str, Any]) -> None:
    accelerator, devices = trainer.get("accelerator", "auto"), trainer.get("devices", "auto")
    gpus = torch.cuda.device_count()
    has_mps = torch.backends.mps.is_available()
    is_available = {"auto": True, "gpu": gpus > 0 or has_mps, "cuda": gpus > 0}.get(accelerator)
    if is_available is None and accelerator in AcceleratorRegistry.available_accelerators():
        is_available = AcceleratorRegistry[accelerator]["accelerator"].is_available()
    if is_available is False:
        device_name = {"mps": "Apple GPU", "tpu": "TPU"}.get(accelerator, "GPU")
        cause = "; this torch is built without CUDA" if accelerator in _ON_GPU and torch.version.cuda is None else ""
        raise ConfigError(
            f"trainer.accelerator is '{accelerator}', but there is no {device_name} here{cause}",
            "trainer.accelerator=auto takes what there is",
        )
    if gpus and accelerator in ("auto", *_ON_GPU):
        _check_count(devices, gpus)
    elif accelerator in ("auto", "cpu") and not has_mps and not _is_number_of_processes(devices):
        raise ConfigError(
            f"trainer.devices is {devices}, but there is no GPU here", "on a CPU give a number of processes: 1"
        )


def _check_count(devices: Any, gpus: int) -> None:
    """Check that there are as many GPUs as the config asks for, or those of the numbers that it lists."""
    words = [word for word in devices.split(",") if word.strip()] if isinstance(devices, str) else []
    requested = [int(word) for word in words] if "," in str(devices) and words else devices
    if isinstance(requested, list):
        lacking = [number for number in requested if number >= gpus]
    else:
        count = int(requested) if str(requested).isdigit() else 0
        lacking = [count] if count > gpus else []
    if lacking:
        have = "there is 1 GPU" if gpus == 1 else f"there are {gpus} GPUs"
        numbers = ", number 0" if gpus == 1 else f", numbers 0 to {gpus - 1}"
        raise ConfigError(
            f"trainer.devices is {devices}, but {have} here{numbers if isinstance(requested, list) else ''}",
            f"trainer.devices={gpus}, or auto, takes all",
        )


def _is_number_of_processes(devices: Any) -> bool:
    return devices == "auto" or (str(devices).isdigit() and int(devices) > 0)


# --- packages


def _check_packages(values: Mapping[str, Any]) -> None:
    for name, node in (values.get("logger") or {}).items():
        kind = str(node["_target_"]).rpartition(".")[2] if node else ""
        modules, command = _OF_LOGGER.get(kind, ((), ""))
        if modules and not any(map(_is_installed, modules)):
            raise ConfigError(f"logger.{name} needs the package {modules[0]}, which is not installed", command)
    kernel = values["training_module"]["model"].get("kernel")
    if kernel in _OF_KERNEL and not _is_installed(_OF_KERNEL[kernel][0]):
        module, advice = _OF_KERNEL[kernel]
        raise ConfigError(f"model.kernel is {kernel}, which needs the package {module}; it is not installed", advice)
    if kernel == "triton" and not torch.cuda.device_count():
        raise ConfigError("model.kernel is triton, but there is no GPU here", "write model.kernel=auto")


def _is_installed(module: str) -> bool:
    return module in sys.modules or find_spec(module) is not None
