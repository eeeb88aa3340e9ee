"""Prepare the files that the config of a training names, and say which overrides put the sets in their place."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from nequip_like.data.datamodule import DataModule
from nequip_like.data.io.given import expand, is_structure
from nequip_like.data.prepare import Request
from nequip_like.data.prepared.preparing import PreparedSummary, prepare_set
from nequip_like.data.prepared.sets import find_prepared
from nequip_like.data.prepared.tasks import PreparationRequest
from nequip_like.data.sampling.mixtures import Mixture
from nequip_like.data.selection.indices import write_parts, write_runs
from nequip_like.data.sources import FileSource, HeldOut, file_source, held_out_sources
from nequip_like.errors import ConfigError, naming_arguments
from nequip_like.instantiate import instantiate
from nequip_like.whole_files import path_of
from nequip_like.workflow.config.sections import DATA_ARGUMENTS, resolve_section

_PLAIN = re.compile(r"[\w./+-]+")


class _Preparation:
    """Sets that are prepared for a config; sources that are the same give one."""

    def __init__(
        self, folder: Path, cutoff: float, options: Mapping[str, Any], tell: Callable[[PreparedSummary], None]
    ) -> None:
        self.folder, self.cutoff, self.options, self.tell = folder, cutoff, options, tell
        self.known: dict[tuple[object, ...], Path] = {}

    def prepare(self, name: str, source: FileSource) -> dict[str, Any] | None:
        """An entry of a config in the place of a source; None where that is prepared already."""
        if any(map(is_structure, source.files)) or find_prepared(source.files):
            return None
        if source.index != ":" and len(expand(source.files)) > 1:
            raise ConfigError(
                f"data.{name.replace('-', '.')} has an index of each of several files, and a prepared set would have "
                "one of all their frames",
                "give one file, or choose frames by indices",
            )
        files = [str(path_of(file).absolute()) for file in source.files]
        key = (tuple(files), str(source.key_mapping), str(source.units), source.trust_pickle)
        if key not in self.known:
            request = PreparationRequest(
                files, self.cutoff, source.key_mapping, source.units, trust_pickle=source.trust_pickle
            )
            self.known[key] = (self.folder / f"{name}.frames").absolute()
            self.tell(prepare_set(request, self.known[key], **self.options))
        entry: dict[str, Any] = {"file": str(self.known[key])}
        if source.index != ":":
            entry["index"] = source.index
        if source.indices is not None:
            path = (self.folder / f"{name}-indices.json").absolute()
            write_parts(path, {_part(name): write_runs(source.indices)})
            entry["indices_path"] = str(path)
        if source.sample is not None:
            entry |= {
                "max_samples": source.sample.size,
                "shuffle": source.sample.shuffle,
                "seed": source.sample.seed,
            }
        return entry


def prepare_config(
    config: DictConfig,
    output: str | Path,
    *,
    workers: int = 1,
    overwrite: bool = False,
    tell: Callable[[PreparedSummary], None] = lambda summary: None,
    tell_progress: Callable[[int, int, int], None] = lambda done, tasks, frames: None,
) -> list[str]:
    """Prepare the training, validation, test and replayed data of a config.

    Args:
        config: The composed config.
        output: Folder of the sets.
        workers: Processes.
        overwrite: Whether sets that are there already are replaced.
        tell: Called after each set.
        tell_progress: As ``tell`` of :func:`nequip_like.data.prepared.preparing.prepare_set`.

    Returns:
        Overrides with which the training takes the sets: it is the same, bit for bit, as from the files.

    Raises:
        NequipLikeError: If the config cannot be used or the data cannot be read.
    """
    section = resolve_section("data", config.data)
    with naming_arguments("data", DATA_ARGUMENTS):
        data: DataModule = instantiate("data", section, kind=DataModule, recursive=False)
    request = data.request
    _check_plain_labels(request)
    options = {"workers": workers, "overwrite": overwrite, "tell": tell_progress}
    preparation = _Preparation(path_of(output), request.cutoff_radius, options, tell)
    # What is declared for all entries would be refused for a prepared set, whose labels are read.
    declared = {key: None for key in ("key_mapping", "units") if getattr(request, key)}
    entries = {"train": _prepare_train(preparation, request, declared)}
    entries |= {kind: _prepare_held_out(preparation, request, kind, declared) for kind in ("val", "test")}
    if data.replay is not None and (entry := preparation.prepare("replay", data.replay.source)):
        entries["replay"] = {**entry, **declared} | {"fraction": data.replay.fraction, "weight": data.replay.weight}
    changed: list[str] = []
    for key, value in entries.items():
        if value is not None:
            # A mapping in the place of another one would be joined with it.
            changed.extend([f"++data.{key}=null"] if OmegaConf.is_dict(config.data.get(key)) else [])
            changed.append(shlex.quote(f"data.{key}={_format_value(value)}"))
    if not changed:
        raise ConfigError("all data of this config are prepared already", "train with it as it is")
    return changed


def _check_plain_labels(request: Request) -> None:
    """Refuse what changes labels when they are read."""
    labels = "and a prepared set holds labels as they are in the files"
    if request.repair is not None:
        raise ConfigError(
            f"data.repair is given, {labels}",
            "convert the files with the repairs first: nequip-data convert --repair FILE",
        )
    if request.base is not None:
        raise ConfigError(f"data.base_targets is given, {labels}", "prepare files that hold the differences")


def _prepare_train(preparation: _Preparation, request: Request, declared: Mapping[str, None]) -> dict[str, Any] | None:
    """What ``data.train`` becomes: one set, or several with their weights; None if all are prepared already."""
    mixture = Mixture.read(request.train, request.key_mapping, request.units)
    if mixture is None:
        source = file_source(request.train, "train", request.key_mapping, request.units)
        entry = preparation.prepare("train", source)
        return None if entry is None else {**entry, **declared}
    prepared = {name: preparation.prepare(f"train-{name}", source) for name, source in mixture.sources.items()}
    if not any(prepared.values()):
        return None
    return {
        name: _name_set(entry, mixture.sources[name], declared) | {"weight": mixture.weights[name]}
        for name, entry in prepared.items()
    }


def _prepare_held_out(
    preparation: _Preparation, request: Request, kind: str, declared: Mapping[str, None]
) -> dict[str, Any] | None:
    """What ``data.val`` or ``data.test`` becomes; None if it has no files, or all are prepared already."""
    entries: dict[str, Any] = {}
    is_changed = False
    sources = held_out_sources(getattr(request, kind), kind, request.key_mapping, request.units)
    for name, source in sources.items():
        if isinstance(source, HeldOut):
            entries[name] = source.size if source.of is None else {"part": source.size, "of": source.of}
            continue
        entry = preparation.prepare(f"{kind}-{name}", source)
        is_changed = is_changed or entry is not None
        entries[name] = _name_set(entry, source, declared)
    return entries if is_changed else None


def _name_set(entry: dict[str, Any] | None, source: FileSource, declared: Mapping[str, None]) -> dict[str, Any]:
    """A set among several, whether it was prepared now or before."""
    return {"file": source.files, "index": source.index} if entry is None else {**entry, **declared}


def _part(name: str) -> str:
    """Under which name :func:`~nequip_like.data.selection.indices.read_indices` looks for the numbers of a set."""
    kind, _, rest = name.partition("-")
    return f"{kind}/{rest}" if rest else kind


def _format_value(value: Any) -> str:
    """A value as it is typed in an override, without the shell's quotes."""
    if isinstance(value, Mapping):
        # Hydra takes no quotes around keys, but a backslash before what else would mean something.
        names = {name: re.sub(r"([()\[\]{}:=,\s\\])", r"\\\1", str(name)) for name in value}
        return "{" + ", ".join(f"{names[name]}: {_format_value(entry)}" for name, entry in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(_format_value, value)) + "]"
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    text = str(value)
    if not isinstance(value, str) or _PLAIN.fullmatch(text):
        return text
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
