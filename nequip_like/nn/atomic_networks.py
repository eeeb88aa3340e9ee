"""Networks from the features of an atom to its energy, one for each species, with their gradient written out."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn

from nequip_like.errors import ConfigError


class SquashingFunction(NamedTuple):
    """An activation, and its derivative as a function of what is cheapest to know.

    Attributes:
        value: The function.
        slope: Its derivative, from the argument and the value.
    """

    value: Callable[[Tensor], Tensor]
    slope: Callable[[Tensor, Tensor], Tensor]


# LeCun's scaled tanh, and the same with a small slope far from zero, so that no unit stops to learn.
_HEIGHT, _RATE, _TWIST = 1.7159, 0.666666666666667, 0.1


def _scaled_tanh(x: Tensor) -> Tensor:
    return _HEIGHT * torch.tanh(_RATE * x)


def _slope_of_scaled_tanh(y: Tensor) -> Tensor:
    return _RATE * (_HEIGHT - y * y / _HEIGHT)


FUNCTIONS: dict[str, SquashingFunction] = {
    "linear": SquashingFunction(lambda x: x, lambda x, y: torch.ones_like(y)),
    "tanh": SquashingFunction(torch.tanh, lambda x, y: 1.0 - y * y),
    "sigmoid": SquashingFunction(torch.sigmoid, lambda x, y: y * (1.0 - y)),
    "mtanh": SquashingFunction(_scaled_tanh, lambda x, y: _slope_of_scaled_tanh(y)),
    "twist": SquashingFunction(
        lambda x: _scaled_tanh(x) + _TWIST * x, lambda x, y: _slope_of_scaled_tanh(y - _TWIST * x) + _TWIST
    ),
}


def squashing_function(name: str) -> SquashingFunction:
    """The activation called ``name``.

    Raises:
        ConfigError: If there is none.

    Example:
        >>> round(squashing_function("mtanh").value(torch.tensor(1.0)).item(), 4)
        1.0
    """
    if name not in FUNCTIONS:
        raise ConfigError(f"unknown activation '{name}'", f"use one of {', '.join(FUNCTIONS)}")
    return FUNCTIONS[name]


class AtomicNetwork(nn.Module):
    """A multilayer perceptron with one number as its output, which is linear.

    Weights are normal with the variance 2 / (inputs + outputs) that keeps activations and gradients alike; biases
    begin as zeros.

    Args:
        inputs: Number of features.
        hidden: Width and activation of each hidden layer.
        dtype: Type of weights.

    Example:
        >>> network = AtomicNetwork(3, [(4, "tanh"), (2, "twist")], torch.float64)
        >>> [tuple(weight.shape) for weight in network.weights]
        [(3, 4), (4, 2), (2, 1)]
        >>> energies, gradients = network.differentiate(torch.zeros(5, 3, dtype=torch.float64))
        >>> energies.shape, gradients.shape
        (torch.Size([5]), torch.Size([5, 3]))
    """

    def __init__(self, inputs: int, hidden: Sequence[tuple[int, str]], dtype: torch.dtype) -> None:
        super().__init__()
        widths = [inputs, *(width for width, _ in hidden), 1]
        #: Standard deviation with which the weights of each layer begin.
        self.initial_spreads = [math.sqrt(2.0 / (rows + columns)) for rows, columns in pairwise(widths)]
        self.activations = [name for _, name in hidden]
        self._functions = [squashing_function(name) for name in self.activations]
        self.weights = nn.ParameterList(
            nn.Parameter(torch.randn(rows, columns, dtype=dtype) * spread)
            for (rows, columns), spread in zip(pairwise(widths), self.initial_spreads, strict=True)
        )
        self.biases = nn.ParameterList(nn.Parameter(torch.zeros(width, dtype=dtype)) for width in widths[1:])

    def __getstate__(self) -> dict[str, object]:
        """Functions written on the spot cannot be pickled; their names can."""
        return {**self.__dict__, "_functions": None}

    def __setstate__(self, state: dict[str, object]) -> None:
        super().__setstate__(state)
        self._functions = [squashing_function(name) for name in self.activations]

    def forward(self, x: Tensor) -> Tensor:
        """Map features (atoms, inputs) to energies (atoms,)."""
        for weight, bias, function in zip(self.weights, self.biases, self._functions, strict=False):
            x = function.value(torch.addmm(bias, x, weight))
        return torch.addmm(self.biases[-1], x, self.weights[-1]).squeeze(1)

    def differentiate_last(self, x: Tensor) -> Tensor:
        """Derivative of the energies by the weights of the last layer and its bias, (atoms, width + 1)."""
        for weight, bias, function in zip(self.weights, self.biases, self._functions, strict=False):
            x = function.value(torch.addmm(bias, x, weight))
        return torch.cat([x, x.new_ones(len(x), 1)], dim=1)

    def differentiate(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Energies (atoms,), and their gradient with respect to the features (atoms, inputs).

        The gradient is made of plain operations on the weights, so that a loss of it can be differentiated once more.
        """
        slopes = []
        *hidden, last = self.weights  # once: with low-rank adaptation each look makes sums
        for weight, bias, function in zip(hidden, self.biases, self._functions, strict=False):
            argument = torch.addmm(bias, x, weight)
            x = function.value(argument)
            slopes.append(function.slope(argument, x))
        energies = torch.addmm(self.biases[-1], x, last).squeeze(1)
        gradient = last.T.expand(len(x), -1)
        for weight, slope in zip(reversed(hidden), reversed(slopes), strict=True):
            gradient = (gradient * slope) @ weight.T
        return energies, gradient


