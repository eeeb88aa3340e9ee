"""Model families and their builders."""

from nequip_like.model.builders import FullNequIPGNNModel, NequIPGNNModel, PresetNequIPGNNModel
from nequip_like.model.descriptor.builder import DescriptorANNModel
from nequip_like.model.potential import Potential

__all__ = ["DescriptorANNModel", "FullNequIPGNNModel", "NequIPGNNModel", "Potential", "PresetNequIPGNNModel"]
