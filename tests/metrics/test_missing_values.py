"""Labels, species and weights that are not there: no NaN in loss or gradient, no division by zero, no lost term."""

from __future__ import annotations

import math
import socket
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist

from nequip_like.data.fields import Graph
from nequip_like.metrics.elementwise import (
    ErrorMetric,
    HuberLoss,
    MaximumAbsoluteError,
    MeanAbsoluteError,
    MeanSquaredError,
    RootMeanSquaredError,
    StratifiedHuberForceLoss,
)
from nequip_like.metrics.manager import MetricsManager
from tests.processes import run_side_by_side

TYPES = ["H", "C", "O"]
METRICS = (
    MeanAbsoluteError(),
    MeanSquaredError(),
    RootMeanSquaredError(),
    MaximumAbsoluteError(),
    HuberLoss(),
    HuberLoss(reduction="sum"),
    StratifiedHuberForceLoss({0.0: 1.0, 1.0: 0.5}),
)


def frames(seed: int, sizes: tuple[int, ...] = (3, 4)) -> tuple[Graph, Graph]:
    """Prediction and labels of molecules of H and C, with energies, forces and stress."""
    random = torch.Generator().manual_seed(seed)
    atoms, count = sum(sizes), len(sizes)
    shapes = {"total_energy": (count, 1), "forces": (atoms, 3), "stress": (count, 3, 3)}
    draw = {key: torch.randn(shape, generator=random, dtype=torch.float64) for key, shape in shapes.items()}
    guess = {key: torch.randn(shape, generator=random, dtype=torch.float64) for key, shape in shapes.items()}
    target: Graph = {
        **draw,
        "pos": torch.zeros(atoms, 3, dtype=torch.float64),
        "num_atoms": torch.tensor(sizes),
        "batch": torch.repeat_interleave(torch.arange(count), torch.tensor(sizes)),
        "atom_types": torch.arange(atoms) % 2,
    }
    return {key: value.requires_grad_() for key, value in guess.items()}, target


def missing_labels(prediction: Graph, target: Graph, field: str) -> None:
    target[field] = torch.full_like(target[field], math.nan)


def missing_labels_and_predictions(prediction: Graph, target: Graph, field: str) -> None:
    """The stress of a molecule, which has no volume."""
    missing_labels(prediction, target, field)
    prediction[field] = torch.full_like(prediction[field], math.nan).requires_grad_()


def weights_of_frames(prediction: Graph, target: Graph, field: str) -> None:
    """All frames that have the label have the weight 0."""
    target["frame_weight"] = torch.tensor([[0.0], [2.0]], dtype=torch.float64)
    target[field] = target[field].clone()
    owners = target["batch"] if len(target[field]) == len(target["batch"]) else torch.arange(2)
    target[field][owners == 1] = math.nan


def gradients(loss: torch.Tensor, prediction: Graph) -> dict[str, torch.Tensor | None]:
    keys = [key for key in prediction if prediction[key].requires_grad]
    found = torch.autograd.grad(loss, [prediction[key] for key in keys], allow_unused=True)
    return dict(zip(keys, found, strict=True))


@pytest.mark.parametrize("metric", METRICS, ids=lambda m: f"{m}_{getattr(m, 'reduction', '')}")
@pytest.mark.parametrize("lose", [missing_labels, missing_labels_and_predictions, weights_of_frames])
@pytest.mark.parametrize(("field", "per_type"), [("stress", False), ("forces", False), ("forces", True)])
def test_a_term_without_labels(metric: ErrorMetric, lose: Any, field: str, per_type: bool) -> None:
    """It adds exactly 0 to the loss and has gradient exactly 0; the other term keeps its coefficient, 0.75."""
    prediction, target = frames(0)
    lose(prediction, target, field)
    term = {"field": field, "metric": metric, "coeff": 1.0, "name": "gone", "per_type": per_type}
    other = {"field": "total_energy", "metric": MeanSquaredError, "coeff": 3.0, "name": "other"}
    manager = MetricsManager([term, other], TYPES)
    values = manager.step(prediction, target)
    with torch.autograd.set_detect_anomaly(True):
        found = gradients(values["weighted_sum"], prediction)
    alone = MetricsManager([other], TYPES).step(prediction, target)["weighted_sum"]
    assert math.isnan(values["gone"].item())
    assert values["weighted_sum"].item() == 0.75 * alone.item() > 0
    assert torch.equal(found[field], torch.zeros_like(prediction[field]))  # type: ignore[arg-type]
    expected = gradients(0.75 * alone, prediction)["total_energy"]
    torch.testing.assert_close(found["total_energy"], expected, rtol=1e-14, atol=0.0)
    # The epoch: as the batch, until a batch has the label.
    assert manager.compute()["weighted_sum"].item() == 0.75 * alone.item()
    assert manager.missing_terms() == ["gone"]
    more = frames(1)
    value = MetricsManager([term], TYPES).step(*more)["gone"].item()
    manager.update(*more)
    assert manager.compute()["gone"].item() == pytest.approx(value, rel=1e-14)
    assert manager.missing_terms() == []


