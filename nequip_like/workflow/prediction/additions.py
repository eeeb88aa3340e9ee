"""What a run of structures adds to a prediction; a broken one among them ends it, or is left out and listed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from nequip_like.data import fields
from nequip_like.data.batches.batch_size import BatchSize
from nequip_like.data.bulk.reading import ReadBatch, StructureRun
from nequip_like.errors import DataError
from nequip_like.inference.predictor import Predictor
from nequip_like.workflow.prediction.formats import PredictedBatch, PredictionFormat, format_csv

SKIPPED = "skipped"  # the stream of what was left out
SKIPPED_BEGIN = format_csv([("index", "file", "frame", "reason")])


@dataclass(frozen=True)
class Addition:
    """What one or several runs of structures add.

    Attributes:
        parts: What is added to each stream.
        frames: Number of their structures that were predicted.
        notes: What is known of all structures so far: how many predictions are not finite and how many structures were
            left out, and which were the first ones.
    """

    parts: Mapping[str, tuple[bytes, ...]]
    frames: int
    notes: Mapping[str, Any]

    def extend(self, parts: Mapping[str, bytes], frames: int, notes: Mapping[str, Any]) -> Addition:
        """The same with more behind it."""
        joined = {name: (*self.parts.get(name, ()), text) for name, text in parts.items()}
        return Addition({**self.parts, **joined}, self.frames + frames, dict(notes))


@dataclass(frozen=True)
class RunPredictor:
    """Predicts runs of structures.

    Attributes:
        predictor: Predicts batches.
        size: The size of a batch.
        writer: What is written.
        skips: Whether broken structures are left out.
    """

    predictor: Predictor
    size: BatchSize
    writer: PredictionFormat
    skips: bool

    def predict(self, run: StructureRun, frames: int, notes: Mapping[str, Any]) -> Addition:
        """Predict a run, without its broken structures if these are left out.

        Args:
            run: The run.
            frames: Number of structures that were predicted before.
            notes: What is known of all those before.

        Raises:
            DataError: If a structure is broken and none is to be left out.
        """
        return self._add(run, Addition({}, 0, dict(notes)), frames)

    def _add(self, run: StructureRun, so_far: Addition, before: int) -> Addition:
        try:
            return self._add_sound(run, so_far, before)
        except DataError as error:
            if not self.skips:
                raise
            if (halves := run.halve()) is None:
                return _skip(run, error, so_far, before)
        for half in halves:  # a few of many are broken, so most halves are sound
            so_far = self._add(half, so_far, before)
        return so_far

    def _add_sound(self, run: StructureRun, so_far: Addition, before: int) -> Addition:
        potential = self.predictor.potential
        for batch in run.read_batches(potential.cutoff, potential.type_names, self.size, self.writer.keeps_remarks):
            prediction = self.predictor.predict_batch(batch.graph)
            values = {name: prediction[name].numpy() for name in potential.predicted_fields}
            first = before + so_far.frames + so_far.notes.get("skipped", 0)
            parts = self.writer.format_batch(PredictedBatch(batch.structures, batch.chosen, first, values))
            so_far = so_far.extend(parts, len(batch.chosen), _note_nonfinite(batch, values, so_far.notes))
        return so_far


def _skip(run: StructureRun, error: DataError, so_far: Addition, before: int) -> Addition:
    """Note a structure that is left out, or what cannot be read of a file."""
    skipped = so_far.notes.get("skipped", 0)
    file, number = run.locate()
    reason = f"everything from here on: {error.message}" if run.is_rest else error.message
    row = (before + so_far.frames + skipped, file, "" if number is None else number, reason)
    first = so_far.notes.get("first_skipped", error.message)
    notes = {**so_far.notes, "skipped": skipped + 1, "first_skipped": first}
    return so_far.extend({SKIPPED: format_csv([row])}, 0, notes)


def _note_nonfinite(batch: ReadBatch, values: Mapping[str, np.ndarray], notes: Mapping[str, Any]) -> Mapping[str, Any]:
    is_wrong = ~np.isfinite(values[fields.TOTAL_ENERGY][:, 0])
    if fields.FORCES in values and not np.isfinite(values[fields.FORCES]).all():
        owners = batch.graph[fields.BATCH].numpy()
        is_wrong[owners[~np.isfinite(values[fields.FORCES]).all(axis=1)]] = True
    if not is_wrong.any():
        return notes
    first = batch.structures.origin(batch.chosen[int(is_wrong.argmax())])
    return {**notes, "nonfinite": notes.get("nonfinite", 0) + int(is_wrong.sum()), "first": notes.get("first", first)}
