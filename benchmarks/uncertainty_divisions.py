"""Coverage of calibrated intervals over many divisions of the frames into those that calibrate and those that test.

The coverage of one division is off by chance: of the frames that calibrate, and of those that are asked about. So it
takes many to tell whether the method keeps what it claims. There are two ways to make them.

The potentials stay, and the frames that none of them trained on are dealt anew; all that these frames decide is decided
anew (of the last layer the regularizer and the scale, of committees the factors of energies and forces)::

    python benchmarks/uncertainty_divisions.py --data 3bpa --folder outputs/3bpa
    python benchmarks/uncertainty_divisions.py --data rmd17_ethanol --folder outputs/ethanol

Or potentials are trained anew, each with its own division of all frames into training, validation and test, so that
validation frames choose the epoch as well, as in any run::

    python benchmarks/uncertainty_divisions.py --data rmd17_ethanol --folder outputs/anew --train-anew 4 \
        --train 250 --val 500 --test 1250 --epochs 20 --validate-every 5
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from scipy.stats import betabinom
from torch import Tensor
from uncertainty import COVERAGE, list_overrides

import nequip_like as nl
from nequip_like.data import fields
from nequip_like.data.dataset import GraphDataset
from nequip_like.inference.evaluation import evaluate
from nequip_like.inference.last_layer_fit import (
    UncertaintySettings,
    calibrate,
    compute_features,
    fit_root,
)
from nequip_like.inference.uncertainty_quality import PER_ATOM_ENERGY
from nequip_like.model.potential import Potential
from nequip_like.workflow.setup import build_data

QUANTILE = float(np.sqrt(2.0) * torch.special.erfinv(torch.tensor(COVERAGE, dtype=torch.float64)))
NEAR = 0.02  # how near the stated coverage is asked to be


def main() -> None:
    """Divide, calibrate, count, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="as of uncertainty.py")
    parser.add_argument("--folder", type=Path, required=True, help="the committee; of --train-anew, of the trainings")
    parser.add_argument("--divisions", type=int, default=50)
    parser.add_argument("--train-anew", type=int, default=0, metavar="N", help="train a potential for each of N")
    parser.add_argument("--train", type=int, default=100)
    parser.add_argument("--val", type=int, default=200)
    parser.add_argument("--test", type=int, default=200)
    parser.add_argument("--epochs", type=int, default=24)
    parser.add_argument("--validate-every", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    if arguments.train_anew:
        train_anew(arguments)
    else:
        recalibrate(arguments)


# --- the potentials stay


@dataclass(frozen=True)
class Claims:
    """Errors of frames, and how uncertainties are calibrated by some of them.

    Attributes:
        errors: One row for each frame, one error of its energy or those of its forces, (frames, errors).
        calibrate: Given numbers of the frames that calibrate, the uncertainties of all errors, (frames, errors).
    """

    errors: Tensor
    calibrate: Callable[[Tensor], Tensor]


def recalibrate(arguments: argparse.Namespace) -> None:
    """Deal the frames that were not trained on, calibrate, and print the coverage of the others."""
    single = nl.load(arguments.folder / "member_000")
    committee = nl.load(arguments.folder)
    committee.calibration = None
    drawn = nl.Committee.from_last_layer(single, len(committee.members)).potential
    data = build_data(nl.compose(arguments.folder / "committee.yaml"))
    calibrated = len(next(iter(data.val_sets.values())))
    sets = [*data.val_sets.values(), *data.test_sets.values()]
    held_out = GraphDataset([f for one in sets for f in one.frames], single.cutoff, single.type_names, name="held out")
    print(f"{len(held_out)} frames that no member trained on: {calibrated} calibrate, the others are asked about")
    print_expected(calibrated, len(held_out) - calibrated)
    claims = {"LLPR, energy": claim_of_last_layer(single, data.train_set, held_out)}
    for kind, potential in (("committee", committee), ("drawn", drawn)):
        for label, name in (("total_energy", "energy"), ("forces", "forces")):
            claims[f"{kind}, {name}"] = claim_of_committee(potential, held_out, label)
    for name, claim in claims.items():
        random = np.random.default_rng(0)
        shares = []
        for _ in range(arguments.divisions):
            order = torch.from_numpy(random.permutation(len(held_out)))
            chosen, asked = order[:calibrated], order[calibrated:]
            within = claim.errors.abs()[asked] <= QUANTILE * claim.calibrate(chosen)[asked]
            shares.append(float(within.double().mean()))
        print_shares(name, shares)


def claim_of_last_layer(potential: Potential, train: GraphDataset, held_out: GraphDataset) -> Claims:
    """Errors of the energies, and the whole calibration of last-layer features: regularizer and scale."""
    settings = UncertaintySettings(calibration="conformal", coverage=COVERAGE)
    (trained, _), (features, errors) = (
        compute_features(potential, dataset, range(len(dataset)), 10) for dataset in (train, held_out)
    )

    def calibrate_by(chosen: Tensor) -> Tensor:
        root, _ = fit_root(trained, features[chosen], errors[chosen], settings)
        return torch.linalg.vector_norm(features @ root, dim=1, keepdim=True)

    return Claims(errors[:, None], calibrate_by)


def claim_of_committee(committee: Potential, held_out: GraphDataset, label: str) -> Claims:
    """Errors of a label, and the factor of the members' spread."""
    predictions = nl.Predictor(committee).predict(held_out)
    pairs = zip(predictions, held_out.frames, strict=True)
    errors = torch.stack([(prediction[label] - frame[label]).flatten() for prediction, frame in pairs])
    spreads = torch.stack([prediction[fields.UNCERTAINTIES[label]].flatten() for prediction in predictions])

    def calibrate_by(chosen: Tensor) -> Tensor:
        return spreads * calibrate(errors[chosen].flatten(), spreads[chosen].flatten(), COVERAGE)

    return Claims(errors, calibrate_by)


# --- potentials are trained anew


def train_anew(arguments: argparse.Namespace) -> None:
    """Train potentials, each with its own division of all frames, and print the coverage of what it has not seen."""
    print_expected(arguments.val, arguments.test)
    print(f"{'division':>8}{'best epoch':>12}{'RMSE val':>10}{'test':>8}{'within 90 %':>13}   meV/atom, %")
    shares = []
    for number in range(arguments.train_anew):
        folder = arguments.folder / f"division_{number:03d}"
        changes = [f"seed={number}", f"data.split_seed={number}", f"output_dir={folder}"]
        config = nl.compose("train", [*list_overrides(arguments, pooled=True), *changes])
        result = nl.train(config)
        data = build_data(config)
        potential = nl.load(folder)
        val, test = (
            evaluate(potential, dataset).uncertainty[PER_ATOM_ENERGY]
            for dataset in (next(iter(data.val_sets.values())), data.test_sets["held_out"])
        )
        shares.append(test.coverage[COVERAGE])
        errors = "".join(f"{1e3 * quality.rejection[0]:{width}.2f}" for quality, width in ((val, 10), (test, 8)))
        print(f"{number:8d}{result.best_epoch:12d}{errors}{100 * shares[-1]:13.1f}", flush=True)
    print_shares("LLPR, energy", shares)


# --- what is printed


def print_expected(calibrated: int, asked: int) -> None:
    """Print how far chance alone makes one division be off: the share within is beta-binomial, whatever the errors."""
    rank = int(np.ceil((calibrated + 1) * COVERAGE))
    within = betabinom(asked, rank, calibrated + 1 - rank)
    low, high = np.ceil((COVERAGE - NEAR) * asked) - 1, np.floor((COVERAGE + NEAR) * asked)
    near = within.cdf(high) - within.cdf(low)
    print(
        f"expected of energies: {100 * within.mean() / asked:.1f} % within the interval of {100 * COVERAGE:g} %, "
        f"{100 * within.std() / asked:.1f} from one division to the next; {100 * near:.0f} % of the divisions are "
        f"within {100 * NEAR:g} points"
    )


def print_shares(name: str, shares: Sequence[float]) -> None:
    """Print mean and spread over the divisions, and how many are near what is stated."""
    near = np.mean(np.abs(np.array(shares) - COVERAGE) <= NEAR + 1e-12)
    print(
        f"{name:<20}{100 * np.mean(shares):6.1f} % within, {100 * np.std(shares, ddof=1):.1f} from one division to the "
        f"next, {100 * min(shares):.1f} to {100 * max(shares):.1f}; within {100 * NEAR:g} points {100 * near:.0f} %"
    )


if __name__ == "__main__":
    main()
