"""Have a teacher label structures around those of the user, as many as there is time for."""

from __future__ import annotations

import math
import statistics
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path

import ase.io
import numpy as np
from ase import Atoms

from nequip_like.errors import ConfigError
from nequip_like.whole_files import written_whole
from nequip_like.workflow.pretrain.dynamics import Steepness, estimate_temperature
from nequip_like.workflow.pretrain.geometries import is_too_close
from nequip_like.workflow.pretrain.jobs import CLOSE, Answer, FrameJob, Job, Refusal, TrajectoryJob, perform
from nequip_like.workflow.pretrain.settings import FEWEST
from nequip_like.workflow.pretrain.teachers import Teacher
from nequip_like.workflow.pretrain.workers import Workers, count_workers

_SHARE_OF_FRAMES = 0.2  # the user's own that are labelled first, among all
_FIRST, _MOST = 5, 40  # so many of these at least, and at most
_SHARE_OF_SECONDS = 0.15  # for them
# Steps of a trajectory: few, for labels at and near many frames teach more than as many along few trajectories.
_SHORTEST, _LONGEST = 1, 50
_TRIES = 3  # so many times as many trajectories as are needed are begun at most


@dataclass
class TeacherSet:
    """Structures with a teacher's labels.

    Attributes:
        frames: With energy (eV), forces (eV/Angstrom), and of crystals stress where the teacher has it.
        temperature: Of the dynamics, K.
        refused: How many structures were left out, by reason.
        failure: What the teacher said when it failed first.
        processes: How many labelled side by side.
        seconds: Of a label in each of them, median.
        wanted: How many frames were asked for.
        is_cut: Whether there was no time for as many.
    """

    frames: list[Atoms] = field(default_factory=list)
    temperature: float = math.nan
    refused: Counter[str] = field(default_factory=Counter)
    failure: str = ""
    processes: int = 1
    seconds: float = 0.0
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
        where = f" in each of {self.processes} processes" if self.processes > 1 else ""
        pace = f"{1000 * self.seconds:.3g} ms a label{where}"
        return f"{len(self.frames)} frames{fewer} ({parts}; dynamics at {self.temperature:.0f} K; {pace}){left_out}"

    def add(self, answers: Iterable[Answer]) -> None:
        """Take in the answers of a job."""
        for answer in answers:
            if isinstance(answer, Refusal):
                self.refused[answer.reason] += 1
                self.failure = self.failure or answer.failure
            elif isinstance(answer, Atoms):
                self.frames.append(answer)


def write_frames(path: Path, frames: Sequence[Atoms]) -> None:
    """Write labelled frames as extended XYZ; whole, or not at all."""
    with written_whole(path) as partial:
        ase.io.write(partial, frames, format="extxyz")


class _Here:
    """Does jobs in this process, one after the other; ``Workers`` would have them done side by side."""

    count = 1

    def __init__(self, teacher: Teacher) -> None:
        self._calculator = teacher.calculator

    def answer(self, jobs: Iterable[Job], until: float) -> Iterator[tuple[int, Answer | None, float]]:
        for number, job in enumerate(jobs):
            for answer, seconds in perform(job, self._calculator):
                yield number, answer, seconds
                if time.monotonic() > until:
                    return
            yield number, None, 0.0


