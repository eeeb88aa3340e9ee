"""Do predictions turn, move and reorder with the structure, and are they the same each time?"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
from ase import Atoms

from nequip_like.data import fields
from nequip_like.data.fields import Graph
from nequip_like.model.potential import Potential
from nequip_like.testing.structures import predict
from nequip_like.testing.symmetry import (
    compare_atom_orders,
    compare_edge_orders,
    compare_moved,
    compare_wrapped,
    random_rotation,
)
from nequip_like.testing.tolerances import measure_difference
from nequip_like.workflow.checks.outcome.verdicts import CheckVerdict, judge_value
from nequip_like.workflow.checks.subject import CheckedModel, NamedStructure

NAME = "symmetry"
_ROUNDING = 10.0  # times what the tests of model families allow: trained weights are larger than random ones
_SHIFT = 3.7  # Angstrom

_Compare = Callable[[Potential, Atoms], tuple[Graph, Graph]]

_ADVICE = {
    "repeatability": "something in the model is random, or depends on what was predicted before "
    "(dropout, training mode,"
    " state that is kept): switch it off for predictions; nothing else can be judged before",
    "rotation": "a layer treats x, y and z differently, so energies depend on how a molecule lies: use irreps with the"
    " right parity and degree in it; if the model is of a built-in family, try kernel=reference, and report it",
    "inversion": "a layer gives a feature the wrong parity, so mirror images differ: check which "
    "irreps are even and odd",
    "translation": "the model sees positions themselves, not differences of them: use edge vectors only",
    "order of atoms": "the model depends on the numbers of atoms: sum over neighbours, and keep no "
    "weights for a place in"
    " the list",
    "order of edges": "the model depends on the order of its neighbour list: sum over neighbours, or sort them itself",
    "atoms outside of the cell": "cell shifts of edges are not used as they should be: vectors are "
    "pos_j - pos_i + S @ cell",
}


def ask_symmetry(model: CheckedModel) -> Iterator[CheckVerdict]:
    """Compare predictions of each structure with those of the same structure, turned, moved or reordered."""
    rotation = random_rotation(model.settings.seed)
    comparisons: dict[str, _Compare] = {
        "repeatability": lambda potential, atoms: (predict(potential, atoms), predict(potential, atoms)),
        "rotation": lambda potential, atoms: compare_moved(potential, atoms, rotation),
        "inversion": lambda potential, atoms: compare_moved(potential, atoms, -np.eye(3)),
        "translation": lambda potential, atoms: compare_moved(potential, atoms, np.eye(3), _SHIFT),
        "order of atoms": compare_atom_orders,
        "order of edges": compare_edge_orders,
        "atoms outside of the cell": compare_wrapped,
    }
    for of, compare in comparisons.items():
        structures = [
            sample for sample in model.structures if sample.atoms.pbc.any() or of != "atoms outside of the cell"
        ]
        if structures:
            yield _judge_comparison(model, of, compare, structures)


def _judge_comparison(
    model: CheckedModel, of: str, compare: _Compare, structures: list[NamedStructure]
) -> CheckVerdict:
    worst, structure, quantity = -1.0, "", ""
    for sample in structures:
        actual, expected = compare(model.potential, sample.atoms)
        for key in expected.keys() & set(fields.LABELS):  # an uncertainty is along the axes as they are
            difference = measure_difference(actual[key], expected[key])
            if not difference <= worst:
                worst, structure, quantity = difference, sample.name, key
    text = f"{quantity} of {structure} differ by {worst:.1e} of the largest value (of 1 where that is less)"
    return judge_value(NAME, of, worst, _ROUNDING * model.rounding, "relative", text, _ADVICE[of])
