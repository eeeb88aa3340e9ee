"""Turn errors of users into one line and advice, without a traceback, and into an exit status."""

from __future__ import annotations

import sys
from collections.abc import Callable

from nequip_like.errors import NequipLikeError

USER_ERROR = 2
INTERRUPTED = 130


def run_cli(function: Callable[[], object], *, debug: bool = False) -> int:
    """Run a command and turn the user's errors into an exit status.

    Args:
        function: What the command does.
        debug: Let the user's errors through, with their traceback. Errors of the package itself always have one.

    Returns:
        0, 2 after an error of the user, or 130 after Ctrl-C.
    """
    try:
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
