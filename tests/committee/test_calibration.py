"""A committee whose spread is made the size of its errors: the factors, and that all that predicts uses them."""

import dataclasses

import numpy as np
import pytest
import torch

from nequip_like.committee import Committee
from nequip_like.committee.calibration import calibrate_committee, describe_calibration
from nequip_like.data.dataset import load_dataset
from nequip_like.errors import ConfigError, DataError, ModelFileError
from nequip_like.inference import Predictor, load, read_card, save
from nequip_like.inference.evaluation import evaluate
from nequip_like.inference.last_layer_fit import UncertaintySettings, estimate_coverage_error
from nequip_like.integrations.trust import CommitteeCalculator


@pytest.fixture
def committee(make_potential):
    return Committee([make_potential(seed=seed) for seed in (1, 2, 3)])


@pytest.fixture
def held_out(tmp_path, write_labelled, committee):
    path = write_labelled(tmp_path / "held_out.xyz", 20)
    return load_dataset(path, committee.potential.type_names, committee.potential.cutoff, name="held out")


def collect(committee, dataset, label, uncertainty):
    """Errors and uncertainties of a label, those without one left out."""
    predictions = Predictor(committee.potential).predict(dataset)
    errors = torch.cat([(p[label] - f[label]).flatten() for p, f in zip(predictions, dataset.frames, strict=True)])
    spreads = torch.cat([prediction[uncertainty].flatten() for prediction in predictions])
    return errors[~errors.isnan()].abs(), spreads[~errors.isnan()]


LABELS = [("total_energy", "energy_uncertainty"), ("forces", "forces_uncertainty")]


@pytest.mark.parametrize(("label", "uncertainty"), LABELS)
def test_scale(committee, held_out, label, uncertainty):
    errors, spreads = collect(committee, held_out, label, uncertainty)
    calibration = committee.calibrate(held_out, "scale")
    assert (calibration.method, calibration.coverage, calibration.frames) == ("scale", None, 20)
    assert calibration.counts[label] == len(errors)
    _, calibrated = collect(committee, held_out, label, uncertainty)
    assert float((errors / calibrated).square().mean()) == pytest.approx(1.0)
    torch.testing.assert_close(calibrated, spreads * calibration.scales[label])


@pytest.mark.parametrize(("label", "uncertainty"), LABELS)
def test_conformal(committee, held_out, label, uncertainty):
    """Of the n errors ceil((n + 1) coverage) are within the quantile of a Gaussian, one of them exactly on it."""
    calibration = committee.calibrate(held_out, coverage=0.8)
    assert (calibration.method, calibration.coverage) == ("conformal", 0.8)
    errors, spreads = collect(committee, held_out, label, uncertainty)
    within = errors <= 1.2815515655446004 * spreads * (1 + 1e-9)
    assert int(within.sum()) == int(np.ceil((len(errors) + 1) * 0.8))


def test_everything_that_predicts_uses_it(tmp_path, committee, held_out):
    before = committee.predict(held_out)
    committee.calibrate(held_out)
    energy, forces = (committee.calibration.scales[label] for label in ("total_energy", "forces"))
    assert abs(energy - 1) > 0.1
    assert abs(forces - 1) > 0.1
    committee.save(tmp_path / "committee.safetensors")
    card = read_card(tmp_path / "committee.safetensors")
    assert card["format_version"] == 2
    assert card["uncertainty"]["scales"] == {"total_energy": energy, "forces": forces}
    loaded = Committee.load(tmp_path / "committee.safetensors")
    assert loaded.calibration == committee.calibration
    assert loaded.potential.summary()["calibration"] == "conformal"
    after = loaded.predict(held_out)
    for a, b in zip(before, after, strict=True):
        assert b.energy_std == pytest.approx(a.energy_std)
        assert b.energy_uncertainty == pytest.approx(energy * a.energy_std)
        np.testing.assert_allclose(b.forces_std, a.forces_std, rtol=1e-6, atol=1e-12)
        np.testing.assert_allclose(b.force_uncertainty, forces * a.forces_std.mean(1), rtol=1e-6, atol=1e-12)
        assert b.list_values()["energy_uncertainty"] == b.energy_uncertainty
    atoms = Predictor(load(tmp_path / "committee.safetensors")).predict_atoms(tmp_path / "held_out.xyz")[1]
    assert atoms.info["energy_uncertainty"] == pytest.approx(after[1].energy_uncertainty)
    calculator = CommitteeCalculator(tmp_path / "committee.safetensors")
    calculator.calculate(atoms)
    np.testing.assert_allclose(calculator.results["forces_uncertainty"], after[1].forces_uncertainty, atol=1e-6)
    quality = evaluate(loaded.potential, held_out).uncertainty["per_atom_energy"]
    assert quality.coverage[0.9] == 19 / 20