class Labeller:
    """Makes structures around given ones and has a teacher label them.

    Args:
        teacher: The teacher.
        starts: The user's training frames.
        seed: Of everything that is drawn.
        temperature: Of the dynamics, K; None to estimate it.
        seconds: How long it may take.
        processes: How many label side by side, if the teacher can do that; None for as many as there are cores.
    """

    def __init__(
        self,
        teacher: Teacher,
        starts: Sequence[Atoms],
        seed: int,
        temperature: float | None = None,
        seconds: float = math.inf,
        processes: int | None = None,
    ) -> None:
        self._teacher, self._starts, self._seed = teacher, list(starts), seed
        self._order = [int(i) for i in np.random.default_rng(seed).permutation(len(starts))]
        self._temperature = temperature
        self._seconds, self._began = seconds, time.monotonic()
        self._processes = processes
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
        own = self._order[: min(_MOST, max(_FIRST, round(_SHARE_OF_FRAMES * count)))]
        with self._open(count) as workers:
            done.processes = workers.count
            own = self._label_own(workers, own)
            count = self._count_fitting(count)
            self._run_trajectories(workers, count, own)
        if len(done.frames) < FEWEST:
            raise ConfigError(
                f"pretrain.teacher {self._teacher.name} labelled only {len(done.frames)} structures: {done.describe()}",
                "take another teacher, give pretrain.temperature, or leave it out: pretrain.teacher=null",
            )
        return done

    def _open(self, count: int) -> AbstractContextManager[Workers | _Here]:
        if not self._teacher.works_apart:
            return nullcontext(_Here(self._teacher))
        return Workers(self._teacher.name, min(self._processes or count_workers(), math.ceil(count / _SHORTEST)))

    def _label_own(self, workers: Workers | _Here, own: Sequence[int]) -> list[int]:
        """Label the first frames of the user's, which say how hot they are and how long a label takes.

        Returns:
            Those that were asked about.
        """
        until = self._began + _SHARE_OF_SECONDS * self._seconds
        found, times = _InOrder(math.inf), list[float]()
        asked: list[int] = []

        def list_jobs() -> Iterator[Job]:
            for i in own:
                if len(asked) >= _FIRST and (not times or time.monotonic() > until):
                    return  # none of them could be labelled, or it takes long
                asked.append(i)
                yield FrameJob(self._starts[i], (self._seed, 0, i), self._temperature is None)

        for number, answer, seconds in workers.answer(list_jobs(), math.inf):
            found.add(number, None if answer is None else self._check(answer))
            if isinstance(answer, Atoms):
                times.append(seconds)
        answers = list(found.list_answers())
        self._done.add(answers)
        if not self._done.frames:
            raise ConfigError(
                f"pretrain.teacher {self._teacher.name} cannot label the training frames: "
                f"{self._done.failure or ', '.join(self._done.refused)}",
                "take another teacher, or leave it out: pretrain.teacher=null",
            )
        self._done.seconds = statistics.median(times)
        self._done.temperature = self._temperature or self._find_temperature(answers)
        return asked

    def _find_temperature(self, answers: Sequence[Answer]) -> float:
        measured = [answer for answer in answers if isinstance(answer, Steepness)]
        if not measured:
            raise ConfigError(
                f"pretrain.teacher {self._teacher.name} fails beside the training frames, which says how hot the data "
                f"are: {self._done.failure}",
                "give the temperature in K: pretrain.temperature=500",
            )
        return estimate_temperature(measured)

    def _count_fitting(self, count: int) -> int:
        """Count the structures that there is time for, up to a number."""
        if math.isinf(self._seconds):
            return count
        left = self._seconds - (time.monotonic() - self._began)
        fitting = len(self._done.frames) + int(max(0.0, left) * self._done.processes / self._done.seconds)
        if fitting < FEWEST:
            raise ConfigError(
                f"pretrain.teacher {self._teacher.name} takes {self._done.seconds:.2g} s for a label, "
                f"and in the {self._seconds:.0f} s for labels there is time for {fitting}",
                "give more budget, or a faster teacher, or leave it out: pretrain.teacher=null",
            )
        self._done.is_cut = fitting < count
        return min(count, fitting)

    def _run_trajectories(self, workers: Workers | _Here, count: int, own: Sequence[int]) -> None:
        """Fill up with steps of dynamics, in the order of the trajectories, whichever ends first."""
        wanted = count - len(self._done.frames)
        length = min(max(math.ceil(wanted / len(self._starts)) - 1, _SHORTEST), _LONGEST)
        jobs = self._list_trajectories(_TRIES * math.ceil(wanted / length), length, own)
        found = _InOrder(wanted)
        until = self._began + self._seconds
        for number, answer, _ in workers.answer(jobs, until):
            found.add(number, None if answer is None else self._check(answer))
            if found.is_full():
                break
        else:
            self._done.is_cut = self._done.is_cut or time.monotonic() >= until
        self._done.add(found.list_answers())

    def _list_trajectories(self, number: int, length: int, own: Sequence[int]) -> Iterator[Job]:
        """Begin at frames that have no labels yet, and then at all of them again."""
        known = set(own)
        order = [i for i in self._order if i not in known] + list(own)
        for k in range(number):
            i = order[k % len(order)]
            keeps_start = k < len(order) and i not in known
            yield TrajectoryJob(self._starts[i], self._done.temperature, length, (self._seed, 1, k), keeps_start)

    def _check(self, answer: Answer) -> Answer:
        return Refusal(CLOSE) if isinstance(answer, Atoms) and is_too_close(answer) else answer


class _InOrder:
    """Answers of jobs that are done side by side, in the order of the jobs: up to a number of structures.

    What stands behind that number is left out, so that the set is the same for any number of processes.

    Args:
        wanted: The number.
    """

    def __init__(self, wanted: float) -> None:
        self._wanted = wanted
        self._answers: dict[int, list[Answer]] = {}
        self._ended: set[int] = set()

    def add(self, number: int, answer: Answer | None) -> None:
        """Take an answer of a job, or None where it ends; those behind a refusal are none."""
        answers = self._answers.setdefault(number, [])
        if answer is None:
            self._ended.add(number)
        elif not (answers and isinstance(answers[-1], Refusal)):
            answers.append(answer)

    def is_full(self) -> bool:
        """Whether the first jobs, as far as they are done, have as many as are wanted."""
        count, number = 0, 0
        while True:
            count += sum(isinstance(answer, Atoms) for answer in self._answers.get(number, ()))
            if count >= self._wanted or number not in self._ended:
                return count >= self._wanted
            number += 1

    def list_answers(self) -> Iterator[Answer]:
        """List them, up to the last structure that is wanted."""
        count = 0
        for number in sorted(self._answers):
            for answer in self._answers[number]:
                if count == self._wanted:
                    return
                count += isinstance(answer, Atoms)
                yield answer
