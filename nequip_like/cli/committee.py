"""The command ``nequip-committee``."""

from __future__ import annotations

import argparse
import sys

from nequip_like.cli.errors import SIGNALLED
from nequip_like.cli.starting.command import Command
from nequip_like.cli.starting.quick_start import quick_start

_EPILOG = """\
examples:
  nequip-committee config.yaml --members 8 --base-seed 11 --parallel 2
  nequip-committee config.yaml --seeds 3 14 159 --output committee trainer.max_epochs=100
  nequip-committee config.yaml --members 8 --resume
  sbatch --array=0-7 --wrap 'nequip-committee config.yaml --members 8 --member $SLURM_ARRAY_TASK_ID'
"""
_FAILED = 3


def _train(arguments: argparse.Namespace) -> int:
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
        return SIGNALLED + result.stopped_by
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
        return _FAILED
    return 0


def _add_options(parser: argparse.ArgumentParser) -> None:
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


main = Command(
    "nequip-committee",
    "Train several potentials that differ by their seeds, on one split of the data, and put them into "
    "one model file whose predictions have uncertainties. Each member is a nequip-train in a folder of its own.",
    _add_options,
    _train,
    epilog=_EPILOG,
    parse=argparse.ArgumentParser.parse_intermixed_args,
)

if __name__ == "__main__":
    sys.exit(main())
