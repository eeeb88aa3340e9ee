"""The command ``nequip-committee``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from nequip_like.cli.errors import run_cli
from nequip_like.cli.starting.environment import check_current_folder, prepare_process
from nequip_like.cli.starting.quick_start import quick_start

_EPILOG = """\
examples:
  nequip-committee config.yaml --members 8 --base-seed 11 --parallel 2
  nequip-committee config.yaml --seeds 3 14 159 --output committee trainer.max_epochs=100
  nequip-committee config.yaml --members 8 --resume
  sbatch --array=0-7 --wrap 'nequip-committee config.yaml --members 8 --member $SLURM_ARRAY_TASK_ID'
"""
_FAILED = 3


def main(argv: Sequence[str] | None = None) -> int:
    """Train a committee.

    Args:
        argv: Arguments; those of the process by default.

    Returns:
        The exit status: 0, 2 after an error of the user, or 3 if a member failed.
    """
    parser = _build_parser()
    arguments = parser.parse_intermixed_args(argv)

    def command() -> None:
        check_current_folder()
        prepare_process()
        # Imported here: torch takes seconds to import, and --help should not.
        with quick_start():
            from nequip_like.composition.compose import compose
            from nequip_like.workflow.uncertainty.run import train_committee

        result = train_committee(
            compose(arguments.config, arguments.overrides),
            arguments.members,
            base_seed=arguments.base_seed,
            seeds=arguments.seeds,
            parallel=arguments.parallel,
            devices=arguments.devices,
            bootstrap=arguments.bootstrap,
            output=arguments.output,
            resume=arguments.resume,
            member=arguments.member,
        )
        if result.stopped_by is not None:
            print(f"stopped by {result.stopped_by.name}; complete it with the same command and --resume")
            sys.exit(128 + result.stopped_by)  # as shells say that a signal ended a command
        failures = result.failures
        if arguments.member is not None:
            failures = {number: why for number, why in failures.items() if number == arguments.member}
        if failures:
            numbers, reason = ", ".join(map(str, failures)), next(iter(failures.values()))
            sys.stdout.flush()
            print(
                f"error: {len(failures)} of {len(result.members)} members failed: {numbers} ({reason})\n"
                "  -> each has its own printed.log; when it is mended, the same command with --resume trains them",
                file=sys.stderr,
            )
            sys.exit(_FAILED)

    return run_cli(command, debug=arguments.debug)


def _build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="nequip-committee",
        description="Train several potentials that differ by their seeds, on one split of the data, and put them into "
        "one model file whose predictions have uncertainties. Each member is a nequip-train in a folder of its own.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("config", metavar="CONFIG", help="a config of nequip-train: a file, or a name such as tutorial")
    parser.add_argument(
        "overrides", metavar="KEY=VALUE", nargs="*", default=[], help="overrides, the same for all members"
    )
    parser.add_argument("--members", metavar="N", type=int, help="number of members (default: 8)")
    parser.add_argument(
        "--base-seed", metavar="S", type=int, help="seed of member 0; member i has S + i (default: seed of CONFIG)"
    )
    parser.add_argument(
        "--seeds", metavar="S", type=int, nargs="+", help="the seed of each member, in place of --base-seed"
    )
    parser.add_argument("--parallel", metavar="N", type=int, default=1, help="members at a time (default: 1)")
    parser.add_argument(
        "--devices", metavar="DEVICE", nargs="+", help="cpu, cuda:0, ...: members take them in turn (default: all GPUs)"
    )
    parser.add_argument(
        "--bootstrap", action="store_true", help="each member trains on frames that are drawn with replacement"
    )
    parser.add_argument(
        "--output", metavar="DIR", default="committee_run", help="folder of the committee (default: %(default)s)"
    )
    parser.add_argument(
        "--resume", action="store_true", help="train those members that are not done, from where they are"
    )
    parser.add_argument("--member", metavar="I", type=int, help="train member I only, for a task of a SLURM array")
    parser.add_argument("--debug", action="store_true", help="show the traceback of errors")
    return parser


if __name__ == "__main__":
    sys.exit(main())
