"""Turn errors of users into one line and advice, without a traceback, and into an exit status; warnings into a line."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from nequip_like.errors import NequipLikeError

USER_ERROR = 2
INTERRUPTED = 130
_PACKAGE = Path(__file__).parents[1]


def run_cli(function: Callable[[], object], *, debug: bool = False) -> int:
    """Run a command and turn the user's errors into an exit status.

    Args:
        function: What the command does.
        debug: Let the user's errors through, with their traceback, and say where in the code a warning came up. Errors
            of the package itself always have a traceback.

    Returns:
        0, 2 after an error of the user, or 130 after Ctrl-C.
    """
    try:
        if debug:
            function()
        else:
            with _warnings_in_a_line():
                function()
    except NequipLikeError as error:
        if debug:
            raise
        print_error(error)
        return USER_ERROR
    except KeyboardInterrupt:
        if debug:
            raise
        print("interrupted", file=sys.stderr)
        return INTERRUPTED
    return 0


def print_error(error: NequipLikeError) -> None:
    """Print an error to the error stream: one line, and the advice on the next."""
    sys.stdout.flush()
    print(f"error: {' '.join(error.message.split())}", file=sys.stderr)
    if error.advice:
        print(f"  -> {error.advice}", file=sys.stderr)


@contextmanager
def _warnings_in_a_line() -> Iterator[None]:
    """Word the package's warnings as its errors are worded; those of libraries keep their place in the code.

    Filters of warnings are left alone: libraries that are imported meanwhile set theirs for the rest of the process.
    """
    format_with_place = warnings.formatwarning

    def format_warning(
        message: Warning | str, category: type[Warning], filename: str, lineno: int, line: str | None = None
    ) -> str:
        if category is UserWarning and Path(filename).is_relative_to(_PACKAGE):
            return f"warning: {' '.join(str(message).split())}\n"
        return format_with_place(message, category, filename, lineno, line)

    warnings.formatwarning = format_warning
    try:
        yield
    finally:
        warnings.formatwarning = format_with_place
