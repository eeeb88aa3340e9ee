"""The command ``nequip-model``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence

from nequip_like.cli.data_options import add_trusted_packages
from nequip_like.cli.errors import run_cli
from nequip_like.cli.model import tasks
from nequip_like.cli.starting.environment import check_current_folder, prepare_process

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
        tasks.run_info,
        "Tell what a model is: species, cutoff, parameters, units, data, errors, uncertainty, versions.",
    )
    info.add_argument("--json", action="store_true", help="print everything that is known, for machines")
    _add_command(
        commands,
        "verify",
        tasks.run_verify,
        "Verify a model: SHA-256 of its files, finite weights, predictions that turn and move with the structure, and "
        "that it is the same after it was saved and read; status 1 where something is wrong.",
    )
    diff = _add_command(
        commands,
        "diff",
        tasks.run_diff,
        "Compare two models: what builds them, each tensor, and what they predict; status 1 where they differ.",
    )
    diff.add_argument("other", metavar="OTHER", help="the second model")
    card = _add_command(
        commands,
        "card",
        tasks.run_card,
        "Write a model card in Markdown: data, errors, units, limits, licence, origin.",
    )
    card.add_argument("--output", metavar="FILE", help="file to write (default: it is printed)")
    _add_overwrite(card)
    card.add_argument("--licence", metavar="NAME", help="of the weights, such as CC-BY-4.0")
    card.add_argument("--name", metavar="TITLE", help="title of the card (default: that of the file)")
    convert = _add_command(
        commands,
        "convert",
        tasks.run_convert,
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
    _add_overwrite(convert)
    convert.add_argument("--licence", metavar="NAME", help="of the weights, such as CC-BY-4.0: the new file tells it")
    return parser


def _add_overwrite(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--overwrite", action="store_true", help="replace what is there")


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
    add_trusted_packages(parser)
    parser.add_argument("--debug", action="store_true", help="show the traceback of errors")
    return parser


if __name__ == "__main__":
    sys.exit(main())
