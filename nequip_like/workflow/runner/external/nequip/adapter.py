"""Runs in an interpreter that has NequIP: does one run of ``nequip-run``, and tells how it goes in lines of JSON.

``NEQUIP_RUN_REQUEST=request.json python adapter.py``. It knows nothing of nequip_like, which wrote the request.
A trainer of anybody's can be called in the same way: docs/reference/external-trainers.md has what passes between both.
"""

from __future__ import annotations

import json
import math
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

_MARK = "::nequip-run::"
_NEWEST = "checkpoints/last.ckpt"
_BEST = "checkpoints/best.ckpt"
_PACKAGE = "artifacts/model.nequip.zip"
_COMPILED = "artifacts/model.nequip.pt2"
_OUTPUTS = ("total_energy", "forces", "stress")


def send(message: str, **content: Any) -> None:
    """Tell the runner something; only the first of several processes does."""
    if os.environ.get("LOCAL_RANK", "0") == "0":
        line = json.dumps({"message": message, **content}, allow_nan=False)
        sys.stdout.write(f"\n{_MARK} {line}\n")
        sys.stdout.flush()


def give_up(reason: str, advice: str = "") -> None:
    """End the run: it cannot be done, for a reason that is known."""
    send("end", status="failed", reason=reason, advice=advice or None)
    sys.exit(1)


def do_run(request: dict[str, Any]) -> None:
    """Do the run.

    Args:
        request: What the runner asks for.
    """
    import nequip

    send("start", protocol=1, trainer="NequIP", version=nequip.__version__)
    os.chdir(request["run_dir"])
    os.environ.pop("SLURM_NTASKS", None)  # Lightning would take the tasks of the job for processes of this run
    tasks = {"export": export_model, "evaluate": predict_frames, "infer": predict_frames}
    tasks.get(request["task"], train_model)(request)
    send("end", status="done")


# --- training


def train_model(request: dict[str, Any]) -> None:
    """Train, and package the best model."""
    import yaml
    from nequip.scripts.train import main

    asked = request["nequip"]
    text = Path(asked["config"]).read_text(encoding="utf-8")
    config = yaml.safe_load(text)
    folder = Path("logs", "nequip").absolute()
    folder.mkdir(parents=True, exist_ok=True)
    if request["task"] == "finetune":
        take_model(config, asked["model"], asked["species"])
    check_same(config, asked["overrides"], folder / "asked.yaml", request["go_on_from"])
    if request["go_on_from"]:
        go_on_from(config, request["go_on_from"], asked["species"])
    elif request["task"] == "resume":
        go_on_from(config, asked["model"], asked["species"], asked["chosen"], asked["overrides"])
    head = "".join(line for line in text.splitlines(keepends=True) if line.startswith("#"))  # says whose config it is
    Path(asked["config"]).write_text(head + yaml.safe_dump(config, sort_keys=False), encoding="utf-8")
    # What tells the runner is not in the config that users find, but in that of this process.
    config["trainer"]["logger"].append({"_target_": "__main__.make_logger"})
    config["trainer"]["callbacks"].append({"_target_": "__main__.make_callback"})
    Path(folder, "told.yaml").write_text(yaml.safe_dump(config, sort_keys=False), encoding="utf-8")
    sys.argv = ["nequip-train", "-cp", str(folder), "-cn", "told", *asked["overrides"]]
    main()
    files = {"best_checkpoint": _BEST, "checkpoint": _NEWEST}
    send("artifacts", files={name: path for name, path in files.items() if Path(path).is_file()})
    if asked["package"]:
        package(_BEST)


def take_model(config: dict[str, Any], path: str, species: list[str]) -> None:
    """Let the training begin with a model: its species and cutoff are those of the data, too."""
    from nequip.model.saved_models import load_saved_model

    model = load_saved_model(path)
    set_model_facts(config, list(model.type_names), float(model.metadata["r_max"]), species)
    if path.endswith(".nequip.zip"):
        section = {"_target_": "nequip.model.ModelFromPackage", "package_path": path}
    else:
        section = {"_target_": "nequip.model.ModelFromCheckpoint", "checkpoint_path": path}
    config["training_module"]["model"] = section


