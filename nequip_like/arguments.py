"""What an argument may be, said once beside it: its type and its range, for configs and for Python alike."""

from __future__ import annotations

import functools
import inspect
import math
import numbers
import re
import types
import typing
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, Union

from nequip_like.errors import ConfigError, closest_hint

_Function = TypeVar("_Function", bound=Callable[..., Any])


class NotKnownYet:
    """Stands for a value that only the data will give; it fits everywhere."""

    def __repr__(self) -> str:
        """Text for messages and plans."""
        return "from the data"


NOT_KNOWN_YET = NotKnownYet()


@dataclass(frozen=True)
class Range:
    """Which numbers are meant; a mark for ``Annotated``.

    Args:
        low: Smallest number.
        high: Largest number.
        low_open: Leave out the smallest number itself.
        high_open: Leave out the largest number itself.

    Example:
        >>> str(Range(low=0, high=1, high_open=True)), Range(low=0).admits(float("nan"))
        ('0 or more and below 1', False)
    """

    low: float = -math.inf
    high: float = math.inf
    low_open: bool = False
    high_open: bool = False

    def admits(self, value: float) -> bool:
        """Whether the number is within the range; NaN never is."""
        above = value > self.low if self.low_open else value >= self.low
        below = value < self.high if self.high_open else value <= self.high
        return above and below

    def __str__(self) -> str:
        """Such as "0 or more and below 1"."""
        parts = []
        if self.low > -math.inf:
            parts.append(f"above {self.low:.15g}" if self.low_open else f"{self.low:.15g} or more")
        if self.high < math.inf:
            parts.append(f"below {self.high:.15g}" if self.high_open else f"at most {self.high:.15g}")
        return " and ".join(parts) or "finite"


@dataclass(frozen=True)
class Form:
    """Which texts are meant; a mark for ``Annotated``.

    Args:
        pattern: Regular expression for the whole text.
        words: The same in words.
    """

    pattern: str
    words: str

    def admits(self, value: str) -> bool:
        """Whether the text has the form."""
        return re.fullmatch(self.pattern, value) is not None

    def __str__(self) -> str:
        """The words."""
        return self.words


@dataclass(frozen=True)
class ArgumentsOf:
    """Where a function hands its ``**arguments`` on to; a mark for ``Annotated``.

    Args:
        name: Name of a function of the same module.
        but: Arguments that the function itself supplies.
    """

    name: str
    but: tuple[str, ...] = ()


Count = Annotated[int, Range(low=1)]
NotNegative = Annotated[int, Range(low=0)]
Positive = Annotated[float, Range(low=0, low_open=True, high_open=True)]
FromZero = Annotated[float, Range(low=0, high_open=True)]
Decay = Annotated[float, Range(low=0, high=1, high_open=True)]  # from 0 on, below 1

_WORDS: dict[Any, str] = {
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    str: "a text",
    Path: "a path",
    type(None): "null",
}


def annotations_of(function: Callable[..., Any]) -> dict[str, Any]:
    """Annotation of each argument; Any where it cannot be understood.

    Args:
        function: A function, or the ``__init__`` of a class.
    """
    inner = inspect.unwrap(function)
    annotations = dict(getattr(inner, "__annotations__", {}))
    try:
        return typing.get_type_hints(inner, include_extras=True)
    except (NameError, TypeError, AttributeError):
        # Names that only a type checker imports: take the other annotations.
        return {name: _evaluate_annotation(text, inner) for name, text in annotations.items()}


def _evaluate_annotation(text: Any, function: Callable[..., Any]) -> Any:
    alone = types.SimpleNamespace(__annotations__={"value": text})
    try:
        return typing.get_type_hints(alone, getattr(function, "__globals__", {}), include_extras=True)["value"]
    except (NameError, TypeError, AttributeError):
        return Any


def fits(value: Any, annotation: Any) -> bool:
    """Whether a plain value, as a config holds it, is what an annotation says.

    Integers are numbers, true and false are not. What only objects can be (a module, a function) is not judged, except
    that no plain text or number stands for it.

    Example:
        >>> fits(3, float), fits(True, int), fits("3", int), fits(0, Positive)
        (True, False, False, False)
    """
    if value is NOT_KNOWN_YET or annotation is Any or isinstance(annotation, TypeVar):
        return True
    origin = typing.get_origin(annotation)
    if origin is Annotated:
        inner, *marks = typing.get_args(annotation)
        return fits(value, inner) and all(mark.admits(value) for mark in marks if isinstance(mark, Range | Form))
    if origin in (Union, types.UnionType):
        return any(fits(value, option) for option in typing.get_args(annotation))
    if origin is Literal:
        return any(value == option and type(value) is type(option) for option in typing.get_args(annotation))
    if isinstance(origin, type) and origin is not type:
        return _fits_container(value, origin, typing.get_args(annotation))
    return _fits_class(value, annotation)


