"""From files and structures to graphs: what ASE reads, with labels found or declared, in the package's own units."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from ase import Atoms

from nequip_like.data import fields
from nequip_like.data.fields import Graph
from nequip_like.data.graph import Graphs, fill_missing_labels
from nequip_like.data.inspection.stress_size import check_stress_size
from nequip_like.data.io.annotations import Annotations
from nequip_like.data.io.databases import NESTED, check_places, convert_to_array, is_read
from nequip_like.data.io.given import Index, check_results, choose_frames, convert_to_atoms, entries, expand
from nequip_like.data.io.reading import Reading
from nequip_like.data.io.structures import check_extent, graph_from_atoms
from nequip_like.data.labels.components import add_inner_labels, add_vectors, find_lone_components
from nequip_like.data.labels.frame_units import collect_units_of_frames
from nequip_like.data.labels.free_energies import measure_free_energy_gap
from nequip_like.data.labels.names import FrameNames, check_declared_names, checked_mapping, label_of, resolve
from nequip_like.data.labels.unit_checks import Stated, check_by_halves, compare, list_declared_keys
from nequip_like.data.labels.units import Units, list_unused_units
from nequip_like.data.labels.unread_names import Kind, add_kinds, find_unread_names
from nequip_like.data.labels.values import read_labels
from nequip_like.data.labels.weights import LeftOut, find_equal_weights
from nequip_like.data.prepared.sets import find_prepared, open_prepared
from nequip_like.errors import ConfigError

if TYPE_CHECKING:
    from nequip_like.data.io.sets.frame_sets import FrameRange
    from nequip_like.data.prepared.pieces import Piece

Source = str | Path | Atoms | Graph | Iterable[str | Path] | Iterable[Atoms] | Iterable[Graph]
_Frame = TypeVar("_Frame")

_STRUCTURE_ARRAYS = {"numbers", "positions"}
_GRAPH = "graph"


def read_frames(
    source: Source,
    *,
    index: Index = ":",
    key_mapping: Mapping[str, str] | None = None,
    units: Units | Mapping[str, str] | None = None,
    trust_pickle: bool = False,
) -> list[Graph]:
    """Read files or structures, with their labels, as graphs without edges.

    See :func:`read`, which tells more about what was read.

    Example:
        A comment line as most programs write it: energy and forces are read under their well-known names.

        >>> from pathlib import Path
        >>> _ = Path("hydrogen.xyz").write_text('''2
        ... Properties=species:S:1:pos:R:3:REF_forces:R:3 REF_energy=-31.7 pbc="F F F"
        ... H 0.0 0.0 0.00 0.0 0.0 -0.5
        ... H 0.0 0.0 0.74 0.0 0.0 0.5
        ... ''')
        >>> (frame,) = read_frames("hydrogen.xyz")
        >>> frame["total_energy"].item(), frame["forces"][0].tolist()
        (-31.7, [0.0, 0.0, -0.5])
    """
    return Graphs(read(source, index=index, key_mapping=key_mapping, units=units, trust_pickle=trust_pickle).frames)


def read(
    source: Source,
    *,
    index: Index = ":",
    key_mapping: Mapping[str, str] | None = None,
    units: Units | Mapping[str, str] | None = None,
    trust_pickle: bool = False,
    piece: Piece | FrameRange | None = None,
    whole: bool = True,
) -> Reading:
    """Read files or structures, with their labels, as graphs without edges.

    Labels are those of ASE's calculator results, ``info`` and ``arrays``, under well-known names
    (:mod:`nequip_like.data.labels.names`) or under the names that ``key_mapping`` declares. Forces are the file's own,
    whatever constraints the structure carries. A virial is turned into a stress, ``stress = -virial / volume``. All
    values are converted to eV and Angstrom and held in float64.

    Args:
        source: A file, an archive, a folder that is a data set, a glob pattern, or several of these; or ``Atoms``, one
            or many, whose labels follow the same rules as those of files; or graphs, one or many, with labels in the
            package's own names and units.
        index: Which frames of each file, or of the structures, as ASE writes it: ``":"``, ``"0:100"``, ``"::10"``,
            ``"-1"``.
        key_mapping: ``{name in the file: label}``; wins over well-known names.
        units: ``{"energy": ..., "length": ..., "forces": ...}``, see
            :class:`nequip_like.data.labels.units.Units`; eV and Angstrom by default.
        trust_pickle: Read files of pickles, too (``.lmdb`` of NequIP and fairchem); by default they are refused.
        piece: The part of the one file that is to be read.
        whole: Whether this is all of the data. Otherwise it is not asked whether it has what ``key_mapping`` declares,
            for another part may have it.

    Raises:
        ConfigError: If ``units`` or ``key_mapping`` cannot be understood, or the source is none, or of several kinds.
        DataError: If a file is missing or unreadable, holds no frames, leaves a choice between two names for one
            label, or holds a value that cannot be right.
    """
    members = entries(source)
    if prepared := find_prepared(members):
        return open_prepared(prepared, index, key_mapping, units)
    return _read_members(members, index, key_mapping, units, trust_pickle, piece, whole)


def _read_members(
    members: Sequence[Any],
    index: Index,
    key_mapping: Mapping[str, str] | None,
    units: Units | Mapping[str, str] | None,
    trust_pickle: bool,
    piece: Piece | FrameRange | None,
    whole: bool,
) -> Reading:
    so_far = _LabelledFrames(key_mapping, units)
    for block in _read_blocks(members, index, trust_pickle, piece):
        so_far.add(block)
    return so_far.finish(", ".join(map(str, members)) if so_far.reading.files else block.title, whole)


class _LabelledFrames:
    """Frames as they are read with their labels, block by block, and what is to be told of all of them.

    Args:
        key_mapping: As for :func:`read`.
        units: As for :func:`read`.
    """

    def __init__(self, key_mapping: Mapping[str, str] | None, units: Units | Mapping[str, str] | None) -> None:
        self._mapping, self._units = checked_mapping(key_mapping), units
        self.reading = Reading(units=Units.declared(units))
        self._declared_keys = list_declared_keys(units)
        self._names: list[FrameNames] = []
        self._kinds: dict[str, Kind] = {}
        self._stated_labels: set[str] = set()
        self._frames: list[Graph] = []
        self._origins: list[str] = []
        self._annotations: list[Annotations] = []

    def add(self, block: _Block) -> None:
        """Read the labels of a block: their names first, then their units, then the values."""
        reading = self.reading
        if block.file is not None and block.file.absolute() not in reading.files[-1:]:
            reading.files.append(block.file.absolute())
        reading.notes.extend(block.notes)
        if block.file is None:
            _check_in_memory(block, reading.units)
        values = [_collect_values(atoms, self._mapping, block.origin(number)) for number, atoms in block.frames]
        names_by_label = self._find_names(block, values)
        left_out: Counter[LeftOut] = Counter()
        for (number, atoms), (graph_values, node_values) in zip(block.frames, values, strict=True):
            left_out.update(self._add_frame(block, number, atoms, names_by_label, graph_values, node_values))
        for (label, reason), count in left_out.items():
            reading.notes.append(f"{block.title}: {label} of {count} frames left out, {reason}")

    def _find_names(self, block: _Block, values: Sequence[tuple[dict[str, Any], dict[str, Any]]]) -> dict[str, str]:
        """Find out under which name the frames of a block have each label, and in which units."""
        names_of_block = [FrameNames(frozenset(graph), frozenset(node)) for graph, node in values]
        self._names.extend(names_of_block)
        names_by_label = resolve(block.title, names_of_block, self._mapping, block.names_of_format)
        stated = _read_units_of_block(block, names_by_label, self.reading.units, [graph for graph, _ in values])
        self.reading.notes.extend(compare(stated, self.reading.units, block.title, self._declared_keys))
        self._stated_labels.update(statement.label for statement in stated)
        for label, name in names_by_label.items():
            if name not in (names_of_label := self.reading.label_names.setdefault(label, [])):
                names_of_label.append(name)
        return names_by_label

    def _add_frame(
        self,
        block: _Block,
        number: int,
        atoms: Atoms,
        names_by_label: Mapping[str, str],
        graph_values: dict[str, Any],
        node_values: dict[str, Any],
    ) -> Sequence[LeftOut]:
        """Make a frame of a structure and its values; gives the labels that were left out."""
        reading, origin = self.reading, block.origin(number)
        length = reading.units.factor("pos")
        graph = graph_from_atoms(atoms, frame_index=len(self._frames), where=origin, length=length)
        check_extent(graph, origin)
        labels, left_out = read_labels(graph, names_by_label, graph_values, node_values, reading.units, origin)
        add_kinds(self._kinds, graph_values, node_values)
        gap = measure_free_energy_gap(graph_values, names_by_label.get(fields.TOTAL_ENERGY), len(atoms))
        reading.free_energy_gap = max(reading.free_energy_gap, gap * reading.units.factor(fields.TOTAL_ENERGY))
        self._frames.append(graph | labels)
        self._origins.append(origin)
        remarks = (graph_values, node_values) if block.title != _GRAPH else ({}, {})  # a graph holds labels only
        self._annotations.append(Annotations.collect(names_by_label.values(), *remarks, atoms))
        return left_out

    def finish(self, source_name: str, whole: bool) -> Reading:
        """Check and tell what only all blocks together show.

        Args:
            source_name: What they are called together.
            whole: As for :func:`read`.
        """
        reading = self.reading
        reading.names = FrameNames.join(self._names)
        if whole:
            check_declared_names(source_name, [reading.names], self._mapping)
        check_by_halves(reading.units, self._units, reading.label_names, self._stated_labels, source_name)
        notes = find_unread_names([reading.names], reading.label_names, self._kinds)
        notes += list_unused_units(reading.units, reading.label_names)
        if fields.FORCES not in reading.label_names:
            notes += find_lone_components(sorted(reading.names.node))
        reading.notes.extend(f"{source_name}: {note}" for note in notes)
        reading.frames, reading.origins = fill_missing_labels(self._frames), self._origins
        reading.annotations = self._annotations
        check_stress_size(reading.frames, reading.origins, reading.units, reading.label_names)
        notes = find_equal_weights(reading.frames, reading.label_names)
        reading.notes.extend(f"{source_name}: {note}" for note in notes)
        return reading


def check_declared(key_mapping: Mapping[str, str] | None, units: Units | Mapping[str, str] | None) -> None:
    """Refuse names and units that :func:`read` could not mean, before a file is read.

    Raises:
        ConfigError: As :func:`read`.
    """
    Units.declared(units)
    checked_mapping(key_mapping)


def read_structures(
    source: Source, *, index: Index = ":", trust_pickle: bool = False, piece: Piece | FrameRange | None = None
) -> tuple[list[Atoms], list[str]]:
    """Read files or structures, in Angstrom, without asking for labels.

    Args:
        source: As for :func:`read`.
        index: Which frames of each file, or of the structures.
        trust_pickle: As for :func:`read`.
        piece: The part of the one file that is to be read.

    Returns:
        The structures, as they were given or read, and where each comes from, for messages.

    Raises:
        ConfigError: If the source is none, or of several kinds.
        DataError: If a file is missing or unreadable, holds no frames, or states another unit of its positions.
    """
    structures, origins = [], []
    for block in _read_blocks(entries(source), index, trust_pickle, piece):
        if block.file is not None:
            stated = _read_units_of_block(block, {}, Units(), [_flatten_info(atoms) for _, atoms in block.frames])
            compare(stated, Units(), block.title, None)
        for number, atoms in block.frames:
            structures.append(atoms)
            origins.append(block.origin(number))
    return structures, origins


@dataclass(frozen=True)
class _Block:
    """The chosen frames of one file, be it in an archive, or of all structures in memory.

    Attributes:
        title: What it is called.
        file: The file that was given, or the archive.
        copy: Where the file can be read; it lasts until the next block.
        frames: Each with its position in the file.
        notes: What was said of the file; of an archive, all with the first block.
        names_of_format: Names of labels that only this format has.
    """

    title: str
    file: Path | None
    copy: Path | None
    frames: list[tuple[int, Atoms]]
    notes: list[str]
    names_of_format: Mapping[str, str] = field(default_factory=dict)

    def origin(self, number: int) -> str:
        return f"{self.title} {'' if self.file is None else 'frame '}{number}"


def _read_blocks(
    members: Sequence[Any], index: Index, trust_pickle: bool = False, piece: Piece | FrameRange | None = None
) -> Iterator[_Block]:
    """Files one by one, each read when it is its turn; structures in memory all at once."""
    if not members or isinstance(members[0], str | Path):
        # Imported here: a simulation predicts structures in memory, and ase.io takes its time.
        from nequip_like.data.io.formats import format_of, open_contents

        for path in expand(members):
            with open_contents(path, trust_pickle, piece) as contents:
                first = 0 if piece is None else piece.frame
                numbered = [
                    (k, i, atoms) for k, one in enumerate(contents) for i, atoms in enumerate(one.frames, first)
                ]
                notes = [note for one in contents for note in one.notes]
                for k, chosen in groupby(_select_frames(str(path), numbered, index), key=itemgetter(0)):
                    one, frames = contents[k], [(i, atoms) for _, i, atoms in chosen]
                    yield _Block(one.title, path, one.file, frames, notes, format_of(one.file).names)
                    notes = []
    else:
        title = "Atoms" if isinstance(members[0], Atoms) else _GRAPH
        structures = [(i, convert_to_atoms(entry, f"{title} {i}")) for i, entry in enumerate(members)]
        yield _Block(title, None, None, _select_frames(title, structures, index), [])


def _read_units_of_block(
    block: _Block, names_by_label: Mapping[str, str], units: Units, frames: Sequence[Mapping[str, Any]]
) -> list[Stated]:
    if block.title == _GRAPH:
        return []
    if block.file is None or block.copy is None:
        return collect_units_of_frames(frames, names_by_label, block.title)
    # Imported here, since a simulation reads no files, and ASE's readers take their time.
    from nequip_like.data.io.sets.archives import Member
    from nequip_like.data.io.stated_units import read_stated_units

    with Member(block.title, block.copy).naming():
        return read_stated_units(block.copy, names_by_label, units, frames)


def _check_in_memory(block: _Block, units: Units) -> None:
    """Refuse labels that are not those of the structure, and units of graphs, which have the package's own."""
    if block.title == _GRAPH and units != Units():
        raise ConfigError(f"units are {units}, but graphs are in eV and Angstrom", "leave units out")
    for number, atoms in block.frames:
        check_results(atoms, block.origin(number))


