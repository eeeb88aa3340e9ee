"""What is found in data, and what is refused."""

import numpy as np
import pytest
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator

from nequip_like.auto.settings import choose_filters, choose_sets
from nequip_like.auto.survey import Survey
from nequip_like.data.datamodule import DataModule
from nequip_like.errors import DataError


def make_frames(number: int, **labels: object) -> list[Atoms]:
    """Hydrogen molecules of growing length; a label may be a function of the molecule."""
    frames = []
    for i in range(number):
        atoms = Atoms("H2", [[0, 0, 0], [0, 0, 0.7 + 0.01 * i]])
        atoms.calc = SinglePointCalculator(atoms, **labels)
        frames.append(atoms)
    return frames


def test_what_is_counted() -> None:
    data = DataModule(train=make_frames(8, energy=-31.0, forces=np.zeros((2, 3))), val=3, cutoff_radius=3.0)
    survey = Survey.of(data)
    assert (survey.frames, survey.atoms, survey.neighbors, survey.species) == (8, 2.0, 1.0, ("H",))
    assert survey.labels == {"total_energy": 8, "forces": 8}
    assert survey.periodic == 0


def test_frames_without_labels() -> None:
    frames = [Atoms("H2", [[0, 0, 0], [0, 0, 0.7 + 0.01 * i]]) for i in range(8)]
    data = DataModule(train=frames, cutoff_radius=3.0, reference_energies=None)
    with pytest.raises(DataError, match=r"no frame has an energy or forces.*\n.*data\.key_mapping"):
        Survey.of(data)


@pytest.mark.parametrize(("number", "words"), [(1, "there is one frame"), (4, "there are 4 frames")])
def test_too_few_frames(number: int, words: str) -> None:
    with pytest.raises(DataError, match=words):
        Survey.of(DataModule(train=make_frames(number, energy=-31.0), cutoff_radius=3.0))


def test_frames_that_teach_nothing() -> None:
    """Ten structures, two without labels, of the labelled ones three once more: what is left is counted."""
    frames = make_frames(10, energy=-31.0, forces=np.zeros((2, 3)))
    for atoms in frames[:2]:
        atoms.calc = None
    survey = Survey.of(DataModule(train=[*frames, *frames[7:]], cutoff_radius=3.0))
    assert (survey.frames, survey.unlabelled, survey.repeated, survey.useful) == (13, 2, 3, 8)
    assert survey.describe() == "data: 13 frames of 2 atoms, H; total_energy 11, forces 11"
    (setting,) = choose_filters(survey)
    assert setting.override == "data.filters={labels: [forces], duplicates: true}"
    assert [setting.value for setting in choose_sets(survey, has_test=True)] == ["2"]


def test_copies_of_too_few_structures() -> None:
    frames = make_frames(4, energy=-31.0)
    with pytest.raises(DataError, match="there are 4 frames with labels, each structure counted once, and some have"):
        Survey.of(DataModule(train=[*frames, *frames], cutoff_radius=3.0))
