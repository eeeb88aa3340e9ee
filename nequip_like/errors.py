"""The package's own exceptions: one for each kind of mistake a user can make.

The command line prints them as one line plus advice, without a traceback.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager


class NequipLikeError(Exception):
    """Base class of every error that tells a user what to change.

    Args:
        message: What is wrong, naming the file, the frame or the key.
        advice: What to write instead; printed on its own line.

    Example:
        >>> print(NequipLikeError("cutoff_radius is -1", "give a positive length in Angstrom"))
        cutoff_radius is -1
          -> give a positive length in Angstrom
    """

    def __init__(self, message: str, advice: str = "") -> None:
        self.message = message
        self.advice = advice
        super().__init__(f"{message}\n  -> {advice}" if advice else message)


def first_line(error: BaseException) -> str:
    """First line of an error's text, or its kind if it has none."""
    return next(iter(str(error).splitlines()), type(error).__name__)


def closest_hint(name: object, options: Iterable[str], *, any_case: bool = False) -> str:
    """Begin of an advice: ``did you mean 'x'? `` with the option that is most like ``name``, empty if none is.

    Args:
        name: What was written.
        options: What could have been meant.
        any_case: Compare without regard to upper and lower case.
    """
    candidates = {option.lower() if any_case else option: option for option in options}
    spelling = str(name).lower() if any_case else str(name)
    close = difflib.get_close_matches(spelling, candidates, n=1)
    return f"did you mean '{candidates[close[0]]}'? " if close else ""


class ConfigError(NequipLikeError):
    """The configuration cannot mean what was written."""


@contextmanager
def naming(key: str) -> Iterator[None]:
    """Put the key of a config in front of what a part says of its arguments.

    Args:
        key: The key.

    Raises:
        ConfigError: The part's, with the key.
    """
    try:
        yield
    except ConfigError as error:
        if error.message.startswith(key):
            raise
        raise ConfigError(f"{key}: {error.message}", error.advice) from error


@contextmanager
def naming_arguments(section: str, names: Collection[str]) -> Iterator[None]:
    """Put the section of a config in front of its arguments, in errors of the parts that the section describes.

    In the message, if this begins with an argument; in the advice wherever one is given a value, as it is typed.

    Args:
        section: Key of the section.
        names: Names of its arguments.

    Raises:
        ConfigError: The part's, with the whole key; one that begins otherwise as it is.
        TrainingError: The part's, with the whole key in its advice.

    Example:
        >>> with naming_arguments("training_module", ["lr_scheduler", "optimizer"]):
        ...     raise ConfigError("lr_scheduler.frequency is 0", "give a whole number, 1 or more")
        Traceback (most recent call last):
        ...
        nequip_like.errors.ConfigError: training_module.lr_scheduler.frequency is 0
          -> give a whole number, 1 or more
    """
    name = rf"(?:{'|'.join(map(re.escape, names))})"
    try:
        yield
    except (ConfigError, TrainingError) as error:
        begins = re.match(rf"{name}\b", error.message) is not None
        if not begins and isinstance(error, ConfigError):
            raise
        advice = re.sub(rf"(?<![\w.])(?={name}=)", f"{section}.", error.advice)
        raise type(error)(f"{section}." * begins + error.message, advice) from error


class DataError(NequipLikeError):
    """A data file, a frame or a label is missing, unreadable or cannot be right."""


class OutputError(NequipLikeError):
    """A file cannot be written."""


class ModelError(NequipLikeError):
    """A model was asked for something that it cannot do, such as a species it was not trained on."""


class TrainingError(NequipLikeError):
    """The training cannot go on: its loss, gradients, weights or predictions are no finite numbers."""


class UntrustedError(NequipLikeError):
    """A structure has a larger uncertainty than its user allows: a simulation ends there."""


class PeerError(TrainingError):
    """Another process of the run failed before this one, and says why.

    Args:
        message: What is known of it.
        status: Exit status that all processes of the run should have.
    """

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


class BackendError(NequipLikeError):
    """A trainer of others failed, or said what its protocol does not have."""


class ModelFileError(NequipLikeError):
    """A checkpoint or a model file cannot be read."""


def did_you_mean(name: str, options: Iterable[str]) -> str:
    """One line of advice: the closest of the options if there is one, and all of them.

    Example:
        >>> did_you_mean("force", ["total_energy", "forces", "stress"])
        "did you mean 'forces'? known: forces, stress, total_energy"
    """
    names = sorted(options)
    listing = f"known: {', '.join(names)}" if names else "there are none"
    return closest_hint(name, names) + listing


class OutOfMemoryError(NequipLikeError):
    """A batch needs more memory than there is."""
