"""From files to the data sets of a run: read, split, check, and find what ``auto`` means."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from nequip_like.data.dataset import GraphDataset
from nequip_like.data.inspection.lonely_atoms import check_neighbors
from nequip_like.data.io.given import expand, is_structure
from nequip_like.data.io.reading import Reading
from nequip_like.data.labels.base_targets import BaseTargets, read_targets
from nequip_like.data.prepared.cache import SetCache
from nequip_like.data.prepared.frames import select_origins
from nequip_like.data.prepared.sets import find_prepared
from nequip_like.data.reference_energies import (
    Choice,
    ReferenceEnergies,
    choose,
    uses_isolated_frames,
)
from nequip_like.data.sampling.mixtures import MixedFrames, Mixture
from nequip_like.data.selection.filters import Filters, describe_dropped
from nequip_like.data.selection.repair import RepairCount, Repairs
from nequip_like.data.sources import FileSource, HeldOut, file_source, held_out_sources
from nequip_like.data.species import checked_species
from nequip_like.data.splits import check_disjoint, duplicates, split_frames
from nequip_like.data.tables.frame_table import tabulate
from nequip_like.errors import ConfigError, did_you_mean
from nequip_like.summaries import Summarized

_LARGEST_BINDING = 15.0  # eV/atom; the strongest solids and molecules are bound by less than 10


@dataclass(frozen=True)
class Request:
    """What a configuration asks for; see :class:`nequip_like.data.datamodule.DataModule` for each entry."""

    train: Any
    val: Any
    test: Any
    cutoff_radius: float
    species: str | Sequence[str]
    key_mapping: Mapping[str, str] | None
    units: Mapping[str, str] | None
    split_seed: int
    reference_energies: Choice
    allow_overlap: bool
    train_size: int | None = None
    replay: FileSource | None = None
    known_species: Sequence[str] = ()
    filters: Filters = field(default_factory=Filters)
    cache: SetCache | None = None
    base: BaseTargets | None = None
    repair: str | None = None


@dataclass(frozen=True, repr=False)
class Prepared(Summarized):
    """Data sets of a run, and what was found in them."""

    train: GraphDataset
    val: dict[str, GraphDataset]
    test: dict[str, GraphDataset]
    type_names: list[str]
    reference: ReferenceEnergies | None
    replay: GraphDataset | None = None
    mixed: MixedFrames | None = None  # which training frame is of which set, where there are several

    def summary(self) -> dict[str, Any]:
        """Number of frames of each set, species, and the rule of the reference energies."""
        sets = {"val": self.val, "test": self.test}
        return {
            "train": f"{len(self.train)} frames",
            **{kind: {name: f"{len(part)} frames" for name, part in parts.items()} for kind, parts in sets.items()},
            "species": " ".join(self.type_names),
            "reference": "none" if self.reference is None else self.reference.rule,
        } | ({} if self.replay is None else {"replay": f"{len(self.replay)} frames"})


def prepare(request: Request) -> Prepared:
    """Read, split and check the data of a run.

    Frames are repaired as they are read. Those of the training file beyond a filter are left out first, then isolated
    atoms that become the reference energies. Frames are held out of what is left, never those that occur more than
    once. Reference energies are those of the training frames only, never of replayed ones.

    Raises:
        ConfigError: If the request cannot be understood.
        DataError: If a file, a frame or a label cannot be right, or a structure is in two of train, val and test.
    """
    return _Preparation(request).run()


class _Preparation:
    """The training file of a request, and what is made of it."""

    def __init__(self, request: Request) -> None:
        self.request = request
        self.sources = {
            "val": held_out_sources(request.val, "val", request.key_mapping, request.units),
            "test": held_out_sources(request.test, "test", request.key_mapping, request.units),
        }
        self.notes: list[str] = []
        if request.repair is not None and request.base is not None:
            raise ConfigError(
                "data.repair and data.base_targets are given, but a repair is of the labels in the files",
                "convert the files with the repairs first: nequip-data convert --repair FILE",
            )
        self.repairs = None if request.repair is None else Repairs(request.repair)
        self.repaired = RepairCount()
        self.mixed: MixedFrames | None = None
        reading = self._read_train()
        self.notes += self.repaired.sentences
        self._take(reading)
        self._leave_out(request.filters.find_kept(self.table, self.reading))
        if request.filters.max_energy is not None:
            self._leave_out(request.filters.find_kept_by_energy(self.table, self._find_energies_of_all()))
        self.parts = self._split()

    def _read_source(self, source: FileSource, *, is_mixed: bool) -> Reading:
        """What a source names, by way of the cache where there is one and the source is of files.

        An index is of each of several files, but of all frames of a set; sets that are mixed are all prepared or none.
        """
        request, cache = self.request, self.request.cache
        if request.base is not None or self.repairs is not None or cache is None or is_mixed:
            return read_targets(source, request.base)
        if any(map(is_structure, source.files)) or find_prepared(source.files):
            return source.read()
        if source.index != ":" and len(expand(source.files)) > 1:
            return source.read()
        options = (source.index, source.key_mapping, source.units, source.trust_pickle)
        return source.choose(cache.open(source.files, request.cutoff_radius, *options))

    def _read_train(self) -> Reading:
        request, counts = self.request, list[RepairCount]()
        mixture = Mixture.read(request.train, request.key_mapping, request.units)

        def read(source: FileSource) -> Reading:
            reading, count = self._read(source, is_mixed=mixture is not None)
            counts.append(count)
            return reading

        if mixture is None:
            reading = read(file_source(request.train, "train", request.key_mapping, request.units))
        else:
            reading, self.mixed = mixture.read_frames(read)
        self.repaired = RepairCount.join(counts)
        return reading

    def _read(self, source: FileSource, *, is_mixed: bool = False) -> tuple[Reading, RepairCount]:
        """Read a source, with the repairs of its frames."""
        reading = self._read_source(source, is_mixed=is_mixed)
        return (reading, RepairCount()) if self.repairs is None else self.repairs.apply(reading)

    def _take(self, reading: Reading) -> None:
        """Take frames as those of the training file, and find which species and isolated atoms they have."""
        request = self.request
        self.reading = reading
        self.frames = reading.frames
        self.table = tabulate(self.frames)
        self.type_names = self._choose_type_names()
        # A model that is fine-tuned may know species that these data do not have, and cannot tell the energy of.
        species = self.table.count_species()
        self.referred = [name for name in self.type_names if name in species or not request.known_species]
        self.isolated: list[int] = []
        if uses_isolated_frames(request.reference_energies, self.table, self.referred):
            self.isolated = np.flatnonzero(self.table.isolated).tolist()

    def _leave_out(self, kept: Mapping[str, np.ndarray]) -> None:
        """Leave out the frames that a filter does not keep."""
        self.notes += describe_dropped(kept, self.reading.origins)
        indices = np.flatnonzero(np.logical_and.reduce(list(kept.values()))) if kept else np.arange(len(self.table))
        if len(indices) < len(self.table):
            self.mixed = None if self.mixed is None else self.mixed.select(indices)
            self._take(self.reading.select(indices.tolist()))

    def _find_energies_of_all(self) -> Mapping[str, float]:
        """Reference energies by all frames of the training file, for the filter of energies."""
        reference = self._find_references(np.delete(np.arange(len(self.table)), self.isolated).tolist())
        if reference is None:
            raise ConfigError(
                "filters.max_energy is of energies above the reference energies, and there are none",
                "give data.reference_energies, or leave filters.max_energy out",
            )
        return reference.energies

    def run(self) -> Prepared:
        """Make the data sets."""
        reference = self._find_references(self.parts["train"])
        held_out = {kind: self._build_held_out(kind) for kind in self.sources}
        train = self._build_dataset("train", self.parts["train"])
        check_neighbors(train)
        train.repaired = str(self.repaired)
        if train.numbers is not None and self.isolated and len(train) + len(self.isolated) < len(self.reading):
            # Their energies are asked for again where the same frames are chosen again.
            train.numbers = np.concatenate([_number(self.reading, self.isolated), train.numbers])
        train.notes.extend([*self.notes, *_collect_notes(reference, train, self.request.known_species)])
        replay = None if self.request.replay is None else self._build_dataset("replay", source=self.request.replay)
        if self.repairs is not None:
            train.notes.extend(self.repairs.check_whole())
        if not self.request.allow_overlap:
            groups = {kind: list(sets.values()) for kind, sets in held_out.items()}
            check_disjoint({"train": [train] if replay is None else [train, replay], **groups})
        mixed = None if self.mixed is None else self.mixed.select(self.parts["train"])
        return Prepared(train, held_out["val"], held_out["test"], self.type_names, reference, replay, mixed)

    def _choose_type_names(self) -> list[str]:
        """Declared species, or those of the training frames.

        Isolated atoms that become references are not trained on, so a species that only they have is none of the
        model's. Species that a model knows already come first, in its order.
        """
        model_species = list(self.request.known_species)
        return [*model_species, *(name for name in self._find_species() if name not in model_species)]

    def _find_species(self) -> list[str]:
        if self.request.species != "auto":
            return checked_species(self.request.species)
        bound = list(self.table.count_species(~self.table.isolated))
        if bound and uses_isolated_frames(self.request.reference_energies, self.table, bound):
            return bound
        return list(self.table.count_species())

    def _split(self) -> dict[str, list[int]]:
        """Frames of train and of each part that is held out of the training file, as indices into the reading."""
        everything = np.arange(len(self.frames))
        pool = np.delete(everything, self.isolated)
        pool = pool if len(pool) else everything
        held_out = {
            f"{kind}/{name}": source
            for kind, by_name in self.sources.items()
            for name, source in by_name.items()
            if isinstance(source, HeldOut)
        }
        sizes = {part: source.size for part, source in held_out.items()}
        if not sizes and self.request.train_size is None:
            return {"train": pool.tolist()}
        repeated = duplicates(self.reading.keys[pool])
        parts = split_frames(
            len(pool),
            sizes,
            self.request.split_seed,
            keep_in_train={*repeated, *repeated.values()},
            train_size=self.request.train_size,
            among=self._list_frames_of_sets(held_out, pool.tolist()),
        )
        return {name: pool[indices].tolist() for name, indices in parts.items()}

    def _list_frames_of_sets(self, held_out: Mapping[str, HeldOut], pool: Sequence[int]) -> dict[str, list[int]]:
        """Positions in ``pool`` of the frames of each set that a part is to be held out of."""
        among: dict[str, list[int]] = {}
        for part, source in held_out.items():
            if source.of is None:
                continue
            names = () if self.mixed is None else self.mixed.names
            if self.mixed is None or source.of not in names:
                raise ConfigError(
                    f"{part.replace('/', '.')} is a part of '{source.of}', which is no set of data.train",
                    did_you_mean(source.of, names) if names else "leave 'of' out: data.train is one set",
                )
            chosen = set(self.mixed.list_frames(source.of))
            among[part] = [position for position, frame in enumerate(pool) if frame in chosen]
        return among

    def _find_references(self, train: Sequence[int]) -> ReferenceEnergies | None:
        return choose(
            self.request.reference_energies,
            self.table.select(train),
            self.referred,
            isolated=self.table.select(self.isolated),
            origins=select_origins(self.reading.origins, [*self.isolated, *train]),
            key_mapping=self.request.key_mapping,
            units=self.request.units,
        )

    def _build_held_out(self, kind: str) -> dict[str, GraphDataset]:
        datasets: dict[str, GraphDataset] = {}
        for name, source in self.sources[kind].items():
            title = kind if name == kind else f"{kind} {name}"
            if isinstance(source, FileSource):
                datasets[name] = self._build_dataset(title, source=source, annotated=kind == "test")
            else:
                datasets[name] = self._build_dataset(title, self.parts[f"{kind}/{name}"], annotated=kind == "test")
        return datasets

    def _build_dataset(
        self,
        name: str,
        indices: Sequence[int] | None = None,
        source: FileSource | None = None,
        annotated: bool = False,
    ) -> GraphDataset:
        """Make a data set of frames of the training file, or of another source; only test sets keep annotations."""
        reading, repaired = (self.reading, RepairCount()) if source is None else self._read(source)
        chosen = range(len(reading)) if indices is None else indices
        part, keys = reading.select(chosen, annotated), reading.keys[np.asarray(chosen)]
        dataset = GraphDataset(part, self.request.cutoff_radius, self.type_names, name=name, keys=keys)
        if len(dataset) + len(self.isolated) == len(reading) or indices is None:  # nothing more was chosen here
            dataset.numbers = reading.numbers
        if self.mixed is not None and source is None:  # numbers are those of one source
            dataset.numbers = None
        dataset.repaired = str(repaired)
        dataset.notes.extend(repaired.sentences)
        return dataset


def _number(reading: Reading, frames: Sequence[int]) -> np.ndarray:
    """Positions of some frames of a reading in what they were chosen from."""
    chosen = np.asarray(frames, dtype=np.int64)
    return chosen if reading.numbers is None else reading.numbers[chosen]


def _collect_notes(reference: ReferenceEnergies | None, train: GraphDataset, known_species: Sequence[str]) -> list[str]:
    """Species that are declared and never seen, and reference energies that cannot belong to the frames."""
    notes = []
    species = train.table.count_species()
    if absent := [name for name in train.type_names if name not in {*species, *known_species}]:
        notes.append(f"no training frame has the species {', '.join(absent)}; nothing is learned for it")
    if reference is not None and reference.warning:
        notes.append(reference.warning)
    if reference is not None and (reference.residual_rms or 0.0) > _LARGEST_BINDING:
        notes.append(
            f"the energies lie {reference.residual_rms:.4g} eV/atom (rms) from the reference energies by rule "
            f"'{reference.rule}'; are both in the same unit and by the same method?"
        )
    return notes
