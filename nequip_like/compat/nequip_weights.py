"""Exchange of weights with NequIP (checked against 0.19.1).

Both packages hold the same numbers: NequIP flattens the blocks of an equivariant map into one vector, ordered by the
input irreps, where this package has one matrix for each block.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

import torch
from torch import Tensor

from nequip_like.errors import ModelFileError
from nequip_like.model.nequip import NequIPEnergy
from nequip_like.model.potential import Potential
from nequip_like.nn.features import Linear, SelfConnection
from nequip_like.nn.interaction import InteractionLayer


def load_nequip_weights(potential: Potential, state: Mapping[str, Tensor]) -> None:
    """Copy the weights of a NequIP model into ``potential``, which has the same hyper-parameters.

    Args:
        potential: A potential of the NequIP family; changed in place.
        state: ``state_dict()`` of NequIP's graph model.

    Raises:
        ModelFileError: If an entry is missing or has another size, or if the state has weights that find no place.
    """
    groups = _collect_blocks(potential)
    unused = [
        name
        for name, value in state.items()
        if name.endswith(".weight") and value.numel() and not name.endswith(tuple(groups))
    ]
    if unused:
        raise ModelFileError(
            f"the model has no place for the NequIP weights {', '.join(unused)}",
            "build both models with the same hyper-parameters",
        )
    with torch.no_grad():
        for key, blocks in groups.items():
            name = next((name for name in state if name.endswith(key)), None)
            if name is None:
                raise ModelFileError(f"the NequIP weights have no entry that ends in '{key}'")
            flat = state[name].reshape(-1)
            if flat.numel() != sum(block.numel() for block in blocks):
                raise ModelFileError(
                    f"'{name}' has {flat.numel()} numbers, the model has {sum(block.numel() for block in blocks)}",
                    "build both models with the same hyper-parameters",
                )
            for block, part in zip(blocks, flat.split([block.numel() for block in blocks]), strict=True):
                block.copy_(part.reshape(block.shape))


def to_nequip_weights(potential: Potential, prefix: str = "model.func.") -> dict[str, Tensor]:
    """The weights of ``potential`` under NequIP's names, each a flat tensor to be reshaped to the target's shape."""
    return {
        prefix + key: torch.cat([block.detach().reshape(-1) for block in blocks])
        for key, blocks in _collect_blocks(potential).items()
    }


def _collect_blocks(potential: Potential) -> dict[str, list[Tensor]]:
    """NequIP's name (without prefix) of each group of weights, and our tensors of the group in NequIP's order."""
    model = potential.energy_model
    if not isinstance(model, NequIPEnergy):
        raise ModelFileError("only potentials of the NequIP family can exchange weights with NequIP")
    blocks: dict[str, list[Tensor]] = {"type_embed.embed_module.weight": [model.type_embedding]}
    if isinstance(model.radial.frequencies, torch.nn.Parameter):
        blocks["bessel_encode.bessel_weights"] = [model.radial.frequencies]
    for i, layer in enumerate(cast(list[InteractionLayer], list(model.layers))):
        name = f"layer{i}_convnet.conv."
        blocks[name + "linear_1.weight"] = _sort_by_source(layer.linear_in)
        for j, weight in enumerate(layer.radial_mlp.weights):
            # Every second entry of NequIP's sequence is an activation.
            blocks[f"{name}edge_mlp.mlp.{2 * j}.weight"] = [weight]
        blocks[name + "linear_2.weight"] = _sort_by_source(layer.linear_out)
        if layer.self_connection is not None:
            blocks[name + "sc.weight"] = _sort_by_source(layer.self_connection)
    for j, weight in enumerate(model.readout.weights):
        blocks[f"per_atom_energy_readout.mlp_module.mlp.{2 * j}.weight"] = [weight]
    for name in ("scales", "shifts"):
        values = getattr(model.scale_shift, name)
        if isinstance(values, torch.nn.Parameter):
            blocks[f"per_type_energy_scale_shift.{name}"] = [values]
    return blocks


def _sort_by_source(layer: Linear | SelfConnection) -> list[Tensor]:
    sources = [source for source in layer.sources if source is not None]
    order = sorted(range(len(sources)), key=sources.__getitem__)
    return [layer.weights[i] for i in order]
