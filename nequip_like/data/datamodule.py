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
from nequip_like.data.batches.batch_size import BatchSize, SizeOfBatch, list_costs
from nequip_like.data.dataset import GraphDataset
from nequip_like.data.fields import Graph
from nequip_like.data.inspection.report import Inspection, inspect
from nequip_like.data.labels.base_targets import BaseTargets
from nequip_like.data.loader import ResumableLoader, build_evaluation_loader
from nequip_like.data.prepare import Prepared, Request, prepare
from nequip_like.data.prepared.cache import SetCache
from nequip_like.data.prepared.sets import hold_frames
from nequip_like.data.reference_energies import Choice, ReferenceEnergies, names_file, references_below
from nequip_like.data.replay import Replay, ReplayedDataset, move_energies
from nequip_like.data.samplers import FrameBatchSampler
from nequip_like.data.sampling.force_supervision import ForceSupervision
from nequip_like.data.sampling.mixtures import MixedFrames, check_drawing
from nequip_like.data.sampling.orders import build_order, count_draws
from nequip_like.data.sampling.policies import ERROR_WEIGHTED, Sampling
from nequip_like.data.selection.filters import Filters
from nequip_like.data.selection.indices import write_runs
from nequip_like.data.sources import below
from nequip_like.data.statistics import custom_statistics, training_statistics
from nequip_like.errors import ConfigError
from nequip_like.summaries import Summarized
from nequip_like.whole_files import path_of


