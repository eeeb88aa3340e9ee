"""Options that several commands have: names and units of labels, sizes of batches, packages of model families."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from nequip_like.errors import ConfigError


def add_label_options(parser: argparse.ArgumentParser) -> None:
    """Add ``--key-mapping`` and ``--units``.

    Args:
        parser: Of the command.
    """
    parser.add_argument(
        "--key-mapping",
        metavar="NAME=LABEL",
        nargs="+",
        action="extend",
        default=[],
        help="names of labels in the files, where they are not the usual ones: my_energy=total_energy my_forces=forces",
    )
    parser.add_argument(
        "--units",
        metavar="QUANTITY=UNIT",
        nargs="+",
        action="extend",
        default=[],
        help="units of the files, where they are not eV and Angstrom: energy=kcal/mol length=Bohr forces=Hartree/Bohr",
    )


def parse_label_options(arguments: argparse.Namespace) -> tuple[dict[str, str] | None, dict[str, str] | None]:
    """What was given to ``--key-mapping`` and ``--units``, each as a mapping; None if nothing was.

    Raises:
        ConfigError: If an entry is no pair, or a name stands twice.
    """
    return parse_pairs("--key-mapping", arguments.key_mapping), parse_pairs("--units", arguments.units)


def parse_pairs(option: str, entries: Sequence[str]) -> dict[str, str] | None:
    """``["a=b", ...]`` as a mapping, None if there are none.

    Args:
        option: The option, for messages.
        entries: What was given to it.

    Raises:
        ConfigError: If an entry is no pair, or a name stands twice.
    """
    pairs: dict[str, str] = {}
    for entry in entries:
        name, equals, value = entry.partition("=")
        if not (name and equals and value):
            raise ConfigError(
                f"{option} has '{entry}', which is not of the form name=value", "give files before the options"
            )
        if name in pairs:
            raise ConfigError(f"{option} names '{name}' twice", "give it once")
        pairs[name] = value
    return pairs or None


def add_trusted_packages(parser: argparse.ArgumentParser) -> None:
    """Add ``--trusted-packages``, for :func:`nequip_like.cli.trusted_families.trusted_families`.

    Args:
        parser: Of a command that reads a model.
    """
    parser.add_argument(
        "--trusted-packages",
        metavar="PACKAGE",
        nargs="+",
        action="extend",
        default=[],
        help="packages whose table FAMILIES has the model's family, where it is neither built in nor installed; they "
        "are imported",
    )


def read_batch_size(text: str) -> int | dict[str, int]:
    """What was given to ``--batch-size``: a number of structures, or such as ``atoms=2048``.

    Raises:
        argparse.ArgumentTypeError: If it is neither.
    """
    measure, sign, number = text.rpartition("=")
    try:
        return {measure: int(number)} if sign else int(number)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of structures, and not such as atoms=2048") from error
