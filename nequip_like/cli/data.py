"""The command ``nequip-data``: what is to be done with data before a training."""

from __future__ import annotations

import argparse
import json
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from nequip_like.cli.data_options import add_label_options, parse_label_options
from nequip_like.cli.starting.command import Command
from nequip_like.cli.starting.quick_start import quick_start
from nequip_like.errors import ConfigError

if TYPE_CHECKING:
    from nequip_like.data.dataset import GraphDataset
    from nequip_like.data.prepared.preparing import PreparedSummary
    from nequip_like.workflow.label_audit.run import LabelAudit

_EPILOG = """\
examples:
  nequip-data inspect train.xyz test.xyz --html report.html
  nequip-data inspect train.xyz --audit --minutes 5 --repair repair.json
  nequip-data convert OUTCAR.1 OUTCAR.2 all.extxyz
  nequip-data split all.extxyz --train 0.8 --val 0.1 --test 0.1 --output parts
  nequip-data prepare md/*.xyz --cutoff 5.0 --output md.frames
  nequip-data prepare config.yaml --output sets
"""
_WRONG = 1


def _inspect(arguments: argparse.Namespace) -> int:
    key_mapping, units = parse_label_options(arguments)
    _check_audit_options(arguments)
    with quick_start():
        from nequip_like.data.inspection.audit import examine, read_to_examine
        from nequip_like.report.audit_page import write_audit_page
        from nequip_like.report.audit_tables import print_audit
        from nequip_like.whole_files import written_whole

    dataset = read_to_examine(arguments.files, arguments.cutoff, key_mapping=key_mapping, units=units)
    found = examine(dataset)
    content, further, is_wrong = found.as_json(), [], found.level == "wrong"
    if arguments.json != "-":
        print_audit(found)
    if arguments.audit:
        from nequip_like.workflow.label_audit.tables import print_label_audit, tabulate_suspects

        labels = _audit_labels(arguments, dataset)
        content["label_audit"] = labels.as_json()
        further.append(tabulate_suspects(labels))
        is_wrong = is_wrong or bool(labels.suspects)
        if arguments.json != "-":
            print_label_audit(labels)
    if arguments.json == "-":
        print(json.dumps(content, indent=1, ensure_ascii=False))
    elif arguments.json is not None:
        with written_whole(arguments.json) as partial:
            partial.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    if arguments.html is not None:
        write_audit_page(found, arguments.html, further)
    for file in (arguments.html, arguments.json, arguments.repair):
        if file not in (None, "-"):
            print(f"written: {Path(file).absolute()}", file=sys.stderr)
    return _WRONG if arguments.strict and is_wrong else 0


def _check_audit_options(arguments: argparse.Namespace) -> None:
    """Refuse options of the audit without it, and two lengths."""
    for name in ("minutes", "steps", "repair"):
        if getattr(arguments, name) is not None and not arguments.audit:
            raise ConfigError(f"--{name} is given without --audit", "add --audit, which trains models")
    if arguments.minutes is not None and arguments.steps is not None:
        raise ConfigError("--minutes and --steps are given", "give one of them: a time, or a length that repeats")


def _audit_labels(arguments: argparse.Namespace, dataset: GraphDataset) -> LabelAudit:
    """Judge the labels, and write what would mend them."""
    with quick_start():
        from nequip_like.data.selection.repair_file import write_repairs
        from nequip_like.workflow.label_audit.run import MINUTES, audit_labels

    minutes = MINUTES if arguments.minutes is None else arguments.minutes
    labels = audit_labels(dataset, minutes=minutes, steps=arguments.steps, seed=arguments.seed, tell=_tell_steps)
    if arguments.repair is not None:
        write_repairs(arguments.repair, labels.repairs, {"audit": labels.settings, "typical": labels.typical})
    return labels


def _tell_steps(title: str, done: int, total: int) -> None:
    """The progress of a pass, each twentieth of it."""
    if done * 20 // total > (done - 1) * 20 // total:
        _tell(f"label audit, {title}: {100 * done // total} %", done == total)


