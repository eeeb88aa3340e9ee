"""``backend: nequip_external``: NequIP in an interpreter of its own."""

from __future__ import annotations

import os
import platform
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from nequip_like.data.sources import FileSource
from nequip_like.errors import ConfigError
from nequip_like.whole_files import written_whole
from nequip_like.workflow.run_folder.earlier_run import check_config_is_ours, format_config_head
from nequip_like.workflow.runner.backend import PlannedRun, Report, RunOutcome
from nequip_like.workflow.runner.external.calling import check_environment, find_interpreter
from nequip_like.workflow.runner.external.nequip.config import CHECKPOINTS, build_nequip_config
from nequip_like.workflow.runner.external.nequip.frames import (
    check_evaluated_keys,
    choose_evaluated,
    choose_training_frames,
    read_evaluated,
    write_nequip_frames,
    write_training_frames,
)
from nequip_like.workflow.runner.external.nequip.predictions import check_output_keys, read_predictions, write_outcome
from nequip_like.workflow.runner.external.nequip.settings import NequIPSettings, translate_settings
from nequip_like.workflow.runner.external.process import LOGS
from nequip_like.workflow.runner.external.trainer import run_trainer
from nequip_like.workflow.runner.files import check_inputs, check_model_stays, is_below, list_inputs, locate_output
from nequip_like.workflow.runner.requests import RunRequest

ADAPTER = Path(__file__).with_name("adapter.py")
CONFIG, FRAMES = "config.yaml", "data"
_HEAD = format_config_head(f"python {platform.python_version()}", "none; nequip-run made this config for NequIP")
_DEFAULT_CUTOFF = 5.0  # Angstrom, as in our own configs
_BATCH_SIZE = 10
_MODELS = ("artifacts/model.nequip.zip", f"{CHECKPOINTS}/best.ckpt", f"{CHECKPOINTS}/last.ckpt")
_SUFFIXES = (".ckpt", ".nequip.zip")


@dataclass(frozen=True)
class _NequIPPlan:
    """What is run.

    Attributes:
        python: The interpreter.
        settings: Of a training.
        sets: Arguments of the data module that reads the frames of a training.
        source: What is evaluated or predicted.
    """

    python: Path
    settings: NequIPSettings = field(default_factory=NequIPSettings)
    sets: dict[str, Any] = field(default_factory=dict)
    source: FileSource | None = None


class NequIPBackend:
    """Trains, evaluates, predicts and exports with NequIP."""

    def plan(self, request: RunRequest, awaited: Collection[Path] = ()) -> PlannedRun:
        """Check a run; NequIP is not started.

        Args:
            request: What the file says.
            awaited: Folders that earlier runs will have filled.

        Raises:
            NequipLikeError: For a key that has no equal in NequIP, or a file that is not there.
        """
        check_environment(request)
        python = find_interpreter(request)
        check_model_stays(request)
        waits = check_inputs(request, awaited)
        notes: list[str] = []
        begins = request.task != "train"
        model = locate_nequip_model(request, awaited) if begins else None
        if request.trains:
            _check_is_not_written_over(request)
            settings = translate_settings(request)
            sets, facts = choose_training_frames(request)
            plan = _NequIPPlan(python, settings, sets)
            notes += [*facts, *settings.notes]
            describes = [f"{request.task} NequIP in {python} into {request.run_dir}"]
        elif request.task == "export":
            plan = _NequIPPlan(python)
            kind = "compile" if request.arguments else "package"
            describes = [f"{kind} {model} with NequIP in {python} into {request.artifacts}"]
        else:
            check_evaluated_keys(request)
            check_output_keys(request)
            if request.arguments:
                raise ConfigError(
                    f"backend_args are given, which task: {request.task} has no use for", "leave them out"
                )
            source, facts = choose_evaluated(request)
            plan = _NequIPPlan(python, source=source)
            notes += facts
            describes = [f"{request.task} {model} with NequIP in {python}, write to {locate_output(request)}"]
        if request.trains and model is not None:
            describes.append(f"{'begin with' if request.task == 'finetune' else 'go on from'} {model}")
        return PlannedRun(request, tuple(describes), tuple(notes), waits, plan)

    def run(self, plan: PlannedRun, report: Report, goes_on: bool = False) -> RunOutcome:
        """Do it.

        Args:
            plan: What :meth:`plan` gave.
            report: Tells the user how it goes.
            goes_on: The run was stopped before: go on from its last checkpoint.

        Raises:
            NequipLikeError: If it fails.
        """
        request, content = plan.request, plan.content
        command = (str(content.python), str(ADAPTER))
        if request.trains:
            facts = _prepare_training(request, content, report)
            return run_trainer(request, command, report, goes_on=goes_on, extra={"nequip": facts})
        model = str(locate_nequip_model(request))
        if request.task == "export":
            facts = {"model": model, "overrides": list(request.arguments)}
            return run_trainer(request, command, report, extra={"nequip": facts})
        return _predict(request, content, model, command, report)


