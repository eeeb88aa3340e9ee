"""The package's own exceptions: one for each kind of mistake a user can make.

The command line prints them as one line plus advice, without a traceback.
"""

from __future__ import annotations


class NequipLikeError(Exception):
    """Base class of every error that tells a user what to change.

    Args:
        message: What is wrong, naming the file, the frame or the key.
        advice: What to write instead; printed on its own line.
    """

    def __init__(self, message: str, advice: str = "") -> None:
        self.message = message
        self.advice = advice
        super().__init__(f"{message}\n  -> {advice}" if advice else message)


def first_line(error: BaseException) -> str:
    """First line of an error's text, or its kind if it has none."""
    return next(iter(str(error).splitlines()), type(error).__name__)


class ConfigError(NequipLikeError):
    """The configuration cannot mean what was written."""


class DataError(NequipLikeError):
    """A data file, a frame or a label is missing, unreadable or cannot be right."""


class ModelError(NequipLikeError):
    """A model was asked for something that it cannot do, such as a species it was not trained on."""


class ModelFileError(NequipLikeError):
    """A checkpoint or a model file cannot be read."""
