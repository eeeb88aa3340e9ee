"""How far uncertainties tell errors: a committee and last-layer features on 3BPA, where they were trained and hotter.

Trains a committee on frames of 300 K, unless the folder has one, and compares its uncertainties and those of its first
member (LLPR) with the errors on held-out frames of 300 K and on frames of 300, 600 and 1200 K. Then it measures what
uncertainties cost: steps of the calculator with and without, and the committee beside a loop over its members::

    python benchmarks/uncertainty.py --data FOLDER_OF_3BPA --folder outputs/committee
    python benchmarks/uncertainty.py --data FOLDER_OF_3BPA --folder outputs/committee --train 450 --epochs 200
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import ase.io
import torch

import nequip_like as nl
from nequip_like.data.dataset import load_dataset
from nequip_like.inference.evaluation import evaluate
from nequip_like.workflow.setup import build_data
from nequip_like.workflow.uncertainty.run import train_committee

SMALL = ["num_layers=2", "l_max=1", "num_features=16", "radial_mlp_depth=1", "radial_mlp_width=32"]
STEPS = 200


def main() -> None:
    """Train, compare, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--data", type=Path, required=True, help="folder with train_300K.xyz, train_mixedT.xyz, iso_atoms.xyz"
    )
    parser.add_argument("--folder", type=Path, required=True, help="folder of the committee")
    parser.add_argument("--members", type=int, default=4)
    parser.add_argument("--train", type=int, default=150, help="training frames")
    parser.add_argument("--epochs", type=int, default=24)
    parser.add_argument("--frames", type=int, default=120, help="frames of each comparison")
    parser.add_argument("--only-compare", action="store_true", help="measure no times")
    arguments = parser.parse_args()
    config = nl.compose("train", list_overrides(arguments))
    if not (arguments.folder / "model.safetensors").is_file():
        train_committee(config, arguments.members, base_seed=11, output=arguments.folder)
    compare(arguments, config)
    if not arguments.only_compare:
        measure_cost(arguments)


def list_overrides(arguments: argparse.Namespace) -> list[str]:
    """The config as it would be typed."""
    folder = arguments.data
    return [
        f"data.train={folder / 'train_300K.xyz'}",
        f"data.reference_energies={folder / 'iso_atoms.xyz'}",
        "data.val=60",
        f"data.test={{in_distribution: {arguments.frames}}}",
        f"+data.train_size={arguments.train}",
        "cutoff_radius=4.5",
        *(f"model.{change}" for change in SMALL),
        f"trainer.max_epochs={arguments.epochs}",
        "trainer.accelerator=cpu",
        "run=[train]",
        "uncertainty=llpr",
    ]


def compare(arguments: argparse.Namespace, config) -> None:
    """Print the quality of the uncertainties on both kinds of frames."""
    committee = nl.load(arguments.folder)
    single = nl.load(arguments.folder / "member_000")
    held_out = build_data(config).test_sets["in_distribution"]
    every = max(1, 500 // arguments.frames)
    mixed = load_dataset(
        arguments.data / "train_mixedT.xyz", committee.type_names, committee.cutoff, index=f"::{every}", name="mixed"
    )
    print(
        f"{'frames':<16}{'uncertainty':<24}{'RMSE':>10}{'sigma':>10}{'50 %':>8}{'90 %':>8}{'95 %':>8}{'Spearman':>10}"
    )
    for name, dataset in (("300 K, held out", held_out), ("300-1200 K", mixed)):
        for kind, potential in (("committee", committee), ("LLPR", single)):
            for quality in evaluate(potential, dataset).uncertainty.values():
                factor = 1e3
                shares = "".join(f"{100 * share:7.1f} " for share in quality.coverage.values())
                print(
                    f"{name:<16}{kind + ', ' + quality.quantity:<24}{factor * quality.rejection[0]:10.2f}"
                    f"{factor * quality.sharpness:10.2f}{shares}{quality.spearman:10.2f}"
                )
    print("RMSE and sigma in meV/atom and meV/Angstrom; shares of errors within what is claimed")


def measure_cost(arguments: argparse.Namespace) -> None:
    """Print what uncertainties cost."""
    frames = ase.io.read(arguments.data / "train_300K.xyz", ":64")
    single, without = (nl.load(arguments.folder / "member_000") for _ in range(2))
    without.uncertainty = None
    seconds = alternate(*(make_stepper(frames[0], potential) for potential in (without, single)), repeats=STEPS)
    print(
        f"a step of the calculator, {len(frames[0])} atoms, {torch.get_num_threads()} threads: "
        f"{1e3 * seconds[0]:.3f} ms, with LLPR {1e3 * seconds[1]:.3f} ms ({100 * (seconds[1] / seconds[0] - 1):+.1f} %)"
    )
    committee = nl.Committee.load(arguments.folder)
    predictors = [nl.Predictor(member) for member in committee.members]
    seconds = alternate(
        lambda: [predictor.predict(frames) for predictor in predictors], lambda: committee.predict(frames), repeats=5
    )
    print(
        f"{len(frames)} frames, {len(committee)} members: one after the other {seconds[0]:.3f} s, "
        f"as a committee {seconds[1]:.3f} s ({seconds[0] / seconds[1]:.2f} times as fast)"
    )


def make_stepper(atoms, potential) -> Callable[[], object]:
    """A step of dynamics: positions that moved a little, and forces."""
    moved = atoms.copy()
    moved.calc = nl.NequIPCalculator(potential)
    generator = torch.Generator().manual_seed(0)

    def step() -> object:
        moved.positions += 1e-4 * torch.randn(moved.positions.shape, generator=generator).numpy()
        return moved.get_forces()

    return step


def alternate(*functions: Callable[[], object], repeats: int) -> list[float]:
    """Medians of the times of functions that are called in turn, in seconds of this process's CPU time per core.

    The clock of the process does not count while others have the core.
    """
    times: list[list[float]] = [[] for _ in functions]
    for function in functions:
        function()
    for _ in range(repeats):
        for function, own in zip(functions, times, strict=True):
            began = time.process_time()
            function()
            own.append(time.process_time() - began)
    return [statistics.median(own) / torch.get_num_threads() for own in times]


if __name__ == "__main__":
    main()
