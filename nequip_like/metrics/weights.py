"""Terms and their coefficients: scaled to sum up to 1, or absolute weights."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch import nn

from nequip_like.errors import ConfigError, did_you_mean
from nequip_like.metrics.elementwise import ErrorMetric
from nequip_like.metrics.terms import WEIGHTED_SUM, Term, check_coefficient, check_term_names

Coefficients = dict[str, float | None]


def scale_coefficients(coeffs: Mapping[str, float | None], terms: Sequence[Term], absolute: bool) -> Coefficients:
    """Coefficients of all terms as they are used.

    Args:
        coeffs: Name of a term -> coefficient. Terms that are not named are only observed.
        terms: All terms.
        absolute: Take them as they are; otherwise scale them to sum up to 1.

    Raises:
        ConfigError: If a name is unknown, or if a coefficient is neither null nor a finite number >= 0.
    """
    check_term_names(coeffs, [term.name for term in terms], "metric in coeffs:")
    values = {term.name: check_coefficient(term.name, coeffs.get(term.name)) for term in terms}
    total = sum(value or 0.0 for value in values.values())
    if absolute or total == 0:
        return values
    return {name: value if value is None else value / total for name, value in values.items()}


def format_weight(weight: float) -> str:
    """A coefficient for tables: 0.333, or 1000 and not 1e+03.

    Example:
        >>> format_weight(1 / 3), format_weight(1000.0)
        ('0.333', '1000')
    """
    return f"{weight:.3g}" if weight < 100 else f"{weight:g}"


def find_term_name(key: str, terms: Sequence[Term], subject: str) -> str:
    """Name of the term that is meant by its name, by what it is of, or by its field.

    Args:
        key: ``per_atom_energy_mse``, ``per_atom_energy``, or ``total_energy`` if only one term of the energy has a
            coefficient.
        terms: All terms.
        subject: What names it, for messages.

    Raises:
        ConfigError: If there is no such term, or if several are meant.
    """
    weighted = [term for term in terms if term.coeff is not None]
    for names_by_key in (
        _group_names(terms, _get_name),
        _group_names(weighted, _strip_metric),
        _group_names(weighted, _get_field),
    ):
        if key in names_by_key:
            names = names_by_key[key]
            if len(names) > 1:
                raise ConfigError(f"{subject}: several terms are of '{key}'", f"name one: {', '.join(names)}")
            return names[0]
    names = [
        *_group_names(terms, _get_name),
        *_group_names(weighted, _strip_metric),
        *_group_names(weighted, _get_field),
    ]
    raise ConfigError(f"{subject}: there is no term '{key}'", did_you_mean(key, dict.fromkeys(names)))


def _group_names(terms: Sequence[Term], called: Callable[[Term], str]) -> dict[str, list[str]]:
    """Names of the terms by what they are called."""
    names_by_key: dict[str, list[str]] = {}
    for term in terms:
        if key := called(term):
            names_by_key.setdefault(key, []).append(term.name)
    return names_by_key


def _get_name(term: Term) -> str:
    return term.name


def _strip_metric(term: Term) -> str:
    suffix = f"_{term.metric}"
    return term.name.removesuffix(suffix) if term.name.endswith(suffix) else ""


def _get_field(term: Term) -> str:
    fields = term.modifier.prediction_fields if term.modifier is not None else ()
    return next(iter(fields)) if len(fields) == 1 else ""


class WeightedTerms(nn.Module):
    """Some terms and their coefficients in the weighted sum.

    Args:
        terms: The terms.
        absolute: Take coefficients as they are, in place of scaling them to sum up to 1.
    """

    def __init__(self, terms: Sequence[Term], absolute: bool = False) -> None:
        super().__init__()
        self.terms = list(terms)
        self.absolute = absolute
        self._coeffs: Coefficients = {}
        self._active: list[int] = []

    @property
    def coeffs(self) -> Coefficients:
        """Coefficient of each term as it is used (scaled, unless ``absolute``); None if it is only observed."""
        return dict(self._coeffs)

    @property
    def configured_coeffs(self) -> Coefficients:
        """Coefficient of each term as it was configured, not scaled."""
        return {term.name: term.coeff for term in self.terms}

    def scaled(self, coeffs: Mapping[str, float | None]) -> Coefficients:
        """What :attr:`coeffs` would be after :meth:`set_coeffs`.

        Raises:
            ConfigError: As :meth:`set_coeffs`.
        """
        return scale_coefficients(coeffs, self.terms, self.absolute)

    def term_name(self, key: str, subject: str) -> str:
        """Name of the term with a name, or of the only weighted one of a quantity or field.

        Raises:
            ConfigError: If there is none, or if several are meant; ``subject`` begins the message.

        Example:
            A term may be meant by its name, by what it is of, or by its field:

            >>> from nequip_like.metrics import EnergyForceLoss
            >>> loss = EnergyForceLoss()
            >>> [loss.term_name(key, "start") for key in ("per_atom_energy_mse", "per_atom_energy", "total_energy")]
            ['per_atom_energy_mse', 'per_atom_energy_mse', 'per_atom_energy_mse']
        """
        return find_term_name(key, self.terms, subject)

    @property
    def has_weighted_sum(self) -> bool:
        """Whether any coefficient is larger than 0. Otherwise results have no ``weighted_sum``."""
        return bool(self._active)

    @property
    def log_names(self) -> list[str]:
        """Names of all values that it gives."""
        names = [name for term in self.terms for name in term.log_names]
        return [*names, WEIGHTED_SUM] if self.has_weighted_sum else names

    def set_coeffs(self, coeffs: Mapping[str, float | None]) -> None:
        """Set all coefficients; those of terms that are not named become null. They are scaled unless ``absolute``.

        Raises:
            ConfigError: If a name is unknown, or if a coefficient is neither null nor a finite number >= 0.
        """
        self._use(self.scaled(coeffs))

    def _use(self, coeffs: Coefficients) -> None:
        """Take coefficients of all terms as they are: scaling them again could change their last bit."""
        self._coeffs = coeffs
        self._active = [position for position, term in enumerate(self.terms) if coeffs[term.name]]

    def get_extra_state(self) -> dict[str, Any]:
        """Coefficients, for checkpoints: plain numbers, loadable with ``weights_only=True``."""
        return {"coeffs": self.coeffs, "absolute": self.absolute}

    def set_extra_state(self, state: dict[str, Any]) -> None:
        """Restore the coefficients.

        Raises:
            ConfigError: If the checkpoint's metrics have other names than this manager's, or if only one of both has
                absolute weights.
        """
        if state["coeffs"].keys() != self._coeffs.keys():
            raise ConfigError(
                f"the checkpoint has the metrics {', '.join(state['coeffs'])}; the config {', '.join(self._coeffs)}",
                "give both the same metrics",
            )
        if state.get("absolute", False) != self.absolute:  # older checkpoints know scaled ones only
            kinds = ("coeffs, which are scaled", "weights, which are absolute")
            raise ConfigError(
                f"the loss of the checkpoint has {kinds[not self.absolute]}; that of the config {kinds[self.absolute]}",
                "resume with the same kind",
            )
        self._use({name: check_coefficient(name, state["coeffs"][name]) for name in self._coeffs})

    def required_fields(self) -> set[str]:
        """Labels that the data set must have."""
        return {key for term in self.terms if term.modifier for key in term.modifier.target_fields}

    def without_gradient(self) -> list[str]:
        """Names of the terms that have a coefficient, but no gradient."""
        terms = [self.terms[position] for position in self._active]
        return [t.name for t in terms if isinstance(t.metric, ErrorMetric) and not t.metric.is_differentiable]

    def describe(self) -> list[tuple[str, str, str, float | None]]:
        """Rows of a table: name, field, metric, scaled coefficient (None: observed only)."""
        return [
            (
                term.name,
                term.modifier.label if term.modifier else "",
                type(term.metric).__name__,
                self._coeffs[term.name],
            )
            for term in self.terms
        ]
