"""What a file keeps of a potential, its config and its weights, gives the same potential again."""

from __future__ import annotations

import json

from ase import Atoms

from nequip_like.model.families import Families, build
from nequip_like.model.potential import Potential
from nequip_like.testing.structures import device_of, predict
from nequip_like.testing.tolerances import check_close


def check_built_again(potential: Potential, atoms: Atoms, tolerance: float, families: Families | None = None) -> None:
    """Build the potential of its config, give it the weights, and compare: an argument that the config lacks is seen.

    Args:
        potential: The potential, in evaluation mode.
        atoms: A structure to predict.
        tolerance: Relative tolerance of predictions.
        families: Builders by name, where the family is neither built in nor installed.

    Raises:
        AssertionError: If species, cutoff, names or shapes of weights, or predictions differ.
        ModelFileError: If the family is not there.
    """
    again = build(json.loads(json.dumps(potential.config)), families)
    if (again.type_names, again.cutoff) != (potential.type_names, potential.cutoff):
        raise AssertionError(f"built again it has {again.type_names}, {again.cutoff}")
    mine, its = ({name: value.shape for name, value in p.state_dict().items()} for p in (potential, again))
    if mine != its:
        raise AssertionError(f"built again its weights are {its}, and not {mine}")
    again.load_state_dict(potential.state_dict())
    expected, predicted = (predict(p.to(device_of(potential)).eval(), atoms) for p in (potential, again))
    for key, value in expected.items():
        check_close(predicted[key], value, tolerance, f"built again: {key}")
