"""Sequences whose entries are read when they are asked for."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from typing import Generic, TypeVar, overload

Entry = TypeVar("Entry")


class OnDemand(Sequence[Entry], Generic[Entry]):
    """A sequence of entries that are read one by one; of a slice all of its entries are, as a list.

    Example:
        >>> class Squares(OnDemand[int]):
        ...     def __len__(self):
        ...         return 4
        ...     def read_entry(self, position):
        ...         return position**2
        >>> Squares()[-1], Squares()[1:3]
        (9, [1, 4])
    """

    @abstractmethod
    def read_entry(self, position: int) -> Entry:
        """Read an entry.

        Args:
            position: Its place, counted from 0.
        """

    @overload
    def __getitem__(self, index: int) -> Entry: ...
    @overload
    def __getitem__(self, index: slice) -> list[Entry]: ...
    def __getitem__(self, index: int | slice) -> Entry | list[Entry]:
        """One entry, or those of a slice as a list."""
        positions = range(len(self))[index]
        if isinstance(positions, range):
            return [self.read_entry(position) for position in positions]
        return self.read_entry(positions)

    def __iter__(self) -> Iterator[Entry]:
        # Sequence's own would take an IndexError of a reader for the end.
        return (self.read_entry(position) for position in range(len(self)))
