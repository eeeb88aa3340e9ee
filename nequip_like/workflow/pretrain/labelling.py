"""Have a teacher label structures around those of the user, as many as there is time for."""

from __future__ import annotations

import math
import statistics
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import ase.io
import numpy as np
from ase import Atoms
from ase.calculators.calculator import CalculatorError
from ase.calculators.singlepoint import SinglePointCalculator

from nequip_like.errors import ConfigError, first_line
from nequip_like.whole_files import written_whole
from nequip_like.workflow.pretrain.geometries import (
    STRIDE,
    estimate_temperature,
    is_too_close,
    run_dynamics,
)
from nequip_like.workflow.pretrain.settings import FEWEST
from nequip_like.workflow.pretrain.teachers import Teacher

LARGEST_FORCE = 30.0  # eV/Angstrom, of any atom
_SHARE_OF_FRAMES = 0.2  # the user's own among all
_FIRST = 5  # labels by which the time of a label is measured
_SHORTEST, _LONGEST = 5, 50  # snapshots of a trajectory
_TRIES = 3  # so many times as many trajectories as are needed are begun at most
_FAILED, _CLOSE, _STEEP = "the teacher failed", "atoms too close", "forces too large"
# What a calculator raises where it finds no energy; anything else is a fault, and ends the run.
_FAILURES = (CalculatorError, RuntimeError, ArithmeticError, np.linalg.LinAlgError)


@dataclass
class TeacherSet:
    """Structures with a teacher's labels.

    Attributes:
        frames: With energy (eV), forces (eV/Angstrom), and of crystals stress where the teacher has it.
        temperature: Of the dynamics, K.
        refused: How many structures were left out, by reason.
        failure: What the teacher said when it failed first.
        seconds: Of a label, median.
        seconds_of_search: What finding the temperature took.
        wanted: How many frames were asked for.
        is_cut: Whether there was no time for as many.
    """

    frames: list[Atoms] = field(default_factory=list)
    temperature: float = math.nan
    refused: Counter[str] = field(default_factory=Counter)
    failure: str = ""
    seconds: float = 0.0
    seconds_of_search: float = 0.0
    wanted: int = 0
    is_cut: bool = False

    def describe(self) -> str:
        """As a line."""
        kinds = Counter(str(atoms.info["origin"]) for atoms in self.frames)
        parts = ", ".join(f"{count} {kind}" for kind, count in kinds.items())
        refused = ", ".join(f"{count} {reason}" for reason, count in self.refused.items())
        why = ": no time for more" if self.is_cut else ""
        fewer = f" of {self.wanted} wanted{why}" if len(self.frames) < self.wanted else ""
        left_out = f"; left out: {refused}{f' ({self.failure})' if self.failure else ''}" if refused else ""
        pace = f"{1000 * self.seconds:.3g} ms a label, {STRIDE} for a thermal one"
        how = f"dynamics at {self.temperature:.0f} K, found in {self.seconds_of_search:.1f} s; {pace}"
        return f"{len(self.frames)} frames{fewer} ({parts}; {how}){left_out}"


def write_frames(path: Path, frames: Sequence[Atoms]) -> None:
    """Write labelled frames as extended XYZ; whole, or not at all."""
    with written_whole(path) as partial:
        ase.io.write(partial, frames, format="extxyz")


