"""What a teacher is asked to do at a time: a frame and how steep it is there, or a trajectory.

A job gives its answers one by one, and the same ones wherever and whenever it is done: it draws with a seed of its own.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from ase import Atoms
from ase.calculators.calculator import CalculatorError
from ase.calculators.singlepoint import SinglePointCalculator

from nequip_like.errors import first_line
from nequip_like.workflow.pretrain.dynamics import Steepness, measure_steepness, run_dynamics, strain

LARGEST_FORCE = 30.0  # eV/Angstrom, of any atom
FAILED, CLOSE, STEEP = "the teacher failed", "atoms too close", "forces too large"
# What a calculator raises where it finds no energy; anything else is a fault, and ends the run.
_FAILURES = (CalculatorError, RuntimeError, ArithmeticError, np.linalg.LinAlgError)


@dataclass(frozen=True)
class Refusal:
    """A structure that is left out; a trajectory ends there.

    Attributes:
        reason: Why.
        failure: What the teacher said.
    """

    reason: str
    failure: str = ""


Answer = Atoms | Steepness | Refusal


@dataclass(frozen=True)
class FrameJob:
    """Label a training frame.

    Attributes:
        frame: The frame.
        seed: Of what is drawn.
        is_measured: Whether it is told how steep it is there, too.
    """

    frame: Atoms
    seed: tuple[int, ...]
    is_measured: bool = False

    def work(self, calculator: Any) -> Iterator[Answer]:
        """Give the labelled frame, then how steep it is there."""
        yield label(self.frame, calculator, "training")
        if self.is_measured:
            yield measure_steepness(self.frame, calculator, np.random.default_rng(self.seed))


@dataclass(frozen=True)
class TrajectoryJob:
    """Label the steps of dynamics that begin at a training frame, strained if it is periodic.

    Attributes:
        start: The frame.
        temperature: K.
        steps: How many.
        seed: Of what is drawn.
        keeps_start: Whether the frame itself is given first; one that is strained always is.
    """

    start: Atoms
    temperature: float
    steps: int
    seed: tuple[int, ...]
    keeps_start: bool

    def work(self, calculator: Any) -> Iterator[Answer]:
        """Give the labelled structures."""
        rng = np.random.default_rng(self.seed)
        start = strain(self.start, rng)
        if start.pbc.all():
            yield label(start, calculator, "thermal")
        elif self.keeps_start:
            yield label(start, calculator, "training")
        for atoms in run_dynamics(start, calculator, self.temperature, self.steps, rng):
            yield label(atoms, calculator, "thermal")


Job = FrameJob | TrajectoryJob


def perform(job: Job, calculator: Any) -> Iterator[tuple[Answer, float]]:
    """Do a job, up to the first structure that is refused.

    Args:
        job: The job.
        calculator: The teacher.

    Yields:
        Answers, and the seconds that each took.
    """
    began = time.monotonic()
    try:
        for answer in job.work(calculator):
            ended = time.monotonic()
            yield answer, ended - began
            if isinstance(answer, Refusal):
                return
            began = time.monotonic()
    except _FAILURES as error:
        yield Refusal(FAILED, first_line(error)), time.monotonic() - began


def label(atoms: Atoms, calculator: Any, origin: str) -> Atoms | Refusal:
    """Label a structure: energy (eV), forces (eV/Angstrom), and of crystals the stress where the teacher has it.

    Args:
        atoms: The structure; not changed.
        calculator: The teacher.
        origin: Kept in ``info``.
    """
    atoms = Atoms(numbers=atoms.numbers, positions=atoms.positions, cell=atoms.cell, pbc=atoms.pbc)
    atoms.calc = calculator
    labels = {"energy": atoms.get_potential_energy(), "forces": atoms.get_forces()}
    if atoms.pbc.all() and "stress" in calculator.implemented_properties:
        labels["stress"] = atoms.get_stress()
    if not all(np.isfinite(values).all() for values in labels.values()):
        return Refusal(FAILED)
    if np.linalg.norm(labels["forces"], axis=1).max() > LARGEST_FORCE:
        return Refusal(STEEP)
    atoms.calc = SinglePointCalculator(atoms, **labels)
    atoms.info["origin"] = origin
    return atoms
