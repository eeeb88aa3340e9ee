"""What a committee predicts: the mean of its members, their spread, and a table of the least certain structures."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from nequip_like.data import fields
from nequip_like.data.fields import Graph
from nequip_like.errors import ConfigError, did_you_mean
from nequip_like.summaries import Summarized

if TYPE_CHECKING:
    import pandas


@dataclass(frozen=True, repr=False)
class CommitteePrediction(Summarized):
    """The prediction of one structure. Standard deviations are over the members, with their number below the sum.

    Attributes:
        index: Position among the structures that were asked for.
        identifier: File and frame that it comes from.
        member_energies: Energy that each member predicts, shape (members,), eV.
        member_forces: Forces, shape (members, atoms, 3), eV/Angstrom; None of a committee without forces.
        member_stress: Stress, shape (members, 3, 3), eV/Angstrom^3; NaN without a cell, None without forces.
        energy_scale: What calibration multiplies the spread of energies by; 1 without one.
        forces_scale: The same of forces.
    """

    index: int
    identifier: str
    member_energies: np.ndarray
    member_forces: np.ndarray | None = None
    member_stress: np.ndarray | None = None
    energy_scale: float = 1.0
    forces_scale: float = 1.0

    @property
    def energy_mean(self) -> float:
        """Energy, eV."""
        return float(self.member_energies.mean())

    @property
    def energy_std(self) -> float:
        """Standard deviation of the energy, eV."""
        return float(self.member_energies.std())

    @property
    def energy_uncertainty(self) -> float:
        """:attr:`energy_std` as it is calibrated: the expected error of the energy, eV."""
        return self.energy_std * self.energy_scale

    @property
    def forces_mean(self) -> np.ndarray:
        """Forces, shape (atoms, 3), eV/Angstrom."""
        mean: np.ndarray = self._get_forces().mean(0)
        return mean

    @property
    def forces_std(self) -> np.ndarray:
        """Standard deviation of each component of the forces, shape (atoms, 3), eV/Angstrom."""
        spread: np.ndarray = self._get_forces().std(0)
        return spread

    @property
    def forces_uncertainty(self) -> np.ndarray:
        """:attr:`forces_std` as it is calibrated, shape (atoms, 3), eV/Angstrom."""
        return self.forces_std * self.forces_scale

    @property
    def force_uncertainty(self) -> np.ndarray:
        """Of each atom, the mean of :attr:`forces_uncertainty` over x, y and z, shape (atoms,), eV/Angstrom.

        Of a committee that is not calibrated that is the mean of :attr:`forces_std`.
        """
        return compute_force_uncertainty(self.forces_uncertainty)

    @property
    def max_force_uncertainty(self) -> float:
        """The largest :attr:`force_uncertainty` of an atom, eV/Angstrom; NaN without forces."""
        return float("nan") if self.member_forces is None else float(self.force_uncertainty.max())

    @property
    def mean_force_uncertainty(self) -> float:
        """The mean :attr:`force_uncertainty` of the atoms, eV/Angstrom; NaN without forces."""
        return float("nan") if self.member_forces is None else float(self.force_uncertainty.mean())

    @property
    def num_members(self) -> int:
        """Number of members."""
        return len(self.member_energies)

    def summary(self) -> dict[str, Any]:
        """Where it comes from, energy and uncertainties."""
        values = {"identifier": self.identifier, "energy_mean": self.energy_mean, "energy_std": self.energy_std}
        return values | ({} if self.member_forces is None else {"max_force_uncertainty": self.max_force_uncertainty})

    def list_values(self) -> dict[str, Any]:
        """The row of this structure in a table."""
        return {
            "index": self.index,
            "identifier": self.identifier,
            "energy": self.energy_mean,
            "energy_mean": self.energy_mean,
            "energy_std": self.energy_std,
            "energy_uncertainty": self.energy_uncertainty,
            "member_energies": self.member_energies.tolist(),
            "max_force_uncertainty": self.max_force_uncertainty,
            "mean_force_uncertainty": self.mean_force_uncertainty,
            "num_members": self.num_members,
            "aggregation": "mean",
        }

    def _get_forces(self) -> np.ndarray:
        if self.member_forces is None:
            raise ConfigError(
                "the committee predicts no forces", "load members that were built with do_derivatives=true"
            )
        return self.member_forces


def compute_force_uncertainty(spread: np.ndarray) -> np.ndarray:
    """Of each atom, the mean over x, y and z of the standard deviations of its force.

    Args:
        spread: Shape (atoms, 3), eV/Angstrom.

    Returns:
        Shape (atoms,), eV/Angstrom.

    Example:
        >>> compute_force_uncertainty(np.array([[0.0, 0.1, 0.2]])).round(6).tolist()
        [0.1]
    """
    mean: np.ndarray = spread.mean(-1)
    return mean


_KEYS: dict[str, Callable[[CommitteePrediction], float]] = {
    "max_force_uncertainty": lambda prediction: prediction.max_force_uncertainty,
    "mean_force_uncertainty": lambda prediction: prediction.mean_force_uncertainty,
    "energy_std": lambda prediction: prediction.energy_std,
}


class CommitteePredictions(Summarized, list[CommitteePrediction]):
    """Predictions of several structures, in their order."""

    def summary(self) -> dict[str, Any]:
        """How many, and the largest uncertainty."""
        worst = self.top_uncertain(1)
        return {"structures": len(self)} | ({"least_certain": worst[0].identifier} if worst else {})

    def _repr_html_(self) -> str:
        return Summarized._repr_html_(self)

    def sort_by(self, key: str | None = None, *, descending: bool = True) -> CommitteePredictions:
        """Sort by an uncertainty.

        Args:
            key: ``max_force_uncertainty``, ``mean_force_uncertainty`` or ``energy_std``; by default the first, or of
                a committee without forces the last.
            descending: The least certain first.

        Raises:
            ConfigError: If there is no such key.
        """
        if key is None:
            with_forces = all(prediction.member_forces is not None for prediction in self)
            key = "max_force_uncertainty" if with_forces else "energy_std"
        if key not in _KEYS:
            raise ConfigError(f"predictions cannot be sorted by '{key}'", did_you_mean(key, _KEYS))
        return CommitteePredictions(sorted(self, key=_KEYS[key], reverse=descending))

    def top_uncertain(self, n: int = 10, key: str | None = None) -> CommitteePredictions:
        """The ``n`` least certain, the worst first.

        Args:
            n: How many.
            key: As for :meth:`sort_by`.
        """
        return CommitteePredictions(self.sort_by(key)[:n])

    def to_dataframe(self) -> pandas.DataFrame:
        """A table with a row for each structure.

        Columns: ``index``, ``identifier``, ``energy`` and ``energy_mean``, ``energy_std``, ``energy_uncertainty``,
        ``member_energies``, ``max_force_uncertainty``, ``mean_force_uncertainty``, ``num_members``, ``aggregation``.

        Raises:
            ConfigError: If pandas is not installed.
        """
        return make_dataframe([prediction.list_values() for prediction in self])


def make_dataframe(rows: Sequence[dict[str, Any]]) -> pandas.DataFrame:
    """A table of pandas.

    Args:
        rows: Its rows.

    Raises:
        ConfigError: If pandas is not installed.
    """
    try:
        import pandas
    except ImportError as error:
        raise ConfigError("to_dataframe needs pandas, which is not installed", "pip install pandas") from error
    return pandas.DataFrame(list(rows))


def collect_predictions(
    outputs: Sequence[Sequence[Graph]],
    identifiers: Sequence[str],
    first: int,
    energy_scale: float = 1.0,
    forces_scale: float = 1.0,
) -> list[CommitteePrediction]:
    """Collect predictions of one batch.

    Args:
        outputs: For each member the predictions of the structures.
        identifiers: Where each structure comes from.
        first: Position of the first structure.
        energy_scale: What calibration multiplies the spread of energies by.
        forces_scale: The same of forces.
    """
    predictions = []
    for i, identifier in enumerate(identifiers):
        of_members = [graphs[i] for graphs in outputs]
        stacked = {
            name: np.stack([graph[name].detach().cpu().numpy() for graph in of_members])
            for name in (fields.TOTAL_ENERGY, fields.FORCES, fields.STRESS)
            if name in of_members[0]
        }
        stress = stacked.get(fields.STRESS)
        predictions.append(
            CommitteePrediction(
                first + i,
                identifier,
                stacked[fields.TOTAL_ENERGY].reshape(-1),
                stacked.get(fields.FORCES),
                None if stress is None else stress[:, 0],
                energy_scale,
                forces_scale,
            )
        )
    return predictions
