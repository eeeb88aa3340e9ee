"""A command: its options, what it does, and its exit status, stated once."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from nequip_like.cli.errors import run_cli
from nequip_like.cli.starting.environment import check_current_folder, check_launcher, prepare_process


@dataclass(frozen=True)
class Command:
    """A command of the package, or one of several that share a name; a module of a command has it as its ``main``.

    ``do`` imports what it needs itself, in a :func:`nequip_like.cli.starting.quick_start.quick_start`: torch takes
    seconds to import, and ``--help`` and mistakes in the options should not.

    Attributes:
        name: Its name, such as ``nequip-test``.
        description: What it does, for ``--help``. In the list of several commands it stands up to its first colon.
        add_options: Adds its arguments to a parser, but ``--debug``, which each command has.
        do: Does it with the arguments, and gives the exit status; None stands for 0. Errors of the user are raised.
        epilog: What ``--help`` ends with, as it is written here.
        parse: Parses the command line, where a command takes it in another way than argparse by itself.
        subcommands: Several commands behind this name, in place of ``add_options`` and ``do``.

    Example:
        >>> main = Command(
        ...     "nequip-greet",
        ...     "Greet: to see that it works.",
        ...     lambda parser: parser.add_argument("name"),
        ...     lambda arguments: print(f"hello, {arguments.name}"),
        ... )
        >>> main(["world"])
        hello, world
        0
    """

    name: str
    description: str
    add_options: Callable[[argparse.ArgumentParser], object] | None = None
    do: Callable[[argparse.Namespace], int | None] | None = None
    epilog: str | None = None
    parse: Callable[[argparse.ArgumentParser, Sequence[str] | None], argparse.Namespace] = (
        argparse.ArgumentParser.parse_args
    )
    subcommands: Sequence[Command] = ()

    def __call__(self, argv: Sequence[str] | None = None) -> int:
        """Do what the command line asks for.

        Args:
            argv: Arguments; those of the process by default.

        Returns:
            The exit status: what ``do`` gives, 2 after an error of the user, 130 after Ctrl-C.
        """
        arguments = self.parse(self.build_parser(), argv)
        status: int | None = None

        def prepare_and_do() -> None:
            nonlocal status
            check_current_folder()
            check_launcher()
            prepare_process()
            status = arguments.do(arguments)

        return run_cli(prepare_and_do, debug=arguments.debug) or status or 0

    def build_parser(self) -> argparse.ArgumentParser:
        """Build the parser of the command line."""
        parser = argparse.ArgumentParser(
            prog=self.name,
            description=self.description,
            epilog=self.epilog,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        if self.subcommands:
            parsers = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
            for command in self.subcommands:
                summary = command.description.split(":")[0].rstrip(".")
                command._fill(parsers.add_parser(command.name, help=summary, description=command.description))
        else:
            self._fill(parser)
        return parser

    def _fill(self, parser: argparse.ArgumentParser) -> None:
        """Give a parser the command's options, and what it does."""
        if self.add_options is not None:
            self.add_options(parser)
        parser.add_argument("--debug", action="store_true", help="show the traceback of errors")
        parser.set_defaults(do=self.do)