def check_same(config: dict[str, Any], overrides: list[str], file: Path, checkpoint: str | None) -> None:
    """Refuse to go on with a run that asks for another model, optimizer, schedule or loss than when it was begun."""
    import yaml

    current = {**config["training_module"], "cutoff": config["cutoff"], "backend_args": overrides}
    if checkpoint is None or not file.is_file():
        file.write_text(yaml.safe_dump(current), encoding="utf-8")
        return
    earlier = yaml.safe_load(file.read_text(encoding="utf-8"))
    for name, value in current.items():
        if earlier.get(name) != value:
            give_up(
                f"the run says another {name} than when it was begun, and goes on from {checkpoint} with that",
                "write it as it was, or begin anew: nequip-run --again",
            )


def go_on_from(
    config: dict[str, Any], path: str, species: list[str], sections: Sequence[str] = (), overrides: Sequence[str] = ()
) -> None:
    """Let the training go on from a checkpoint; NequIP takes the model and its training from there."""
    import torch

    content = torch.load(path, map_location="cpu", weights_only=False)
    info = content["hyper_parameters"]["info_dict"]
    module = info["training_module"]
    for name in sections:
        is_overridden = any(text.lstrip("+~").startswith(f"training_module.{name}") for text in overrides)
        if not is_overridden and module.get(name) != config["training_module"][name]:
            give_up(
                f"the run says other things of the {name} than the checkpoint {path}, which NequIP goes on with",
                f"leave out the keys of train for the {name}, or write task: finetune",
            )
    if "test" in info["runs"] and not config["data"]["test_file_path"]:
        give_up(f"the training of {path} tests at its end", "name the test data: data.test")
    config["run"] = info["runs"]
    model = module["model"]
    types, cutoff = model.get("type_names"), model.get("r_max")
    if types is None or cutoff is None:
        from nequip.model.saved_models import load_saved_model

        loaded = load_saved_model(path)
        types, cutoff = list(loaded.type_names), float(loaded.metadata["r_max"])
    set_model_facts(config, list(types), float(cutoff), species)
    config["training_module"] = module
    config["ckpt_path"] = path
    epochs = config["trainer"]["max_epochs"]
    if content["epoch"] + 1 >= epochs:
        print(f"the checkpoint {path} has {content['epoch'] + 1} of {epochs} epochs already")


def set_model_facts(config: dict[str, Any], types: list[str], cutoff: float, species: list[str]) -> None:
    """Put a model's species and cutoff into a config."""
    if missing := [name for name in species if name not in types]:
        give_up(
            f"the data have {', '.join(missing)}, which the model does not know ({', '.join(types)})",
            "give data of its species, or train a new model: task: train",
        )
    config["types"], config["cutoff"] = types, cutoff


def make_logger() -> Any:
    """What Lightning tells all values that NequIP logs."""
    from lightning.pytorch.loggers.logger import Logger

    class ReportingLogger(Logger):
        name, version = "nequip-run", None

        def log_hyperparams(self, *arguments: Any, **keywords: Any) -> None:
            """Nothing: the config is in the run's folder."""

        def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
            """Send values; null stands for those that are no finite numbers."""
            values = {name: float(value) for name, value in metrics.items() if name != "epoch"}
            place: dict[str, int] = {} if step is None else {"step": int(step)}
            if any(name.startswith(("val", "test")) for name in values) and "epoch" in metrics:
                place["epoch"] = int(metrics["epoch"])
            if values:
                finite = {name: value if math.isfinite(value) else None for name, value in values.items()}
                send("metrics", values=finite, **place)

    return ReportingLogger()


def make_callback() -> Any:
    """What Lightning calls once an epoch."""
    from lightning.pytorch.callbacks import Callback

    class ReportingCallback(Callback):
        is_told = False

        def on_train_epoch_start(self, trainer: Any, module: Any) -> None:
            """Say how many epochs are done, and once that there is something to go on from."""
            send("progress", done=trainer.current_epoch, of=trainer.max_epochs, unit="epochs")
            self.tell_checkpoint()

        def on_fit_end(self, trainer: Any, module: Any) -> None:
            """Say that all are done, or which it was that ended early; a training that diverged failed."""
            score = trainer.checkpoint_callback.best_model_score
            if score is not None and not math.isfinite(float(score)):
                give_up("no validation has an error that is a number: the training diverged", "give a smaller train.lr")
            send("progress", done=trainer.current_epoch, of=trainer.max_epochs, unit="epochs")
            self.tell_checkpoint()

        def tell_checkpoint(self) -> None:
            if not self.is_told and Path(_NEWEST).is_file():
                self.is_told = True
                send("artifacts", files={"checkpoint": _NEWEST})

    return ReportingCallback()


