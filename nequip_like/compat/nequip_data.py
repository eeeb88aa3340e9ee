"""NequIP's section ``data`` (checked against 0.19.1) as arguments of our data module."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Any

from nequip_like.compat.nequip_names import DATA_MODULES, class_name, is_target, translate_target
from nequip_like.compat.nequip_statistics import translate_statistics
from nequip_like.compat.nequip_transforms import Effects, collect_effects
from nequip_like.compat.nequip_values import check_keys, parse_mapping, parse_whole_number
from nequip_like.errors import ConfigError, closest_hint

_FILE_ARGUMENTS = ("transforms", "ase_args", "include_keys", "exclude_keys", "key_mapping")
_LOADERS = ("train_dataloader", "val_dataloader", "test_dataloader")
_COMMON = ("_target_", "seed", "split_dataset", "stats_manager", *_LOADERS)
_3BPA_KEYS = ("train_val_split", "data_source_dir", "train_set", "test_sets")
_KEYS: dict[str, tuple[str, ...]] = {
    "ASEDataModule": (*_COMMON, *_FILE_ARGUMENTS, "train_file_path", "val_file_path", "test_file_path"),
    "NequIPDataModule": (*_COMMON, "train_dataset", "val_dataset", "test_dataset"),
    "NequIP3BPADataModule": (*_COMMON, *_FILE_ARGUMENTS, *_3BPA_KEYS),
}
_SETS = ("train", "val", "test")
_LOADER_KEYS = ("batch_size", "shuffle", "num_workers", "drop_last")
_LOADER_SPEED = ("pin_memory", "persistent_workers", "prefetch_factor", "timeout", "multiprocessing_context")
_3BPA_TESTS = ("300K", "600K", "1200K", "dih_beta120", "dih_beta150", "dih_beta180")


@dataclass(frozen=True)
class _Set:
    """One data set of NequIP: a file, and what is done with its frames."""

    file: str
    key_mapping: dict[str, str]
    effects: Effects


@dataclass
class _Sets:
    """All data sets: files of their own, and parts of files."""

    files: dict[str, list[_Set]] = field(default_factory=lambda: {name: [] for name in _SETS})
    splits: list[tuple[_Set, dict[str, int | float]]] = field(default_factory=list)

    @property
    def members(self) -> list[_Set]:
        """Each of them once."""
        return [*chain.from_iterable(self.files.values()), *(source for source, _ in self.splits)]


def translate_data(
    data: Mapping[str, Any], type_names: Sequence[str], model_cutoff: float, notes: list[str]
) -> dict[str, Any]:
    """Arguments of our data module.

    Args:
        data: NequIP's section, all interpolations resolved.
        type_names: The model's types.
        model_cutoff: The model's cutoff, Angstrom.
        notes: What a user should know is added here.

    Raises:
        ConfigError: If the section cannot mean what was written, or asks for what there is not.
    """
    name = class_name(data.get("_target_", ""))
    if name not in DATA_MODULES:
        translate_target(str(data.get("_target_", "")), "data._target_")  # says what to write instead, if it knows
        raise ConfigError(
            f"data._target_ is {data.get('_target_')}, which is none of the data modules",
            f"{closest_hint(name, DATA_MODULES)}there are {', '.join(DATA_MODULES)}",
        )
    _check_section_keys(data, _KEYS[name])
    sets = _collect_sets(name, data, type_names, notes)
    if not sets.members:
        raise ConfigError("data names no file", "give train_file_path and val_file_path, or split_dataset")
    cutoff = _find_common_cutoff(sets.members, model_cutoff)
    statistics = translate_statistics(
        data.get("stats_manager"), type_names, sets.members[0].effects.pair_cutoffs, cutoff, notes
    )
    seed = parse_whole_number("data.seed", data.get("seed", 0))
    section: dict[str, Any] = {
        "_target_": "nequip_like.data.datamodule.DataModule",
        **_place_sets(sets, notes),
        "cutoff_radius": cutoff,
        "species": list(type_names),
        "reference_energies": None,
        **_translate_loaders(data, notes),
        "seed": seed,
        "split_seed": seed,
    }
    if statistics:
        section["statistics"] = statistics
    return section


def _check_section_keys(data: Mapping[str, Any], options: Sequence[str]) -> None:
    predicted = [key for key in data if str(key).startswith("predict")]
    for key in predicted:
        if data[key]:
            raise ConfigError(f"data.{key}: there is no task predict", "take it out; nequip-test predicts for files")
    check_keys("data", [key for key in data if key not in predicted], options)


# --- which files


def _collect_sets(name: str, data: Mapping[str, Any], type_names: Sequence[str], notes: list[str]) -> _Sets:
    if name == "NequIP3BPADataModule":
        data = _expand_3bpa(data)
    sets = _Sets()
    shared = {key: data[key] for key in _FILE_ARGUMENTS if key in data}
    for kind in _SETS:
        for entry in _wrap_in_list(data.get(f"{kind}_file_path")):
            sets.files[kind].append(
                _read_file_set({"file_path": entry, **shared}, f"data.{kind}_file_path", type_names, notes)
            )
        for entry in _wrap_in_list(data.get(f"{kind}_dataset")):
            sets.files[kind].append(_read_dataset(entry, f"data.{kind}_dataset", type_names, notes))
    for entry in _wrap_in_list(data.get("split_dataset")):
        if not isinstance(entry, Mapping):
            raise ConfigError(
                f"data.split_dataset is {entry!r}", "write {file_path: all.xyz, train: 0.8, val: 0.1, test: 0.1}"
            )
        sizes = dict(entry)
        content = "dataset" if name == "NequIPDataModule" else "file_path"
        check_keys("data.split_dataset", sizes, (content, *_SETS))
        if content == "dataset":
            source = _read_dataset(sizes.pop("dataset", None), "data.split_dataset.dataset", type_names, notes)
        else:
            file = {"file_path": sizes.pop("file_path", None), **shared}
            source = _read_file_set(file, "data.split_dataset", type_names, notes)
        sets.splits.append((source, _check_sizes(sizes)))
    return sets


def _wrap_in_list(value: Any) -> list[Any]:
    if value is None:
        return []
    return list(value) if isinstance(value, Sequence) and not isinstance(value, str) else [value]


def _expand_3bpa(data: Mapping[str, Any]) -> dict[str, Any]:
    """The 3BPA module as files: NequIP's own layout, a folder with ``dataset_3BPA`` in it."""
    folder = f"{data.get('data_source_dir', '.')}/dataset_3BPA"
    train, tests = data.get("train_set", "300K"), data.get("test_sets", _3BPA_TESTS)
    for key, name, options in (
        ("train_set", train, ("300K", "mixedT")),
        *(("test_sets", test, _3BPA_TESTS) for test in tests),
    ):
        if name not in options:
            raise ConfigError(
                f"data.{key} has '{name}'", f"{closest_hint(name, options)}there are {', '.join(options)}"
            )
    sizes = _wrap_in_list(data.get("train_val_split"))
    if len(sizes) != 2:
        raise ConfigError(f"data.train_val_split is {data.get('train_val_split')}", "write [450, 50] or [0.9, 0.1]")
    return {
        **{key: value for key, value in data.items() if key not in _3BPA_KEYS},
        "split_dataset": {"file_path": f"{folder}/train_{train}.xyz", "train": sizes[0], "val": sizes[1]},
        "test_file_path": [f"{folder}/test_{test}.xyz" for test in tests],
    }