def _convert(arguments: argparse.Namespace) -> int:
    key_mapping, units = parse_label_options(arguments)
    with quick_start():
        from nequip_like.workflow.labelled_sets.convert import convert_files

    *sources, output = arguments.files
    if not sources:
        raise ConfigError("convert needs a file to read and one to write", "nequip-data convert OUTCAR all.extxyz")
    convert_files(sources, output, key_mapping=key_mapping, units=units, repair=arguments.repair)
    return 0


def _split(arguments: argparse.Namespace) -> int:
    key_mapping, units = parse_label_options(arguments)
    with quick_start():
        from nequip_like.workflow.labelled_sets.split import split_files

    sizes = {part: getattr(arguments, part) for part in ("train", "val", "test")}
    split_files(
        arguments.files,
        arguments.output,
        {part: size for part, size in sizes.items() if size is not None},
        seed=arguments.seed,
        key_mapping=key_mapping,
        units=units,
    )
    return 0


def _prepare(arguments: argparse.Namespace) -> int:
    if Path(arguments.files[0]).suffix in (".yaml", ".yml"):
        return _prepare_config(arguments)
    if arguments.cutoff is None:
        raise ConfigError("prepare needs the cutoff radius of the model", "give --cutoff 5.0, or a config")
    key_mapping, units = parse_label_options(arguments)
    with quick_start():
        from nequip_like.data.prepared.preparing import prepare_set
        from nequip_like.data.prepared.tasks import PreparationRequest

    request = PreparationRequest(
        arguments.files, arguments.cutoff, key_mapping, units, arguments.shard, arguments.trust_pickle
    )
    summary = prepare_set(
        request, arguments.output, workers=arguments.workers, overwrite=arguments.overwrite, tell=_tell_progress
    )
    _tell_summary(summary)
    return 0


def _prepare_config(arguments: argparse.Namespace) -> int:
    for option in ("cutoff", "shard", "trust_pickle", "key_mapping", "units"):
        if getattr(arguments, option):
            raise ConfigError(
                f"--{option.replace('_', '-')} is given, but {arguments.files[0]} is a config, which says it",
                "change the config behind its name: cutoff_radius=5.0, data.units={energy: kcal/mol}",
            )
    with quick_start():
        from nequip_like.composition.compose import compose
        from nequip_like.workflow.labelled_sets.prepare import prepare_config

    config, *overrides = arguments.files
    changed = prepare_config(
        compose(config, overrides),
        arguments.output,
        workers=arguments.workers,
        overwrite=arguments.overwrite,
        tell=_tell_summary,
        tell_progress=_tell_progress,
    )
    print("\nto train on the sets instead of the files:")
    print(" ".join(["nequip-train -cn", *map(shlex.quote, (config, *overrides)), *changed]))
    return 0


def _tell_summary(summary: PreparedSummary) -> None:
    for note in summary.notes:
        print(f"note: {note}")
    went_on = f", {summary.resumed} of them prepared before" if summary.resumed else ""
    print(f"{summary.path.absolute()}: {summary.frames} frames{went_on}, cutoff {summary.cutoff:g} Å")


def _tell_progress(done: int, tasks: int, frames: int) -> None:
    """One line that is written over in a terminal, and a line for each tenth elsewhere."""
    if sys.stderr.isatty() or done == tasks or done * 10 // tasks > (done - 1) * 10 // tasks:
        _tell(f"{done} of {tasks} parts, {frames} frames", done == tasks)


def _tell(line: str, is_last: bool) -> None:
    """A line of progress, which the next one takes the place of in a terminal."""
    if sys.stderr.isatty():
        print(f"\r{line}", end="\n" if is_last else "", file=sys.stderr, flush=True)
    else:
        print(line, file=sys.stderr, flush=True)


