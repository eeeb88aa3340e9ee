"""What follows from the data alone."""

import pytest
from ase.data import chemical_symbols

from nequip_like.auto.settings import (
    Setting,
    choose_batch,
    choose_cutoff,
    choose_loss,
    choose_sets,
    choose_targets,
    leave_pinned,
)
from nequip_like.auto.survey import Survey


def make_survey(**changes: object) -> Survey:
    """Of 400 molecules with energies and forces."""
    usual = {"frames": 400, "atoms": 9.0, "neighbors": 8.0, "cutoff": 5.0, "species": ("H", "C")}
    labels = {"total_energy": 400, "forces": 400}
    return Survey(**{**usual, "labels": labels, "periodic": 0, **changes})


def test_cutoff() -> None:
    assert choose_cutoff(make_survey(neighbors=60.0)).override == "cutoff_radius=5"
    # 45 of 90 neighbours lie within 2^(-1/3) of the radius
    assert choose_cutoff(make_survey(neighbors=90.0)).override == "cutoff_radius=4.0"
    assert choose_cutoff(make_survey(neighbors=62.0)).override == "cutoff_radius=4.5"


@pytest.mark.parametrize(
    ("labels", "periodic", "targets"),
    [
        ({"total_energy": 400, "forces": 400}, 400, "energy_force"),
        ({"total_energy": 400, "forces": 400, "stress": 400}, 400, "energy_force_stress"),
        ({"total_energy": 400, "forces": 400, "stress": 20}, 20, "energy_force_stress"),
        ({"total_energy": 400, "forces": 400, "stress": 20}, 400, "energy_force"),
        ({"total_energy": 400}, 0, "energy"),
        ({"forces": 400}, 0, "force"),
    ],
)
def test_targets(labels: dict[str, int], periodic: int, targets: str) -> None:
    assert choose_targets(make_survey(labels=labels, periodic=periodic)).override == f"targets={targets}"


def test_loss_of_many_species() -> None:
    assert choose_loss(make_survey(species=tuple(chemical_symbols[1:20]))) == []
    (setting,) = choose_loss(make_survey(species=tuple(chemical_symbols[1:21])))
    assert setting.override == "training_module.loss.function=huber"
    assert setting.reason.startswith("of 20 species")


@pytest.mark.parametrize(
    ("frames", "has_test", "overrides"),
    [
        (20, False, ["data.val=2"]),
        (99, False, ["data.val=10"]),
        (100, False, ["data.val=10", "data.test=10"]),
        (100, True, ["data.val=10"]),
        (10_000, False, ["data.val=200", "data.test=200"]),
    ],
)
def test_frames_that_are_held_out(frames: int, has_test: bool, overrides: list[str]) -> None:
    assert [setting.override for setting in choose_sets(make_survey(frames=frames), has_test)] == overrides


def test_batch_of_few_frames() -> None:
    assert choose_batch(make_survey(frames=20)).override == "data.batch_size=2"
    assert choose_batch(make_survey(frames=5)).override == "data.batch_size=1"


def test_what_is_typed_is_not_chosen() -> None:
    settings = [Setting("targets", "force", ""), Setting("training_module.optimizer.lr", "0.01", "")]
    assert leave_pinned(settings, {"optimizer", "target"}) == settings
    assert leave_pinned(settings, {"targets"}) == settings[1:]
    assert leave_pinned(settings, {"training_module.optimizer"}) == settings[:1]