def _read_dataset(entry: Any, key: str, type_names: Sequence[str], notes: list[str]) -> _Set:
    """A data set that is spelt out with a `_target_`."""
    target = entry.get("_target_") if isinstance(entry, Mapping) else None
    if target is None:
        raise ConfigError(
            f"{key} is {entry!r}", "write {_target_: nequip_like.data.dataset.ASEDataset, file_path: ...}"
        )
    if class_name(target) != "ASEDataset":
        translate_target(str(target), key)
        raise ConfigError(f"{key}: {target} is no data set that can be read here", "take ASEDataset")
    check_keys(key, entry, ("_target_", "file_path", *_FILE_ARGUMENTS))
    return _read_file_set(entry, key, type_names, notes)


def _read_file_set(entry: Mapping[str, Any], key: str, type_names: Sequence[str], notes: list[str]) -> _Set:
    if not isinstance(entry.get("file_path"), str):
        raise ConfigError(f"{key} has no file_path", "give the path of a file that ASE reads")
    _check_reading(entry, notes)
    effects = collect_effects(entry.get("transforms"), type_names, notes)
    return _Set(str(entry["file_path"]), parse_mapping("data.key_mapping", entry.get("key_mapping")), effects)


def _check_reading(entry: Mapping[str, Any], notes: list[str]) -> None:
    arguments = parse_mapping("data.ase_args", entry.get("ase_args"))
    if arguments.pop("format", None) is not None:
        _add_note(notes, "data.ase_args.format has no effect: ASE knows the format by the file's name and content")
    if arguments:
        raise ConfigError(
            f"data.ase_args has '{next(iter(arguments))}'",
            "only format can be given; for frames of a file write data.train: {file: name.xyz, index: ':100'} (see "
            "docs/reference/configuration.md)",
        )
    if entry.get("include_keys"):
        _add_note(notes, "data.include_keys has no effect: labels are found by their usual names or by key_mapping")
    if entry.get("exclude_keys"):
        _add_note(notes, "data.exclude_keys has no effect: only labels that loss and metrics name are used")


def _add_note(notes: list[str], text: str) -> None:
    if text not in notes:
        notes.append(text)


def _check_sizes(sizes: Mapping[str, Any]) -> dict[str, int | float]:
    """Sizes of the parts: at least two, all counts or all fractions that sum up to 1, as NequIP has it."""
    for name, size in sizes.items():
        if isinstance(size, bool) or not isinstance(size, int | float) or size <= 0:
            raise ConfigError(f"data.split_dataset.{name} is {size!r}", "give a number of frames, or a fraction")
    kinds = {type(size) for size in sizes.values()}
    if len(sizes) < 2 or len(kinds) > 1:
        raise ConfigError(
            f"data.split_dataset has {dict(sizes)}",
            "give at least two parts, all as numbers of frames or all as fractions",
        )
    if kinds == {float} and not math.isclose(sum(sizes.values()), 1.0, rel_tol=1e-6):
        raise ConfigError(
            f"the fractions of data.split_dataset sum up to {sum(sizes.values()):g}, not to 1",
            "change one of them; our own form, data.train: FILE and data.val: 0.1, needs no sum",
        )
    return dict(sizes)