class Labeller:
    """Makes structures around given ones and has a teacher label them.

    Args:
        teacher: The teacher.
        starts: The user's training frames.
        seed: Of everything that is drawn.
        temperature: Of the dynamics, K; None to estimate it.
        seconds: How long it may take.
    """

    def __init__(
        self,
        teacher: Teacher,
        starts: Sequence[Atoms],
        seed: int,
        temperature: float | None = None,
        seconds: float = math.inf,
    ) -> None:
        self._teacher, self._starts = teacher, list(starts)
        self._rng = np.random.default_rng(seed)
        self._temperature = temperature
        self._seconds = seconds
        self._began = time.monotonic()
        self._done = TeacherSet()

    def collect(self, count: int) -> TeacherSet:
        """Label so many structures, or as many as there is time for.

        Args:
            count: How many.

        Raises:
            ConfigError: If the teacher cannot label the user's frames, or there is time for next to nothing.
        """
        done = self._done
        done.wanted = count
        own = self._rng.permutation(len(self._starts))[: max(1, round(_SHARE_OF_FRAMES * count))]
        count = self._measure(own, count)
        for i in own[_FIRST:]:
            if not self._is_late():
                self._add(self._starts[i], "training")
        began = time.monotonic()
        done.temperature = self._temperature or self._find_temperature()
        done.seconds_of_search = time.monotonic() - began
        self._run_trajectories(count)
        if len(done.frames) < FEWEST:
            raise ConfigError(
                f"pretrain.teacher {self._teacher.name} labelled only {len(done.frames)} structures: {done.describe()}",
                "take another teacher, give pretrain.temperature, or leave it out: pretrain.teacher=null",
            )
        return done

    def _measure(self, own: np.ndarray, count: int) -> int:
        """Label the first frames of the user's, and say how many structures there is time for."""
        times = []
        for i in own[:_FIRST]:
            began = time.monotonic()
            self._add(self._starts[i], "training")
            times.append(time.monotonic() - began)
        if not self._done.frames:
            raise ConfigError(
                f"pretrain.teacher {self._teacher.name} cannot label the training frames: "
                f"{self._done.failure or ', '.join(self._done.refused)}",
                "take another teacher, or leave it out: pretrain.teacher=null",
            )
        self._done.seconds = statistics.median(times)
        if math.isinf(self._seconds):
            return count
        labels = self._seconds / self._done.seconds
        thermal = max(0.0, labels - len(own)) / STRIDE  # the last step's forces are the labels
        fitting = int(min(labels, len(own)) + thermal)
        if fitting < FEWEST:
            raise ConfigError(
                f"pretrain.teacher {self._teacher.name} takes {self._done.seconds:.2g} s for a label, {STRIDE} of them "
                f"for a structure that moves, and in the {self._seconds:.0f} s for labels there is time for {fitting}",
                "give more budget, or a faster teacher, or leave it out: pretrain.teacher=null",
            )
        self._done.is_cut = fitting < count
        return min(count, fitting)

    def _find_temperature(self) -> float:
        try:
            return estimate_temperature(self._starts, self._teacher.calculator, self._rng)
        except _FAILURES as error:
            raise ConfigError(
                f"pretrain.teacher {self._teacher.name} cannot relax a training frame, which says how hot the data "
                f"are: {first_line(error)}",
                "give the temperature in K: pretrain.temperature=500",
            ) from error

    def _run_trajectories(self, count: int) -> None:
        """Fill up with snapshots of dynamics; one that is refused ends its trajectory."""
        frames, wanted = self._done.frames, count - len(self._done.frames)
        length = min(max(math.ceil(wanted / len(self._starts)), _SHORTEST), _LONGEST)
        order = self._rng.permutation(len(self._starts))
        for number in range(_TRIES * math.ceil(wanted / length)):
            start = self._starts[order[number % len(order)]]
            try:
                for atoms in run_dynamics(start, self._teacher.calculator, self._done.temperature, length, self._rng):
                    if len(frames) >= count or self._is_late():
                        return
                    if not self._add(atoms, "thermal"):
                        break
            except _FAILURES as error:
                self._refuse(_FAILED, error)

    def _is_late(self) -> bool:
        late = time.monotonic() - self._began > self._seconds
        self._done.is_cut = self._done.is_cut or late
        return late

    def _add(self, atoms: Atoms, origin: str) -> bool:
        """Label a structure and keep it; say whether it was kept."""
        if is_too_close(atoms):
            return self._refuse(_CLOSE)
        atoms = Atoms(numbers=atoms.numbers, positions=atoms.positions, cell=atoms.cell, pbc=atoms.pbc)
        atoms.calc = self._teacher.calculator
        try:
            labels = {"energy": atoms.get_potential_energy(), "forces": atoms.get_forces()}
            if atoms.pbc.all() and self._teacher.gives_stress:
                labels["stress"] = atoms.get_stress()
        except _FAILURES as error:
            return self._refuse(_FAILED, error)
        if not all(np.isfinite(values).all() for values in labels.values()):
            return self._refuse(_FAILED)
        if np.linalg.norm(labels["forces"], axis=1).max() > LARGEST_FORCE:
            return self._refuse(_STEEP)
        atoms.calc = SinglePointCalculator(atoms, **labels)
        atoms.info["origin"] = origin
        self._done.frames.append(atoms)
        return True

    def _refuse(self, reason: str, error: Exception | None = None) -> bool:
        self._done.refused[reason] += 1
        if error is not None:
            self._done.failure = self._done.failure or first_line(error)
        return False
