"""From what a configuration says about reference energies to the reference energies."""

from __future__ import annotations

import glob
from collections.abc import Mapping, Sequence
from pathlib import Path

from nequip_like.data import fields
from nequip_like.data import reference_energies as rules
from nequip_like.data.fields import Graph
from nequip_like.data.missing import has_label
from nequip_like.data.reference_energies import ReferenceEnergies
from nequip_like.data.sources import below, file_source
from nequip_like.data.species import species_of
from nequip_like.errors import ConfigError, closest_hint

RULES = ("auto", "isolated_atoms", "least_squares")

Choice = str | Path | Mapping[str, float] | Mapping[str, str] | None


def is_rule(choice: Choice) -> bool:
    """Whether the choice is the name of a rule, not a file or the energies themselves."""
    return isinstance(choice, str) and choice in RULES


def references_below(folder: str | Path | None, choice: Choice) -> Choice:
    """The choice, with a relative file name put below ``folder``."""
    return choice if is_rule(choice) else below(folder, choice)


def uses_isolated_frames(choice: Choice, frames: Sequence[Graph], type_names: Sequence[str]) -> bool:
    """Whether the isolated atoms among training frames become the references (and are then not trained on)."""
    if choice not in ("auto", "isolated_atoms"):
        return False
    isolated = [frame for frame in frames if rules.is_isolated_atom(frame) and has_label(frame, fields.TOTAL_ENERGY)]
    return choice == "isolated_atoms" or set(species_of(isolated)) >= set(type_names)


def choose(
    choice: Choice,
    frames: Sequence[Graph],
    type_names: Sequence[str],
    *,
    isolated: Sequence[Graph] = (),
    origins: Sequence[str] | None = None,
    key_mapping: Mapping[str, str] | None = None,
    units: Mapping[str, str] | None = None,
) -> ReferenceEnergies | None:
    """Find the reference energies.

    Args:
        choice: A rule (``auto``, ``isolated_atoms``, ``least_squares``), energies ``{symbol: eV}``, a file with
            isolated atoms (or ``{file: ..., key_mapping: ..., units: ...}``), or None.
        frames: Training frames.
        type_names: Species.
        isolated: Isolated atoms taken out of the training frames.
        origins: File and frame of each graph of ``isolated`` and then of ``frames``, for messages.
        key_mapping: For a file without its own.
        units: For a file without its own.

    Returns:
        The reference energies with what they leave over on ``frames``; None without any.

    Raises:
        ConfigError: If ``choice`` cannot be understood or lacks a species.
        DataError: If the rule cannot be followed.
    """
    if choice is None:
        return None
    if isinstance(choice, Mapping) and not ({"file", "path"} & set(choice)):
        reference: ReferenceEnergies | None = rules.from_user(choice, type_names)  # type: ignore[arg-type]
    elif choice == "auto":
        reference = rules.auto(frames, type_names, isolated=isolated, origins=origins)
    elif choice == "isolated_atoms":
        reference = rules.from_isolated_atoms([*isolated, *frames], type_names, origins=origins)
    elif choice == "least_squares":
        reference = rules.fit_least_squares(frames, type_names)
    else:
        check_reference_file(choice)
        energy_names = {name: label for name, label in (key_mapping or {}).items() if label == fields.TOTAL_ENERGY}
        reading = file_source(choice, "reference_energies", energy_names, units).read()
        reference = rules.from_isolated_atoms(reading.frames, type_names, origins=reading.origins)
    return None if reference is None else rules.with_residual(reference, frames)


def check_reference_file(choice: object) -> None:
    """Refuse a string that is neither a rule nor a file: most likely a rule with a typing mistake.

    Raises:
        ConfigError: Naming it.
    """
    if not isinstance(choice, str) or Path(choice).expanduser().exists() or glob.glob(choice):
        return
    hint = closest_hint(choice, RULES)
    raise ConfigError(
        f"reference_energies: '{choice}' is no rule and no file ({Path(choice).absolute()})",
        f"{hint}write one of {', '.join(RULES)}, null, a file with isolated atoms, or {{symbol: energy in eV}}",
    )