def _add_inspect_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("files", metavar="FILE", nargs="+", help="files or patterns; frames that two share are found")
    parser.add_argument("--html", metavar="FILE", help="write a page with everything, pictures included")
    parser.add_argument("--json", metavar="FILE", help="write everything for machines; '-': print it, and nothing else")
    parser.add_argument(
        "--cutoff", metavar="LENGTH", type=float, default=5.0, help="cutoff radius, Angstrom (default: %(default)s)"
    )
    parser.add_argument("--strict", action="store_true", help="exit with status 1 where something is wrong")
    audit = parser.add_argument_group("label audit")
    audit.add_argument(
        "--audit",
        action="store_true",
        help="train small models, each on a part of the frames, and name frames whose labels are not what models "
        "predict that have not seen them",
    )
    audit.add_argument("--minutes", metavar="N", type=float, help="time for it (default: 5)")
    audit.add_argument("--steps", metavar="N", type=int, help="steps of each model in place of a time: repeatable")
    audit.add_argument("--seed", metavar="N", type=int, default=0, help="of weights and folds (default: 0)")
    audit.add_argument(
        "--repair", metavar="FILE", help="write what would mend the labels, JSON or YAML, for data.repair=FILE"
    )
    add_label_options(parser)


def _add_convert_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("files", metavar="FILE", nargs="+", help="files or patterns that are read; the last is written")
    parser.add_argument("--repair", metavar="FILE", help="leave out or change frames as inspect --audit proposed it")
    add_label_options(parser)


def _add_split_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("files", metavar="FILE", nargs="+", help="files or patterns that are read")
    parser.add_argument("--output", metavar="DIR", required=True, help="folder of the parts; none of them may be there")
    for part, name in (("train", "the rest"), ("val", "none"), ("test", "none")):
        text = f"a fraction such as 0.1, or a number of frames (default: {name})"
        parser.add_argument(f"--{part}", metavar="SIZE", type=_read_size, help=text)
    parser.add_argument("--seed", metavar="N", type=int, default=0, help="another one, another split (default: 0)")
    add_label_options(parser)


def _add_prepare_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "files",
        metavar="FILE",
        nargs="+",
        help="files or patterns, in the order of the frames; or a config of a training (config.yaml) and overrides, "
        "to prepare the files that it names",
    )
    parser.add_argument(
        "--output", metavar="FILE", required=True, help="file to write; with --shard or a config, a folder"
    )
    parser.add_argument("--cutoff", metavar="LENGTH", type=float, help="cutoff radius of the model, Angstrom")
    parser.add_argument("--workers", metavar="N", type=int, default=1, help="processes (default: %(default)s)")
    parser.add_argument(
        "--shard", metavar="I/N", type=_read_shard, help="only the I-th of N parts of the files, for many machines"
    )
    parser.add_argument("--overwrite", action="store_true", help="replace a set that is there")
    parser.add_argument("--trust-pickle", action="store_true", help="read files of pickles, too")
    add_label_options(parser)


def _read_shard(text: str) -> tuple[int, int]:
    number, count = text.split("/")
    return int(number), int(count)


def _read_size(text: str) -> int | float:
    return int(text) if text.isdigit() else float(text)


main = Command(
    "nequip-data",
    "Look at labelled data before a training, convert and merge them, split them, or prepare them: "
    "write frames and neighbour lists once, for sets of any size.",
    epilog=_EPILOG,
    subcommands=(
        Command(
            "inspect",
            "Look at labelled data: facts, distributions, and a verdict (ok, look or wrong) of each check, with "
            "advice.",
            _add_inspect_options,
            _inspect,
        ),
        Command(
            "convert",
            "Convert files, or merge several: writes all frames to one new file, .xyz, .extxyz, .traj or .db, with "
            "labels in eV and Angstrom under well-known names.",
            _add_convert_options,
            _convert,
        ),
        Command(
            "split",
            "Split data at random: writes train.xyz, val.xyz and test.xyz to a folder. Frames that are the same "
            "structure stay together, isolated atoms in train.",
            _add_split_options,
            _split,
        ),
        Command(
            "prepare",
            "Prepare data for training: writes frames with their neighbour lists to one file, which takes the place of "
            "the files (data.train=FILE), whatever their number. A preparation that was stopped goes on.",
            _add_prepare_options,
            _prepare,
        ),
    ),
)

if __name__ == "__main__":
    sys.exit(main())
