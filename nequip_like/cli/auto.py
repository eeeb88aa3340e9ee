"""The command ``nequip-auto``."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from nequip_like.cli.errors import run_cli
from nequip_like.cli.starting.environment import check_current_folder, check_launcher, prepare_process
from nequip_like.cli.starting.quick_start import quick_start

_EPILOG = """\
examples:
  nequip-auto train.xyz
  nequip-auto train.xyz --minutes 10 --test test_300K.xyz test_600K.xyz
  nequip-auto calculations/ cutoff_radius=4.5 model.l_max=3
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Train the best potential that data and time allow.

    Args:
        argv: Arguments; those of the process by default.

    Returns:
        The exit status: 0, or 2 after an error of the user.
    """
    began = time.monotonic()
    parser = _build_parser()
    arguments = parser.parse_intermixed_args(argv)
    data, test = ([entry for entry in given if not _is_override(entry)] for given in (arguments.data, arguments.test))
    overrides = [entry for entry in (*arguments.data, *arguments.test) if _is_override(entry)]
    if not data:
        parser.error("give the data: nequip-auto train.xyz")

    def command() -> None:
        check_current_folder()
        check_launcher()
        prepare_process()
        # Imported here: torch takes seconds to import, and --help should not.
        with quick_start():
            from nequip_like.auto.run import find_potential

        result = find_potential(
            data,
            arguments.minutes,
            test=test,
            overrides=overrides,
            output=arguments.output,
            began=began,
        )
        if result.training.stopped_by is not None:
            sys.exit(128 + result.training.stopped_by)  # as shells say that a signal ended a command

    return run_cli(command, debug=arguments.debug)


def _is_override(entry: str) -> bool:
    return "=" in entry and not Path(entry).exists()


def _build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="nequip-auto",
        description="Train the best potential that the data and the time allow: looks at the data, measures models on "
        "this machine, tries learning rates and models in short trainings, trains for the rest of the time, tests, and "
        "writes the model, a report, and a config that repeats the training.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "data",
        metavar="DATA",
        nargs="+",
        help="files with labelled structures, patterns, or folders of such files: one data set. KEY=VALUE: an override "
        "of the config, which is then not chosen",
    )
    parser.add_argument("--minutes", metavar="N", type=float, default=30.0, help="time for all of it (default: 30)")
    parser.add_argument(
        "--test", metavar="FILE", nargs="+", action="extend", default=[], help="files that are tested in the end"
    )
    parser.add_argument("--output", metavar="DIR", help="output folder (default: outputs/DATE/auto-TIME)")
    parser.add_argument("--debug", action="store_true", help="show the traceback of errors")
    return parser


if __name__ == "__main__":
    sys.exit(main())
