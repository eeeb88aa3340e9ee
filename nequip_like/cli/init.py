"""The command ``nequip-init``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from nequip_like.cli.data_options import add_label_options, parse_label_options
from nequip_like.cli.errors import run_cli
from nequip_like.cli.starting.environment import check_current_folder, check_launcher, prepare_process
from nequip_like.cli.starting.quick_start import quick_start

_EPILOG = """\
examples:
  nequip-init train.xyz
  nequip-init calculations/ --test test_300K.xyz --output runs/first.yaml
  nequip-init data.xyz --key-mapping dft_e=total_energy dft_f=forces --units energy=kcal/mol
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Write a first config for data.

    Args:
        argv: Arguments; those of the process by default.

    Returns:
        The exit status: 0, or 2 after an error of the user.
    """
    arguments = _build_parser().parse_args(argv)

    def command() -> None:
        key_mapping, units = parse_label_options(arguments)
        check_current_folder()
        check_launcher()
        prepare_process()
        # Imported here: torch takes seconds to import, and --help should not.
        with quick_start():
            from nequip_like.auto.first_config import write_first_config

        path = write_first_config(
            arguments.data, arguments.output, test=arguments.test, key_mapping=key_mapping, units=units
        )
        print(f"written: {path}\n  to train with it, in its folder: nequip-train -cn {path.name}")

    return run_cli(command, debug=arguments.debug)


def _build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="nequip-init",
        description="Look at data, and write a commented config that trains on them: species, cutoff radius, targets, "
        "sizes of validation and test sets, batch size, reference energies, each with its reason.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
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
    parser.add_argument("--debug", action="store_true", help="show the traceback of errors")
    return parser


if __name__ == "__main__":
    sys.exit(main())
