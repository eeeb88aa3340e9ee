"""Groups of parameters: which ones weight decay acts on, and learning rates of their own."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from torch import Tensor, nn

from nequip_like.arguments import FromZero, Positive, check, check_known_keys
from nequip_like.errors import ConfigError
from nequip_like.instantiate import instantiate
from nequip_like.model.finetuning import chosen_parameters, fits_to_name
from nequip_like.moved import find_current_word
from nequip_like.nn.scale_shift import PerTypeScaleShift
from nequip_like.optim.matrices import IS_MATRIX, is_hidden_matrix

_KEY = "optimizer.param_groups"
_DECAY_KEY = "optimizer.weight_decay_groups"
DecayGroups = Literal["all", "no_bias"] | list[str | list[str]]
_OPTIONS: dict[str, Any] = {"lr": Positive, "weight_decay": FromZero}
_RULE = ("match", *_OPTIONS)

# What no decay of weights is meant for, by the last part of the name, whatever the shape.
_NO_WEIGHTS = ("bias", "biases", "scale", "scales", "shift", "shifts", "frequencies")
_NORMALISATIONS = (nn.LayerNorm, nn.GroupNorm, nn.modules.batchnorm._BatchNorm)


@dataclass(frozen=True)
class Rule:
    """Options of the parameters whose names fit to a pattern.

    Args:
        patterns: As :func:`~nequip_like.model.finetuning.freezing.chosen_parameters` takes them.
        options: ``lr`` and ``weight_decay``.
    """

    patterns: tuple[str, ...]
    options: Mapping[str, float]

    @property
    def label(self) -> str:
        """The patterns."""
        return "+".join(self.patterns)


def check_groups(groups: Any, decay: Any) -> list[Rule] | None:
    """Read ``param_groups`` and ``weight_decay_groups`` of an optimizer, as far as it goes without the model.

    Args:
        groups: A list of ``{match, lr, weight_decay}``, a mapping with a ``_target_``, or None.
        decay: ``all``, ``no_bias``, or a list of patterns.

    Returns:
        The rules; None if a function makes the groups.

    Raises:
        ConfigError: If either cannot mean what was written.

    Example:
        >>> check_groups([{"match": "readout", "lr": 1e-4}], "no_bias")
        [Rule(patterns=('readout',), options={'lr': 0.0001})]
        >>> check_groups([{"match": "readout"}], "all")
        Traceback (most recent call last):
        ...
        nequip_like.errors.ConfigError: optimizer.param_groups[0] changes nothing
          -> give lr or weight_decay
    """
    decay = find_current_word("weight_decay_groups", decay)
    check(_DECAY_KEY, decay, DecayGroups)
    if isinstance(decay, list) and not (decay and all(entry and all(entry) for entry in decay)):
        raise ConfigError(f"{_DECAY_KEY} has an empty pattern", "give parts of names: [linear_out., readout]")
    if groups is None:
        return []
    if isinstance(groups, Mapping):
        if "_target_" not in groups:
            raise ConfigError(
                f"{_KEY} is a mapping without _target_", "write a list: [{match: readout, lr: 1e-4}, ...]"
            )
        if decay != "all":
            raise ConfigError(
                f"{_DECAY_KEY} is {decay!r}, but param_groups names a function, which decides", "leave one out"
            )
        return None
    if not isinstance(groups, Sequence) or isinstance(groups, str):
        raise ConfigError(f"{_KEY} is {groups!r}", "write a list: [{match: readout, lr: 1e-4}, ...]")
    return [_read_rule(f"{_KEY}[{i}]", entry) for i, entry in enumerate(groups)]


def _read_rule(position: str, entry: Any) -> Rule:
    if not isinstance(entry, Mapping) or not entry.get("match"):
        raise ConfigError(
            f"{position} has no 'match'", "give a part of the parameters' names: {match: readout, lr: 1e-4}"
        )
    check_known_keys(position, entry, _RULE)
    check(f"{position}.match", entry["match"], str | list[str])
    options = {key: entry[key] for key in _OPTIONS if entry.get(key) is not None}
    if not options:
        raise ConfigError(f"{position} changes nothing", f"give {' or '.join(_OPTIONS)}")
    for key, value in options.items():
        check(f"{position}.{key}", value, _OPTIONS[key])
    patterns = (entry["match"],) if isinstance(entry["match"], str) else tuple(entry["match"])
    return Rule(patterns, {key: float(value) for key, value in options.items()})


def parameter_groups(
    model: nn.Module, groups: Any = None, decay: DecayGroups = "all", *, by_matrix: bool = False
) -> list[dict[str, Any]]:
    """Groups of the trainable parameters of a model. Frozen ones are in none.

    A parameter belongs to the first rule that its name fits to. A rule's ``weight_decay`` is for all of its parameters;
    where it has none, ``decay`` tells which of them are decayed.

    Args:
        model: The model.
        groups: As ``param_groups`` of :func:`check_groups`.
        decay: Which parameters weight decay acts on: ``all``; ``no_bias``, all but biases, scales, shifts, frequencies,
            parameters of normalisations and others of one dimension; or those whose names fit to one of some patterns,
            ``["linear_out.", ["self_connection.", "skip_tp"]]``. Each entry has to fit; in a list, one of its patterns.
        by_matrix: Put matrices between features apart, see :mod:`nequip_like.optim.matrices`.

    Returns:
        Groups as torch's optimizers take them, those without a rule first; the key ``name`` tells them apart in logs.
        A single group without options of its own has no further keys.

    Raises:
        ConfigError: If nothing is trainable, a rule is wrong or fits to no trainable parameter that is left for it, or
            a pattern of ``decay`` to none.

    Example:
        The head learns faster, and has its own group; what no rule is for comes first:

        >>> model = nn.ModuleDict({"body": nn.Linear(2, 2), "head": nn.Linear(2, 1)})
        >>> groups = parameter_groups(model, [{"match": "head", "lr": 0.1}])
        >>> [(group["name"], group.get("lr"), len(group["params"])) for group in groups]
        [('main', None, 2), ('head', 0.1, 2)]
    """
    rules = check_groups(groups, decay)
    trainable = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
    if not trainable:
        raise ConfigError("the model has no trainable parameters", "leave 'train' out of run, or unfreeze parameters")
    if rules is None:
        return _call_group_function(groups, model)
    rule_numbers = _assign_rules(model, rules, trainable)
    decayed = _select_decayed(model, find_current_word("weight_decay_groups", decay), trainable)
    parts: dict[tuple[int, bool, bool], list[nn.Parameter]] = {}
    for name, parameter in trainable.items():
        number = rule_numbers.get(name, -1)
        own_decay = number >= 0 and "weight_decay" in rules[number].options
        is_matrix = by_matrix and is_hidden_matrix(name, parameter, _find_owner(model, name))
        key = (number, not (own_decay or name in decayed), not is_matrix)
        parts.setdefault(key, []).append(parameter)
    if parts.keys() == {(-1, False, True)} and not by_matrix:
        return [{"params": parts[-1, False, True]}]
    return [
        _group(parts[key], rules[key[0]] if key[0] >= 0 else None, *key[1:], by_matrix=by_matrix)
        for key in sorted(parts)
    ]


def _assign_rules(model: nn.Module, rules: Sequence[Rule], trainable: Mapping[str, nn.Parameter]) -> dict[str, int]:
    """For each parameter that a rule is for, the number of the first one."""
    rule_numbers: dict[str, int] = {}
    for i, rule in enumerate(rules):
        key = f"{_KEY}[{i}].match"
        names = [name for name in chosen_parameters(model, rule.patterns, key) if name in trainable]
        if not names:
            raise ConfigError(f"{key}: all that '{rule.label}' fits to is frozen", "leave it out, or train these")
        free = [name for name in names if name not in rule_numbers]
        if not free:
            raise ConfigError(
                f"{key}: all that '{rule.label}' fits to belongs to rules before it", "put it before them"
            )
        rule_numbers |= dict.fromkeys(free, i)
    return rule_numbers


def _group(
    parameters: list[nn.Parameter], rule: Rule | None, not_decayed: bool, by_adamw: bool, *, by_matrix: bool
) -> dict[str, Any]:
    words = ["main" if rule is None else rule.label]
    group: dict[str, Any] = {"params": parameters, **({} if rule is None else rule.options)}
    if not_decayed:
        words.append("no_decay")
        group["weight_decay"] = 0.0
    if by_matrix:
        words.append("adamw" if by_adamw else "matrices")
        group[IS_MATRIX] = not by_adamw
    return {**group, "name": "-".join(words)}


def _call_group_function(config: Mapping[str, Any], model: nn.Module) -> list[dict[str, Any]]:
    """What a function of the user's gives: parameters or groups, without the frozen ones."""
    results = list(instantiate(_KEY, config, model=model))
    groups = results if results and isinstance(results[0], Mapping) else [{"params": results}]
    trainable_groups = []
    for group in groups:
        parameters = [group["params"]] if isinstance(group["params"], Tensor) else list(group["params"])
        if trainable := [parameter for parameter in parameters if parameter.requires_grad]:
            trainable_groups.append({**group, "params": trainable})
    if not trainable_groups:
        raise ConfigError(f"{_KEY}: {config['_target_']} gives no trainable parameters", "give some")
    return trainable_groups


