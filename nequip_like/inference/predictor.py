"""Predictions of a potential, structure by structure or in batches."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, overload

import torch
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator

from nequip_like.data import fields
from nequip_like.data.batches.batch_size import BatchSize, SizeOfBatch
from nequip_like.data.batches.out_of_memory import explain_out_of_memory, is_out_of_memory
from nequip_like.data.dataset import GraphDataset
from nequip_like.data.fields import Graph
from nequip_like.data.graph import Graphs, collate, split, to_device
from nequip_like.data.io.given import entries, is_structure
from nequip_like.data.io.readers import Source, read_structures
from nequip_like.data.io.structures import ase_results, check_extent, graph_from_atoms
from nequip_like.data.labels.frame_units import is_stated_unit
from nequip_like.errors import ModelError
from nequip_like.inference.device import resolve_device
from nequip_like.inference.loading import load_any
from nequip_like.model.families import Families
from nequip_like.model.potential import Potential
from nequip_like.nn.evaluation_mode import evaluation_mode
from nequip_like.summaries import Summarized

DEFAULT_BATCH_SIZE = 16

Several = str | Path | Sequence[str | Path] | Sequence[Atoms] | Sequence[Graph] | GraphDataset


class Predictor(Summarized):
    """Runs a potential on structures, several at a time.

    Args:
        potential: The potential, or a model file, a checkpoint or a run folder. It is moved to the device; whether it
            is in training mode does not matter and is left as it is.
        device: ``cpu``, ``cuda``, ...; ``auto`` takes a GPU if there is one.
        batch_size: Structures at a time; or ``{"atoms": 2048}``, ``{"edges": 100000}``: as many as have no more atoms
            or edges together. Results do not depend on it beyond rounding.
        families: Builders of model families by name, as for :func:`~nequip_like.inference.loading.load`.

    Raises:
        ConfigError: If there is no such device, the batch size is below 1, or ``families`` is no mapping or has a name
            that is built in.
        ModelFileError: If the model cannot be read.

    Example::

        predictor = Predictor("model.safetensors")
        predictor.predict(atoms)["forces"]                 # of one structure: a tensor (atoms, 3)
        predictor.predict_atoms([atoms, other])[1].get_potential_energy()
    """

    def __init__(
        self,
        potential: Potential | str | Path,
        device: str | torch.device = "cpu",
        batch_size: SizeOfBatch | BatchSize = DEFAULT_BATCH_SIZE,
        families: Families | None = None,
    ) -> None:
        self.batch_size = BatchSize.read("batch_size", batch_size)
        self.device = resolve_device(device)
        potential = potential if isinstance(potential, Potential) else load_any(potential, families=families)[0]
        self.potential = potential.to(self.device)

    def summary(self) -> dict[str, Any]:
        """The potential, where it runs and on how many structures at a time."""
        return {"potential": self.potential, "device": str(self.device), "batch_size": str(self.batch_size)}

    @overload
    def predict(self, structures: Atoms | Graph) -> Graph: ...

    @overload
    def predict(self, structures: Several) -> list[Graph]: ...

    def predict(self, structures: Source | GraphDataset) -> Graph | list[Graph]:
        """Predict each structure; one prediction for one structure, a list for anything else.

        Args:
            structures: ``Atoms`` or a graph, or many of one kind; a file, a glob pattern or several of these; a
                ``GraphDataset``. Labels are not looked at. Only a ``GraphDataset`` keeps its neighbour lists; other
                graphs get new ones, for a graph does not tell what cutoff its own were made for.

        Returns:
            For each structure, in order, its ``potential.predicted_fields`` and ``num_atoms``, on the CPU. Shapes and
            units are those of :mod:`nequip_like.data.fields`. All predictions have the same fields: stress and virial
            of a structure without a cell, a molecule, are there and NaN. :meth:`predict_atoms` leaves them out.

        Raises:
            ConfigError: If the structures are no such thing, or of several kinds.
            DataError: If a structure cannot be right, has a species that the model does not know, or cannot be read.
            ModelError: If a ``GraphDataset`` was made for other species or a smaller cutoff.

        Example:
            >>> from nequip_like.model import NequIPGNNModel
            >>> tiny = {"r_max": 3.0, "num_layers": 2, "num_features": 4, "avg_num_neighbors": 2, "kernel": "reference"}
            >>> predictor = Predictor(NequIPGNNModel(type_names=["H", "O"], **tiny))
            >>> water = Atoms("OH2", [[0, 0, 0], [0, 0.76, 0.59], [0, -0.76, 0.59]])
            >>> {name: tuple(value.shape) for name, value in predictor.predict(water).items()}
            {'num_atoms': (1,), 'total_energy': (1, 1), 'atomic_energy': (3, 1),
             'forces': (3, 3), 'stress': (1, 3, 3), 'virial': (1, 3, 3)}
            >>> bool(predictor.predict(water)["stress"].isnan().all())  # there is no cell
            True
            >>> predictor.predict(Atoms("CO", [[0, 0, 0], [0, 0, 1.13]]))
            Traceback (most recent call last):
            ...
            nequip_like.errors.DataError: Atoms 0 has C, which is not among the species H, O
              -> ...
        """
        if isinstance(structures, GraphDataset):
            check_fits(self.potential, structures)
            return Graphs(self._split_batches(structures))
        sources = entries(structures)
        if not sources:
            return Graphs()
        predictions = Graphs(self._run_on_atoms(*read_structures(sources)))
        return predictions[0] if is_structure(structures) else predictions

    def read_batches(self, structures: Source | GraphDataset) -> Iterator[tuple[Graph, Sequence[str]]]:
        """Batches of structures as the potential takes them, with neighbours and types, on its device.

        Args:
            structures: As for :meth:`predict`.

        Returns:
            Each batch, and where each of its structures comes from.

        Raises:
            ConfigError: As :meth:`predict`.
            DataError: As :meth:`predict`.
            ModelError: As :meth:`predict`.
        """
        if isinstance(structures, GraphDataset):
            check_fits(self.potential, structures)
            datasets: Iterator[GraphDataset] = iter([structures])
        else:
            sources = entries(structures)
            datasets = self._prepare_atoms(*read_structures(sources)) if sources else iter(())
        for dataset in datasets:
            for indices in self.batch_size.cut(dataset):  # type: ignore[arg-type] # a Dataset has len and []
                batch = collate([dataset[i] for i in indices])
                yield to_device(batch, self.device), [dataset.origin(i) for i in indices]

    @overload
    def predict_atoms(self, structures: Atoms | Graph) -> Atoms: ...

    @overload
    def predict_atoms(self, structures: Several) -> list[Atoms]: ...

    def predict_atoms(self, structures: Source | GraphDataset) -> Atoms | list[Atoms]:
        """Predict each structure, and give it back as ``Atoms`` with the prediction.

        Args:
            structures: As for :meth:`predict`.

        Returns:
            Copies, whose ``info`` and ``arrays`` are those of the structures, without units that they state
            (``energy_unit=Hartree``), which are not those of the prediction. Their calculator holds the predicted
            energy, energies of atoms, forces and (with a cell) stress, in ASE's units and signs: ``get_forces()`` gives
            them, ``ase.io.write`` writes them. Uncertainties, where the potential has them, are
            ``info["energy_uncertainty"]`` and ``arrays["forces_uncertainty"]``. One for one structure, a list for
            anything else.

        Raises:
            ConfigError: As :meth:`predict`.
            DataError: As :meth:`predict`.
        """
        sources = entries(structures)
        if not sources:
            return []
        originals, origins = read_structures(sources)
        predicted = []
        for atoms, prediction in zip(originals, self._run_on_atoms(originals, origins), strict=True):
            copy = atoms.copy()
            for name in [name for name, value in atoms.info.items() if is_stated_unit(name, value)]:
                del copy.info[name]
            results = ase_results(prediction)
            if (energy_uncertainty := results.pop(fields.ENERGY_UNCERTAINTY, None)) is not None:
                copy.info[fields.ENERGY_UNCERTAINTY] = energy_uncertainty
            if (forces_uncertainty := results.pop(fields.FORCES_UNCERTAINTY, None)) is not None:
                copy.arrays[fields.FORCES_UNCERTAINTY] = forces_uncertainty
            copy.calc = SinglePointCalculator(copy, **results)
            predicted.append(copy)
        return predicted[0] if is_structure(structures) else predicted

    def batches(self, graphs: Sequence[Graph]) -> Iterator[tuple[Graph, Graph]]:
        """Batches of graphs with edges and ``atom_types``, in order, each with its prediction; both on the CPU.

        Raises:
            DataError: If the structures have different fields.
        """
        for indices in self.batch_size.cut(graphs):
            batch = collate([graphs[i] for i in indices])
            try:
                prediction = self.predict_batch(batch)
            except (MemoryError, RuntimeError) as error:
                if not is_out_of_memory(error):
                    raise
                size = f"batch_size ({self.batch_size})"
                raise explain_out_of_memory(
                    error, "a prediction", batch, lambda index: _name_frame(graphs, index), size, "use another device"
                ) from error
            yield batch, prediction

    def predict_batch(self, batch: Graph) -> Graph:
        """Predict one batch; the prediction is on the CPU."""
        with evaluation_mode(self.potential):
            prediction = self.potential(to_device(batch, self.device))
        predicted = {key: prediction[key].detach().cpu() for key in self.potential.predicted_fields}
        return {fields.NUM_ATOMS: batch[fields.NUM_ATOMS], **predicted}

    def _run_on_atoms(self, structures: Sequence[Atoms], origins: Sequence[str]) -> Iterator[Graph]:
        for dataset in self._prepare_atoms(structures, origins):
            yield from self._split_batches(dataset)

    def _prepare_atoms(self, structures: Sequence[Atoms], origins: Sequence[str]) -> Iterator[GraphDataset]:
        """Structures as data sets of one batch: only the neighbour lists of one are there at a time."""
        size = self.batch_size.limit if self.batch_size.by_frames else DEFAULT_BATCH_SIZE
        for start in range(0, len(structures), size):
            window = slice(start, start + size)
            graphs = []
            for atoms, origin in zip(structures[window], origins[window], strict=True):
                graphs.append(graph_from_atoms(atoms, where=origin))
                check_extent(graphs[-1], origin)
            potential = self.potential
            yield GraphDataset(graphs, potential.cutoff, potential.type_names, origins=origins[window])

    def _split_batches(self, dataset: GraphDataset) -> Iterator[Graph]:
        for _, prediction in self.batches(dataset):  # type: ignore[arg-type] # a Dataset has len and []
            yield from split(prediction)


def _name_frame(graphs: Sequence[Graph], index: int) -> str:
    return graphs.origin(index) if isinstance(graphs, GraphDataset) else f"structure {index}"


def check_fits(potential: Potential, dataset: GraphDataset) -> None:
    """Refuse a data set that was made for another model.

    Raises:
        ModelError: If its species are others, or its cutoff is smaller.
    """
    if dataset.type_names != potential.type_names or dataset.cutoff < potential.cutoff:
        raise ModelError(
            f"data set '{dataset.name}' was made for the species {', '.join(dataset.type_names)} and a cutoff of "
            f"{dataset.cutoff} Angstrom, but the model has {', '.join(potential.type_names)} and {potential.cutoff}",
            "make it with the model's: load_dataset(path, potential.type_names, potential.cutoff)",
        )
