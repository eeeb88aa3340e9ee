"""Loss functions by one word: what a term of a loss does with an error."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from nequip_like.arguments import Positive, check
from nequip_like.data.fields import FIELDS
from nequip_like.errors import ConfigError, did_you_mean
from nequip_like.metrics.elementwise import (
    Edges,
    ErrorMetric,
    HuberLoss,
    MeanAbsoluteError,
    MeanSquaredError,
    RootMeanSquaredError,
    SmoothL1Loss,
    StratifiedHuberForceLoss,
)
from nequip_like.metrics.terms import check_term_names

# Where Huber losses go over into lines, in eV, eV/Angstrom, ...; for large forces earlier.
DELTA = 0.01
STRATA: dict[float | str, float] = {0.0: 0.01, 100.0: 0.007, 200.0: 0.004, 300.0: 0.001}

STRATIFIED = "stratified_huber"
_METRICS: dict[str, type[ErrorMetric]] = {
    "mse": MeanSquaredError,
    "mae": MeanAbsoluteError,
    "smooth_l1": SmoothL1Loss,
    "rmse": RootMeanSquaredError,
}
_ALIASES = {"l1": "mae", "l2": "mse", "smoothl1": "smooth_l1"}
WORDS = (*_METRICS, "huber", STRATIFIED)

Words = str | Mapping[str, str]


def resolve_function(value: str) -> str:
    """The word for a loss function, of any of its names in any case.

    Raises:
        ConfigError: If there is no such function.

    Example:
        >>> resolve_function("L1"), resolve_function("l2"), resolve_function("SmoothL1")
        ('mae', 'mse', 'smooth_l1')
    """
    word = value.lower()
    word = _ALIASES.get(word, word)
    if word not in WORDS:
        raise ConfigError(f"unknown loss function '{value}'", did_you_mean(word, [*WORDS, *_ALIASES]))
    return word


@dataclass(frozen=True)
class LossFunctions:
    """The functions of the terms of one loss.

    Args:
        function: One word for all terms, or ``{term: word}``; terms that are not named have ``mse``. The one word
            ``stratified_huber`` means it for vectors, and ``huber`` for the rest.
        delta: Of ``huber``: where the parabola goes over into a line; one number for all terms, or ``{term: number}``;
            0.01 if not given.
        strata: Of ``stratified_huber``: lower bound of the norm of the label -> delta; if not given, 0.01 below 100
            eV/Angstrom, 0.007 below 200, 0.004 below 300, then 0.001.
        edges: Of ``stratified_huber``: where a norm exactly at a bound belongs, see
            :class:`~nequip_like.metrics.elementwise.StratifiedHuberForceLoss`.

    Example:
        ``stratified_huber`` is for vectors; the energy gets ``huber``:

        >>> terms = {"total_energy": "total_energy", "forces": "forces"}
        >>> {name: str(metric) for name, metric in LossFunctions("stratified_huber").build(terms).items()}
        {'total_energy': 'huber', 'forces': 'stratified_huber'}
        >>> LossFunctions("mse", delta=0.1).build(terms)
        Traceback (most recent call last):
        ...
        nequip_like.errors.ConfigError: delta of a loss is given, but no term uses it
          -> give function: huber
    """

    function: Words = "mse"
    delta: float | Mapping[str, float] | None = None
    strata: Mapping[float | str, float] | None = None
    edges: Edges = "above"

    def build(self, terms: Mapping[str, str]) -> dict[str, ErrorMetric]:
        """The metric of each term.

        Args:
            terms: Name of a term -> the field that it is of.

        Raises:
            ConfigError: If a name or a word is unknown, if a number is out of range, or if nothing uses what is given.
        """
        words = self._resolve_words(terms)
        self._check_used(words)
        deltas = self._resolve_deltas(list(terms))
        metrics: dict[str, ErrorMetric] = {}
        for name, word in words.items():
            if word == STRATIFIED:
                strata = STRATA if self.strata is None else self.strata
                metrics[name] = StratifiedHuberForceLoss(strata, edges=self.edges)
            elif word == "huber":
                metrics[name] = HuberLoss(delta=deltas[name])
            else:
                metrics[name] = _METRICS[word]()
        return metrics

    def _resolve_words(self, terms: Mapping[str, str]) -> dict[str, str]:
        if isinstance(self.function, str):
            word = resolve_function(self.function)
            scalar_word = "huber" if word == STRATIFIED else word
            return {name: word if _is_vector(field) else scalar_word for name, field in terms.items()}
        check("function", self.function, Mapping[str, str])
        check_term_names(self.function, list(terms), "term in function:")
        words = {name: resolve_function(self.function.get(name, "mse")) for name in terms}
        for name, word in words.items():
            if word == STRATIFIED and not _is_vector(terms[name]):
                raise ConfigError(f"function of '{name}' is {STRATIFIED}, which is for vectors", "write huber")
        return words

    def _check_used(self, words: Mapping[str, str]) -> None:
        uses = {
            "delta": self.delta is None or "huber" in words.values(),
            "strata": self.strata is None or STRATIFIED in words.values(),
            "edges": self.edges == "above" or STRATIFIED in words.values(),
        }
        for key, is_used in uses.items():
            if not is_used:
                function = "huber" if key == "delta" else STRATIFIED
                raise ConfigError(f"{key} of a loss is given, but no term uses it", f"give function: {function}")

    def _resolve_deltas(self, names: Sequence[str]) -> dict[str, float]:
        if isinstance(self.delta, Mapping):
            check_term_names(self.delta, names, "term in delta:")
            return {name: float(self.delta.get(name, DELTA)) for name in names}
        check("delta", self.delta, Positive | None)
        return dict.fromkeys(names, DELTA if self.delta is None else float(self.delta))


def _is_vector(field: str) -> bool:
    return FIELDS[field].character == "vector"
