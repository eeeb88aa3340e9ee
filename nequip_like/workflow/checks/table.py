"""All checks of a model: what each is called, what it asks, and the function that asks it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from nequip_like.workflow.checks import (
    bonds,
    cutoff,
    derivatives,
    dimers,
    drift,
    elastic,
    equation_of_state,
    phonons,
    references,
    symmetry,
)
from nequip_like.workflow.checks.outcome.verdicts import CheckPlot, CheckVerdict
from nequip_like.workflow.checks.subject import CheckedModel

Ask = Callable[[CheckedModel], Iterator[CheckVerdict | CheckPlot]]


@dataclass(frozen=True)
class PotentialCheck:
    """A question to a model.

    Attributes:
        name: What it is called by ``--only`` and in tables.
        question: What it asks, one sentence.
        ask: Gives its verdicts and curves.
        of_whole_energies: Whether it asks what differences to another method do not tell (delta learning).
    """

    name: str
    question: str
    ask: Ask
    of_whole_energies: bool = False


# What says why others fail comes first.
MODEL_CHECKS = (
    PotentialCheck(references.NAME, "Are energies shifted by composition?", references.ask_references, True),
    PotentialCheck(symmetry.NAME, "Do predictions turn, move and reorder with the structure?", symmetry.ask_symmetry),
    PotentialCheck(derivatives.FORCES_NAME, "Are forces the derivatives of the energy?", derivatives.ask_forces),
    PotentialCheck(derivatives.STRESS_NAME, "Is stress the strain derivative of the energy?", derivatives.ask_stress),
    PotentialCheck(cutoff.NAME, "Are energy and forces smooth at the cutoff?", cutoff.ask_cutoff),
    PotentialCheck(bonds.NAME, "Is the second derivative smooth along bonds?", bonds.ask_bonds),
    PotentialCheck(dimers.NAME, "Do close atoms repel each other?", dimers.ask_dimers, True),
    PotentialCheck(drift.NAME, "Is energy conserved in dynamics?", drift.ask_drift, True),
    PotentialCheck(
        equation_of_state.NAME, "Have crystals an equilibrium volume?", equation_of_state.ask_equation_of_state, True
    ),
    PotentialCheck(elastic.NAME, "Do crystals resist each strain?", elastic.ask_elastic, True),
    PotentialCheck(phonons.NAME, "Do crystals vibrate in all modes?", phonons.ask_phonons, True),
)
CHECK_NAMES = tuple(check.name for check in MODEL_CHECKS)
