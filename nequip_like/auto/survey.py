"""What data are like, as far as the choice of a model and of a training depends on it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from nequip_like.data import fields
from nequip_like.data.datamodule import DataModule
from nequip_like.data.splits import duplicates
from nequip_like.data.tables.frame_table import FrameTable
from nequip_like.errors import DataError
from nequip_like.summaries import Summarized

LEAST_FRAMES = 5
_MOST_NAMED = 12  # species; of more only the number is told


@dataclass(frozen=True, repr=False)
class Survey(Summarized):
    """What was found.

    Attributes:
        frames: Number of frames.
        atoms: Atoms of a frame, mean.
        neighbors: Neighbours of an atom within ``cutoff``, mean.
        cutoff: Angstrom.
        species: Chemical symbols.
        labels: ``{label: number of frames that have it}``.
        periodic: Number of frames with a cell that repeats.
        repeated: Number of frames that repeat the structure of an earlier one.
        unlabelled: Number of frames without energy and forces.
    """

    frames: int
    atoms: float
    neighbors: float
    cutoff: float
    species: tuple[str, ...]
    labels: dict[str, int]
    periodic: int
    repeated: int = 0
    unlabelled: int = 0

    @property
    def useful(self) -> int:
        """Number of frames that teach something: labelled, and each structure once."""
        return self.frames - self.repeated - self.unlabelled

    def describe(self) -> str:
        """As a line.

        Example:
            >>> Survey(50, 54, 100.0, 5.0, ("Mo",), {"total_energy": 50, "forces": 48}, 50).describe()
            'data: 50 frames of 54 atoms, Mo; total_energy 50, forces 48'
        """
        species = " ".join(self.species) if len(self.species) <= _MOST_NAMED else f"{len(self.species)} species"
        labels = ", ".join(f"{label} {count}" for label, count in self.labels.items())
        return f"data: {self.frames} frames of {self.atoms:.3g} atoms, {species}; {labels}"

    @classmethod
    def of(cls, data: DataModule) -> Survey:
        """Take it of all frames that were given for training, validation included; none of them is read for it.

        Raises:
            DataError: If nothing can be trained on, or there are too few frames.
        """
        sets = [data.train_set, *data.val_sets.values()]
        table = FrameTable.join([dataset.table for dataset in sets])
        labelled = table.find_labelled(fields.TOTAL_ENERGY) | table.find_labelled(fields.FORCES)
        keys = np.concatenate([dataset.keys for dataset in sets])[labelled]
        survey = cls(
            len(table),
            float(table.atoms.mean()),
            float(table.edges.sum() / table.atoms.sum()),
            data.cutoff_radius,
            tuple(data.type_names),
            table.count_labels(),
            int((table.periodic > 0).sum()),
            len(duplicates(keys)),
            int((~labelled).sum()),
        )
        survey.check()
        return survey

    def check(self) -> None:
        """Refuse what nobody can train on.

        Raises:
            DataError: If there is no energy and no force, or there are too few frames.
        """
        if not {fields.TOTAL_ENERGY, fields.FORCES} & set(self.labels):
            raise DataError(
                "no frame has an energy or forces, so there is nothing to train on",
                "give labelled frames; where the labels have other names, say which: "
                "'data.key_mapping={name_in_the_file: total_energy, other_name: forces}'",
            )
        if self.useful < LEAST_FRAMES:
            number = "is one frame" if self.useful == 1 else f"are {self.useful} frames"
            kind = " with labels, each structure counted once" if self.useful < self.frames else ""
            raise DataError(
                f"there {number}{kind}, and some have to be held out to see whether a model is any good",
                f"give {LEAST_FRAMES} or more, better 50: single points along a short run of molecular dynamics",
            )