def _find_common_cutoff(sets: Sequence[_Set], model_cutoff: float) -> float:
    """The one cutoff of all neighbour lists; the model's if none is given."""
    cutoffs = {file_set.effects.cutoff for file_set in sets} - {None}
    if len(cutoffs) > 1:
        raise ConfigError(
            f"the data sets have neighbour lists up to {', '.join(map(str, sorted(cutoffs, key=str)))} Angstrom",
            "give all of them the r_max of the model",
        )
    cutoff = next(iter(cutoffs), None)
    if cutoff is not None and cutoff < model_cutoff:
        raise ConfigError(
            f"NeighborListTransform has r_max {cutoff}, the model {model_cutoff}: its longer edges would be missing",
            "give both the same, for example by ${cutoff_radius}",
        )
    return float(model_cutoff if cutoff is None else cutoff)


# --- where they go


def _place_sets(sets: _Sets, notes: list[str]) -> dict[str, Any]:
    """``train``, ``val``, ``test`` and how their labels are named, in our form."""
    share_labels = len({(str(member.key_mapping), member.effects.stress_sign) for member in sets.members}) == 1

    def make_entry(file_set: _Set) -> Any:
        return file_set.file if share_labels else {"file": file_set.file, **_describe_labels(file_set)}

    training = list(sets.files["train"])
    parts: dict[str, Any] = {kind: [make_entry(file_set) for file_set in sets.files[kind]] for kind in ("val", "test")}
    size: int | float | None = None
    for source, sizes in sets.splits:
        if "train" not in sizes:
            raise ConfigError(
                f"data.split_dataset splits {source.file}, of which nothing is trained on",
                "write its parts to files of their own: val_file_path, test_file_path",
            )
        training.append(source)
        size = sizes["train"]
        for kind in ("val", "test"):
            if kind in sizes:
                parts[kind].append(sizes[kind])
        _add_note(notes, "data: files are split by our own rule; NequIP draws other frames with the same seed")
    if len(training) != 1:
        raise ConfigError(
            f"data has {len(training)} training sets",
            "give one; in our own form data.train may be a list of files, which is one training set",
        )
    result: dict[str, Any] = {
        "train": make_entry(training[0]),
        **{kind: _unpack_single(entries) for kind, entries in parts.items()},
        "key_mapping": None,
        "units": None,
        **(_describe_labels(sets.members[0]) if share_labels else {}),
    }
    if isinstance(size, int):
        result["train_size"] = size
    return result


def _describe_labels(file_set: _Set) -> dict[str, Any]:
    return {
        "key_mapping": file_set.key_mapping or None,
        "units": {"stress_sign": file_set.effects.stress_sign} if file_set.effects.stress_sign else None,
    }


def _unpack_single(entries: list[Any]) -> Any:
    if not entries:
        return None
    return entries[0] if len(entries) == 1 else entries


# --- loaders


def _translate_loaders(data: Mapping[str, Any], notes: list[str]) -> dict[str, Any]:
    loaders = {name: _check_loader(name, parse_mapping(f"data.{name}", data.get(name)), notes) for name in _LOADERS}
    train, val, test = (loaders[name] for name in _LOADERS)
    if val.get("shuffle") or test.get("shuffle"):
        _add_note(
            notes, "val_dataloader and test_dataloader: shuffle has no effect, results do not depend on the order"
        )
    workers = {parse_whole_number(f"data.{name}.num_workers", loaders[name].get("num_workers", 0)) for name in _LOADERS}
    if len(workers) > 1:
        _add_note(notes, f"all loaders have {max(workers)} workers: data.num_workers is one number")
    result: dict[str, Any] = {
        "batch_size": train.get("batch_size", 1),
        "val_batch_size": val.get("batch_size", test.get("batch_size", 1)),
        "num_workers": max(workers),
    }
    if not train.get("shuffle", False):
        result["shuffle"] = False
        _add_note(notes, "train_dataloader does not shuffle, as written: usually training should, by shuffle: true")
    if train.get("drop_last", False):
        result["drop_last"] = True
    return result


def _check_loader(name: str, loader: Mapping[str, Any], notes: list[str]) -> Mapping[str, Any]:
    for key in loader:
        if key in _LOADER_SPEED:
            _add_note(notes, f"data.{name}.{key} has no effect: the results do not depend on it")
        elif key not in (*_LOADER_KEYS, "_target_"):
            raise ConfigError(
                f"data.{name}.{key} cannot be given here",
                f"{closest_hint(key, _LOADER_KEYS)}known are {', '.join(_LOADER_KEYS)}",
            )
    if is_target(loader.get("_target_")):
        translate_target(str(loader["_target_"]), f"data.{name}._target_")
    return loader
