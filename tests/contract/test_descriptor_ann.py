"""The descriptor family obeys the physics contract."""

from typing import Any, ClassVar

from nequip_like.model import DescriptorANNModel
from nequip_like.testing import PotentialContract

STATS = {"mean": [0.5] * 14, "std": [0.4] * 14}


class TestDescriptorANN(PotentialContract):
    variants: ClassVar = {
        "plain": {},
        "normalized": {"feature_stats": STATS, "E_scaling": 0.7, "angular_cutoff": 3.1, "kernel": "reference"},
    }
    has_pair_cutoffs = False
    force_power = 1

    def build(self, **arguments: Any):
        for name in ("avg_num_neighbors", "per_type_energy_scales"):
            del arguments[name]
        networks = {"H": [[4, "tanh"], [3, "twist"]], "C": [[5, "sigmoid"]], "O": [[4, "mtanh"]]}
        return DescriptorANNModel(
            **{
                "radial_order": 3,
                "angular_order": 2,
                "networks": networks,
                "isolated_atoms": "exact",
                **arguments,
            }
        )
