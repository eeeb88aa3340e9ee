"""The command ``nequip-auto``."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from nequip_like.cli.errors import SIGNALLED
from nequip_like.cli.starting.command import Command
from nequip_like.cli.starting.quick_start import quick_start

_EPILOG = """\
examples:
  nequip-auto train.xyz
  nequip-auto train.xyz --minutes 10 --test test_300K.xyz test_600K.xyz
  nequip-auto calculations/ cutoff_radius=4.5 model.l_max=3
"""


def _parse(parser: argparse.ArgumentParser, argv: Sequence[str] | None) -> argparse.Namespace:
    """Tell overrides from files, among which they may stand."""
    arguments = parser.parse_intermixed_args(argv)
    arguments.began = time.monotonic()
    entries = [*arguments.data, *arguments.test]
    arguments.overrides = [entry for entry in entries if _is_override(entry)]
    arguments.data = [entry for entry in arguments.data if not _is_override(entry)]
    arguments.test = [entry for entry in arguments.test if not _is_override(entry)]
    if not arguments.data:
        parser.error("give the data: nequip-auto train.xyz")
    return arguments


def _is_override(entry: str) -> bool:
    return "=" in entry and not Path(entry).exists()


def _find_potential(arguments: argparse.Namespace) -> int:
    with quick_start():
        from nequip_like.auto.run import find_potential

    result = find_potential(
        arguments.data,
        arguments.minutes,
        test=arguments.test,
        overrides=arguments.overrides,
        output=arguments.output,
        began=arguments.began,
        trust_pickle=arguments.trust_pickle,
    )
    return 0 if result.training.stopped_by is None else SIGNALLED + result.training.stopped_by


def _add_options(parser: argparse.ArgumentParser) -> None:
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
    parser.add_argument(
        "--trust-pickle", action="store_true", help="read files of pickles, too (.lmdb of NequIP and fairchem)"
    )


main = Command(
    "nequip-auto",
    "Train the best potential that the data and the time allow: looks at the data, measures models on "
    "this machine, tries learning rates and models in short trainings, trains for the rest of the time, tests, and "
    "writes the model, a report, and a config that repeats the training.",
    _add_options,
    _find_potential,
    epilog=_EPILOG,
    parse=_parse,
)

if __name__ == "__main__":
    sys.exit(main())
