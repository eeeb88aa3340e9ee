"""Low-rank adaptation: weights that stay as they are, and a small trained product that is added to each.

``W + (alpha / rank) A B`` with ``A (rows, rank)`` and ``B (rank, columns)`` (Hu et al., ICLR 2022). B begins as zeros,
so an adapted network begins as the network that it was made of, bit for bit. Whoever reads the weights (torch, or the
code of ``nn/native``) reads the sum, so nothing else has to know.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any, overload

import torch
from torch import Tensor, nn

from nequip_like.errors import ModelFileError

_SCALE = "lora_scale"
_A, _B = "lora_a_", "lora_b_"


class AdaptedWeights(nn.Module):
    """In place of a layer's list of weights: reads as a list of the sums.

    The weights keep their names, ``0``, ``1``, ...; beside them stand ``lora_a_0``, ``lora_b_0`` and, so that a file
    tells all that it takes to merge them, ``lora_scale``. A weight of more than two dimensions counts as the matrix of
    all but the last by the last.

    Args:
        weights: The weights; they are taken over, not copied.
        rank: Rank of the product; less where a weight is smaller than that.
        alpha: The product is scaled by ``alpha / rank``.
        adapted: Which weights are adapted, by their index.
        generator: Where A is drawn from.
        spreads: Standard deviation of A for each weight: that with which the weight itself began; None is 1.
    """

    lora_scale: Tensor

    def __init__(
        self,
        weights: nn.ParameterList,
        rank: int,
        alpha: float,
        adapted: Collection[int],
        generator: torch.Generator,
        spreads: Sequence[float] | None = None,
    ) -> None:
        super().__init__()
        self._is_adapted = [i in adapted for i in range(len(weights))]
        self.register_buffer(_SCALE, torch.tensor(alpha / rank, dtype=torch.float64))
        for i, weight in enumerate(weights):
            self.register_parameter(str(i), weight)
            if not self._is_adapted[i]:
                continue
            columns = weight.shape[-1]
            rows = weight.numel() // columns
            inner = min(rank, rows, columns)
            factor_a = torch.randn(rows, inner, dtype=weight.dtype, generator=generator).to(weight.device)
            self.register_parameter(f"{_A}{i}", nn.Parameter(factor_a * (1.0 if spreads is None else spreads[i])))
            self.register_parameter(f"{_B}{i}", nn.Parameter(weight.new_zeros(inner, columns)))

    def __len__(self) -> int:
        """Number of weights."""
        return len(self._is_adapted)

    def __iter__(self) -> Iterator[Tensor]:
        """The sums, in order."""
        return (self[i] for i in range(len(self)))

    @overload
    def __getitem__(self, index: int) -> Tensor: ...

    @overload
    def __getitem__(self, index: slice) -> list[Tensor]: ...

    def __getitem__(self, index: int | slice) -> Tensor | list[Tensor]:
        """One sum, or several."""
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        i = range(len(self))[index]
        weight: Tensor = getattr(self, str(i))
        if not self._is_adapted[i]:
            return weight
        return _sum(weight, self.lora_scale, getattr(self, f"{_A}{i}"), getattr(self, f"{_B}{i}"))


def _sum(weight: Tensor, scale: Tensor, factor_a: Tensor, factor_b: Tensor) -> Tensor:
    return weight + (scale * (factor_a @ factor_b)).view_as(weight)


def list_weights(weights: nn.ParameterList | AdaptedWeights) -> list[Tensor]:
    """All weights of a layer, adapted or not; quicker than a list of parameters, which looks each up by its name."""
    return list(weights._parameters.values()) if type(weights) is nn.ParameterList else list(weights)  # type: ignore[arg-type]


def adapt(model: nn.Module, rank: int, alpha: float, seed: int, but: Collection[str] = ()) -> list[str]:
    """Adapt the linear layers of a model: linear maps of each irrep, self-connections, and layers of networks.

    Args:
        model: The model; changed in place.
        rank: Rank of the products.
        alpha: They are scaled by ``alpha / rank``.
        seed: Seed of the factors A.
        but: Names of parameters that are left alone.

    Returns:
        Names of the weights that are adapted; their numbers are not changed.

    Example:
        An adapted model begins as it was, and trains two small factors for each weight:

        >>> from nequip_like.nn.mlp import ScalarMLP
        >>> model = nn.ModuleDict({"mlp": ScalarMLP(8, 8, 1, 16, "silu", torch.float32)})
        >>> rows = torch.ones(1, 8)
        >>> before = model["mlp"](rows)
        >>> adapt(model, rank=2, alpha=4.0, seed=0)
        ['mlp.weights.0', 'mlp.weights.1']
        >>> torch.equal(model["mlp"](rows), before)
        True
    """
    generator = torch.Generator().manual_seed(seed)
    adapted: list[str] = []
    for prefix, module in list(model.named_modules()):
        weights = getattr(module, "weights", None)
        if not isinstance(weights, nn.ParameterList):
            continue
        names = [f"{prefix}.weights.{i}" for i in range(len(weights))]
        indices = [i for i, name in enumerate(names) if name not in but]
        if indices:
            # Most layers scale what they multiply, and their weights have unit variance; one that does not, tells.
            spreads = getattr(module, "initial_spreads", None)
            adapted_weights = AdaptedWeights(weights, rank, alpha, indices, generator, spreads)
            setattr(module, "weights", adapted_weights)  # noqa: B010 (a module)
            adapted += [names[i] for i in indices]
    return adapted


@torch.no_grad()
def merged_state(state: Mapping[str, Any], origin: str = "the model") -> dict[str, Any]:
    """A state with all products added to their weights: that of a model without adaptation.

    Args:
        state: ``state_dict`` of a model, adapted or not.
        origin: Where it comes from, for messages.

    Raises:
        ModelFileError: If the factors of a product are not there or do not fit.
    """
    merged = {name: tensor for name, tensor in state.items() if ".lora_" not in name}
    for name, factor_b in state.items():
        if match := re.fullmatch(rf"(.+\.){_B}(\d+)", name):
            prefix, index = match.groups()
            try:
                weight, scale, factor_a = (state[f"{prefix}{key}"] for key in (index, _SCALE, f"{_A}{index}"))
                merged[f"{prefix}{index}"] = _sum(weight, scale, factor_a, factor_b)
            except (KeyError, TypeError, AttributeError, RuntimeError) as error:
                raise ModelFileError(
                    f"{origin}: what low-rank adaptation adds to '{prefix}{index}' is not whole", "the file is damaged"
                ) from error
    return merged