@pytest.mark.parametrize("metric", METRICS, ids=lambda m: f"{m}_{getattr(m, 'reduction', '')}")
def test_a_species_that_is_absent(metric: ErrorMetric) -> None:
    """O is in no frame: the mean is over H and C, in the step and in the epoch; gradients are finite."""
    entry = {"field": "forces", "metric": metric, "coeff": 1.0, "name": "F", "per_type": True}
    prediction, target = frames(2)
    manager, two = MetricsManager([entry], TYPES), MetricsManager([entry], TYPES[:2])
    values, expected = manager.step(prediction, target), two.step(prediction, target)
    assert values["F"].item() == expected["F"].item()
    assert math.isnan(values["F_O"].item())
    found, without = (gradients(of["weighted_sum"], prediction)["forces"] for of in (values, expected))
    assert torch.equal(found, without)  # type: ignore[arg-type]
    assert torch.isfinite(found).all()  # type: ignore[arg-type]
    assert manager.compute()["F"].item() == two.compute()["F"].item()
    assert manager.missing_terms() == []


def test_all_weights_are_zero() -> None:
    prediction, target = frames(3)
    target["frame_weight"] = torch.zeros(2, 1, dtype=torch.float64)
    target["atom_weight"] = torch.zeros(7, 1, dtype=torch.float64)
    entries = [{"field": f, "metric": MeanSquaredError, "coeff": 1.0} for f in ("total_energy", "forces", "stress")]
    manager = MetricsManager(entries)
    loss = manager.step(prediction, target)["weighted_sum"]
    assert loss.item() == 0.0
    for gradient in gradients(loss, prediction).values():
        assert gradient is not None
        assert not gradient.any()
    assert math.isnan(manager.compute()["weighted_sum"].item())
    assert manager.missing_terms() == ["E_mse", "F_mse", "stress_mse"]


def test_state_goes_back() -> None:
    """What a step that is left out has added is taken back, with the weights of frames and maxima."""
    entries = [{"field": "forces", "metric": metric, "name": str(i)} for i, metric in enumerate(METRICS)]
    manager = MetricsManager(entries)
    manager.update(*frames(4))
    state, before = manager.running_state(), manager.compute()
    manager.update(*frames(5))
    assert manager.compute()["0"].item() != before["0"].item()
    manager.set_running_state(state)
    assert {k: v.item() for k, v in manager.compute().items()} == {k: v.item() for k, v in before.items()}


# --- two processes


def measured(rank: int, folder: str) -> None:
    """No process has stress; only the first has forces; only the second has frames with a weight."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=Path(folder, "meet").read_text(), rank=rank, world_size=2)
    prediction, target = share(rank)
    manager = MetricsManager(entries_of_two(), TYPES)
    values = manager.step(prediction, target)
    found = gradients(values["weighted_sum"], prediction)
    torch.save(
        {
            "step": {name: value.item() for name, value in values.items()},
            "epoch": {name: value.item() for name, value in manager.compute().items()},
            "missing": manager.missing_terms(),
            "gradients": {name: gradient for name, gradient in found.items() if gradient is not None},
        },
        f"{folder}/{rank}.pt",
    )
    dist.destroy_process_group()


def entries_of_two() -> list[dict[str, Any]]:
    return [
        {"field": "stress", "metric": MeanSquaredError, "coeff": 1.0},
        {"field": "forces", "metric": RootMeanSquaredError, "coeff": 2.0, "per_type": True},
        {"field": "total_energy", "metric": MaximumAbsoluteError, "coeff": 1.0},
    ]


def share(rank: int) -> tuple[Graph, Graph]:
    prediction, target = frames(6 + rank, sizes=(3, 4) if rank == 0 else (2, 2))
    missing_labels(prediction, target, "stress")
    if rank == 1:
        missing_labels(prediction, target, "forces")
    target["frame_weight"] = torch.full((2, 1), float(rank), dtype=torch.float64)
    if rank == 0:
        target["frame_weight"][1] = 1.0
        target["atom_types"] = torch.zeros_like(target["atom_types"])
    return prediction, target


@pytest.mark.slow
def test_two_processes(tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        (tmp_path / "meet").write_text(f"tcp://127.0.0.1:{free.getsockname()[1]}")
    run_side_by_side(measured, str(tmp_path))
    first, second = (torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in range(2))
    for stage in ("step", "epoch"):
        assert str(first[stage]) == str(second[stage])  # as text: NaN equals NaN
        assert math.isnan(first[stage]["stress_mse"])
        assert math.isnan(first[stage]["F_rmse_C"])
        assert first[stage]["F_rmse"] == first[stage]["F_rmse_H"] > 0
        expected = 0.5 * first[stage]["F_rmse"] + 0.25 * first[stage]["E_max_ae"]
        assert first[stage]["weighted_sum"] == pytest.approx(expected, rel=1e-15)
    assert first["missing"] == second["missing"] == ["stress_mse"]
    for result in (first, second):
        assert not result["gradients"]["stress"].any()
        assert all(torch.isfinite(gradient).all() for gradient in result["gradients"].values())
    assert not second["gradients"]["forces"].any()
    assert not first["gradients"]["forces"][:3].any()  # of the frame of weight 0
    assert first["gradients"]["forces"][3:].any()
    # The largest error is in one place.
    assert sum(int(result["gradients"]["total_energy"].count_nonzero()) for result in (first, second)) == 1
