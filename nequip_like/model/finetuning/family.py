"""What fine-tuning has to know of a model family: all that differs between one and another."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor

from nequip_like.errors import ConfigError
from nequip_like.model.potential import Potential

#: What new species begin as: for each the species that there is, or None for the mean over these.
Starts = Mapping[str, str | None]
#: A new species that begins as the mean over the species that there are.
MEAN = None


class TunableFamily(ABC):
    """A family that a run can begin with a model of.

    Attributes:
        builders: Names of its builders in configs; the first takes the arguments that a model file holds.
        free: Arguments that a config may choose: they say how to compute, and not what.
        switches: Arguments that a config may turn on; the weights stay the same.
        per_type: Arguments that are one number for all species, or one for each.
        no_new_species: Why a model of it cannot be given further species; None if it can.
    """

    builders: ClassVar[tuple[str, ...]]
    free: ClassVar[tuple[str, ...]] = ("kernel",)
    switches: ClassVar[tuple[str, ...]] = ()
    per_type: ClassVar[tuple[str, ...]] = ()
    no_new_species: ClassVar[str | None] = None

    @abstractmethod
    def list_head(self, potential: Potential) -> list[str]:
        """Names of the parameters that turn the last features into energies, scales and shifts if they are trained."""

    @abstractmethod
    def describe_arguments(self, potential: Potential) -> dict[str, Any]:
        """Describe the arguments that built a model, in all words that a config may have for them."""

    def normalize_argument(self, key: str, value: Any, type_names: Sequence[str]) -> Any:
        """Bring a value into the form in which two that mean the same are equal."""
        if key in self.per_type:
            return {name: value.get(name) if isinstance(value, Mapping) else value for name in type_names}
        return value

    def find_shift_offsets(self, potential: Potential) -> Tensor:
        """What energy shifts hold beside ``per_type_energy_shifts``, shape (types,), eV."""
        return torch.zeros(len(potential.type_names), dtype=torch.float64)

    def extend_arguments(self, source: Potential, starts: Starts, shifts: Mapping[str, float]) -> dict[str, Any]:
        """Arguments that hold something for each species, with new ones.

        Args:
            source: The model.
            starts: What they begin as.
            shifts: Energy shift of each, eV.

        Raises:
            ConfigError: If the family takes none.
        """
        raise self._refuse(starts)

    def start_species(self, model: Potential, source: Potential, starts: Starts) -> None:
        """Fill the rows of new species into the weights of a model that has those of its source already.

        Raises:
            ConfigError: If the family takes none.
        """
        raise self._refuse(starts)

    def _refuse(self, starts: Starts) -> ConfigError:
        return ConfigError(f"the model cannot learn {', '.join(starts)}: {self.no_new_species}")


def choose_start(rows: Tensor, type_names: Sequence[str], start: str | None) -> Tensor:
    """The row, of one for each species, that a new species begins with.

    Example:
        >>> rows = torch.tensor([[1.0], [3.0]])
        >>> choose_start(rows, ["H", "O"], "O").item(), choose_start(rows, ["H", "O"], MEAN).item()
        (3.0, 2.0)
    """
    return rows.mean(dim=0) if start is MEAN else rows[list(type_names).index(start)]