def _fits_container(value: Any, origin: type, inner: tuple[Any, ...]) -> bool:
    if issubclass(origin, Mapping):
        key, entry = inner or (Any, Any)
        return isinstance(value, Mapping) and all(fits(k, key) and fits(v, entry) for k, v in value.items())
    if issubclass(origin, Collection) or origin is Iterable:
        if isinstance(value, str | Mapping) or not isinstance(value, Iterable):
            return False
        entries = list(value)
        if origin is tuple and inner and inner[-1] is not Ellipsis:
            return len(entries) == len(inner) and all(map(fits, entries, inner))
        return not inner or all(fits(entry, inner[0]) for entry in entries)
    return not isinstance(value, str | bool | int | float)


def _fits_class(value: Any, annotation: Any) -> bool:
    if annotation is None or annotation is type(None):
        return value is None
    if annotation is bool:
        return isinstance(value, bool)
    if annotation is int:
        return isinstance(value, numbers.Integral) and not isinstance(value, bool)
    if annotation is float:
        return isinstance(value, numbers.Real) and not isinstance(value, bool)
    if annotation is str:
        return isinstance(value, str)
    if annotation is Path:
        return isinstance(value, str | Path)
    if isinstance(annotation, type) and annotation is not object:
        if issubclass(annotation, Mapping | list | tuple):
            return _fits_container(value, annotation, ())
        return isinstance(value, annotation | Mapping)  # a mapping may become the object
    return True


def in_words(annotation: Any) -> str:
    """What an annotation says, for an advice: "a whole number, 1 or more, or null".

    Example:
        >>> in_words(Count | None), in_words(Decay)
        ('a whole number, 1 or more, or null', 'a number, 0 or more and below 1')
    """
    origin = typing.get_origin(annotation)
    if origin is Annotated:
        inner, *marks = typing.get_args(annotation)
        conditions = [str(mark) for mark in marks if isinstance(mark, Range | Form)]
        return ", ".join(conditions if inner is str and conditions else [in_words(inner), *conditions])
    if origin in (Union, types.UnionType):
        words = [["true", "false"] if kind is bool else [in_words(kind)] for kind in typing.get_args(annotation)]
        return _join_alternatives([word for option in words for word in option])
    if origin is Literal:
        return _join_alternatives([str(option) for option in typing.get_args(annotation)])
    container = origin if isinstance(origin, type) else annotation
    if isinstance(container, type) and container not in _WORDS:
        if issubclass(container, Mapping):
            return "a mapping"
        if issubclass(container, list | tuple | Sequence):
            inner_words = in_words(typing.get_args(annotation)[0]) if typing.get_args(annotation) else ""
            return f"a list (each {inner_words})" if inner_words else "a list"
    return _WORDS.get(container, f"a {getattr(container, '__name__', container)}")


def _join_alternatives(words: Sequence[str]) -> str:
    different = list(dict.fromkeys(words))
    if len(different) < 2:
        return "".join(different)
    if any("," in word for word in different):
        return ", or ".join(different)
    return f"{', '.join(different[:-1])} or {different[-1]}"


def check(name: str, value: Any, annotation: Any) -> None:
    """Refuse a value that is not what an annotation says.

    Args:
        name: Name of the argument, or key of the config, for messages.
        value: The value.
        annotation: Type, with ranges in ``Annotated``.

    Raises:
        ConfigError: If it does not fit.

    Example:
        >>> check("data.batch_size", 0, Count)
        Traceback (most recent call last):
        ...
        nequip_like.errors.ConfigError: data.batch_size is 0
          -> give a whole number, 1 or more
    """
    if not fits(value, annotation):
        words = [option for option in _collect_literals(annotation) if isinstance(option, str)]
        hint = closest_hint(value, words, any_case=True) if isinstance(value, str) else ""
        if isinstance(value, str) and ":" in value and fits({}, annotation):
            entry = re.sub(r":\s*", ": ", value)
            hint = f"put quotes around the whole, as the shell takes {{...,...}} apart: '{name}={{{entry}}}'; "
        hint = hint or _build_quoting_hint(name, value, annotation)
        raise ConfigError(f"{name} is {shown(value)}", f"{hint}give {in_words(annotation)}")


