"""Metrics of an evaluation, against numpy."""

import numpy as np
import pytest
import torch

from nequip_like.data.dataset import GraphDataset, load_dataset
from nequip_like.errors import DataError, ModelError
from nequip_like.inference.evaluation import evaluate


@pytest.fixture
def potential(make_potential):
    return make_potential()


@pytest.fixture
def dataset(tmp_path, write_labelled, potential):
    return load_dataset(write_labelled(tmp_path / "a.xyz", frames=25), potential.type_names, potential.cutoff)


def expected(error):
    error = np.asarray(error)
    return {"mae": np.abs(error).mean(), "rmse": np.sqrt((error**2).mean()), "maxabserr": np.abs(error).max()}


def errors(dataset, potential, label):
    pairs = [(potential(frame)[label].numpy(), frame[label].numpy()) for frame in dataset.frames]
    return [prediction - target for prediction, target in pairs]


def test_metrics(dataset, potential):
    evaluation = evaluate(potential, dataset, batch_size=4)
    wanted = {}
    energy = np.array([error.item() for error in errors(dataset, potential, "total_energy")])
    forces, stress = errors(dataset, potential, "forces"), errors(dataset, potential, "stress")
    types = np.concatenate([frame["atom_types"].numpy() for frame in dataset.frames])
    sizes = np.array([len(frame["pos"]) for frame in dataset.frames])
    all_forces = np.concatenate(forces)
    known = ~np.isnan(all_forces).any(axis=1)
    for name, error in {
        "total_energy_{}": energy,
        "per_atom_energy_{}": energy / sizes,
        "forces_{}": all_forces[known],
        "stress_{}": np.concatenate([error[~np.isnan(error)] for error in stress]),
        **{f"forces_{{}}_{s}": all_forces[known & (types == t)] for t, s in enumerate(dataset.type_names)},
    }.items():
        wanted |= {name.format(short): value for short, value in expected(error).items()}
    assert evaluation.metrics.keys() == wanted.keys()
    for name, value in wanted.items():
        assert evaluation.metrics[name] == pytest.approx(value, rel=1e-12), name


def test_metrics_do_not_depend_on_the_batch_size(dataset, potential):
    one, many = (evaluate(potential, dataset, batch_size=size).metrics for size in (1, 16))
    assert one == pytest.approx(many, rel=1e-12)


def test_worst_frames(dataset, potential):
    evaluation = evaluate(potential, dataset)
    rms = {
        i: np.sqrt((e**2).mean()) for i, e in enumerate(errors(dataset, potential, "forces")) if not np.isnan(e).any()
    }
    ranked = sorted(rms, key=rms.get, reverse=True)[:10]
    assert [frame.index for frame in evaluation.worst] == ranked
    assert evaluation.worst[0].error == pytest.approx(rms[ranked[0]], rel=1e-12)
    assert evaluation.worst[0].origin == dataset.origin(ranked[0])
    assert evaluation.worst[0].quantity == "forces"


def test_worst_frames_by_energy(dataset, potential):
    frames = [{key: value for key, value in frame.items() if key != "forces"} for frame in dataset.frames]
    evaluation = evaluate(potential, GraphDataset(frames, potential.cutoff, potential.type_names))
    sizes = [len(frame["pos"]) for frame in frames]
    energy = [abs(e.item()) / n for e, n in zip(errors(dataset, potential, "total_energy"), sizes, strict=True)]
    assert evaluation.worst[0].index == int(np.argmax(energy))
    assert evaluation.worst[0].error == pytest.approx(max(energy), rel=1e-9)
    assert evaluation.worst[0].quantity == "per_atom_energy"
    assert not any(name.startswith("forces") for name in evaluation.metrics)


def test_labels_that_are_not_there_have_no_metrics(tmp_path, write_labelled, potential):
    path = write_labelled(tmp_path / "a.xyz", frames=1)
    metrics = evaluate(potential, load_dataset(path, potential.type_names, potential.cutoff)).metrics
    assert not any(name.startswith("stress") for name in metrics)
    assert not any(np.isnan(value) for value in metrics.values())


def test_species_without_atoms_has_no_metrics(tmp_path, write_labelled, make_potential):
    potential = make_potential(type_names=["H", "C", "N", "O"])
    dataset = load_dataset(write_labelled(tmp_path / "a.xyz"), potential.type_names, potential.cutoff)
    metrics = evaluate(potential, dataset).metrics
    assert "forces_mae_N" not in metrics
    assert {"forces_mae_H", "forces_rmse_O", "forces_maxabserr_C"} < metrics.keys()


def test_weights_count(dataset, potential):
    frames = [
        {**frame, "frame_weight": torch.tensor([[float(i % 2)]], dtype=torch.float64)}
        for i, frame in enumerate(dataset.frames)
    ]
    metrics = evaluate(potential, GraphDataset(frames, potential.cutoff, potential.type_names)).metrics
    energy = np.array([error.item() for error in errors(dataset, potential, "total_energy")])
    assert metrics["total_energy_mae"] == pytest.approx(np.abs(energy[1::2]).mean(), rel=1e-12)


def test_energy_only_model(dataset, make_potential):
    evaluation = evaluate(make_potential(do_derivatives=False), dataset)
    assert evaluation.compared == ("total_energy",)
    assert set(evaluation.metrics) == {
        f"{name}_{short}" for name in ("total_energy", "per_atom_energy") for short in ("mae", "rmse", "maxabserr")
    }


def test_no_labels(dataset, potential):
    frames = [{k: v for k, v in f.items() if k not in ("total_energy", "forces", "stress")} for f in dataset.frames]
    with pytest.raises(DataError, match="key_mapping"):
        evaluate(potential, GraphDataset(frames, potential.cutoff, potential.type_names))


def test_data_of_another_model(dataset, make_potential):
    with pytest.raises(ModelError, match="was made for"):
        evaluate(make_potential(type_names=["H", "O", "C"]), dataset)
    with pytest.raises(ModelError, match="was made for"):
        evaluate(make_potential(r_max=4.0), dataset)


def test_diverged_model(dataset, potential):
    with torch.no_grad():
        potential.energy_model.scale_shift.scales[0] = torch.nan
    with pytest.raises(ModelError, match=r"a\.xyz frame 0 .*not finite"):
        evaluate(potential, dataset)
