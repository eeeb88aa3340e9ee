"""The data of a training run, for Lightning: read, split and checked, with everything that ``auto`` means."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

import lightning
import torch
from torch.utils.data import DataLoader

from nequip_like.arguments import Count, FromZero, NotNegative, Positive
from nequip_like.data.dataset import GraphDataset
from nequip_like.data.fields import Graph
from nequip_like.data.graph import collate
from nequip_like.data.inspection.report import Inspection, inspect
from nequip_like.data.loader import ResumableLoader, make_worker_generator
from nequip_like.data.prepare import Prepared, Request, prepare
from nequip_like.data.prepared.sets import hold_frames
from nequip_like.data.reference_energies import Choice, ReferenceEnergies, references_below
from nequip_like.data.replay import Replay, ReplayedDataset, ReplaySampler, move_energies
from nequip_like.data.samplers import FrameBatchSampler
from nequip_like.data.sampling.policies import (
    ENERGY_WEIGHTED,
    ERROR_WEIGHTED,
    UNIFORM,
    Sampling,
    compute_energy_weights,
)
from nequip_like.data.sampling.samplers import ErrorWeightedSampler, RoundsSampler, WeightedSampler
from nequip_like.data.selection.filters import Filters
from nequip_like.data.sources import below
from nequip_like.data.statistics import custom_statistics, training_statistics
from nequip_like.errors import ConfigError
from nequip_like.summaries import Summarized


class DataModule(Summarized, lightning.LightningDataModule):
    """Training, validation and test data.

    Each of ``train``, ``val`` and ``test`` is a path (a glob pattern, a list of paths), or a mapping
    ``{file, index, key_mapping, units}``. ``val`` and ``test`` may also be a number of frames or a fraction, taken out
    of ``train`` at random; a list of these, which makes several sets; or a mapping from names to these.

    The trainer must run with ``use_distributed_sampler=False``: the order of frames knows its process.

    Args:
        train: Training data; a list of paths is one data set.
        val: Validation data.
        test: Test data.
        cutoff_radius: Cutoff of the neighbour lists, Angstrom.
        path: Folder in which relative file names are looked up; the current folder by default.
        species: Chemical symbols in the order of the model's types; ``auto`` takes those of ``train``.
        key_mapping: ``{name in the file: label}`` for entries without their own.
        units: ``{energy: eV, length: Angstrom, stress_sign: tension}`` and labels with units of their own, as
            :class:`nequip_like.data.labels.units.Units`; for entries without their own.
        batch_size: Frames per training batch and process.
        global_batch_size: Frames per training batch of all processes together, in place of ``batch_size``: then the
            steps are the same for any number of processes.
        val_batch_size: The same for validation and test; ``batch_size`` by default.
        split_seed: Seed of what is held out of ``train``.
        seed: Seed of the order of training frames.
        num_workers: Processes that load batches. Graphs are in memory, or read from a prepared set in a
            fiftieth of a step, so none is usually fastest.
        held_memory: Frames of prepared sets are held in memory, once they were read, where those of a set take no more
            than what is left of so many GB; else each is read whenever it is needed. In each worker process anew.
        reference_energies: ``auto``, ``isolated_atoms``, ``least_squares``, a file with isolated atoms,
            ``{symbol: eV}``, or None.
        allow_overlap: Do not refuse a structure that is in two of train, val and test.
        train_size: Train on so many frames, drawn at random from those that are not held out; all by default.
        shuffle: Draw a new order of the training frames for each epoch; otherwise that of the file.
        drop_last: Leave out an incomplete last training batch.
        statistics: Further statistics of the training set, see :mod:`nequip_like.data.statistics`.
        filters: ``{max_forces, max_energy, max_atoms, labels, duplicates}``: frames of the training file that are left
            out, see :class:`nequip_like.data.selection.filters.Filters`.
        sampling: ``{policy, samples_per_epoch}``: how often frames are drawn, see
            :class:`nequip_like.data.sampling.policies.Sampling`.
        replay: ``{file, fraction, weight}``: other data that a fraction of each epoch is drawn from, see
            :mod:`nequip_like.data.replay`. Statistics and reference energies are not theirs.

    Raises:
        ConfigError: From :meth:`prepare`, if an argument cannot be understood.
        DataError: From :meth:`prepare`, if a file, a frame or a label cannot be right.

    Example:
        >>> from ase import Atoms
        >>> from ase.calculators.singlepoint import SinglePointCalculator
        >>> frames = [Atoms("H2", [[0, 0, 0], [0, 0, 0.70 + 0.01 * i]]) for i in range(10)]
        >>> for atoms in frames:
        ...     atoms.calc = SinglePointCalculator(atoms, energy=-31.7)
        >>> data = DataModule(train=frames, val=0.2, cutoff_radius=3.0)
        >>> len(data.train_set), len(data.val_sets["val"]), data.type_names, data.reference.rule
        (8, 2, ['H'], 'least_squares')
    """

    def __init__(
        self,
        train: Any,
        val: Any = None,
        test: Any = None,
        *,
        cutoff_radius: Positive,
        path: str | None = None,
        species: str | Sequence[str] = "auto",
        key_mapping: Mapping[str, str] | None = None,
        units: Mapping[str, str] | None = None,
        batch_size: Count = 5,
        global_batch_size: Count | None = None,
        val_batch_size: Count | None = None,
        split_seed: int = 0,
        seed: int = 0,
        num_workers: NotNegative = 0,
        held_memory: FromZero = 2.0,
        reference_energies: Choice = "auto",
        allow_overlap: bool = False,
        train_size: Count | None = None,
        shuffle: bool = True,
        drop_last: bool = False,
        statistics: Sequence[Mapping[str, Any]] = (),
        filters: Mapping[str, Any] | None = None,
        sampling: Mapping[str, Any] | None = None,
        replay: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self.replay = Replay.read(below(path, replay), key_mapping, units)
        self.request = Request(
            train=below(path, train),
            val=below(path, val),
            test=below(path, test),
            cutoff_radius=float(cutoff_radius),
            species=species,
            key_mapping=key_mapping,
            units=units,
            split_seed=split_seed,
            reference_energies=references_below(path, reference_energies),
            allow_overlap=allow_overlap,
            train_size=train_size,
            replay=None if self.replay is None else self.replay.source,
            filters=Filters.read(filters),
        )
        self.sampling = Sampling.read(sampling)
        if self.sampling != Sampling() and replay is not None:
            raise ConfigError("data.sampling and data.replay are given", "draw by one of them")
        if self.sampling.policy != UNIFORM and not shuffle:
            raise ConfigError(
                f"sampling.policy is {self.sampling.policy}, but shuffle is false",
                "leave shuffle out: frames are drawn",
            )
        self.custom_statistics = statistics
        self.batch_size = batch_size
        self.global_batch_size = global_batch_size
        self.val_batch_size = batch_size if val_batch_size is None else val_batch_size
        self.seed = seed
        self.num_workers = num_workers
        self.held_memory = held_memory
        self.shuffle = shuffle
        self.drop_last = drop_last
        # A small test set may leave a process without frames; its sums are then zero, not wrong.
        self.allow_zero_length_dataloader_with_multiple_devices = True

    def __getstate__(self) -> dict[str, Any]:
        """What goes to another process: the data, and not the trainer that used them, as with Lightning's modules."""
        return {**self.__dict__, "trainer": None}

    def summary(self) -> dict[str, Any]:
        """What the config asks for; once the data are read, their sizes, species and reference energies."""
        if "data" in self.__dict__:
            return self.data.summary() | {"cutoff_radius": self.cutoff_radius}
        asked = {kind: getattr(self.request, kind) for kind in ("train", "val", "test")}
        return {**asked, "cutoff_radius": self.cutoff_radius, "read": "not yet"}

    def __str__(self) -> str:
        """As ``repr``; Lightning's own would ask for the loaders."""
        return repr(self)

    @cached_property
    def data(self) -> Prepared:
        """Everything that was read; reads it when first asked for."""
        data = prepare(self.request)
        sets = (data.train, *data.val.values(), *data.test.values(), *([data.replay] if data.replay else []))
        hold_frames([dataset.frames for dataset in sets], self.held_memory * 1e9)
        return data

    def know_species(self, names: Sequence[str]) -> None:
        """Let these come first among the types, whether they occur or not; to be called before :meth:`prepare`."""
        self.request = dataclasses.replace(self.request, known_species=tuple(names))

    def prepare(self) -> DataModule:
        """Read, split and check the data, build neighbour lists. A second call does nothing.

        Raises:
            ConfigError: If an argument cannot be understood.
            DataError: If a file, a frame or a label cannot be right.
        """
        _ = self.data, self._statistics, self.num_replayed
        return self

    def setup(self, stage: str | None = None) -> None:
        """Called by Lightning in each process."""
        self.prepare()

    @property
    def cutoff_radius(self) -> float:
        """Cutoff of the neighbour lists, Angstrom."""
        return self.request.cutoff_radius

    @property
    def type_names(self) -> list[str]:
        """Chemical symbols in the order of the model's types; ``auto`` sorts them by atomic number."""
        return list(self.data.type_names)

    @property
    def statistics(self) -> dict[str, Any]:
        """Statistics of the training set, and ``reference_energies`` (also as ``isolated_atom_energies``), eV."""
        return dict(self._statistics)

    @cached_property
    def _statistics(self) -> dict[str, Any]:
        statistics = training_statistics(self.train_set) | custom_statistics(self.train_set, self.custom_statistics)
        if self.reference is not None:
            statistics["reference_energies"] = dict(self.reference.energies)
            statistics["isolated_atom_energies"] = dict(self.reference.energies)
        return statistics

    @property
    def reference(self) -> ReferenceEnergies | None:
        """Reference energies and the rule they came by; None without any."""
        return self.data.reference

    @cached_property
    def inspections(self) -> list[Inspection]:
        """A look at each data set: train, validation, test, replay."""
        replay = () if self.replay_set is None else (self.replay_set,)
        sets = (self.train_set, *self.val_sets.values(), *self.test_sets.values(), *replay)
        return [inspect(dataset) for dataset in sets]

    @property
    def train_set(self) -> GraphDataset:
        """Training data."""
        return self.data.train

    @property
    def replay_set(self) -> GraphDataset | None:
        """Data that are replayed."""
        return self.data.replay

    @cached_property
    def trained_on(self) -> GraphDataset | ReplayedDataset:
        """All frames that training may see, by their ``frame_index``: the training set, and what is replayed."""
        if self.replay_set is None:
            return self.train_set
        return ReplayedDataset(self.train_set, self.replay_set, self.replay_weight)

    @property
    def num_replayed(self) -> int:
        """Number of replayed frames in an epoch."""
        return 0 if self.replay is None else self.replay.count(len(self.train_set))

    @property
    def replay_weight(self) -> float:
        """Weight of replayed frames in the loss."""
        return 1.0 if self.replay is None else self.replay.weight

    def move_replay(self, changes: Mapping[str, float]) -> None:
        """Move the energies of the replayed frames to the reference energies of the training set.

        Args:
            changes: Energy to add for each atom of a species, eV.
        """
        if self.replay_set is not None:
            move_energies(self.replay_set, changes)
            self.__dict__.pop("trained_on", None)

    @property
    def val_sets(self) -> dict[str, GraphDataset]:
        """Validation data by name."""
        return self.data.val

    @property
    def test_sets(self) -> dict[str, GraphDataset]:
        """Test data by name."""
        return self.data.test

    def train_dataloader(self) -> ResumableLoader:
        """Batches of the training set, in an order that depends on (seed, epoch) only."""
        order, pin = self._build_training_order(), self._uses_gpu()
        self._check_errors_are_told()
        return ResumableLoader(self.trained_on, order, num_workers=self.num_workers, pin_memory=pin)

    def _check_errors_are_told(self) -> None:
        """Refuse a sampling by errors in a training that would not tell them."""
        callbacks: Sequence[Any] = getattr(self.trainer, "callbacks", ())
        told = any(getattr(callback, "updates_scores", False) for callback in callbacks)
        if self.sampling.policy == ERROR_WEIGHTED and self.trainer is not None and not told:
            raise ConfigError(
                "sampling.policy is error_weighted, but no callback tells the errors of frames",
                "add nequip_like.training.callbacks.FrameErrors() to the trainer",
            )

    def _build_training_order(self) -> FrameBatchSampler:
        rank, world_size = self._get_processes()
        arguments: dict[str, Any] = {
            "shuffle": self.shuffle,
            "seed": self.seed,
            "rank": rank,
            "world_size": world_size,
            "drop_last": self.drop_last,
            "frames_per_step": self.count_step_frames(world_size),
        }
        frames = len(self.train_set)
        if self.replay_set is None:
            return self._build_sampler(frames, arguments)
        return ReplaySampler(frames, len(self.replay_set), self.num_replayed, self.batch_size, **arguments)

    def count_step_frames(self, world_size: int) -> int:
        """Frames of a training batch of all processes together.

        Args:
            world_size: Number of processes.

        Raises:
            ConfigError: If there are fewer than processes.
        """
        size = self.global_batch_size
        if size is None:
            return self.batch_size * world_size
        if size < world_size:
            raise ConfigError(
                f"global_batch_size is {size}, but there are {world_size} processes",
                f"give {world_size} or more, or use fewer processes",
            )
        return size

    def _build_sampler(self, frames: int, arguments: Mapping[str, Any]) -> FrameBatchSampler:
        policy, samples = self.sampling.policy, self.sampling.samples_per_epoch
        if policy == ERROR_WEIGHTED:
            return ErrorWeightedSampler(frames, samples or frames, self.batch_size, **arguments)
        if policy == ENERGY_WEIGHTED:
            references = {} if self.reference is None else self.reference.energies
            weights = compute_energy_weights(self.train_set.table, references)
            return WeightedSampler(weights, samples or frames, self.batch_size, **arguments)
        if samples is not None:
            return RoundsSampler(frames, samples, self.batch_size, **arguments)
        return FrameBatchSampler(frames, self.batch_size, **arguments)

    def val_dataloader(self) -> list[DataLoader[Graph]]:
        """One loader per validation set, in the order of :attr:`val_sets`."""
        return [self._build_evaluation_loader(dataset) for dataset in self.val_sets.values()]

    def test_dataloader(self) -> list[DataLoader[Graph]]:
        """One loader per test set, in the order of :attr:`test_sets`."""
        return [self._build_evaluation_loader(dataset) for dataset in self.test_sets.values()]

    def transfer_batch_to_device(self, batch: Graph, device: torch.device, dataloader_idx: int) -> Graph:
        """A batch on a device; one that is there already is left as it is.

        Lightning would look for tensors in all that it holds, at each step: a twentieth of one of a small molecule.
        """
        if all(tensor.device == device for tensor in batch.values()):
            return batch
        moved: Graph = super().transfer_batch_to_device(batch, device, dataloader_idx)
        return moved

    def _build_evaluation_loader(self, dataset: GraphDataset) -> DataLoader[Graph]:
        rank, world_size = self._get_processes()
        batches = FrameBatchSampler(
            len(dataset), self.val_batch_size, shuffle=False, seed=0, rank=rank, world_size=world_size, even=False
        )
        return DataLoader(
            dataset,
            batch_sampler=batches,
            collate_fn=collate,
            num_workers=self.num_workers,
            pin_memory=self._uses_gpu(),
            persistent_workers=self.num_workers > 0,
            generator=make_worker_generator(),
        )

    def _get_processes(self) -> tuple[int, int]:
        if self.trainer is None:
            return 0, 1
        return self.trainer.global_rank, self.trainer.world_size

    def _uses_gpu(self) -> bool:
        return self.trainer is not None and self.trainer.strategy.root_device.type == "cuda"
