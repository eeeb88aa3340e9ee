"""Checking a model: what ``nequip-check`` does, as a function."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import torch
from rich.console import Console

from nequip_like.arguments import check, check_key
from nequip_like.data.dataset import GraphDataset
from nequip_like.data.io.readers import Source, read
from nequip_like.errors import ConfigError, DataError, ModelError
from nequip_like.inference.device import resolve_device
from nequip_like.inference.loading import load_any, name_base
from nequip_like.inference.predictor import Predictor
from nequip_like.model.families import Families
from nequip_like.model.potential import Potential
from nequip_like.testing.structures import device_of
from nequip_like.whole_files import check_writable, path_of
from nequip_like.workflow.checks.outcome.printed import print_verdicts
from nequip_like.workflow.checks.outcome.verdicts import CheckPlot, CheckVerdict, Verdicts, skip_check
from nequip_like.workflow.checks.structures import choose_crystals, make_crystals, make_structures, pick_frames
from nequip_like.workflow.checks.subject import CheckedModel, CheckSettings
from nequip_like.workflow.checks.table import CHECK_NAMES, MODEL_CHECKS, PotentialCheck

Progress = Callable[[str], None]

_SHORTEST_DYNAMICS = 0.01  # ps: no slope can be fitted to less


def check_potential(
    model: str | Path | Potential,
    data: Source | None = None,
    only: Sequence[str] | None = None,
    *,
    skip: Sequence[str] = (),
    output: str | Path | None = None,
    frames: int = 4,
    temperature: float = 300.0,
    picoseconds: float = 0.5,
    seed: int = 0,
    device: str | torch.device = "cpu",
    key_mapping: Mapping[str, str] | None = None,
    units: Mapping[str, str] | None = None,
    families: Families | None = None,
    console: Console | None = None,
    progress: Progress | None = None,
) -> Verdicts:
    """Check a model beyond its errors: symmetry, derivatives, smoothness, dynamics, crystals, reference energies.

    Args:
        model: A model file, a checkpoint, a run folder, or a potential. The potential is left as it was.
        data: Frames that the model is meant for: files, ``Atoms`` or graphs, one or many, with labels or without. By
            default structures are made of the model's species.
        only: Names of checks, see ``nequip_like.workflow.checks.table.CHECK_NAMES``; all by default.
        skip: Names of checks that are left out.
        output: Folder for a page, a picture and JSON; None writes no files.
        frames: How many frames of the data are looked at, most.
        temperature: Of the dynamics, K.
        picoseconds: Length of the dynamics.
        seed: Of the structures that are made, velocities, and the frames that are taken.
        device: ``cpu``, ``cuda``, ...; ``auto`` takes a GPU if there is one.
        key_mapping: ``{name in the file: label}``, where names are not the usual ones.
        units: ``{"energy": ..., "length": ..., "forces": ...}`` of the files; eV and Angstrom by default.
        families: Builders of model families by name, as for :func:`nequip_like.inference.loading.load`.
        console: Where to print the table; by default nothing is printed.
        progress: Gets the question of each check before it is asked.

    Returns:
        A verdict with number and limit for each thing that was looked at.

    Raises:
        ModelFileError: If the model cannot be read.
        DataError: If the data cannot be read, or has a species that the model does not know.
        ConfigError: If there is no such check, device or unit, or a number is out of range.
        OutputError: If a file cannot be written.

    Example::

        verdicts = check_potential("model.safetensors", "train.xyz", only=["forces", "stress", "cutoff"])
        print(verdicts)
        assert not verdicts.failed
    """
    asked = choose_checks(only, skip)
    settings = _read_settings(frames, temperature, picoseconds, seed)
    if output is not None:
        check_writable(path_of(output).absolute(), "give another folder: output=...")
    resolved = resolve_device(device)
    potential, described, base = _load_potential(model, families)
    was_training, home = potential.training, device_of(potential)
    potential.to(resolved).eval()
    try:
        prepared = _prepare_model(potential, data, settings, key_mapping, units)
        prepared.base = base
        verdicts = _ask_all(asked, prepared, described, settings, progress)
    finally:
        potential.to(home).train(was_training)
    if console is not None:
        print_verdicts(verdicts, console)
    if output is not None:
        from nequip_like.workflow.checks.outcome.files import write_verdicts  # matplotlib, where nothing is written

        write_verdicts(verdicts, path_of(output))
    return verdicts


def choose_checks(only: Sequence[str] | None, skip: Sequence[str]) -> list[PotentialCheck]:
    """The checks that are asked for, in their order.

    Raises:
        ConfigError: If a name is none of them, or nothing is left.
    """
    for section, names in (("only", only or ()), ("skip", skip)):
        if isinstance(names, str):
            raise ConfigError(f"{section} is the text {names!r}", f"give a list: [{names}]")
        for name in names:
            check_key(section, name, CHECK_NAMES)
    asked = [c for c in MODEL_CHECKS if (only is None or c.name in only) and c.name not in skip]
    if not asked:
        raise ConfigError("no check is left", f"the checks are {', '.join(CHECK_NAMES)}")
    return asked


def _read_settings(frames: int, temperature: float, picoseconds: float, seed: int) -> CheckSettings:
    check("frames", frames, int)
    check("seed", seed, int)
    for name, value in (("frames", frames), ("temperature", temperature), ("picoseconds", picoseconds)):
        check(name, value, float)
        if not 0 < value < float("inf"):
            raise ConfigError(f"{name} is {value}", "give a number above 0")
    if picoseconds < _SHORTEST_DYNAMICS:
        raise ConfigError(f"picoseconds is {picoseconds}", f"give {_SHORTEST_DYNAMICS} or more")
    if seed < 0:
        raise ConfigError(f"seed is {seed}", "give a whole number, 0 or more")
    return CheckSettings(frames, float(temperature), float(picoseconds), seed)


def _load_potential(model: str | Path | Potential, families: Families | None) -> tuple[Potential, str, str]:
    """The potential, what it is in words, and to what its predictions are differences, if they are."""
    if isinstance(model, Potential):
        return model, repr(model), ""
    potential, card = load_any(model, families=families)
    return potential, str(card["path"]), name_base(card)


def _prepare_model(
    potential: Potential,
    data: Source | None,
    settings: CheckSettings,
    key_mapping: Mapping[str, str] | None,
    units: Mapping[str, str] | None,
) -> CheckedModel:
    """The model with the structures that it is asked about."""
    if data is None:
        names = potential.type_names
        return CheckedModel(potential, make_structures(names, settings.seed), make_crystals(names), None, settings)
    reading = read(data, key_mapping=key_mapping, units=units)
    dataset = GraphDataset(reading, potential.cutoff, potential.type_names, name="DATA")
    structures = pick_frames(dataset, settings.frames)
    crystals = choose_crystals(dataset, Predictor(potential, device_of(potential)))
    return CheckedModel(potential, structures, crystals, dataset, settings)


def _ask_all(
    asked: Iterable[PotentialCheck],
    model: CheckedModel,
    described: str,
    settings: CheckSettings,
    progress: Progress | None,
) -> Verdicts:
    verdicts: list[CheckVerdict] = []
    plots: list[CheckPlot] = []
    for model_check in asked:
        if progress is not None:
            progress(f"{model_check.name}: {model_check.question}")
        for outcome in _ask(model_check, model):
            if isinstance(outcome, CheckPlot):
                plots.append(outcome)
            else:
                verdicts.append(outcome)
    return Verdicts(described, tuple(verdicts), tuple(plots), _list_facts(model, settings))


def _ask(model_check: PotentialCheck, model: CheckedModel) -> Iterator[CheckVerdict | CheckPlot]:
    """The verdicts of a check; one that the model lets not come to its end has failed."""
    if model.base and model_check.of_whole_energies:
        yield skip_check(model_check.name, f"the model predicts differences to {model.base}, no whole energies")
        return
    try:
        yield from model_check.ask(model)
    except (DataError, ModelError) as error:
        text = f"could not be finished: {error.message}"
        yield CheckVerdict(model_check.name, "", "fail", text, advice=error.advice or "look at what else failed")


def _list_facts(model: CheckedModel, settings: CheckSettings) -> dict[str, str]:
    frames = "none: structures were made of the model's species" if model.data is None else f"{len(model.data)} frames"
    noise = model.measured_noise
    of_noise: dict[str, str] = {}
    if noise is not None:
        of_noise = {"noise of energies": f"{noise.energy:.1e} eV", "noise of forces": f"{noise.force:.1e} eV/Å"}
    return {
        "model": repr(model.potential),
        "element type": model.element_type,
        "data": frames,
        "structures": "\n".join(sample.name for sample in model.structures),
        "crystals": "\n".join(sample.name for sample in model.crystals) or "none",
        **of_noise,
        "dynamics": f"{settings.picoseconds:g} ps from {settings.temperature:g} K",
        "seed": str(settings.seed),
    }
