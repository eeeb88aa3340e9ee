"""Several data sets that are trained on together: how often frames of each are drawn."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from nequip_like.arguments import Positive, check, check_key
from nequip_like.data.io.given import is_graph, is_structure
from nequip_like.data.io.reading import Reading
from nequip_like.data.sampling.policies import UNIFORM, Sampling
from nequip_like.data.sources import SOURCE_KEYS, FileSource, check_set_names, file_source
from nequip_like.errors import ConfigError, DataError

_WEIGHT = "weight"


@dataclass(frozen=True)
class Mixture:
    """The data sets of ``data.train``, where there are several with names.

    Attributes:
        sources: ``{name: files}``.
        weights: ``{name: weight}``.
    """

    sources: Mapping[str, FileSource]
    weights: Mapping[str, float]

    @classmethod
    def read(
        cls, entry: Any, key_mapping: Mapping[str, str] | None = None, units: Mapping[str, str] | None = None
    ) -> Mixture | None:
        """The mixture of an entry; None if it is one data set.

        Args:
            entry: ``{name: {file, weight, ...}, ...}``, two sets or more, each as one alone may be given.
            key_mapping: For sets without their own.
            units: For sets without their own.

        Raises:
            ConfigError: Naming the set and the key that cannot be understood.

        Example:
            >>> mixture = Mixture.read({"water": {"file": "water.xyz", "weight": 2.0}, "ice": "ice.xyz"})
            >>> mixture.weights, mixture.sources["ice"].files
            ({'water': 2.0, 'ice': 1.0}, ['ice.xyz'])
        """
        if not names_sets(entry):
            return None
        check_set_names(entry, "train")
        sources, weights = {}, {}
        for name, item in entry.items():
            section, own = f"train.{name}", dict(item) if _is_mapping(item) else item
            weight = 1.0
            if _is_mapping(item):
                for key in item:
                    check_key(section, key, (*SOURCE_KEYS, _WEIGHT))
                weight = own.pop(_WEIGHT, 1.0)
            check(f"{section}.{_WEIGHT}", weight, Positive)
            sources[str(name)] = file_source(own, section, key_mapping, units)
            weights[str(name)] = float(weight)
        return cls(sources, weights)

    def read_frames(self, read: Callable[[FileSource], Reading] = FileSource.read) -> tuple[Reading, MixedFrames]:
        """Read all sets, one behind the other, and which frame is of which.

        Args:
            read: Reads one of them.

        Raises:
            ConfigError: If some of the sets are prepared and others are not.
        """
        readings = {name: read(source) for name, source in self.sources.items()}
        members = np.repeat(np.arange(len(readings)), [len(reading) for reading in readings.values()])
        return Reading.join(readings), MixedFrames(tuple(readings), tuple(self.weights.values()), members)


@dataclass(frozen=True)
class MixedFrames:
    """Which frame is of which set.

    Attributes:
        names: Names of the sets.
        weights: Their weights.
        members: Position of the set of each frame (frames,).
    """

    names: tuple[str, ...]
    weights: tuple[float, ...]
    members: np.ndarray

    def select(self, indices: Sequence[int] | np.ndarray) -> MixedFrames:
        """The same of some of the frames."""
        return MixedFrames(self.names, self.weights, self.members[np.asarray(indices, dtype=np.int64)])

    def list_frames(self, name: str) -> list[int]:
        """Indices of the frames of a set."""
        frames: list[int] = np.flatnonzero(self.members == self.names.index(name)).tolist()
        return frames

    def count_frames(self) -> np.ndarray:
        """Number of frames of each set (sets,).

        Raises:
            DataError: If a set has none.
        """
        counts = np.bincount(self.members, minlength=len(self.names))
        if empty := [name for name, count in zip(self.names, counts, strict=True) if count == 0]:
            raise DataError(
                f"no frame of data.train.{empty[0]} is left to train on", "leave the set out, or hold out fewer frames"
            )
        return counts

    def compute_shares(self, temperature: float = 1.0) -> np.ndarray:
        """Share of each set in what is drawn (sets,): ``p_k = w_k n_k^(1/T) / sum_j w_j n_j^(1/T)``.

        With weights of 1 and a temperature of 1 all frames are drawn alike; the higher the temperature, the nearer are
        the shares of large and small sets (Devlin et al., multilingual BERT, 2018; Arivazhagan et al.,
        arXiv:1907.05019).

        Args:
            temperature: ``T``.

        Example:
            100 and 10,000 frames, at temperatures of 1 and 2, and 2 with three times the weight of the small set:

            >>> members = np.repeat([0, 1], [100, 10_000])
            >>> sets = MixedFrames(("small", "large"), (1.0, 1.0), members)
            >>> [sets.compute_shares(temperature).round(3).tolist() for temperature in (1.0, 2.0)]
            [[0.01, 0.99], [0.091, 0.909]]
            >>> MixedFrames(sets.names, (3.0, 1.0), members).compute_shares(2.0).round(3).tolist()
            [0.231, 0.769]
        """
        counts = self.count_frames()
        # Of the largest set 1: no power of a large number is infinite.
        parts = np.array(self.weights) / max(self.weights) * (counts / counts.max()) ** (1.0 / temperature)
        shares: np.ndarray = parts / parts.sum()
        return shares

    def count_draws(self, samples: int, temperature: float = 1.0) -> list[int]:
        """Frames of each set in an epoch: their shares, rounded so that they add up to ``samples``.

        Raises:
            ConfigError: If a set would have none.
        """
        exact = self.compute_shares(temperature) * samples
        draws = np.floor(exact).astype(int)
        rest = np.argsort(draws - exact, kind="stable")[: samples - int(draws.sum())]  # the largest remainders
        draws[rest] += 1
        if not draws.all():
            name, share = self.names[int(draws.argmin())], exact[draws.argmin()]
            raise ConfigError(
                f"an epoch of {samples} frames has {share:.2g} of data.train.{name}",
                "give it a larger weight, a higher data.sampling.temperature, or more samples_per_epoch",
            )
        return [int(count) for count in draws]

    def balance(self, weights: np.ndarray, temperature: float = 1.0) -> np.ndarray:
        """Weights of frames, scaled within each set so that it has its share.

        Args:
            weights: Weight of each frame (frames,).
            temperature: See :meth:`compute_shares`.

        Returns:
            Weights with a mean of 1 (frames,).
        """
        sums = np.bincount(self.members, weights, len(self.names))
        factors = self.compute_shares(temperature) * len(self.members) / sums
        balanced: np.ndarray = weights * factors[self.members]
        return balanced


def names_sets(entry: Any) -> bool:
    """Whether an entry of a config is a mapping from names to several data sets."""
    return _is_mapping(entry) and len(entry) > 1 and not set(entry) & {*SOURCE_KEYS, _WEIGHT}


def check_drawing(sampling: Sampling, train: Any, *, replayed: bool = False, shuffle: bool = True) -> None:
    """Refuse a way to draw frames that the data cannot have.

    Args:
        sampling: The way.
        train: The training data, as a config has them.
        replayed: Whether a part of each epoch comes from other data.
        shuffle: Whether each epoch has an order of its own.

    Raises:
        ConfigError: With the key.
    """
    if sampling.draws_frames and replayed:
        raise ConfigError("data.sampling and data.replay are given", "draw by one of them")
    if sampling.bootstrap is not None and (replayed or names_sets(train)):
        raise ConfigError(
            "sampling.bootstrap is given, with several data sets or a replay", "give one training set, or leave it out"
        )
    if sampling.temperature != 1 and not names_sets(train):
        raise ConfigError(
            f"sampling.temperature is {sampling.temperature:g}, but data.train is one data set",
            "name several: train: {water: water.xyz, ice: ice.xyz}, or leave it out",
        )
    if sampling.policy != UNIFORM and not shuffle:
        raise ConfigError(
            f"sampling.policy is {sampling.policy}, but shuffle is false", "leave shuffle out: frames are drawn"
        )


def _is_mapping(entry: Any) -> bool:
    return isinstance(entry, Mapping) and not is_graph(entry) and not is_structure(entry)
