"""What inference.py and scaling.py share: one system and one case, through the ASE calculators of several codes."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean

import command
import numpy as np
import systems
import workers

PEERS = ("nequip", "nequip_compiled", "mace", "sevenn")
SAME_WEIGHTS = ("nequip", "nequip_compiled")
SCRIPT = "md_worker.py"
PRINTED = (
    *("case", "system", "atoms", "ours_ms", "peer", "peer_ms", "ratio", "ratio_min", "ratio_max", "ours_us_per_atom"),
    *("ours_step_mb", "peer_step_mb", "memory_ratio", "ours_peak_mb", "peer_peak_mb", "force_difference", "compile_s"),
)


def add_options(parser: argparse.ArgumentParser, rounds: int, steps: int) -> None:
    """The options of both benchmarks."""
    command.add_options(parser, PEERS, rounds, steps)
    parser.add_argument("--skin", type=float, default=0.5, help="of our neighbour list, Angstrom")


@dataclass
class Bench:
    """One run of a benchmark.

    Attributes:
        pythons: Code to interpreter, ours first.
        options: Of the command line.
        species: What the models know.
        folder: For weights, compiled models, systems and forces.
        compile_seconds: Case to how long nequip took to compile; each case is compiled once.
    """

    pythons: dict[str, str]
    options: argparse.Namespace
    species: list[str]
    folder: Path
    compile_seconds: dict[str, float] = field(default_factory=dict)

    def run(self, case: str, system: Mapping, steps: int, pythons: Mapping[str, str] | None = None) -> workers.Crew:
        """Time a step of dynamics in all codes.

        Args:
            case: Architecture.
            system: See systems.py.
            steps: Of a round.
            pythons: Fewer codes than all.
        """
        systems.save(self.folder / "system.npz", dict(system))
        limits = command.limits_of(self.options)
        spec = {
            "case": case,
            "kernel": self.options.kernel,
            "skin": self.options.skin,
            "threads": self.options.threads,
            "species": self.species,
            "system": str(self.folder / "system.npz"),
            "weights": str(self.folder / "weights.npz"),
            "compiled": str(self.folder / f"{case}.nequip.pt2"),
            "warmup": min(3, steps),
        }

        def spec_of(code: str) -> dict:
            own = {**spec, "code": code, "forces": str(self._forces(code))}
            if code == "nequip_compiled" and case not in self.compile_seconds:  # our weights have been written by now
                compiler = workers.Worker(self.pythons[code], SCRIPT, {**own, "prepare": True}, limits)
                compiler.close()
                self.compile_seconds[case] = compiler.info["compile_s"]
            return own

        return workers.run_in_turn(
            pythons or self.pythons,
            SCRIPT,
            spec_of,
            limits,
            self.options.rounds,
            steps,
            fmean,  # not the median, which would leave out the steps that build a neighbour list anew
        )

    def _forces(self, code: str) -> Path:
        return self.folder / f"forces_{code}.npz"

    def rows(self, case: str, crew: workers.Crew) -> list[dict]:
        """One row for each peer that came through: times, memory, and forces where the weights are the same."""
        found = []
        atoms = crew.workers["ours"].info["atoms"]
        for peer in workers.peers_of(crew):
            row = {"case": case, "atoms": atoms, **workers.comparison(crew, peer), **_memory(crew, "ours")}
            row["ours_us_per_atom"] = 1e3 * row["ours_ms"] / atoms
            if peer:
                row |= _memory(crew, peer, "peer")
                row["peer_us_per_atom"] = 1e3 * row["peer_ms"] / atoms
                row["memory_ratio"] = row["peer_step_mb"] / max(row["ours_step_mb"], 1.0)
            if peer in SAME_WEIGHTS:
                row |= self._differences(peer)
            if peer == "nequip_compiled":
                row["compile_s"] = self.compile_seconds[case]
            found.append(row)
        return found

    def _differences(self, peer: str) -> dict:
        ours, theirs = (np.load(self._forces(code)) for code in ("ours", peer))
        return {
            "force_difference": float(np.abs(ours["forces"] - theirs["forces"]).max()),
            "largest_force": float(np.abs(theirs["forces"]).max()),
            "energy_difference": float(abs(ours["energy"] - theirs["energy"])),
        }


def _memory(crew: workers.Crew, code: str, label: str = "ours") -> dict:
    """Largest resident memory of the whole process, and how much of it came with the steps, MB."""
    worker = crew.workers[code]
    return {f"{label}_peak_mb": worker.peak_mb, f"{label}_step_mb": worker.peak_mb - worker.info["start_mb"]}