class DataModule(Summarized, lightning.LightningDataModule):
    """Training, validation and test data.

    Each of ``train``, ``val`` and ``test`` is a path (a glob pattern, a list of paths), or a mapping
    ``{file, index, key_mapping, units}``. ``val`` and ``test`` may also be a number of frames or a fraction, taken out
    of ``train`` at random; a list of these, which makes several sets; or a mapping from names to these.

    The trainer must run with ``use_distributed_sampler=False``: the order of frames knows its process.

    Args:
        train: Training data; a list of paths is one data set. Several with names, ``{name: {file, weight}}``, are a
            mixture, see :mod:`nequip_like.data.sampling.mixtures`.
        val: Validation data.
        test: Test data.
        cutoff_radius: Cutoff of the neighbour lists, Angstrom.
        path: Folder in which relative file names are looked up; the current folder by default.
        species: Chemical symbols in the order of the model's types; ``auto`` takes those of ``train``.
        key_mapping: ``{name in the file: label}`` for entries without their own.
        units: ``{energy: eV, length: Angstrom, stress_sign: tension}`` and labels with units of their own, as
            :class:`nequip_like.data.labels.units.Units`; for entries without their own.
        batch_size: Frames per training batch and process; or ``{atoms: 512}``, ``{edges: 20000}``: as many as have no
            more atoms or edges together, see :mod:`nequip_like.data.batches.packing`.
        global_batch_size: Frames per training batch of all processes together, in place of ``batch_size``: then the
            steps are the same for any number of processes.
        val_batch_size: The same for validation and test; ``batch_size`` by default.
        split_seed: Seed of what is held out of ``train``.
        seed: Seed of the order of training frames.
        num_workers: Processes that load batches; none is usually fastest, for a frame is there in a fiftieth of a step.
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
        repair: A file that says which frames are left out or labelled anew, see
            :mod:`nequip_like.data.selection.repair_file`; of all sources.
        sampling: ``{policy, samples_per_epoch, temperature, force_fraction, ...}``: how often frames are drawn, and
            which of them with their forces, see :class:`nequip_like.data.sampling.policies.Sampling`.
        replay: ``{file, fraction, weight}``: other data that a fraction of each epoch is drawn from, see
            :mod:`nequip_like.data.replay`. Statistics and reference energies are not theirs.
        cache_dir: Folder in which files are prepared once, see :mod:`nequip_like.data.prepared.cache`.
        cache_size: GB that it may take.
        base_targets: ``{name in the file: label}``, or a calculator of ASE: labels become differences to this base, of
            all sets, see :mod:`nequip_like.data.labels.base_targets`.

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
        batch_size: SizeOfBatch = 5,
        global_batch_size: Count | None = None,
        val_batch_size: SizeOfBatch | None = None,
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
        repair: str | None = None,
        sampling: Mapping[str, Any] | None = None,
        replay: Mapping[str, Any] | None = None,
        base_targets: Any = None,  # BaseTargets.read checks it
        cache_dir: str | None = None,
        cache_size: Positive = 50.0,
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
            base=BaseTargets.read(base_targets),
            repair=below(path, repair),
            cache=None if cache_dir is None else SetCache(path_of(cache_dir), cache_size * 1e9),
        )
        if self.request.base is not None and names_file(reference_energies):
            raise ConfigError(
                "data.base_targets makes labels differences, and those of the file reference_energies are none",
                "write reference_energies: auto, or give the differences: {symbol: eV}",
            )
        self.sampling = Sampling.read(sampling)
        check_drawing(self.sampling, train, replayed=replay is not None, shuffle=shuffle)
        self.custom_statistics = statistics
        self.batch_size = BatchSize.read("batch_size", batch_size)
        self.batch_size.check_steps(drop_last, global_batch_size)
        self.global_batch_size = global_batch_size
        self.val_batch_size = BatchSize.read("val_batch_size", batch_size if val_batch_size is None else val_batch_size)
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
        _ = self.data, self._statistics, self.num_replayed, self.num_drawn
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
        train, *replay = self._list_parts()
        return [inspect(part) for part in (train, *self.val_sets.values(), *self.test_sets.values(), *replay)]

    @property
    def chosen_frames(self) -> dict[str, list[int | str]]:
        """Numbers of the frames of each set in its source, as a file that ``indices_path`` takes holds them.

        Sets of all frames of their source are left out. Parts that are held out count in the source of ``train``.
        """
        sets = {"train": self.train_set}
        for kind, parts in (("val", self.val_sets), ("test", self.test_sets)):
            sets |= {f"{kind}/{name}": dataset for name, dataset in parts.items()}
        return {name: write_runs(dataset.numbers) for name, dataset in sets.items() if dataset.numbers is not None}

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

    def _list_parts(self) -> list[GraphDataset]:
        """The training set, and what is replayed if anything is."""
        return [self.train_set, *([] if self.replay_set is None else [self.replay_set])]

    @property
    def num_replayed(self) -> int:
        """Number of replayed frames in an epoch."""
        return 0 if self.replay is None else self.replay.count(len(self.train_set))

    @property
    def mixed(self) -> MixedFrames | None:
        """Which training frame is of which set; None if there is one set only."""
        return self.data.mixed

    @property
    def num_drawn(self) -> dict[str, int]:
        """``{set: frames of it in an epoch}`` of several sets; with weights of frames, on average."""
        return count_draws(self.data, self.sampling)

    @cached_property
    def force_supervision(self) -> ForceSupervision | None:
        """Which frames train with their forces; None if all do."""
        if self.sampling.force_fraction == 1:
            return None
        return ForceSupervision(self.trained_on.table, self.sampling, self.seed)

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
        return ResumableLoader(
            self.trained_on,
            order,
            num_workers=self.num_workers,
            pin_memory=pin,
            force_supervision=self.force_supervision,
        )

    def list_training_batches(self) -> list[list[int]]:
        """Frames of each batch of this process in the first epoch."""
        return list(self._build_training_order())

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
            "frames_per_step": self.batch_size.count_step_frames(world_size, self.global_batch_size),
            **list_costs(self.batch_size, {part.name: part.table for part in self._list_parts()}),
        }
        return build_order(self.data, self.sampling, self.num_replayed, self.batch_size.limit, **arguments)

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
        workers: dict[str, Any] = {"num_workers": self.num_workers, "pin_memory": self._uses_gpu()}
        return build_evaluation_loader(dataset, self.val_batch_size, *self._get_processes(), **workers)

    def _get_processes(self) -> tuple[int, int]:
        if self.trainer is None:
            return 0, 1
        return self.trainer.global_rank, self.trainer.world_size

    def _uses_gpu(self) -> bool:
        return self.trainer is not None and self.trainer.strategy.root_device.type == "cuda"
