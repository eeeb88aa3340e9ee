"""What data are like, as far as the choice of a model and of a training depends on it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from nequip_like.data import fields
from nequip_like.data.datamodule import DataModule
from nequip_like.data.io.formats import format_of, read_first_frames
from nequip_like.data.io.given import expand
from nequip_like.data.io.sets.folders import is_set_folder
from nequip_like.data.io.structures import graph_from_atoms
from nequip_like.data.neighbors import add_neighbors
from nequip_like.errors import DataError
from nequip_like.process_settings import available_memory
from nequip_like.summaries import Summarized
from nequip_like.workflow.evaluate import PREDICTIONS_FILE
from nequip_like.workflow.run_folder.earlier_run import CONFIG_FILE

LEAST_FRAMES = 5
_BYTES_PER_LINE = 100  # of an atom in a text file: element, position, force; binary formats have half of it
_MOST_GROWTH = 50  # a file becomes at most so many times as large: atoms of a metal have 60 neighbours of 40 bytes
_NAMED_ONLY = ("archive", "npz")  # formats that may hold anything, or what lies beside them once more
_FIRST = 5  # frames that are looked at for the number of neighbours


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
    """

    frames: int
    atoms: float
    neighbors: float
    cutoff: float
    species: tuple[str, ...]
    labels: dict[str, int]
    periodic: int

    @classmethod
    def of(cls, data: DataModule) -> Survey:
        """Take it of all frames that were given for training, validation included.

        Raises:
            DataError: If nothing can be trained on, or there are too few frames.
        """
        sets = [data.train_set, *data.val_sets.values()]
        frames = [frame for dataset in sets for frame in dataset.frames]
        labels: dict[str, int] = {}
        for dataset in sets:
            for label, count in dataset.labels.items():
                labels[label] = labels.get(label, 0) + count
        atoms = sum(len(frame[fields.POSITIONS]) for frame in frames)
        edges = sum(frame[fields.EDGE_INDEX].shape[1] for frame in frames)
        periodic = sum(fields.PBC in frame and bool(frame[fields.PBC].any()) for frame in frames)
        survey = cls(
            len(frames),
            atoms / len(frames),
            edges / atoms,
            data.cutoff_radius,
            tuple(data.type_names),
            labels,
            periodic,
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
        if self.frames < LEAST_FRAMES:
            number = "is one frame" if self.frames == 1 else f"are {self.frames} frames"
            raise DataError(
                f"there {number}, and some have to be held out to see whether a model is any good",
                f"give {LEAST_FRAMES} or more, better 50: single points along a short run of molecular dynamics",
            )


def list_files(sources: Sequence[str]) -> list[str]:
    """List the data files that are meant: files and patterns as they are, folders by what can be read in them.

    What trainings and tests have left in a folder is left out, and so are archives and ``.npz`` files, which may hold
    anything: they are meant where they are named themselves.

    Raises:
        DataError: If a folder holds nothing that can be read.
    """
    files: list[str] = []
    for source in sources:
        if not Path(source).is_dir() or is_set_folder(Path(source)):
            files.append(source)
            continue
        runs = {path.parent for path in Path(source).rglob(CONFIG_FILE)}  # their predictions are no labels
        paths = [path for path in Path(source).rglob("*") if not runs & set(path.parents)]
        folders = {path for path in paths if is_set_folder(path)}
        candidates = [path for path in paths if path in folders or (path.is_file() and not folders & set(path.parents))]
        found = sorted(str(path) for path in candidates if path.name != PREDICTIONS_FILE and _can_be_read(path))
        if not found:
            raise DataError(
                f"the folder {source} holds no file of a format that is read",
                "give files: extended XYZ, ASE trajectories, outputs of VASP and others (docs/reference/formats.md)",
            )
        files += found
    return files


def check_memory(files: Sequence[str], cutoff: float, available: float | None = None) -> None:
    """Refuse files whose frames will not fit into memory, before they are read.

    The number of atoms is estimated from the size of the files, their neighbours from the first frames.

    Args:
        files: The files.
        cutoff: Of the neighbour lists, Angstrom.
        available: Bytes that are free; by default what this process may still take.

    Raises:
        DataError: If they need more than there is.
    """
    available = available_memory() if available is None else available
    paths = expand(list(files))
    size = sum(map(_measure_size, paths))
    if available is None or size * _MOST_GROWTH < available:
        return
    needed = size / _BYTES_PER_LINE * _measure_atom(paths[0], cutoff)
    if needed > available:
        raise DataError(
            f"{_name_files(paths)}: {size / 1e9:.3g} GB, which become some {needed / 1e9:.3g} GB of frames with their "
            f"neighbours; {available / 1e9:.3g} GB of memory are free",
            "give fewer of the frames, or a smaller cutoff_radius",
        )


def _measure_size(path: Path) -> int:
    """Bytes of a file, or of all files in a folder."""
    files = path.rglob("*") if path.is_dir() else [path]
    return sum(file.stat().st_size for file in files if file.is_file())


def _measure_atom(path: Path, cutoff: float) -> float:
    """Bytes of an atom with its share of everything, in the first frames of a file."""
    frames = read_first_frames(path, _FIRST)
    graphs = [add_neighbors(graph_from_atoms(atoms), cutoff, origin=str(path)) for atoms in frames]
    size = sum(tensor.nbytes for graph in graphs for tensor in graph.values())
    return size / sum(map(len, frames))


def _name_files(paths: Sequence[Path]) -> str:
    return str(paths[0]) if len(paths) == 1 else f"{paths[0]} and {len(paths) - 1} more"


def _can_be_read(path: Path) -> bool:
    try:
        return format_of(path).name not in _NAMED_ONLY
    except DataError:
        return False
