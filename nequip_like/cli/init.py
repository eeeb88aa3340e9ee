"""The command ``nequip-init``."""

from __future__ import annotations

import argparse
import sys

from nequip_like.cli.data_options import add_label_options, parse_label_options
from nequip_like.cli.starting.command import Command
from nequip_like.cli.starting.quick_start import quick_start

_EPILOG = """\
examples:
  nequip-init train.xyz
  nequip-init calculations/ --test test_300K.xyz --output runs/first.yaml
  nequip-init data.xyz --key-mapping dft_e=total_energy dft_f=forces --units energy=kcal/mol
"""


def _write(arguments: argparse.Namespace) -> None:
    key_mapping, units = parse_label_options(arguments)
    with quick_start():
        from nequip_like.auto.first_config import write_first_config

    path = write_first_config(
        arguments.data, arguments.output, test=arguments.test, key_mapping=key_mapping, units=units
    )
    print(f"written: {path}\n  to train with it, in its folder: nequip-train -cn {path.name}")


def _add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "data",
        metavar="DATA",
        nargs="+",
        help="files with labelled structures, patterns, or folders of such files: one data set",
    )
    parser.add_argument(
        "--test", metavar="FILE", nargs="+", action="extend", default=[], help="files to test on in the end"
    )
    parser.add_argument(
        "--output",
        metavar="FILE",
        default="config.yaml",
        help="the config, a new file (default: %(default)s)",
    )
    add_label_options(parser)


main = Command(
    "nequip-init",
    "Look at data, and write a commented config that trains on them: species, cutoff radius, targets, "
    "sizes of validation and test sets, batch size, reference energies, each with its reason.",
    _add_options,
    _write,
    epilog=_EPILOG,
)

if __name__ == "__main__":
    sys.exit(main())
