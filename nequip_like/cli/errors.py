"""Turn errors of users into one line and advice, without a traceback, and into an exit status; warnings into a line."""

from __future__ import annotations

import sys
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from nequip_like.errors import NequipLikeError, PeerError
from nequip_like.process_settings import rank

USER_ERROR = 2
INTERRUPTED = 130
SIGNALLED = 128  # and the number of the signal: as shells say that one ended a command
_TURN = 3.0  # seconds that further processes let the first one speak
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
    except PeerError as error:
        if debug:
            raise
        return error.status  # the process that failed first has said why
    except NequipLikeError as error:
        if debug:
            raise
        _let_the_first_speak()
        print_error(error)
        return USER_ERROR
    except KeyboardInterrupt:
        if debug:
            raise
        print("interrupted", file=sys.stderr)
        return INTERRUPTED
    return 0


def _let_the_first_speak() -> None:
    """Wait a little in a further process of a launcher that is not connected with the others.

    A mistake in the config is found by all of them at the same time, and the first says it. When that ends, launchers
    end the others. What only this one has found is said a little later.
    """
    if rank() and not _is_connected():
        time.sleep(_TURN)


def _is_connected() -> bool:
    module = sys.modules.get("torch.distributed")
    return module is not None and module.is_available() and module.is_initialized()


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
