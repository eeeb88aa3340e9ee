"""The command ``nequip-model``."""

from __future__ import annotations

import argparse
import sys

from nequip_like.cli.data_options import add_trusted_packages
from nequip_like.cli.model import tasks
from nequip_like.cli.starting.command import Command

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


def _add_model(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", metavar="MODEL", help=_MODEL)
    parser.add_argument(
        "--nequip-python",
        metavar="PYTHON",
        help="interpreter that has NequIP: it opens NequIP's files, which runs the code in them, so that predictions "
        "are compared; it writes files for NequIP",
    )
    add_trusted_packages(parser)


def _add_info_options(parser: argparse.ArgumentParser) -> None:
    _add_model(parser)
    parser.add_argument("--json", action="store_true", help="print everything that is known, for machines")


def _add_diff_options(parser: argparse.ArgumentParser) -> None:
    _add_model(parser)
    parser.add_argument("other", metavar="OTHER", help="the second model")


def _add_card_options(parser: argparse.ArgumentParser) -> None:
    _add_model(parser)
    parser.add_argument("--output", metavar="FILE", help="file to write (default: it is printed)")
    _add_overwrite(parser)
    parser.add_argument("--licence", metavar="NAME", help="of the weights, such as CC-BY-4.0")
    parser.add_argument("--name", metavar="TITLE", help="title of the card (default: that of the file)")


def _add_convert_options(parser: argparse.ArgumentParser) -> None:
    _add_model(parser)
    parser.add_argument("--output", metavar="FILE", required=True, help="file to write, or folder")
    parser.add_argument(
        "--to",
        choices=("model", "artifacts", "nequip", "aenet"),
        default="model",
        help="model: one .safetensors file; artifacts: a folder with a manifest; nequip: .nequip.zip or .ckpt, which "
        "NequIP's tools load; aenet: a network for each species (default: %(default)s)",
    )
    _add_overwrite(parser)
    parser.add_argument("--licence", metavar="NAME", help="of the weights, such as CC-BY-4.0: the new file tells it")


def _add_overwrite(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--overwrite", action="store_true", help="replace what is there")


main = Command(
    "nequip-model",
    "Tell what a model is, verify it, compare two models, write a model card, or convert models: from "
    "NequIP's checkpoints and packages to model files, and back.",
    epilog=_EPILOG,
    subcommands=(
        Command(
            "info",
            "Tell what a model is: species, cutoff, parameters, units, data, errors, uncertainty, versions.",
            _add_info_options,
            tasks.run_info,
        ),
        Command(
            "verify",
            "Verify a model: SHA-256 of its files, finite weights, predictions that turn and move with the structure, "
            "and that it is the same after it was saved and read; status 1 where something is wrong.",
            _add_model,
            tasks.run_verify,
        ),
        Command(
            "diff",
            "Compare two models: what builds them, each tensor, and what they predict; status 1 where they differ.",
            _add_diff_options,
            tasks.run_diff,
        ),
        Command(
            "card",
            "Write a model card in Markdown: data, errors, units, limits, licence, origin.",
            _add_card_options,
            tasks.run_card,
        ),
        Command(
            "convert",
            "Convert a model: from NequIP, aenet or this package to a model file, artifacts, NequIP's or aenet's "
            "files.",
            _add_convert_options,
            tasks.run_convert,
        ),
    ),
)


if __name__ == "__main__":
    sys.exit(main())
