"""What a search may choose: the values of overrides in Hydra's words, as Optuna's distributions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from hydra.core.config_loader import ConfigLoader
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import IntervalSweep, Override, RangeSweep

from nequip_like.errors import ConfigError

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution


def read_search_space(
    overrides: Sequence[str], loader: ConfigLoader | None = None
) -> tuple[dict[str, BaseDistribution], list[str]]:
    """Read what varies, and what does not.

    ``a,b`` and ``choice(a,b)`` are one of a few, ``range(1,4)`` whole numbers below 4 or numbers in steps,
    ``interval(1e-4,1e-2)`` any number, ``tag(log,interval(1e-4,1e-2))`` one whose logarithm is spread evenly, and
    ``int(interval(8,64))`` whole numbers with both ends.

    Args:
        overrides: As they were typed.
        loader: Finds the options of a group for ``glob(*)``.

    Returns:
        A distribution for each key that varies, and the other overrides.

    Raises:
        ConfigError: If values cannot be searched.

    Example:
        >>> space, fixed = read_search_space(["seed=1", "optimizer.lr=tag(log,interval(1e-4,1e-2))"])
        >>> space["optimizer.lr"].low, space["optimizer.lr"].log, fixed
        (0.0001, True, ['seed=1'])
    """
    space: dict[str, BaseDistribution] = {}
    fixed: list[str] = []
    for parsed in OverridesParser.create(config_loader=loader).parse_overrides(list(overrides)):
        if not parsed.is_sweep_override():
            space.pop(parsed.get_key_element(), None)  # what is typed later counts, as with all overrides
            fixed.append(str(parsed.input_line))
            continue
        try:
            space[parsed.get_key_element()] = _read_distribution(parsed)
        except ValueError as error:
            raise ConfigError(
                f"'{parsed.input_line}' cannot be searched: {error}",
                f"write {parsed.key_or_group}=interval(A,B) with A below B; tag(log,interval(A,B)) with both above 0",
            ) from error
    return space, fixed


def write_override(key: str, value: Any) -> str:
    """The override of a chosen value: texts are as they were typed.

    Example:
        >>> write_override("model.l_max", 2), write_override("optimizer.lr", 1e-05)
        ('model.l_max=2', 'optimizer.lr=1e-05')
    """
    return f"{key}={value if isinstance(value, str) else repr(value)}"


def _read_distribution(parsed: Override) -> BaseDistribution:
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    value = parsed.value()
    tags: set[str] = getattr(value, "tags", set())
    if unused := tags - ({"log"} if isinstance(value, IntervalSweep) else set()):
        raise ValueError(f"the tag {sorted(unused)[0]} has no meaning here")
    if isinstance(value, IntervalSweep):
        low, high, log = value.start, value.end, "log" in tags
        if low is None or high is None:
            raise ValueError("an end is missing")
        if isinstance(low, int) and isinstance(high, int):
            return IntDistribution(low, high, log=log)
        return FloatDistribution(float(low), float(high), log=log)
    if isinstance(value, RangeSweep) and not value.shuffle:
        numbers = list(value.range())
        if not numbers:
            raise ValueError("the range is empty")
        if all(isinstance(number, int) for number in numbers):
            return IntDistribution(min(numbers), max(numbers), step=abs(int(value.step)))
        return FloatDistribution(float(min(numbers)), float(max(numbers)), step=abs(float(value.step)))
    return CategoricalDistribution(list(dict.fromkeys(parsed.sweep_string_iterator())))