def test_a_folder_has_the_calibration_of_its_file(tmp_path, committee, held_out):
    for i, member in enumerate(committee.members):
        save(member, tmp_path / "run" / f"member_{i:03d}" / "model.safetensors")
    assert Committee.load(tmp_path / "run").calibration is None
    committee.calibrate(held_out)
    committee.save(tmp_path / "run" / "model.safetensors")
    assert Committee.load(tmp_path / "run").calibration == committee.calibration


def test_few_errors_are_scaled(committee, held_out, tmp_path, write_labelled):
    few = load_dataset(
        write_labelled(tmp_path / "few.xyz", 8), committee.potential.type_names, committee.potential.cutoff, name="few"
    )
    calibration = committee.calibrate(few)
    assert calibration.method == "scale"
    assert describe_calibration(calibration) == (
        f"calibration: spreads of energies times {calibration.scales['total_energy']:.3g} and forces times "
        f"{calibration.scales['forces']:.3g}, scaled to the errors of 8 frames (few)"
    )
    with pytest.raises(DataError, match=r"8 held-out structures are too few for a coverage of 0\.9"):
        committee.calibrate(few, "conformal")
    with pytest.raises(ConfigError, match=r"uncertainty\.calibration"):
        committee.calibrate(few, "conformall")


def test_what_is_said_of_a_coverage(committee, held_out):
    """How far chance makes it be off, of as many energies as there were."""
    calibration = committee.calibrate(held_out, coverage=0.8)
    assert describe_calibration(calibration) == (
        f"calibration: spreads of energies times {calibration.scales['total_energy']:.3g} and forces times "
        f"{calibration.scales['forces']:.3g}, 80 % coverage (of energies give or take "
        f"{100 * estimate_coverage_error(calibration.counts['total_energy'], 0.8):.1f} points, by chance of so few) of "
        f"the errors of 20 frames (held out)"
    )
    forces_alone = dataclasses.replace(calibration, scales={"forces": 2.0}, counts={"forces": 540})
    assert describe_calibration(forces_alone) == (
        "calibration: spreads of forces times 2, 80 % coverage of the errors of 20 frames (held out)"
    )


def test_without_labels(committee, held_out):
    for frame in held_out.frames:
        for label in ("total_energy", "forces"):
            frame[label].fill_(torch.nan)
    with pytest.raises(DataError, match="'held out' has fewer than two energies or forces to calibrate"):
        calibrate_committee(committee.potential, held_out, UncertaintySettings())


def test_a_damaged_calibration(tmp_path, committee, held_out):
    committee.calibrate(held_out)
    committee.calibration.scales["forces"] = 0.0
    committee.save(tmp_path / "a.safetensors")
    with pytest.raises(ModelFileError, match="it is calibrated by"):
        load(tmp_path / "a.safetensors")


def test_members_leave_uncertainties_of_their_own(tmp_path, committee, make_potential, held_out):
    """A committee of files has no use for those of last layers, and would pay for them."""
    from nequip_like.inference.last_layer_fit import fit_uncertainty

    for seed in (1, 2):
        potential = make_potential(seed=seed)
        fit_uncertainty(potential, held_out, held_out)
        save(potential, tmp_path / f"{seed}.safetensors")
    loaded = Committee.from_files([tmp_path / f"{seed}.safetensors" for seed in (1, 2)])
    assert [member.uncertainty for member in loaded.members] == [None, None]


def test_coverage_is_off_by_chance():
    """The standard deviation of the share that a conformal interval has, against drawn ones."""
    generator = np.random.default_rng(0)
    count, shares = 60, []
    for _ in range(4000):
        errors = np.sort(generator.uniform(size=count))
        shares.append(errors[int(np.ceil((count + 1) * 0.9)) - 1])  # of uniform errors the share is the quantile
    assert estimate_coverage_error(count) == pytest.approx(np.std(shares), rel=0.05)
    assert estimate_coverage_error(count) == pytest.approx(0.0378, abs=1e-4)
    asked = [np.mean(generator.uniform(size=40) <= share) for share in shares]
    assert estimate_coverage_error(count, asked=40) == pytest.approx(np.std(asked), rel=0.05)
    assert estimate_coverage_error(200, asked=200) == pytest.approx(0.0298, abs=1e-4)


def test_what_tells_a_committee_tells_its_calibration(committee, held_out):
    """Artifacts and facts have it; a prediction that goes on is not one of the committee before it was calibrated."""
    from nequip_like.artifacts.description import describe_model
    from nequip_like.workflow.model_files.telling import _describe_uncertainty
    from nequip_like.workflow.prediction.run import _identify

    before = _identify(committee.potential)
    described = describe_model(committee.potential)
    assert described["uncertainty"] is None
    assert _describe_uncertainty(described) == "standard deviation over the members"
    scales = committee.calibrate(held_out).scales
    described = describe_model(committee.potential)
    assert described["uncertainty"]["scales"] == scales
    assert _describe_uncertainty(described) == (
        f"standard deviation over the members, of total_energy times {scales['total_energy']:.4g}, "
        f"of forces times {scales['forces']:.4g}"
    )
    assert _identify(committee.potential) != before
