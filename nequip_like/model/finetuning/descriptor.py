"""The descriptor family as fine-tuning knows it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

from torch import Tensor

from nequip_like.model.descriptor.energy import DescriptorEnergy
from nequip_like.model.finetuning.family import TunableFamily
from nequip_like.model.potential import Potential
from nequip_like.nn.atomic_networks import read_hidden_layers
from nequip_like.nn.scale_shift import per_type_values


class TunableDescriptorANN(TunableFamily):
    """Descriptor networks: the head is the last layer of each species' network."""

    builders = ("DescriptorANNModel",)
    free = ("kernel", "frame_memory")
    per_type = ("E_shift", "E_scaling", "per_type_energy_shifts")
    no_new_species = "the number and order of its species decide the spins in its descriptor"

    def list_head(self, potential: Potential) -> list[str]:
        """Weights and biases of the last layers."""
        last = {id(weight) for weight in cast(DescriptorEnergy, potential.energy_model).last_layer_weights()}
        return [name for name, parameter in potential.named_parameters() if id(parameter) in last]

    def describe_arguments(self, potential: Potential) -> dict[str, Any]:
        """The arguments, with the cutoffs that None stands for."""
        arguments = potential.config["arguments"]
        cutoffs = {name: arguments.get(name) or potential.cutoff for name in ("radial_cutoff", "angular_cutoff")}
        return {**arguments, **cutoffs, "r_max": potential.cutoff}

    def normalize_argument(self, key: str, value: Any, type_names: Sequence[str]) -> Any:
        """One list of layers may stand for all species."""
        if key == "networks":
            return read_hidden_layers(value, type_names)
        return super().normalize_argument(key, value, type_names)

    def find_shift_offsets(self, potential: Potential) -> Tensor:
        """The middle of the energies, unless isolated atoms are exact."""
        arguments = potential.config["arguments"]
        if arguments.get("isolated_atoms", "learnt") == "exact":
            return super().find_shift_offsets(potential)
        return per_type_values("E_shift", arguments.get("E_shift"), potential.type_names, 0.0)