class AtomicNetworks(nn.ModuleDict):
    """One network for each species, under its chemical symbol, in the order of the types.

    Args:
        inputs: Number of features.
        hidden: Width and activation of each hidden layer, for each species in order.
        dtype: Type of weights.
    """

    def __init__(self, inputs: int, hidden: dict[str, Sequence[tuple[int, str]]], dtype: torch.dtype) -> None:
        super().__init__({species: AtomicNetwork(inputs, layers, dtype) for species, layers in hidden.items()})

    @property
    def each(self) -> list[AtomicNetwork]:
        """The networks in the order of the types."""
        return [cast(AtomicNetwork, network) for network in self.values()]

    def forward(self, features: Tensor, types: Tensor) -> Tensor:
        """Energies (atoms,) of features (atoms, inputs) of atoms of given types (atoms,)."""
        energies = features.new_zeros(len(features))
        for rows, network in self._share_out(types):
            energies = energies.index_copy(0, rows, network(features[rows]))
        return energies

    def differentiate(self, features: Tensor, types: Tensor) -> tuple[Tensor, Tensor]:
        """The same, and the gradient with respect to the features (atoms, inputs); see :class:`AtomicNetwork`."""
        energies, gradients = features.new_zeros(len(features)), torch.zeros_like(features)
        for rows, network in self._share_out(types):
            values, slopes = network.differentiate(features[rows])
            energies = energies.index_copy(0, rows, values)
            gradients = gradients.index_copy(0, rows, slopes)
        return energies, gradients

    def differentiate_last(self, features: Tensor, types: Tensor) -> Tensor:
        """Derivative of the energies by the weights of the last layers, one species beside the other (atoms, all)."""
        widths = [network.weights[-1].shape[0] + 1 for network in self.each]
        rows_of_all = features.new_zeros(len(features), sum(widths))
        start = 0
        for (rows, network), width in zip(self._share_out(types), widths, strict=True):
            rows_of_all[rows, start : start + width] = network.differentiate_last(features[rows])
            start += width
        return rows_of_all

    def _share_out(self, types: Tensor) -> list[tuple[Tensor, AtomicNetwork]]:
        return [((types == number).nonzero().squeeze(1), network) for number, network in enumerate(self.each)]


def read_hidden_layers(networks: object, type_names: Sequence[str]) -> dict[str, Sequence[tuple[int, str]]]:
    """Width and activation of each hidden layer of each species.

    Args:
        networks: ``[[10, tanh], [10, tanh]]`` for all species, or one such list for each.
        type_names: The species.

    Raises:
        ConfigError: If a species is missing or unknown, or an entry is no width with an activation.

    Example:
        >>> read_hidden_layers({"H": [[4, "tanh"]], "O": []}, ["H", "O"])
        {'H': [(4, 'tanh')], 'O': []}
        >>> read_hidden_layers([[4, "relu"]], ["H"])
        Traceback (most recent call last):
        ...
        nequip_like.errors.ConfigError: networks of H: unknown activation 'relu'
          -> use one of linear, tanh, sigmoid, mtanh, twist
    """
    by_species = networks if isinstance(networks, dict) else dict.fromkeys(type_names, networks)
    if set(by_species) != set(type_names):
        differing = sorted(map(str, set(by_species) ^ set(type_names)))
        raise ConfigError(
            f"networks and the model's species differ in {', '.join(differing)}",
            f"give the hidden layers of each of {', '.join(type_names)}, or one list for all",
        )
    return {species: _read_layers(by_species[species], species) for species in type_names}


def _read_layers(layers: object, species: str) -> list[tuple[int, str]]:
    advice = "give a width and an activation for each hidden layer, such as [[10, tanh], [10, tanh]]"
    if not isinstance(layers, list | tuple):
        raise ConfigError(f"networks of {species} is {layers!r}", advice)
    result = []
    for layer in layers:
        if not isinstance(layer, list | tuple) or len(layer) != 2:
            raise ConfigError(f"networks of {species} has the layer {layer!r}", advice)
        width, name = layer
        if not isinstance(width, int) or isinstance(width, bool) or width < 1 or not isinstance(name, str):
            raise ConfigError(f"networks of {species} has the layer {layer!r}", advice)
        if name not in FUNCTIONS:
            raise ConfigError(
                f"networks of {species}: unknown activation '{name}'", f"use one of {', '.join(FUNCTIONS)}"
            )
        result.append((width, name))
    return result