# --- export


def export_model(request: dict[str, Any]) -> None:
    """Package a model, or with arguments of nequip-compile compile it."""
    model, arguments = request["nequip"]["model"], request["nequip"]["overrides"]
    if not arguments:
        package(model)
        return
    from nequip.scripts.compile import main

    device = {"auto": "cuda" if _has_gpu() else "cpu"}.get(request["device"], request["device"])
    Path(_COMPILED).parent.mkdir(exist_ok=True)
    device_option = [] if "--device" in arguments else ["--device", device]
    main([model, _COMPILED, *device_option, *arguments])
    send("artifacts", files={"model": _COMPILED})


def package(model: str) -> None:
    """Write a model as a package."""
    import shutil

    Path(_PACKAGE).parent.mkdir(exist_ok=True)
    Path(_PACKAGE).unlink(missing_ok=True)
    if model.endswith(".nequip.zip"):
        shutil.copyfile(model, _PACKAGE)
    else:
        from nequip.scripts.package import main

        main(["build", model, _PACKAGE])
    send("artifacts", files={"model": _PACKAGE})


# --- predictions


def predict_frames(request: dict[str, Any]) -> None:
    """Predict the structures of a file, and write what is predicted as arrays."""
    import ase.io
    import numpy as np
    import torch
    from nequip.data import AtomicDataDict, from_ase
    from nequip.data.transforms import ChemicalSpeciesToAtomTypeMapper, NeighborListTransform
    from nequip.model.saved_models import load_saved_model
    from nequip.utils.global_state import set_global_state

    asked = request["nequip"]
    set_global_state()
    model = load_saved_model(asked["model"]).eval()
    types = list(model.type_names)
    set_model_facts({}, types, float(model.metadata["r_max"]), asked["species"])
    device = {"auto": "cuda" if _has_gpu() else "cpu"}.get(request["device"], request["device"])
    model = model.to(device)
    transforms = [
        ChemicalSpeciesToAtomTypeMapper(model_type_names=types),
        NeighborListTransform(r_max=float(model.metadata["r_max"])),
    ]
    frames = ase.io.iread(asked["frames"], index=":", format="extxyz")
    size, total, finished = asked["batch_size"], asked["count"], 0
    predicted: dict[str, list[np.ndarray]] = {name: [] for name in _OUTPUTS}
    batch: list[Any] = []
    for number, atoms in enumerate(frames):
        structure = from_ase(atoms)
        for transform in transforms:
            structure = transform(structure)
        batch.append(structure)
        if len(batch) < size and number + 1 < total:
            continue
        outputs = model(AtomicDataDict.to_(AtomicDataDict.batched_from_list(batch), torch.device(device)))
        for name in _OUTPUTS:
            if name in outputs:
                predicted[name].append(outputs[name].detach().cpu().numpy().astype(np.float64))
        if "stress" in outputs and len(predicted["stress"][-1]) != len(batch):  # molecules: an empty array
            predicted["stress"][-1] = np.full((len(batch), 3, 3), np.nan)
        finished += len(batch)
        batch = []
        send("progress", done=finished, of=total, unit="structures")
    arrays = {name: np.concatenate(parts) for name, parts in predicted.items() if parts}
    np.savez(asked["predictions"], **arrays)  # type: ignore[arg-type] # names are not those of options


def _has_gpu() -> bool:
    import torch

    return torch.cuda.is_available()


if __name__ == "__main__":
    sys.path.pop(0)  # this folder, whose files are of another package
    do_run(json.loads(Path(os.environ["NEQUIP_RUN_REQUEST"]).read_text(encoding="utf-8")))
