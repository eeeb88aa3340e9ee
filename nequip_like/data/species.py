"""Chemical species of a data set, and their numbering as atom types of a model."""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Iterable, Sequence

import torch
from ase.data import atomic_numbers as number_of
from ase.data import chemical_symbols as symbol_of

from nequip_like.data import fields
from nequip_like.data.fields import Graph
from nequip_like.errors import ConfigError, DataError

#: From so many species on each is seen in few frames, and forces reach from none to very large.
MANY_SPECIES = 20


def species_of(frames: Iterable[Graph]) -> list[str]:
    """Chemical symbols that occur in the frames, sorted by atomic number."""
    return list(species_counts(frames))


def species_counts(frames: Iterable[Graph]) -> dict[str, int]:
    """Number of atoms of each species that occurs, sorted by atomic number.

    Example:
        >>> species_counts([{"atomic_numbers": torch.tensor([8, 1, 1])}, {"atomic_numbers": torch.tensor([6, 8])}])
        {'H': 2, 'C': 1, 'O': 2}
    """
    counts: Counter[int] = Counter()
    for frame in frames:
        counts.update(frame[fields.ATOMIC_NUMBERS].tolist())
    return {symbol_of[number]: counts[number] for number in sorted(counts)}


def are_many(type_names: Sequence[str]) -> bool:
    """Whether a data set has many species, twenty or more: then some defaults are others.

    Example:
        >>> are_many(["H", "C", "N", "O"]), are_many([f"species {i}" for i in range(20)])
        (False, True)
    """
    return len(type_names) >= MANY_SPECIES


def checked_species(type_names: Sequence[str]) -> list[str]:
    """Check declared type names: chemical symbols, each once.

    Raises:
        ConfigError: If a name is no chemical symbol, stands twice, or there are none.

    Example:
        >>> checked_species(["h", "O"])
        Traceback (most recent call last):
        ...
        nequip_like.errors.ConfigError: species: 'h' is no chemical symbol
          -> did you mean 'H'?
    """
    names = [type_names] if isinstance(type_names, str) else [str(name) for name in type_names]
    if not names:
        raise ConfigError("species is empty", "write species: auto, or list the chemical symbols")
    symbols = symbol_of[1:]
    for name in names:
        if name not in symbols:
            close = difflib.get_close_matches(name.capitalize(), symbols, n=1)
            hint = f"did you mean '{close[0]}'?" if close else "write chemical symbols, for example [H, C, O]"
            raise ConfigError(f"species: '{name}' is no chemical symbol", hint)
    if len(set(names)) < len(names):
        raise ConfigError(f"species: a symbol stands twice in {names}", "write each symbol once")
    return names


def type_table(type_names: Sequence[str]) -> torch.Tensor:
    """Atom type of each atomic number, shape (highest number + 1,); -1 where there is none.

    Example:
        The order of the names is that of the types, whatever the atomic numbers are; -1 is no type:

        >>> type_table(["O", "H"])[[1, 6, 8]].tolist()
        [1, -1, 0]
    """
    table = torch.full((len(symbol_of),), -1, dtype=torch.int64)
    for index, name in enumerate(checked_species(type_names)):
        table[number_of[name]] = index
    return table


def atom_types(frame: Graph, table: torch.Tensor, origin: str, type_names: Sequence[str]) -> torch.Tensor:
    """Atom types of a frame, shape (atoms,).

    Raises:
        DataError: If the frame has a species without a type.
    """
    types = table.numpy()[frame[fields.ATOMIC_NUMBERS].numpy()]
    if (types < 0).any():
        raise explain_unknown_species(frame, table, origin, type_names)
    return torch.from_numpy(types)


def explain_unknown_species(frame: Graph, table: torch.Tensor, origin: str, type_names: Sequence[str]) -> DataError:
    """The error of a frame with a species that has no type."""
    found = frame[fields.ATOMIC_NUMBERS]
    missing = ", ".join(symbol_of[number] for number in sorted(set(found[table[found] < 0].tolist())))
    return DataError(
        f"{origin} has {missing}, which is not among the species {', '.join(type_names)}",
        "add frames with this species to the training set, list it under species, or remove the frame",
    )
