"""The command ``nequip-check``."""

from __future__ import annotations

import argparse
import sys

from nequip_like.cli.data_options import add_label_options, add_trusted_packages, parse_label_options
from nequip_like.cli.starting.command import Command
from nequip_like.cli.starting.quick_start import quick_start

_EPILOG = """\
checks: references, symmetry, forces, stress, cutoff, bonds, dimers, drift, eos, elastic, phonons
        (docs/reference/check.md has what each measures, and its limit)

examples:
  nequip-check outputs/run                                 structures are made of the model's species
  nequip-check model.safetensors train.xyz                 frames that the model is meant for
  nequip-check best.ckpt train.xyz --only forces stress cutoff --json -
  nequip-check model.safetensors crystal.xyz --skip phonons --output checked --strict

exit status: 0 if nothing failed, warnings or not; 1 if a check failed (with --strict also if it warned);
2 after a mistake in the call
"""
_FAILED = 1


def _check(arguments: argparse.Namespace) -> int:
    key_mapping, units = parse_label_options(arguments)
    with quick_start():
        from rich.console import Console

        from nequip_like.cli.trusted_families import trusted_families
        from nequip_like.workflow.checks.outcome.files import format_json, write_json
        from nequip_like.workflow.checks.run import check_potential

    verdicts = check_potential(
        arguments.model,
        arguments.data or None,
        arguments.only,
        skip=arguments.skip,
        output=arguments.output,
        frames=arguments.frames,
        temperature=arguments.temperature,
        picoseconds=arguments.picoseconds,
        seed=arguments.seed,
        device=arguments.device,
        key_mapping=key_mapping,
        units=units,
        families=trusted_families(arguments.trusted_packages, "--trusted-packages"),
        console=None if arguments.json == "-" else Console(),
        progress=_tell_progress if sys.stderr.isatty() else None,
    )
    if arguments.json == "-":
        print(format_json(verdicts))
    elif arguments.json is not None:
        write_json(verdicts, arguments.json)
    if arguments.output is not None and arguments.json != "-":
        print(f"written to {arguments.output}: check.html, check.json{', check.png' if verdicts.plots else ''}")
    failing = ("fail", "warn") if arguments.strict else ("fail",)
    return _FAILED if verdicts.level in failing else 0


def _tell_progress(question: str) -> None:
    print(question, file=sys.stderr)


def _add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", metavar="MODEL", help="model file (.safetensors), checkpoint (.ckpt) or run folder")
    parser.add_argument(
        "data",
        metavar="DATA",
        nargs="*",
        help="files with structures that the model is meant for, with labels or without; without DATA structures are "
        "made of the model's species",
    )
    parser.add_argument("--only", metavar="CHECK", nargs="+", action="extend", help="make these checks only")
    parser.add_argument(
        "--skip", metavar="CHECK", nargs="+", action="extend", default=[], help="leave these checks out"
    )
    parser.add_argument("--output", metavar="DIR", help="write check.html, check.png and check.json into this folder")
    parser.add_argument("--json", metavar="FILE", help="write the verdicts as JSON; - prints them instead of the table")
    parser.add_argument("--strict", action="store_true", help="exit with 1 after warnings, too")
    parser.add_argument(
        "--frames", metavar="N", type=int, default=4, help="frames of DATA to look at, most (default: %(default)s)"
    )
    parser.add_argument(
        "--temperature", metavar="K", type=float, default=300.0, help="of the dynamics (default: %(default)s)"
    )
    parser.add_argument(
        "--picoseconds", metavar="PS", type=float, default=0.5, help="length of the dynamics (default: %(default)s)"
    )
    parser.add_argument(
        "--seed", metavar="N", type=int, default=0, help="of made structures and velocities (default: %(default)s)"
    )
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda (default: %(default)s)")
    add_label_options(parser)
    add_trusted_packages(parser)


main = Command(
    "nequip-check",
    "Check a trained model beyond its errors: symmetry, forces and stress against finite differences, "
    "smoothness at the cutoff and along bonds, short-range repulsion, conservation of energy, equations of state, "
    "elastic constants and phonons of crystals, reference energies. Prints a table of verdicts with numbers, limits, "
    "and what to do.",
    _add_options,
    _check,
    epilog=_EPILOG,
    parse=argparse.ArgumentParser.parse_intermixed_args,
)

if __name__ == "__main__":
    sys.exit(main())
