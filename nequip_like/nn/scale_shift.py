"""Scale and shift of the energy of each species."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from nequip_like.errors import ConfigError

PerType = float | Mapping[str, float] | None


def per_type_values(name: str, values: PerType, type_names: Sequence[str], default: float) -> Tensor:
    """One float64 value for each species, shape (types,).

    Args:
        name: Name of the argument, for messages.
        values: One number for all species, or a mapping that names each species.
        type_names: The model's species.
        default: Value that None stands for.

    Raises:
        ConfigError: If a species is missing or unknown, or if a value is not a finite number.

    Example:
        >>> per_type_values("per_type_energy_scales", 2.0, ["H", "O"], default=1.0).tolist()
        [2.0, 2.0]
        >>> per_type_values("per_type_energy_shifts", {"H": -13.6}, ["H", "O"], default=0.0)
        Traceback (most recent call last):
        ...
        nequip_like.errors.ConfigError: per_type_energy_shifts and the model's species differ in O
          -> give one value for each of H, O
    """
    if values is None:
        values = default
    if isinstance(values, Mapping):
        if set(values) != set(type_names):
            mismatched = sorted(set(values) ^ set(type_names))
            raise ConfigError(
                f"{name} and the model's species differ in {', '.join(map(str, mismatched))}",
                f"give one value for each of {', '.join(type_names)}",
            )
        values_list = [values[type_name] for type_name in type_names]
    elif isinstance(values, int | float) and not isinstance(values, bool):
        values_list = [values] * len(type_names)
    else:
        raise ConfigError(f"{name} is {values!r}", "give one number, or a mapping from each species to a number")
    tensor = torch.tensor(values_list, dtype=torch.float64)
    if not torch.isfinite(tensor).all():
        raise ConfigError(f"{name} holds a value that is not finite: {values_list}")
    return tensor


class PerTypeScaleShift(nn.Module):
    """``E_i = scale[type_i] * e_i + shift[type_i]`` in float64.

    Args:
        type_names: The model's species.
        scales: Scale of each species; None is 1.
        shifts: Energy of the isolated atom of each species, eV; None is 0.
        scales_trainable: Whether scales are trained.
        shifts_trainable: Whether shifts are trained.

    Example:
        >>> layer = PerTypeScaleShift(["H", "O"], scales=2.0, shifts={"H": -13.0, "O": -430.0})
        >>> layer(torch.tensor([0.5, 0.5]), torch.tensor([0, 1])).tolist()
        [-12.0, -429.0]
    """

    scales: Tensor
    shifts: Tensor

    def __init__(
        self,
        type_names: Sequence[str],
        scales: PerType,
        shifts: PerType,
        scales_trainable: bool = False,
        shifts_trainable: bool = False,
    ) -> None:
        super().__init__()
        for name, values, default, trainable in (
            ("scales", scales, 1.0, scales_trainable),
            ("shifts", shifts, 0.0, shifts_trainable),
        ):
            tensor = per_type_values(f"per_type_energy_{name}", values, type_names, default)
            if trainable:
                self.register_parameter(name, nn.Parameter(tensor))
            else:
                self.register_buffer(name, tensor)

    def forward(self, energies: Tensor, atom_types: Tensor) -> Tensor:
        """Scale and shift atomic energies, shape (atoms,); the result is float64."""
        return torch.addcmul(self.shifts[atom_types], self.scales[atom_types], energies.to(torch.float64))
