"""From files to the data sets of a run: read, split, check, and find what ``auto`` means."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from nequip_like.data.dataset import GraphDataset
from nequip_like.data.inspection.lonely_atoms import check_neighbors
from nequip_like.data.io.readers import Reading
from nequip_like.data.reference_energies import (
    Choice,
    ReferenceEnergies,
    choose,
    is_isolated_atom,
    uses_isolated_frames,
)
from nequip_like.data.replay import Replay
from nequip_like.data.sources import FileSource, HeldOut, file_source, held_out_sources
from nequip_like.data.species import checked_species, species_of
from nequip_like.data.splits import check_disjoint, duplicates, split
from nequip_like.data.statistics import custom_statistics, training_statistics
from nequip_like.summaries import Summarized

_LARGEST_BINDING = 15.0  # eV/atom; the strongest solids and molecules are bound by less than 10


@dataclass(frozen=True, repr=False)
class Request(Summarized):
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
    statistics: Sequence[Mapping[str, Any]] = ()
    replay: Replay | None = None
    known_species: Sequence[str] = ()


@dataclass(frozen=True, repr=False)
class Prepared(Summarized):
    """Data sets of a run, and what was found in them."""

    train: GraphDataset
    val: dict[str, GraphDataset]
    test: dict[str, GraphDataset]
    type_names: list[str]
    reference: ReferenceEnergies | None
    statistics: dict[str, Any]
    replay: GraphDataset | None = None

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

    Isolated atoms that become the reference energies are taken out of the training frames first. Frames are held out
    of what is left, never those that occur more than once. Reference energies and statistics are those of the training
    frames only, never of replayed ones.

    Raises:
        ConfigError: If the request cannot be understood.
        DataError: If a file, a frame or a label cannot be right, or a structure is in two of train, val and test.
    """
    sources = {
        "val": held_out_sources(request.val, "val", request.key_mapping, request.units),
        "test": held_out_sources(request.test, "test", request.key_mapping, request.units),
    }
    reading = file_source(request.train, "train", request.key_mapping, request.units).read()
    type_names = _choose_type_names(request, reading)
    # A model that is fine-tuned may know species that these data do not have, and cannot tell the energy of.
    species = species_of(reading.frames)
    referred = [name for name in type_names if name in species] if request.known_species else type_names
    isolated: list[int] = []
    if uses_isolated_frames(request.reference_energies, reading.frames, referred):
        isolated = [i for i, frame in enumerate(reading.frames) if is_isolated_atom(frame)]
    pool = [i for i in range(len(reading.frames)) if i not in set(isolated)] or list(range(len(reading.frames)))
    parts = _split(request, reading, pool, sources)

    train_frames = [reading.frames[i] for i in parts["train"]]
    reference = choose(
        request.reference_energies,
        train_frames,
        referred,
        isolated=[reading.frames[i] for i in isolated],
        origins=[reading.origins[i] for i in (*isolated, *parts["train"])],
        key_mapping=request.key_mapping,
        units=request.units,
    )
    held_out: dict[str, dict[str, GraphDataset]] = {}
    for kind, by_name in sources.items():
        held_out[kind] = {}
        for name, source in by_name.items():
            title = kind if name == kind else f"{kind} {name}"
            part = parts.get(f"{kind}/{name}")
            source_reading = (
                reading if part is not None else source.read() if isinstance(source, FileSource) else reading
            )
            held_out[kind][name] = _build_dataset(
                request, source_reading, part, type_names, title, annotated=kind == "test"
            )
    train = _build_dataset(request, reading, parts["train"], type_names, "train")
    check_neighbors(train)
    train.notes.extend(_collect_notes(reference, train, request.known_species))
    replay = None
    if request.replay is not None:
        replay = _build_dataset(request, request.replay.source.read(), None, type_names, "replay")
    if not request.allow_overlap:
        groups = {kind: list(sets.values()) for kind, sets in held_out.items()}
        check_disjoint({"train": [train] if replay is None else [train, replay], **groups})
    statistics = training_statistics(train) | custom_statistics(train, request.statistics)
    if reference is not None:
        statistics["reference_energies"] = dict(reference.energies)
        statistics["isolated_atom_energies"] = dict(reference.energies)
    return Prepared(train, held_out["val"], held_out["test"], type_names, reference, statistics, replay)


def _choose_type_names(request: Request, reading: Reading) -> list[str]:
    """Declared species, or those of the training frames.

    Isolated atoms that become references are not trained on, so a species that only they have is none of the model's.
    Species that a model knows already come first, in its order.
    """
    species = _find_species(request, reading)
    model_species = list(request.known_species)
    return [*model_species, *(name for name in species if name not in model_species)]


def _find_species(request: Request, reading: Reading) -> list[str]:
    if request.species != "auto":
        return checked_species(request.species)
    bound = species_of(frame for frame in reading.frames if not is_isolated_atom(frame))
    if bound and uses_isolated_frames(request.reference_energies, reading.frames, bound):
        return bound
    return species_of(reading.frames)


def _split(
    request: Request, reading: Reading, pool: list[int], sources: Mapping[str, Mapping[str, FileSource | HeldOut]]
) -> dict[str, list[int]]:
    """Frames of train and of each part that is held out of the training file, as indices into the reading."""
    sizes = {
        f"{kind}/{name}": source.size
        for kind, by_name in sources.items()
        for name, source in by_name.items()
        if isinstance(source, HeldOut)
    }
    if not sizes and request.train_size is None:
        return {"train": pool}
    repeated = duplicates([reading.keys[i] for i in pool])
    parts = split(
        len(pool),
        sizes,
        request.split_seed,
        keep_in_train={*repeated, *repeated.values()},
        train_size=request.train_size,
    )
    return {name: [pool[i] for i in indices] for name, indices in parts.items()}


def _build_dataset(
    request: Request,
    reading: Reading,
    indices: Sequence[int] | None,
    type_names: list[str],
    name: str,
    annotated: bool = False,
) -> GraphDataset:
    """Make a data set of some frames of a reading, or of all; only test sets keep their annotations."""
    selection = range(len(reading.frames)) if indices is None else indices
    return GraphDataset(
        [reading.frames[i] for i in selection],
        request.cutoff_radius,
        type_names,
        origins=[reading.origins[i] for i in selection],
        name=name,
        units=reading.units,
        read_from=reading.read_from,
        notes=reading.notes,
        keys=[reading.keys[i] for i in selection],
        annotations=[reading.annotations[i] for i in selection] if annotated else None,
    )


def _collect_notes(reference: ReferenceEnergies | None, train: GraphDataset, known_species: Sequence[str]) -> list[str]:
    """Species that are declared and never seen, and reference energies that cannot belong to the frames."""
    notes = []
    species = species_of(train.frames)
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
