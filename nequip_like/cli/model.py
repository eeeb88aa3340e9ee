"""The command ``nequip-model``."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from nequip_like.cli.errors import run_cli
from nequip_like.cli.starting.environment import check_current_folder, prepare_process
from nequip_like.cli.starting.quick_start import quick_start

if TYPE_CHECKING:
    from nequip_like.workflow.model_files.facts import ModelFacts

_EPILOG = """\
examples:
  nequip-model convert nequip_run/best.ckpt --output model.safetensors       NequIP's checkpoint or package
  nequip-model convert model.safetensors --to nequip --output model.nequip.zip --nequip-python ~/nequip/bin/python
  nequip-model info model.safetensors
  nequip-model verify outputs/run
  nequip-model diff old.safetensors new.safetensors
  nequip-model card outputs/run --licence CC-BY-4.0 --output MODEL_CARD.md
  nequip-model convert outputs/run --to artifacts --output outputs/run/artifacts
"""
_OTHERWISE = 1
_MODEL = (
    "model file, checkpoint, run folder or artifacts; also a checkpoint or package of NequIP's, or networks of aenet's"
)


def main(argv: Sequence[str] | None = None) -> int:
    """Tell what a model is, verify it, compare two, write a model card, or convert.

    Args:
        argv: Arguments; those of the process by default.

    Returns:
        The exit status: 0; 1 where ``verify`` found something wrong or ``diff`` a difference; 2 after an error of the
        user.
    """
    arguments = _build_parser().parse_args(argv)
    status = 0

    def command() -> None:
        nonlocal status
        check_current_folder()
        prepare_process()
        status = arguments.run(arguments)

    return run_cli(command, debug=arguments.debug) or status


def _read_facts(source: str, nequip_python: str | None, trusted: Sequence[str]) -> ModelFacts:
    # Imported here and below: torch takes seconds to import, and --help should not.
    with quick_start():
        from nequip_like.cli.trusted_families import trusted_families
        from nequip_like.compat.conversion import read_any_model
        from nequip_like.whole_files import path_of
        from nequip_like.workflow.model_files.facts import collect_facts

    potential, card = read_any_model(source, nequip_python, trusted_families(trusted, "--trusted-packages"))
    return collect_facts(path_of(source), potential, card)


def _info(arguments: argparse.Namespace) -> int:
    facts = _read_facts(arguments.model, arguments.nequip_python, arguments.trusted_packages)
    from nequip_like.workflow.model_files.telling import format_facts

    print(json.dumps(facts.as_json(), indent=1, ensure_ascii=False) if arguments.json else format_facts(facts))
    return 0


def _verify(arguments: argparse.Namespace) -> int:
    facts = _read_facts(arguments.model, arguments.nequip_python, arguments.trusted_packages)
    from nequip_like.cli.trusted_families import trusted_families
    from nequip_like.workflow.model_files.verifying import verify_model

    print(f"{facts.path}: {facts.kind}, sha256 {facts.sha256 or 'of several files'}")
    verdicts = verify_model(facts.potential, trusted_families(arguments.trusted_packages, "--trusted-packages"))
    for verdict in verdicts:
        print(f"{'ok    ' if verdict.passed else 'FAILED'}  {verdict.name}{verdict.reason and f': {verdict.reason}'}")
    return 0 if all(verdict.passed for verdict in verdicts) else _OTHERWISE


def _diff(arguments: argparse.Namespace) -> int:
    with quick_start():
        from nequip_like.cli.trusted_families import trusted_families
        from nequip_like.compat.conversion import read_any_model
        from nequip_like.workflow.model_files.comparing import compare_models

    families = trusted_families(arguments.trusted_packages, "--trusted-packages")
    (first, _), (second, _) = (
        read_any_model(model, arguments.nequip_python, families) for model in (arguments.model, arguments.other)
    )
    differences = compare_models(first, second)
    for entry in differences:
        print(f"{entry.kind} {entry.name}\n  - {entry.first}\n  + {entry.second}")
    if not differences:
        print("the same model: its config, its weights and what it predicts")
    return _OTHERWISE if differences else 0


def _card(arguments: argparse.Namespace) -> int:
    facts = _read_facts(arguments.model, arguments.nequip_python, arguments.trusted_packages)
    from nequip_like.whole_files import written_whole
    from nequip_like.workflow.model_files.card_page import format_model_card

    text = format_model_card(facts, arguments.name, arguments.licence)
    if arguments.output is None:
        print(text, end="")
        return 0
    with written_whole(arguments.output) as partial:
        partial.write_text(text, encoding="utf-8")
    print(f"written: {Path(arguments.output).absolute()}")
    return 0


def _convert(arguments: argparse.Namespace) -> int:
    with quick_start():
        from nequip_like.cli.trusted_families import trusted_families
        from nequip_like.compat.conversion import convert_model

    result = convert_model(
        arguments.model,
        arguments.output,
        arguments.to,
        nequip_python=arguments.nequip_python,
        card={} if arguments.licence is None else {"licence": arguments.licence},
        families=trusted_families(arguments.trusted_packages, "--trusted-packages"),
    )
    for note in result.notes:
        print(f"note: {note}")
    print(result.potential)
    if result.differences:
        shares = ", ".join(f"{name} {value:.1e}" for name, value in result.differences.items())
        print(f"largest differences from NequIP's predictions: {shares}")
    for file in result.files:
        print(f"written: {file.absolute()}")
    return 0


def _build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="nequip-model",
        description="Tell what a model is, verify it, compare two models, write a model card, or convert models: from "
        "NequIP's checkpoints and packages to model files, and back.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    info = _add_command(
        commands,
        "info",
        _info,
        "Tell what a model is: species, cutoff, parameters, units, data, errors, uncertainty, versions.",
    )
    info.add_argument("--json", action="store_true", help="print everything that is known, for machines")
    _add_command(
        commands,
        "verify",
        _verify,
        "Verify a model: SHA-256 of its files, finite weights, predictions that turn and move with the structure, and "
        "that it is the same after it was saved and read; status 1 where something is wrong.",
    )
    diff = _add_command(
        commands,
        "diff",
        _diff,
        "Compare two models: what builds them, each tensor, and what they predict; status 1 where they differ.",
    )
    diff.add_argument("other", metavar="OTHER", help="the second model")
    card = _add_command(
        commands, "card", _card, "Write a model card in Markdown: data, errors, units, limits, licence, origin."
    )
    card.add_argument("--output", metavar="FILE", help="file to write (default: it is printed)")
    card.add_argument("--licence", metavar="NAME", help="of the weights, such as CC-BY-4.0")
    card.add_argument("--name", metavar="TITLE", help="title of the card (default: that of the file)")
    convert = _add_command(
        commands,
        "convert",
        _convert,
        "Convert a model: from NequIP, aenet or this package to a model file, artifacts, NequIP's or aenet's files.",
    )
    convert.add_argument("--output", metavar="FILE", required=True, help="file to write, or folder")
    convert.add_argument(
        "--to",
        choices=("model", "artifacts", "nequip", "aenet"),
        default="model",
        help="model: one .safetensors file; artifacts: a folder with a manifest; nequip: .nequip.zip or .ckpt, which "
        "NequIP's tools load; aenet: a network for each species (default: %(default)s)",
    )
    convert.add_argument("--licence", metavar="NAME", help="of the weights, such as CC-BY-4.0: the new file tells it")
    return parser


def _add_command(
    commands: argparse._SubParsersAction[argparse.ArgumentParser],
    name: str,
    run: Callable[[argparse.Namespace], int],
    description: str,
) -> argparse.ArgumentParser:
    parser = commands.add_parser(name, help=description.split(":")[0].rstrip("."), description=description)
    parser.set_defaults(run=run)
    parser.add_argument("model", metavar="MODEL", help=_MODEL)
    parser.add_argument(
        "--nequip-python",
        metavar="PYTHON",
        help="interpreter that has NequIP: it opens NequIP's files, which runs the code in them, so that predictions "
        "are compared; it writes files for NequIP",
    )
    parser.add_argument(
        "--trusted-packages",
        metavar="PACKAGE",
        nargs="+",
        action="extend",
        default=[],
        help="packages whose table FAMILIES has the model's family, where it is neither built in nor installed; they "
        "are imported",
    )
    parser.add_argument("--debug", action="store_true", help="show the traceback of errors")
    return parser


if __name__ == "__main__":
    sys.exit(main())
