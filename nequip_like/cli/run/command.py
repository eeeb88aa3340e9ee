"""The command ``nequip-run``."""

from __future__ import annotations

import argparse
import sys

from nequip_like.cli.data_options import add_trusted_packages
from nequip_like.cli.errors import SIGNALLED, print_error
from nequip_like.cli.starting.command import Command
from nequip_like.cli.starting.quick_start import quick_start

_EPILOG = """\
a run file:
  runs:
    - {name: water, backend: nequip, task: train, run_dir: models/water,
       data: {train: water.xyz, val: 0.1}, train: {epochs: 100, lr: 0.01}}
    - {name: test, backend: nequip, task: evaluate, run_dir: models/water, data: {path: test.xyz}}

examples:
  nequip-run run.yaml --dry-run             say what would be done
  nequip-run run.yaml                       do all runs; the same command goes on where it was stopped
  nequip-run run.yaml --run water --run test
  nequip-run run.yaml --run water --again   do it from its start
"""
_FAILED = 3


def _do_runs(arguments: argparse.Namespace) -> int:
    with quick_start():
        from nequip_like.cli.trusted_families import trusted_families
        from nequip_like.composition.runs import do_runs

    result = do_runs(
        arguments.file,
        arguments.run or (),
        again=arguments.again,
        dry_run=arguments.dry_run,
        trusted_packages=arguments.trusted_packages,
        families=trusted_families(arguments.trusted_packages, "--trusted-packages", needs_table=False),
        tell_failure=print_error,
    )
    if result.stopped_by is not None:
        print(f"stopped by {result.stopped_by.name}; the same command goes on")
        return SIGNALLED + result.stopped_by
    return 0 if result.is_complete else _FAILED


def _add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", metavar="FILE", help="the run file, such as run.yaml")
    parser.add_argument("--run", metavar="NAME", action="append", help="do this run of the file; may be repeated")
    parser.add_argument("--dry-run", action="store_true", help="check all runs, say what would be done, and do nothing")
    parser.add_argument("--again", action="store_true", help="do them from their start, also if they are done or begun")
    add_trusted_packages(parser)


main = Command(
    "nequip-run",
    "Do the runs of a run file in turn: train, fine-tune, resume, evaluate, infer, export. "
    "What is done is written down beside the file, so the same command goes on where it was stopped.",
    _add_options,
    _do_runs,
    epilog=_EPILOG,
)

if __name__ == "__main__":
    sys.exit(main())