def locate_nequip_model(request: RunRequest, awaited: Collection[Path] = ()) -> Path:
    """The model, or for ``task: resume`` the checkpoint, that a run takes.

    Args:
        request: The run.
        awaited: Folders that earlier runs will have filled: what is to be there is not looked at.

    Raises:
        ConfigError: If there is none, or it is none of NequIP's.
    """
    if unsupported := [key for key in ("manifest", "weights") if key in request.model]:
        raise ConfigError(
            f"model.{unsupported[0]} is given, but NequIP has no manifests",
            "name a checkpoint or package: model_in: best.ckpt",
        )
    place = request.model.get("path", request.run_dir)
    if is_below(place, awaited) and not place.exists():
        return place
    if place.is_dir():
        names = (f"{CHECKPOINTS}/last.ckpt",) if request.task == "resume" else _MODELS
        candidates = [place / name for name in names if (place / name).is_file()]
        if not candidates and is_below(place, awaited):
            return place
        if not candidates:
            raise ConfigError(f"{place} has no {' and no '.join(names)}", "name a checkpoint: model_in: best.ckpt")
        return candidates[0]
    kinds = (".ckpt",) if request.task == "resume" else _SUFFIXES
    if not place.name.endswith(kinds):
        raise ConfigError(
            f"model_in is {place}, which is none of NequIP's: {' or '.join(kinds)}",
            "name one; nequip-model convert FILE --to nequip writes one of ours as such",
        )
    if not place.is_file():
        raise ConfigError(f"model_in: there is no {place}", "relative paths begin at the folder of the run file")
    return place


def _check_is_not_written_over(request: RunRequest) -> None:
    """Refuse a folder in which frames and a config that are not of the run would be written over.

    Raises:
        ConfigError: If data of the run lie where it writes its own frames.
        OutputError: If the folder has a config of the user's.
    """
    check_config_is_ours(request.run_dir)
    for key, path in list_inputs(request):
        if is_below(path, [request.run_dir / FRAMES]):
            raise ConfigError(
                f"{key}: {path} lies in {request.run_dir / FRAMES}, where the run writes frames for NequIP",
                "give another run_dir",
            )


def _prepare_training(request: RunRequest, content: _NequIPPlan, report: Report) -> dict[str, Any]:
    """Write the frames and the config of a training; gives what the adapter is told of them."""
    settings, folder = content.settings, request.run_dir / FRAMES
    cutoff = settings.cutoff or _DEFAULT_CUTOFF
    frames = write_training_frames(content.sets, cutoff, folder)
    report(f"frames for NequIP: {', '.join(f'{name} {count}' for name, count in frames.counts.items() if count)}")
    if "forces" not in frames.labels:
        report("no training frame has forces: NequIP trains on energies alone")
    model = None
    if request.task == "train":
        model = {
            "_target_": f"nequip.model.{settings.builder}",
            "compile_mode": "eager",
            "seed": settings.seed,
            "model_dtype": "float32",
            "type_names": list(frames.species),
            "r_max": cutoff,
            **frames.statistics,
            **settings.model,
        }
        if model.get("pair_potential"):
            model["pair_potential"] = {**model["pair_potential"], "chemical_species": list(frames.species)}
    config = build_nequip_config(settings, request.run_dir, frames.files, frames.labels, model)
    file = request.run_dir / CONFIG
    with written_whole(file) as partial:
        partial.write_text(_HEAD + yaml.safe_dump(config, sort_keys=False), encoding="utf-8")
    return {
        "config": str(file),
        "model": None if request.task == "train" else str(locate_nequip_model(request)),
        "species": list(frames.species),
        "chosen": settings.sections,
        "overrides": list(request.arguments),
        "package": bool(request.section("export").get("standard_artifacts", True)),
    }


def _predict(
    request: RunRequest, content: _NequIPPlan, model: str, command: tuple[str, ...], report: Report
) -> RunOutcome:
    assert content.source is not None
    dataset = read_evaluated(content.source)
    logs = locate_output(request) / LOGS
    frames, arrays = logs / "structures.xyz", logs / "predictions.npz"
    write_nequip_frames(dataset.frames, (), frames)
    facts = {
        "model": model,
        "species": list(dataset.type_names),
        "frames": str(frames),
        "count": len(dataset),
        "batch_size": request.section("data").get("batch_size", _BATCH_SIZE),
        "predictions": str(arrays),
    }
    outcome = run_trainer(request, command, report, extra={"nequip": facts})
    if outcome.stopped_by is not None:
        return outcome
    predictions = read_predictions(arrays, dataset)
    for file in (frames, arrays):
        os.unlink(file)
    return write_outcome(request, dataset, predictions, model, report)
