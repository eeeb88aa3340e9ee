"""Which families a run can begin with a model of."""

from __future__ import annotations

from torch import nn

from nequip_like.model.finetuning.descriptor import TunableDescriptorANN
from nequip_like.model.finetuning.family import TunableFamily
from nequip_like.model.finetuning.nequip import TunableNequIP
from nequip_like.model.potential import Potential

#: By the names of the families.
FINE_TUNED: dict[str, TunableFamily] = {"nequip": TunableNequIP(), "descriptor_ann": TunableDescriptorANN()}


def find_tunable(model: nn.Module) -> TunableFamily | None:
    """What fine-tuning knows of a model's family; None if nothing, so that it cannot be fine-tuned.

    Example:
        >>> from nequip_like.model import DescriptorANNModel
        >>> model = DescriptorANNModel(type_names=["H"], r_max=3.0, networks=[[2, "tanh"]])
        >>> type(find_tunable(model)).__name__, find_tunable(nn.Linear(1, 1))
        ('TunableDescriptorANN', None)
    """
    return FINE_TUNED.get(str(model.config.get("family"))) if isinstance(model, Potential) else None
