"""What follows from the data alone: settings of a config with the reason for each."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass

from nequip_like.auto.survey import Survey
from nequip_like.data import fields
from nequip_like.data.species import are_many

MOST_NEIGHBORS = 60.0
_USUAL_NEIGHBORS = 45.0
_LEAST_CUTOFF = 4.0  # Angstrom
_ATOMS_PER_STEP = 130.0
_MOST_FRAMES_PER_STEP = 16
_LEAST_TESTED = 100  # frames; of fewer none is put aside for a test
_MOST_VALIDATED = 200


@dataclass(frozen=True)
class Setting:
    """One choice.

    Attributes:
        key: Key of the config, or a group of configs.
        value: As it is typed.
        reason: Why, in words.
    """

    key: str
    value: str
    reason: str

    @property
    def override(self) -> str:
        """As it is typed behind a command; a key that no config has yet is added, any other replaced."""
        return f"{self.key}={self.value}"


def choose_cutoff(survey: Survey) -> Setting:
    """Choose the cutoff, Angstrom, by the number of neighbours that the usual one gives.

    Example:
        At 5 Angstrom an atom of this metal has 100 neighbours; their number grows with the third power.

        >>> metal = Survey(50, 54, 100.0, 5.0, ("Mo",), {"forces": 50}, 50)
        >>> choose_cutoff(metal).value
        '4.0'
    """
    if survey.neighbors <= MOST_NEIGHBORS:
        reason = (
            f"the usual one: it gives an atom {survey.neighbors:.0f} neighbours, up to {MOST_NEIGHBORS:.0f} are fine"
        )
        return Setting("cutoff_radius", f"{survey.cutoff:g}", reason)
    smaller = survey.cutoff * (_USUAL_NEIGHBORS / survey.neighbors) ** (1 / 3)
    value = max(_LEAST_CUTOFF, round(smaller, 1))
    reason = f"{survey.neighbors:.0f} neighbours of an atom within {survey.cutoff:g} A would be slow"
    return Setting("cutoff_radius", f"{value}", reason)


def choose_targets(survey: Survey) -> Setting:
    """Choose what is trained: every label that a good part of the frames has.

    Example:
        >>> choose_targets(Survey(10, 9, 8.0, 5.0, ("H",), {"total_energy": 10, "forces": 10}, 0)).value
        'energy_force'
    """
    counts = {label: survey.labels.get(label, 0) for label in (fields.TOTAL_ENERGY, fields.FORCES, fields.STRESS)}
    energies, forces, stresses = counts.values()
    if not forces:
        return Setting("targets", "energy", "there are no forces; a model needs many more frames without them")
    if not energies:
        return Setting("targets", "force", "there are no energies")
    if 2 * stresses >= max(1, survey.periodic) and stresses:
        return Setting("targets", "energy_force_stress", f"{stresses} of {survey.frames} frames have a stress")
    reason = "no frame has a stress" if not stresses else f"only {stresses} of {survey.periodic} crystals have a stress"
    return Setting("targets", "energy_force", reason)


def choose_sets(survey: Survey, has_test: bool) -> list[Setting]:
    """Choose how many frames are held out, to choose the best weights and to test them."""
    validated = max(2, min(_MOST_VALIDATED, round(0.1 * survey.useful)))
    settings = [
        Setting("data.val", str(validated), f"a tenth of {survey.useful} frames: the best weights are chosen by them")
    ]
    if not has_test and survey.useful >= _LEAST_TESTED:
        tested = min(_MOST_VALIDATED, round(0.1 * survey.useful))
        settings.append(Setting("data.test", str(tested), "put aside for the test: nothing is chosen by them"))
    return settings


def choose_filters(survey: Survey) -> list[Setting]:
    """Choose which frames are left out: those that teach nothing, and would be counted where some are held out.

    Example:
        >>> both = Survey(40, 9, 8.0, 5.0, ("H",), {"total_energy": 30, "forces": 30}, 0, repeated=15, unlabelled=10)
        >>> [(setting.value, setting.reason) for setting in choose_filters(both)]
        [('{labels: [forces], duplicates: true}', '10 frames have no label, 15 repeat an earlier structure')]
    """
    filters: list[str] = []
    reasons: list[str] = []
    labelled = survey.frames - survey.unlabelled
    # A filter wants all of its labels; where some frames have one and some another, all stay.
    complete = [label for label in (fields.FORCES, fields.TOTAL_ENERGY) if survey.labels.get(label, 0) == labelled]
    if survey.unlabelled and complete:
        filters.append(f"labels: [{complete[0]}]")
        reasons.append(f"{survey.unlabelled} frames have no label")
    if survey.repeated:
        filters.append("duplicates: true")
        reasons.append(f"{survey.repeated} repeat an earlier structure")
    return [Setting("data.filters", f"{{{', '.join(filters)}}}", ", ".join(reasons))] if filters else []


def choose_loss(survey: Survey) -> list[Setting]:
    """Choose the function of the loss, where it is not the usual one.

    Example:
        >>> choose_loss(Survey(999, 900, 9.0, 5.0, ("H", "O"), {"forces": 999}, 0))
        []
    """
    if not are_many(survey.species):
        return []
    reason = f"of {len(survey.species)} species a few strained frames would be most of the squares of errors"
    return [Setting("training_module.loss.function", "huber", reason)]


def choose_batch(survey: Survey) -> Setting:
    """Choose the frames of a step: few, for many steps teach more than exact ones, but enough work for the machine.

    Example:
        >>> [choose_batch(Survey(999, n, 9.0, 5.0, ("H",), {"forces": 999}, 0)).value for n in (9, 27, 192)]
        ['14', '5', '1']
    """
    frames = max(1, min(_MOST_FRAMES_PER_STEP, round(_ATOMS_PER_STEP / survey.atoms), survey.useful // 10))
    return Setting("data.batch_size", str(frames), f"of {survey.atoms:.0f} atoms: some {_ATOMS_PER_STEP:.0f} a step")


def leave_pinned(settings: Iterable[Setting], typed: Collection[str]) -> list[Setting]:
    """Leave out what the user has chosen.

    Args:
        settings: The settings.
        typed: The keys of the user's overrides.

    Example:
        >>> settings = [Setting("model.l_max", "2", ""), Setting("data.val", "10", "")]
        >>> [setting.key for setting in leave_pinned(settings, {"model"})]
        ['data.val']
    """
    return [setting for setting in settings if not any(_covers(key, setting.key) for key in typed)]


def _covers(typed: str, key: str) -> bool:
    return typed == key or key.startswith(f"{typed}.") or typed.startswith(f"{key}.")