def _select_frames(path: str, frames: list[_Frame], index: Index) -> list[_Frame]:
    """The chosen frames of a file."""
    return [frames[i] for i in choose_frames(path, len(frames), index)]


def _flatten_info(atoms: Atoms) -> dict[str, Any]:
    """Values of a structure by name; those that a row of a database nests are merged with the others."""
    result: dict[str, Any] = {}
    for name, value in atoms.info.items():
        result |= value if name in NESTED and isinstance(value, Mapping) else {name: value}
    return result


def _collect_values(atoms: Atoms, mapping: Mapping[str, str], origin: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Everything a frame holds beside its structure: by name, per structure and per atom."""
    check_places(atoms, mapping, origin)
    graph = add_inner_labels(_flatten_info(atoms))
    for name in [name for name in graph if name not in atoms.info and (name in mapping or label_of(name))]:
        graph[name] = convert_to_array(graph[name])
    node: dict[str, Any] = {name: value for name, value in atoms.arrays.items() if name not in _STRUCTURE_ARRAYS}
    results = {} if atoms.calc is None else dict(getattr(atoms.calc, "results", {}))
    for name, value in results.items():
        per_atom = name in ("forces", "energies", "stresses", "charges", "magmoms")
        if value is not None:
            (node if per_atom else graph)[name] = value
    graph = {name: value for name, value in graph.items() if value is not None}
    for name in [name for name, value in graph.items() if _is_per_atom(name, value, len(atoms), mapping)]:
        value = graph.pop(name)
        node.setdefault(name, value[0] if value.ndim == 3 and len(value) == 1 else value)
    return graph, add_vectors(node)


def _is_per_atom(name: str, value: object, atoms: int, mapping: Mapping[str, str]) -> bool:
    """ASE databases keep arrays of atoms beside values of the structure.

    The name decides where it is one of a label, as the shape (3, 3) of three atoms may be forces or a stress; of
    other names, (atoms, 3) can only be one of atoms.
    """
    if not isinstance(value, np.ndarray) or value.ndim == 0:
        return False
    label = mapping.get(name) or label_of(name)
    if label is not None:
        if fields.field(label).owner != "node":
            return False
        has_all_components = value.size == atoms * int(np.prod(fields.field(label).shape))
        if is_read(name, mapping):  # of another shape, as (1, atoms, 3) or flat, too: it is checked where it is read
            return has_all_components or value.ndim > 1
        return has_all_components and (value.shape[0] == atoms or (value.ndim == 3 and len(value) == 1))
    return value.shape == (atoms, 3) and atoms != 3