# --- weight decay


def _select_decayed(model: nn.Module, kind: DecayGroups, trainable: Mapping[str, nn.Parameter]) -> set[str]:
    """Names of the parameters that weight decay acts on."""
    if kind == "all":
        return set(trainable)
    if kind == "no_bias":
        return {name for name, parameter in trainable.items() if _is_weight(name, parameter, _find_owner(model, name))}
    decayed: set[str] = set()
    for i, entry in enumerate(kind):
        patterns = [entry] if isinstance(entry, str) else entry
        names = {name for name in trainable if any(fits_to_name(pattern, name) for pattern in patterns)}
        if not names:
            position = f"{_DECAY_KEY}[{i}]"
            chosen_parameters(model, patterns, position)  # refuses what fits to nothing at all
            raise ConfigError(f"{position}: all that '{' or '.join(patterns)}' fits to is frozen", "leave it out")
        decayed |= names
    return decayed


def _is_weight(name: str, parameter: Tensor, owner: nn.Module) -> bool:
    """Whether a parameter is a weight of a map, and no bias, scale, shift or frequency."""
    if name.rpartition(".")[2] in _NO_WEIGHTS or isinstance(owner, (PerTypeScaleShift, *_NORMALISATIONS)):
        return False
    # e3nn packs the matrices of a map into one row, and tells how many numbers that are.
    return parameter.ndim > 1 or hasattr(owner, "weight_numel")


def _find_owner(model: nn.Module, name: str) -> nn.Module:
    """The module that a parameter belongs to; of a list of parameters, the module that has the list."""
    return next(
        module
        for module in reversed(list(_walk_to_parameter(model, name)))
        if not isinstance(module, nn.ParameterList | nn.ParameterDict)
    )


def _walk_to_parameter(model: nn.Module, name: str) -> Iterator[nn.Module]:
    yield model
    for word in name.split(".")[:-1]:
        model = getattr(model, word)
        yield model