def _build_quoting_hint(name: str, value: Any, annotation: Any) -> str:
    """Begin of an advice where a word was read as true, false, null or a number, and a text is meant."""
    if isinstance(value, str):
        return f"write null: {name}=null, or " if value in ("None", "none") and fits(None, annotation) else ""
    if not isinstance(value, bool | int | float | Mapping | list):
        return ""
    is_word = isinstance(value, bool) or (isinstance(value, int | float) and "number" not in in_words(annotation))
    text = _restore_words(value, bool | int | float if is_word else bool)
    if text == value or not fits(text, annotation):
        return ""
    if is_word and not isinstance(value, bool):
        return f"""quote it, {name}: "{value}" in a file and '{name}="{value}"' on the command line, or """
    return 'YAML reads No, NO, no and off as false, Yes and on as true: put such a word into quotes, "No"; or '


def _restore_words(value: Any, kinds: Any) -> Any:
    """A value with texts in place of what YAML may have made of them."""
    if isinstance(value, Mapping):
        return {_restore_words(key, kinds): _restore_words(entry, kinds) for key, entry in value.items()}
    if isinstance(value, list):
        return [_restore_words(entry, kinds) for entry in value]
    return str(value) if isinstance(value, kinds) else value


def check_key(section: str, key: Any, options: Collection[str]) -> None:
    """Refuse a key that a section does not have.

    Args:
        section: Key of the section, for messages.
        key: The key.
        options: The keys that there are.

    Raises:
        ConfigError: If it is none of them.
    """
    if key not in options:
        raise ConfigError(
            f"{section}: unknown key '{key}'", f"{closest_hint(key, options)}known are {', '.join(options)}"
        )


def check_entries(section: str, entries: Mapping[str, Any], kinds: Mapping[str, Any]) -> None:
    """Refuse an unknown key of a section, and a value of another kind than its key has.

    Args:
        section: Key of the section, for messages.
        entries: Its content.
        kinds: Annotation of each key that there is.

    Raises:
        ConfigError: For the first entry that does not fit.
    """
    for key, value in entries.items():
        check_key(section, key, kinds)
        check(f"{section}.{key}", value, kinds[key])


def check_known_keys(section: str, keys: Iterable[Any], known: Collection[str]) -> None:
    """Refuse a mapping that has a key which it does not take.

    Args:
        section: Key of the mapping, for messages.
        keys: Its keys.
        known: The keys that there are.

    Raises:
        ConfigError: For the first that is none of them.
    """
    if unknown := [str(key) for key in keys if key not in known]:
        hint = closest_hint(unknown[0], known)
        raise ConfigError(f"{section} has the unknown key '{unknown[0]}'", f"{hint}known are {', '.join(known)}")


def shown(value: Any) -> str:
    """A value as a config would write it."""
    if isinstance(value, bool):
        return str(value).lower()
    return "null" if value is None else repr(value)


def _collect_literals(annotation: Any) -> list[Any]:
    if typing.get_origin(annotation) is Literal:
        return list(typing.get_args(annotation))
    return [option for part in typing.get_args(annotation) for option in _collect_literals(part)]


def checked(function: _Function) -> _Function:
    """Let a function refuse arguments that are not what its annotations say.

    Raises:
        ConfigError: By the function, naming the argument.
    """
    signature = inspect.signature(function)

    @functools.wraps(function)
    def check_and_call(*positional: Any, **keywords: Any) -> Any:
        annotations = _cached_annotations(function)
        arguments = signature.bind_partial(*positional, **keywords).arguments
        for name, value in arguments.items():
            parameter = signature.parameters[name]
            is_default = value is None and parameter.default is None
            if parameter.kind not in (parameter.VAR_KEYWORD, parameter.VAR_POSITIONAL) and not is_default:
                check(name, value, annotations.get(name, Any))
        return function(*positional, **keywords)

    return typing.cast(_Function, check_and_call)


@functools.cache
def _cached_annotations(function: Callable[..., Any]) -> dict[str, Any]:
    return annotations_of(function)
