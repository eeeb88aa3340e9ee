"""How the time is divided: trials of rates and of models, and the training itself."""

from __future__ import annotations

from dataclasses import dataclass

LEAST_SEARCHED = 240.0  # seconds; a shorter time is better spent on training alone
LEAST_COMPARED = 600.0  # seconds; models are compared, and half of the data tried
_SHARE_OF_TRIAL = 1 / 40
_LONG = 2  # the second round's trials are so many times as long as the first's


@dataclass(frozen=True)
class SearchPlan:
    """The trials before the training.

    Attributes:
        rates: Number of learning rates that are tried.
        models: Number of models that are compared; 0 for none.
        trial: Seconds of a trial of a rate.
        long_trial: Seconds of a trial of a model, and of one with half of the data.
        half_data: Whether half of the data is tried, for what more data would bring.
    """

    rates: int
    models: int
    trial: float
    long_trial: float
    half_data: bool

    @property
    def seconds(self) -> float:
        """All together."""
        return self.rates * self.trial + (self.models + self.half_data) * self.long_trial


def divide_time(seconds: float, rates: int, models: int, least: float = 0.0) -> SearchPlan:
    """Divide a time between trials and the training.

    A trial of a rate is a 40th of the whole, one of a model twice as long. So three rates, three models and half of the
    data take a quarter.

    Args:
        seconds: What is left when data are read and steps are timed.
        rates: Number of rates that are worth a trial; 1 needs none.
        models: Number of models that are.
        least: Seconds below which a trial says nothing: data are read anew in each. Shorter ones are not made.

    Example:
        >>> divide_time(1800.0, 3, 2).seconds, divide_time(120.0, 3, 2).seconds
        (405.0, 0.0)
    """
    long = seconds >= LEAST_COMPARED
    trial = seconds * _SHARE_OF_TRIAL * (1 if long else 2)
    long_trial = _LONG * trial
    tried = rates if rates > 1 and seconds >= LEAST_SEARCHED and trial >= least else 0
    compares = long and long_trial >= least
    return SearchPlan(tried, models if models > 1 and compares else 0, trial, long_trial, half_data=compares)
