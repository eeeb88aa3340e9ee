"""How far uncertainties tell errors: a committee and the last layer, on frames as those of the training and hotter.

Trains a committee, unless the folder has one, and compares its uncertainties and those of its first member (LLPR) and
of a committee drawn from that one, with the errors on held-out frames of the kind that was trained on, and of 3BPA on
hotter ones. All uncertainties are calibrated for a coverage of 90 % on the validation frames. Then it measures what
uncertainties cost: steps of the calculator with and without, and the committee beside a loop over its members::

    python benchmarks/uncertainty.py --data 3bpa --folder outputs/3bpa --epochs 16 --validate-every 4
    python benchmarks/uncertainty.py --data rmd17_ethanol --folder outputs/ethanol --train 250 --val 500 --epochs 20
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
TIMED_MEMBERS, TIMED_FRAMES = 4, 200
COVERAGE = 0.9


def main() -> None:
    """Train, compare, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--data",
        type=Path,
        required=True,
        help="folder with train_300K.xyz, train_mixedT.xyz, iso_atoms.xyz, or with ethanol_{train,test}_01.xyz",
    )
    parser.add_argument("--folder", type=Path, required=True, help="folder of the committee")
    parser.add_argument("--members", type=int, default=8)
    parser.add_argument("--train", type=int, default=100, help="training frames")
    parser.add_argument("--val", type=int, default=200, help="validation frames, which calibrate, too")
    parser.add_argument("--test", type=int, default=200, help="held-out frames of 3BPA; of ethanol the test file")
    parser.add_argument("--epochs", type=int, default=24)
    parser.add_argument("--validate-every", type=int, default=1, help="epochs from one validation to the next")
    parser.add_argument("--only-compare", action="store_true", help="measure no times")
    arguments = parser.parse_args()
    config = nl.compose("train", list_overrides(arguments))
    if not (arguments.folder / "model.safetensors").is_file():
        train_committee(config, arguments.members, base_seed=11, output=arguments.folder)
    compare(arguments, config)
    if not arguments.only_compare:
        measure_cost(arguments)


def find_hot_file(folder: Path) -> Path | None:
    """Frames of higher temperatures than those of the training; rMD17 has none."""
    file = folder / "train_mixedT.xyz"
    return file if file.is_file() else None


def find_train_file(folder: Path) -> Path:
    """The frames to train on."""
    return next(file for name in ("train_300K.xyz", "ethanol_train_01.xyz") if (file := folder / name).is_file())


def list_overrides(arguments: argparse.Namespace, pooled: bool = False) -> list[str]:
    """The config as it would be typed.

    Args:
        arguments: data, train, val, test, epochs, validate_every.
        pooled: Whether test frames of ethanol are drawn from both of its files together, as training frames are.
    """
    folder = arguments.data
    files = str(find_train_file(folder))
    if pooled and find_hot_file(folder) is None:
        files = f"[{files},{folder / 'ethanol_test_01.xyz'}]"
        test = [f"data.test={{held_out: {arguments.test}}}"]
    elif find_hot_file(folder) is not None:
        test = [
            f"data.test={{held_out: {arguments.test}}}",
            f"data.reference_energies={folder / 'iso_atoms.xyz'}",
        ]
    else:
        test = [f"data.test={{held_out: {folder / 'ethanol_test_01.xyz'}}}"]
    return [
        f"data.train={files}",
        f"data.val={arguments.val}",
        f"+data.train_size={arguments.train}",
        *test,
        "cutoff_radius=4.5",
        *(f"model.{change}" for change in SMALL),
        f"trainer.max_epochs={arguments.epochs}",
        f"trainer.check_val_every_n_epoch={arguments.validate_every}",
        "trainer.accelerator=cpu",
        "run=[train]",
        f"uncertainty={{method: llpr, calibration: conformal, coverage: {COVERAGE}}}",
    ]


def compare(arguments: argparse.Namespace, config) -> None:
    """Print the quality of the uncertainties on all kinds of frames."""
    committee = nl.load(arguments.folder)
    single = nl.load(arguments.folder / "member_000")
    data = build_data(config)
    sets = {"calibration": next(iter(data.val_sets.values())), "held out": data.test_sets["held_out"]}
    hot = find_hot_file(arguments.data)
    if hot is not None:
        sets["hotter"] = load_dataset(hot, committee.type_names, committee.cutoff, name="hotter")
    print(f"{'frames':<20}{'uncertainty':<28}{'RMSE':>8}{'sigma':>8}{'50 %':>8}{'90 %':>8}{'95 %':>8}{'Spearman':>10}")
    drawn = nl.Committee.from_last_layer(single, arguments.members)
    drawn.calibrate(sets["calibration"], "conformal", COVERAGE)
    for kind, potential in (("committee", committee), ("LLPR", single), ("drawn", drawn.potential)):
        for name, dataset in sets.items():
            for quality in evaluate(potential, dataset).uncertainty.values():
                shares = "".join(f"{100 * share:7.1f} " for share in quality.coverage.values())
                print(
                    f"{f'{name} ({len(dataset)})':<20}{f'{kind}, {quality.quantity}':<28}"
                    f"{1e3 * quality.rejection[0]:8.2f}{1e3 * quality.sharpness:8.2f}{shares}{quality.spearman:10.2f}"
                )
    print("RMSE and sigma in meV/atom and meV/Angstrom; shares of errors within what is claimed; in brackets frames")


def measure_cost(arguments: argparse.Namespace) -> None:
    """Print what uncertainties cost."""
    frames = ase.io.read(find_train_file(arguments.data), f":{TIMED_FRAMES}")
    single, without = (nl.load(arguments.folder / "member_000") for _ in range(2))
    without.uncertainty = None
    seconds = alternate(*(make_stepper(frames[0], potential) for potential in (without, single)), repeats=STEPS)
    print(
        f"a step of the calculator, {len(frames[0])} atoms, {torch.get_num_threads()} threads: "
        f"{1e3 * seconds[0]:.3f} ms, with LLPR {1e3 * seconds[1]:.3f} ms ({100 * (seconds[1] / seconds[0] - 1):+.1f} %)"
    )
    committee = nl.Committee(nl.Committee.load(arguments.folder).members[:TIMED_MEMBERS])
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
