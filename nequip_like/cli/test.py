"""The command ``nequip-test``."""

from __future__ import annotations

import argparse
import sys

from nequip_like.cli.data_options import add_label_options, add_trusted_packages, parse_label_options, read_batch_size
from nequip_like.cli.starting.command import Command
from nequip_like.cli.starting.quick_start import quick_start

_EPILOG = """\
examples:
  nequip-test outputs/run test_300K.xyz test_600K.xyz
  nequip-test model.safetensors test.xyz --output results --device auto
  nequip-test outputs/tio2 train.xyz test.xyz --aenet-energies
  nequip-test best.ckpt test.xyz --key-mapping dft_e=total_energy dft_f=forces --units energy=kcal/mol
"""


def _test(arguments: argparse.Namespace) -> None:
    key_mapping, units = parse_label_options(arguments)
    with quick_start():
        from nequip_like.cli.trusted_families import trusted_families
        from nequip_like.workflow.evaluate import test_model

    families = trusted_families(arguments.trusted_packages, "--trusted-packages")
    evaluations = test_model(
        arguments.model,
        arguments.data,
        arguments.output,
        batch_size=arguments.batch_size,
        device=arguments.device,
        key_mapping=key_mapping,
        units=units,
        group_by=arguments.group_by,
        formats=arguments.format,
        families=families,
    )
    if arguments.aenet_energies:
        from nequip_like.compat.aenet.energies import find_energy_scaling, write_energy_tables
        from nequip_like.inference.loading import load

        scaling = find_energy_scaling(load(arguments.model, families=families))
        files = write_energy_tables(evaluations, arguments.output, scaling)
        print(f"written to {arguments.output}: {', '.join(file.name for file in files)}")


def _add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", metavar="MODEL", help="model file (.safetensors), checkpoint (.ckpt) or run folder")
    parser.add_argument("data", metavar="DATA", nargs="+", help="files with labelled structures; each is a data set")
    parser.add_argument(
        "--output", metavar="DIR", default="test-results", help="folder for the files (default: %(default)s)"
    )
    parser.add_argument(
        "--batch-size",
        metavar="N",
        type=read_batch_size,
        default=16,
        help="structures at a time; or as many as have no more atoms or edges together: atoms=2048, edges=100000 "
        "(default: %(default)s)",
    )
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda (default: %(default)s)")
    add_label_options(parser)
    parser.add_argument(
        "--group-by",
        metavar="KEY",
        help="a table of errors by the values of KEY, which frames carry beside their labels (default: config_type or "
        "group, where a data set has 2 to 20 values of it)",
    )
    parser.add_argument(
        "--format",
        nargs="+",
        choices=("png", "pdf", "svg"),
        default=["png"],
        help="formats of the parity plot, a file for each (default: png)",
    )
    parser.add_argument(
        "--aenet-energies",
        action="store_true",
        help="write energies.NAME.0 for each data set, too: aenet's table of energies and predictions",
    )
    add_trusted_packages(parser)


main = Command(
    "nequip-test",
    "Test a trained model on labelled data. Prints a table of errors for each data set and the frames "
    "predicted worst, and writes metrics.json, predictions.extxyz and parity.png.",
    _add_options,
    _test,
    epilog=_EPILOG,
)

if __name__ == "__main__":
    sys.exit(main())
