"""The NequIP family obeys the physics contract: float32 and float64, l_max 0 to 4, with and without parity."""

from typing import ClassVar

import pytest

from nequip_like.model import NequIPGNNModel
from nequip_like.testing import PotentialContract

VARIANTS = {
    f"l{l_max}-{'parity' if parity else 'noparity'}": {"l_max": l_max, "parity": parity}
    for l_max in range(5)
    for parity in (False, True)
}
QUICK = ("l0-noparity", "l1-parity", "l2-noparity", "l4-parity")  # the extremes, and what is trained


class TestNequIP(PotentialContract):
    variants: ClassVar = {name: VARIANTS[name] for name in QUICK}

    def build(self, **arguments):
        return NequIPGNNModel(
            num_layers=2, num_features=4, radial_mlp_depth=1, radial_mlp_width=8, num_bessels=5, **arguments
        )


@pytest.mark.slow
class TestOthersOfNequIP(TestNequIP):
    variants: ClassVar = {name: arguments for name, arguments in VARIANTS.items() if name not in QUICK}
