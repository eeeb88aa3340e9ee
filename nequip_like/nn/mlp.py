"""Multilayer perceptron of invariant features, initialised to keep the variance of its activations."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cached_property
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor, nn

from nequip_like.errors import ConfigError
from nequip_like.nn.activations import activation
from nequip_like.nn.lora import list_weights


class Perceptron(NamedTuple):
    """What a :class:`ScalarMLP` consists of, for code that evaluates it in its own way.

    Attributes:
        weights: Its matrices (inputs, outputs).
        factors: What each matrix is multiplied by.
        activation: Name of the activation between them, or None.
    """

    weights: Sequence[Tensor]
    factors: Sequence[float]
    activation: str | None


class ScalarMLP(nn.Module):
    """MLP without biases: ``x <- act(x @ W / sqrt(fan_in) * gain)``, last layer linear.

    Weights are uniform in (-sqrt(3), sqrt(3)), which has variance 1; the gain is 1 for the first layer and sqrt(2)
    behind a nonlinearity. Depth 0 is one linear layer.

    Args:
        input_dim: Width of the input.
        output_dim: Width of the output.
        hidden_depth: Number of hidden layers.
        hidden_width: Width of each hidden layer.
        nonlinearity: Name of the activation, or None.

    Attributes:
        nonlinearity: Name of the activation; None if there is none.
    """

    def __init__(
        self,
        input_dim: int,
        output_dim: int,
        hidden_depth: int,
        hidden_width: int | None,
        nonlinearity: str | None,
        dtype: torch.dtype,
    ) -> None:
        super().__init__()
        if hidden_depth < 0 or (hidden_depth > 0 and (hidden_width is None or hidden_width < 1)):
            raise ConfigError(
                f"an MLP cannot have {hidden_depth} hidden layers of width {hidden_width}",
                "give a depth of 0 or more and a width of 1 or more",
            )
        widths = [input_dim, *[hidden_width or 0] * hidden_depth, output_dim]
        self.activation = activation(nonlinearity)
        self.nonlinearity = None if self.activation is None else nonlinearity
        self.weights = nn.ParameterList(
            nn.Parameter(torch.empty(width_in, width_out, dtype=dtype).uniform_(-math.sqrt(3), math.sqrt(3)))
            for width_in, width_out in pairwise(widths)
        )

    @property
    def parts(self) -> Perceptron:
        """Weights, factors (the gain over the square root of the fan-in), activation."""
        weights = list_weights(self.weights)
        gains = [1.0, *[1.0 if self.activation is None else math.sqrt(2.0)] * (len(weights) - 1)]
        factors = [gain / math.sqrt(weight.shape[0]) for gain, weight in zip(gains, weights, strict=True)]
        return Perceptron(weights, factors, self.nonlinearity)

    @cached_property
    def last_factor(self) -> float:
        """What the last layer's weights are multiplied by."""
        return self.parts.factors[-1]

    def forward(self, x: Tensor) -> Tensor:
        """Map (rows, input_dim) to (rows, output_dim)."""
        parts = self.parts
        # The weight is scaled, not the rows: it is the smaller of the two.
        return self._evaluate_hidden(x, parts) @ (parts.weights[-1] * parts.factors[-1])

    def differentiate_last(self, x: Tensor) -> Tensor:
        """Derivative of the output, if it is one, by the weights of the last layer: (rows, width of this layer)."""
        return self._evaluate_hidden(x, self.parts) * self.last_factor

    def _evaluate_hidden(self, x: Tensor, parts: Perceptron) -> Tensor:
        """What the last layer is given."""
        for weight, factor in zip(parts.weights[:-1], parts.factors[:-1], strict=True):
            x = x @ (weight * factor)
            x = x if self.activation is None else self.activation(x)
        return x
