"""A first config for data: commented, and ready to be trained with. What ``nequip-init`` writes."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from nequip_like.auto.data_files import check_memory, estimate_reading, find_data_files
from nequip_like.auto.settings import (
    Setting,
    choose_batch,
    choose_cutoff,
    choose_filters,
    choose_loss,
    choose_sets,
    choose_targets,
)
from nequip_like.auto.survey import Survey
from nequip_like.data.datamodule import DataModule
from nequip_like.data.labels.units import Units
from nequip_like.errors import OutputError
from nequip_like.summaries import print_line
from nequip_like.whole_files import path_of, written_whole
from nequip_like.workflow.printing import print_data

_CUTOFF = 5.0
_HEAD = """\
# Written by nequip-init for {frames} frames of {species}, {atoms:.0f} atoms each on average. In this folder:
#   nequip-train -cn {name}            train, test, and write everything to outputs/DATE/TIME
#   nequip-train -cn {name} --check    print what would run
# Whatever is not here has a default: docs/reference/configuration.md explains every key.
defaults:
  - train
  # {targets_reason}. Others: energy, force, energy_force, energy_force_stress
  - override targets: {targets}
  - _self_
"""


@dataclass(frozen=True)
class _Found:
    """What a config is written of."""

    data: DataModule
    survey: Survey
    settings: dict[str, Setting]
    train: list[str]
    test: list[str]
    key_mapping: Mapping[str, str] | None
    units: Mapping[str, str] | None


def write_first_config(
    sources: Sequence[str | Path],
    output: str | Path = "config.yaml",
    *,
    test: Sequence[str | Path] = (),
    key_mapping: Mapping[str, str] | None = None,
    units: Mapping[str, str] | None = None,
    console: Console | None = None,
) -> Path:
    """Look at data, print what was found, and write a config that trains on them.

    Args:
        sources: Files with labelled structures, patterns, or folders of such files: one data set.
        output: The config. Relative names of data are written as they are seen from its folder.
        test: Files to test on; without them a part of ``sources`` is put aside, if there are frames enough.
        key_mapping: ``{name in the files: label}``.
        units: Units of the files.
        console: Where to print; the terminal by default.

    Returns:
        The file.

    Raises:
        ConfigError: If names or units cannot be understood.
        DataError: If the data cannot be trained on.
        OutputError: If the config is there already, or cannot be written.
    """
    path = path_of(output).absolute()
    if path.exists():
        raise OutputError(f"{path} is there already", "give another name: --output other.yaml")
    console = console or Console()
    found_files = [find_data_files([str(source) for source in given]) for given in (sources, test)]
    for line in (line for found in found_files for line in found.left_out):
        print_line(console, line)
    train, tested = (found.files for found in found_files)
    check_memory(estimate_reading(train, _CUTOFF))
    data = DataModule(train, test=tested or None, cutoff_radius=_CUTOFF, key_mapping=key_mapping, units=units).prepare()
    survey = Survey.of(data)
    settings = [
        *(choose_cutoff(survey), choose_targets(survey), choose_batch(survey)),
        *(*choose_loss(survey), *choose_sets(survey, bool(tested)), *choose_filters(survey)),
    ]
    print_data(console, data)
    train_names, test_names = ([_name_from(path.parent, file) for file in files] for files in (train, tested))
    by_key = {setting.key: setting for setting in settings}
    found = _Found(data, survey, by_key, train_names, test_names, key_mapping, units)
    with written_whole(path) as partial:
        partial.write_text(_format_config(found, path.name), encoding="utf-8")
    return path


def _name_from(folder: Path, file: str) -> str:
    """A file as it is named in a folder; absolute if it was given so."""
    path = path_of(file)
    return str(path) if path.is_absolute() else os.path.relpath(path, folder)


def _format_config(found: _Found, name: str) -> str:
    survey, settings = found.survey, found.settings
    head = _HEAD.format(
        frames=survey.frames,
        species=" ".join(survey.species),
        atoms=survey.atoms,
        name=name,
        targets=settings["targets"].value,
        targets_reason=_begin(settings["targets"].reason),
    )
    parts = [head, _format_data(found), _format_model_keys(found)]
    if (loss := settings.get("training_module.loss.function")) is not None:
        parts.append(f"\n# {_begin(loss.reason)}\ntraining_module:\n  loss:\n    function: {loss.value}\n")
    return "".join(parts)


def _format_data(found: _Found) -> str:
    settings = found.settings
    lines = ["", "data:", "  # Looked up from the folder that nequip-train is called in."]
    lines += _format_files("train", found.train)
    lines += _comment(settings["data.val"])
    if found.test:
        lines += ["  # Nothing is chosen by them.", *_format_files("test", found.test)]
    elif "data.test" in settings:
        lines += _comment(settings["data.test"])
    else:
        lines += ["  # Too few frames to put some aside; give a file of others.", "  test: null"]
    lines += _comment(settings["data.batch_size"])
    if "data.filters" in settings:
        lines += _comment(settings["data.filters"])
    read_from = "; ".join(f"{label} from '{file_name}'" for label, file_name in found.data.train_set.read_from.items())
    lines += [
        f"  # Read: {read_from}. Names that are not found by themselves: {{dft_energy: total_energy}}",
        f"  key_mapping: {_format_mapping(found.key_mapping)}",
        f"  # Of the files: {Units.declared(found.units)}. What they are in, if it is another: {{energy: kcal/mol}}",
        f"  units: {_format_mapping(found.units)}",
    ]
    if found.data.reference is not None:
        described = found.data.reference.describe()
        lines += [f"  # auto: {described}", "  reference_energies: auto"]
    return "\n".join(lines) + "\n"


def _format_model_keys(found: _Found) -> str:
    cutoff = found.settings["cutoff_radius"]
    return (
        f"\n# Those of the data, in the order of the model's types.\n"
        f"chemical_species: [{', '.join(map(_quote, found.survey.species))}]\n"
        f"\n# Angstrom; {cutoff.reason}\n"
        f"cutoff_radius: {float(cutoff.value)}\n"
        f"\n# The time that training, test and report may take: 30min, 2h; null: trainer.max_epochs epochs\n"
        f"budget: null\n"
    )


def _format_files(key: str, files: Sequence[str]) -> list[str]:
    if len(files) == 1:
        return [f"  {key}: {_quote(files[0])}"]
    return [f"  {key}:", *(f"    - {_quote(file)}" for file in files)]


def _comment(setting: Setting) -> list[str]:
    return [f"  # {_begin(setting.reason)}", f"  {setting.key.removeprefix('data.')}: {setting.value}"]


def _begin(reason: str) -> str:
    return reason[:1].upper() + reason[1:]


def _format_mapping(mapping: Mapping[str, str] | None) -> str:
    if not mapping:
        return "null"
    return f"{{{', '.join(f'{_quote(name)}: {_quote(value)}' for name, value in mapping.items())}}}"


def _quote(text: str) -> str:
    r"""Text as YAML reads it back, and as a config keeps it: a dollar and a brace would refer to another key.

    Example:
        >>> print(_quote("train.xyz"), _quote("No"), _quote("a b"), _quote("${x}.xyz"))
        train.xyz "No" "a b" "\\${x}.xyz"
    """
    words = {"no", "yes", "y", "n", "on", "off", "true", "false", "null", "none", "~"}
    plain = text.isascii() and text[:1].isalpha() and all(c.isalnum() or c in "._/-" for c in text)
    if plain and text.lower() not in words:
        return text
    return json.dumps(text.replace("${", "\\${"), ensure_ascii=False)
