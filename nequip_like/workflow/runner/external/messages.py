"""What a trainer of others tells: lines of JSON among whatever else it prints, each of a kind, in an order.

``docs/reference/external-trainers.md`` describes it for those who write one.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from nequip_like.arguments import Form, FromZero, NotNegative, Positive, check_entries
from nequip_like.errors import BackendError, ConfigError, closest_hint, first_line

#: Begin of a line that is a message; all else that a trainer prints is for its log alone.
MARK = "::nequip-run::"
PROTOCOL = 1
LONGEST = 1_000_000  # bytes of a message

_Name = Annotated[str, Form(r"\w[\w./%+@ -]{0,199}", "a name of letters, digits and '_./%+@ -', 200 at most")]
_Text = Annotated[str, Form(r"(?s).{0,2000}", "a text of 2000 characters at most")]
# What is there of each kind of message, beside the kind itself, and what of it is needed.
_KINDS: dict[str, dict[str, Any]] = {
    "start": {"protocol": int, "trainer": _Name, "version": _Name | None},
    "progress": {"done": FromZero, "of": Positive | None, "unit": _Name | None, "text": _Text | None},
    "metrics": {"values": dict[_Name, float | None], "epoch": NotNegative | None, "step": NotNegative | None},
    "artifacts": {"files": dict[_Name, _Text]},
    "end": {"status": Literal["done", "failed", "stopped"], "reason": _Text | None, "advice": _Text | None},
}
_REQUIRED = {
    "start": ("protocol", "trainer"),
    "progress": ("done",),
    "metrics": ("values",),
    "artifacts": ("files",),
    "end": ("status",),
}
_ADVICE = "the trainer is wrong, not the run file: docs/reference/external-trainers.md says what it may print"


@dataclass(frozen=True)
class Message:
    """One message.

    Attributes:
        kind: ``start``, ``progress``, ``metrics``, ``artifacts`` or ``end``.
        content: What it says; entries that are null are left out.
    """

    kind: str
    content: Mapping[str, Any]


def read_message(line: str) -> Message | None:
    """Read a line that a trainer printed.

    Args:
        line: The line, without its end.

    Returns:
        The message; None if the line is none, but something for the log.

    Raises:
        BackendError: If it has the mark of a message and is none.

    Example:
        >>> read_message('::nequip-run:: {"message": "progress", "done": 3, "of": 100}')
        Message(kind='progress', content={'done': 3, 'of': 100})
        >>> read_message("Epoch 3: 100%")
    """
    if MARK not in line:
        return None
    if not line.startswith(MARK):
        raise _refuse(line, "does not begin with the mark of a message", "print a newline before it")
    if len(line) > LONGEST:
        raise _refuse(line, f"is longer than {LONGEST // 1000} kB", "write large things to files, and name these")
    try:
        content = json.loads(
            line.removeprefix(MARK), parse_constant=_refuse_constant, object_pairs_hook=_refuse_duplicates
        )
    except (ValueError, RecursionError) as error:
        raise _refuse(line, f"is no JSON: {first_line(error)}") from error
    if not isinstance(content, dict):
        raise _refuse(line, "is no mapping")
    kind = content.pop("message", None)
    if not isinstance(kind, str) or kind not in _KINDS:
        hint = closest_hint(kind, _KINDS) if isinstance(kind, str) else ""
        raise _refuse(line, f"has the kind {kind!r}", f"{hint}known are {', '.join(_KINDS)}")
    if missing := [key for key in _REQUIRED[kind] if content.get(key) is None]:
        raise _refuse(line, f"has no '{missing[0]}'")
    try:
        check_entries(f"a message '{kind}'", content, _KINDS[kind])
    except ConfigError as error:
        raise _refuse(line, f"is wrong: {error.message}", error.advice) from error
    _check_numbers(content, line)
    return Message(kind, {key: value for key, value in content.items() if value is not None})


def write_message(kind: str, **content: Any) -> str:
    """The line of a message, as a trainer prints it.

    Example:
        >>> write_message("start", protocol=1, trainer="mine")
        '::nequip-run:: {"message": "start", "protocol": 1, "trainer": "mine"}'
    """
    return f"{MARK} {json.dumps({'message': kind, **content}, allow_nan=False)}"


class Conversation:
    """Messages in their order: ``start`` first, ``end`` last, each once.

    Attributes:
        trainer: Name and version of the trainer, once it said so.
        metrics: The last value of each metric that has one.
        ending: What ``end`` says; None before it came.

    Example:
        >>> talk = Conversation()
        >>> talk.accept(Message("start", {"protocol": 1, "trainer": "mine", "version": "2.0"}))
        >>> talk.accept(Message("metrics", {"values": {"forces_mae": 0.2, "stress_mae": None}}))
        >>> talk.trainer, talk.metrics
        ('mine 2.0', {'forces_mae': 0.2})
    """

    def __init__(self) -> None:
        self.trainer = ""
        self.metrics: dict[str, float] = {}
        self.ending: Mapping[str, Any] | None = None

    def accept(self, message: Message) -> None:
        """Take the next message.

        Raises:
            BackendError: If it may not stand here, or the trainer speaks another protocol.
        """
        kind, content = message.kind, message.content
        if self.ending is not None:
            raise BackendError(f"the trainer sent a message '{kind}' behind its 'end'", _ADVICE)
        if (kind == "start") == bool(self.trainer):
            disorder = "a second message 'start'" if self.trainer else f"a message '{kind}' before its 'start'"
            raise BackendError(f"the trainer sent {disorder}", _ADVICE)
        if kind == "start":
            if content["protocol"] != PROTOCOL:
                raise BackendError(
                    f"{content['trainer']} speaks the protocol {content['protocol']}, not {PROTOCOL}",
                    "take a version of it that was written for this version of nequip-run",
                )
            self.trainer = " ".join([content["trainer"], *filter(None, [content.get("version")])])
        elif kind == "metrics":
            self.metrics |= {name: float(value) for name, value in content["values"].items() if value is not None}
        elif kind == "end":
            self.ending = content


def _refuse(line: str, mistake: str, advice: str = "") -> BackendError:
    excerpt = "".join(char if char.isprintable() else " " for char in line[:160])
    return BackendError(f"a message of the trainer {mistake}: {excerpt}{'...' * (len(line) > 160)}", advice or _ADVICE)


def _check_numbers(content: Mapping[str, Any], line: str) -> None:
    """Refuse numbers that are none for us: ``1e999`` is infinite, and an integer may have more digits than a float."""
    numbers = [*content.values(), *content.get("values", {}).values()]
    for number in numbers:
        if isinstance(number, int | float) and not (abs(number) < 1e300 and math.isfinite(number)):
            raise _refuse(line, "has a number that is not finite", "give null for a metric without a value")


def _refuse_constant(word: str) -> None:
    raise ValueError(f"{word} is no number of JSON, give null for a metric without a value")


def _refuse_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) < len(pairs):
        raise ValueError("a key is there twice")
    return content
