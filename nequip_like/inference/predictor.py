"""Predictions of a potential, structure by structure or in batches."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch

from nequip_like.arguments import Count, check
from nequip_like.data import fields
from nequip_like.data.fields import Graph
from nequip_like.data.graph import collate, split, to_device
from nequip_like.inference.device import resolve_device
from nequip_like.model.potential import Potential

DEFAULT_BATCH_SIZE = 16


class Predictor:
    """Runs a potential on structures, several at a time.

    Args:
        potential: The potential. It is moved to the device; whether it is in training mode does not matter and is left
            as it is.
        device: ``cpu``, ``cuda``, ...; ``auto`` takes a GPU if there is one.
        batch_size: Structures at a time. Results do not depend on it beyond rounding.

    Raises:
        ConfigError: If there is no such device, or the batch size is below 1.
    """

    def __init__(
        self, potential: Potential, device: str | torch.device = "cpu", batch_size: int = DEFAULT_BATCH_SIZE
    ) -> None:
        check("batch_size", batch_size, Count)
        self.device = resolve_device(device)
        self.potential = potential.to(self.device)
        self.batch_size = batch_size

    def predict(self, graphs: Sequence[Graph]) -> list[Graph]:
        """Predict each structure.

        Args:
            graphs: Single structures with edges and ``atom_types``, such as a ``GraphDataset``.

        Returns:
            For each structure, in order, its ``potential.predicted_fields`` and ``num_atoms``, on the CPU. Shapes and
            units are those of :mod:`nequip_like.data.fields`; stress and virial are NaN without a cell.

        Raises:
            DataError: If the structures have different fields.
        """
        return [graph for _, prediction in self.batches(graphs) for graph in split(prediction)]

    def batches(self, graphs: Sequence[Graph]) -> Iterator[tuple[Graph, Graph]]:
        """Batches of the structures, in order, each with its prediction; both on the CPU.

        Raises:
            DataError: If the structures have different fields.
        """
        for start in range(0, len(graphs), self.batch_size):
            batch = collate([graphs[i] for i in range(start, min(start + self.batch_size, len(graphs)))])
            yield batch, self.predict_batch(batch)

    def predict_batch(self, batch: Graph) -> Graph:
        """Predict one batch; the prediction is on the CPU."""
        was_training = self.potential.training
        if was_training:
            self.potential.eval()
        try:
            prediction = self.potential(to_device(batch, self.device))
        finally:
            if was_training:
                self.potential.train()
        kept = {key: prediction[key].detach().cpu() for key in self.potential.predicted_fields}
        return {fields.NUM_ATOMS: batch[fields.NUM_ATOMS], **kept}
