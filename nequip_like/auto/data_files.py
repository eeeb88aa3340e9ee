"""The data files that are meant, what of a folder is none, and what reading them takes."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from nequip_like.data.io.file_formats import FORMATS
from nequip_like.data.io.formats import format_of, read_first_frames
from nequip_like.data.io.given import expand
from nequip_like.data.io.sets.folders import is_set_folder
from nequip_like.data.io.structures import graph_from_atoms
from nequip_like.data.neighbors import add_neighbors
from nequip_like.data.prepared.sets import find_prepared
from nequip_like.errors import DataError
from nequip_like.process_settings import available_memory
from nequip_like.workflow.evaluate import PREDICTIONS_FILE
from nequip_like.workflow.run_folder.earlier_run import CONFIG_FILE

_NAMED_ONLY = ("archive", "npz")  # formats that may hold anything, or what lies beside them once more
_TWINS = ("vasp-xml", "vasp-out")  # both hold what one run of VASP computed, the first with more digits
_BYTES_PER_LINE = 100  # of an atom in a text file: element, position, force; binary formats have half of it
_BYTES_PER_TENSOR = 600  # beside its values: most of what a small molecule takes
_SHORT = 5e6  # bytes; what is smaller is read in seconds
_FIRST = 50  # frames that are read to see what the others take
_PASSES = 2.0  # times that reading takes the time of these: labels and structures are checked, and counted


@dataclass(frozen=True)
class DataFiles:
    """What was found under some names.

    Attributes:
        files: The files, and folders that are sets.
        left_out: Lines about what lies in the folders beside them and is not taken.
    """

    files: list[str]
    left_out: list[str]


@dataclass(frozen=True)
class ReadingCost:
    """What it takes to read files, estimated from their size and the first frames.

    Attributes:
        name: The files, for messages.
        size: Bytes of the files.
        memory: Bytes of all frames with their neighbours in memory.
        seconds: Time of reading on this machine.
    """

    name: str
    size: float
    memory: float
    seconds: float


def find_data_files(sources: Sequence[str]) -> DataFiles:
    """Find the data files that are meant: files and patterns as they are, of folders what has labels.

    What trainings and tests have left in a folder is left out, and so are archives and ``.npz`` files, which may hold
    anything: they are meant where they are named themselves. So are files of formats that hold no labels (POSCAR, CIF),
    and of a run of VASP that left vasprun.xml and OUTCAR the latter: it would be each frame twice.

    Raises:
        DataError: If a folder holds nothing that has labels.
    """
    files: list[str] = []
    left_out: list[str] = []
    for source in sources:
        if not Path(source).is_dir() or is_set_folder(Path(source)) or find_prepared([source]):
            files.append(source)
            continue
        formats = _find_formats(Path(source))
        if not formats:
            raise DataError(
                f"the folder {source} holds no file of a format that is read",
                "give files: extended XYZ, ASE trajectories, outputs of VASP and others (docs/reference/formats.md)",
            )
        bare = [path for path, name in formats.items() if FORMATS[name].labels == ()]
        if len(bare) == len(formats):
            raise DataError(
                f"the folder {source} holds structures ({_list_names(bare)}), and no file with labels",
                "give the outputs of the calculations, such as vasprun.xml, or extended XYZ with energies and forces",
            )
        twins = _find_twins({path: name for path, name in formats.items() if path not in bare})
        for paths, reason in ((bare, "their format has no labels"), (twins, "the same run is in the file beside it")):
            if paths:
                left_out.append(f"left out in {source}: {len(paths)} files, {_list_names(paths)}; {reason}")
        without = {*bare, *twins}
        files += [str(path) for path in formats if path not in without]
    return DataFiles(files, left_out)


def estimate_reading(files: Sequence[str], cutoff: float, trust_pickle: bool = False) -> ReadingCost | None:
    """Estimate what reading takes, from the size of files and their first frames; None of what is read in seconds.

    Args:
        files: The files; prepared sets are not read, but opened.
        cutoff: Of the neighbour lists, Angstrom.
        trust_pickle: Read files of pickles, too.

    Raises:
        DataError: If a file is not there, or cannot be read.
    """
    if find_prepared(files):
        return None
    paths = expand(list(files))
    size = sum(map(_measure_size, paths))
    if size < _SHORT:
        return None
    began = time.monotonic()
    frames = read_first_frames(paths[0], _FIRST, trust_pickle)
    graphs = [add_neighbors(graph_from_atoms(atoms), cutoff, origin=str(paths[0])) for atoms in frames]
    seconds = time.monotonic() - began
    bytes_of_frames = sum(tensor.nbytes + _BYTES_PER_TENSOR for graph in graphs for tensor in graph.values())
    share = size / _BYTES_PER_LINE / sum(map(len, frames))  # how many times as many atoms there are
    name = str(paths[0]) if len(paths) == 1 else f"{paths[0]} and {len(paths) - 1} more"
    return ReadingCost(name, size, share * bytes_of_frames, _PASSES * share * seconds)


def check_memory(cost: ReadingCost | None, available: float | None = None) -> None:
    """Refuse files whose frames will not fit into memory.

    Args:
        cost: What they take, if it was estimated.
        available: Bytes that are free; by default what this process may still take.

    Raises:
        DataError: If they need more than there is.
    """
    available = available_memory() if available is None else available
    if cost is None or available is None or cost.memory < available:
        return
    raise DataError(
        f"{cost.name}: {cost.size / 1e9:.3g} GB, which become some {cost.memory / 1e9:.3g} GB of frames with their "
        f"neighbours; {available / 1e9:.3g} GB of memory are free",
        "give fewer of the frames, a smaller cutoff_radius, or keep them on disk: nequip-data prepare FILES "
        "--cutoff 5 --output all.frames, and give all.frames instead",
    )


def _find_formats(folder: Path) -> dict[Path, str]:
    """Files in a folder or below it, sorted, with their formats; what runs have written is none of the data."""
    runs = {path.parent for path in folder.rglob(CONFIG_FILE)}  # their predictions are no labels
    paths = sorted(path for path in folder.rglob("*") if not runs & set(path.parents))
    sets = {path for path in paths if is_set_folder(path)}
    formats: dict[Path, str] = {}
    for path in paths:
        if path.name == PREDICTIONS_FILE or not (path in sets or (path.is_file() and not sets & set(path.parents))):
            continue
        try:
            name = format_of(path).name
        except DataError:
            continue  # an input file, a note: nothing that is read
        if name not in _NAMED_ONLY:
            formats[path] = name
    return formats


def _find_twins(formats: dict[Path, str]) -> list[Path]:
    """Of folders with both outputs of VASP's, those of the kind that fewer are of, or of the one with fewer digits."""
    twins: list[Path] = []
    for folder in dict.fromkeys(path.parent for path in formats):
        kinds = [[path for path, name in formats.items() if path.parent == folder and name == kind] for kind in _TWINS]
        if all(kinds):
            fewest: list[Path] = min(reversed(kinds), key=len)
            twins += fewest
    return twins


def _list_names(paths: Sequence[Path]) -> str:
    """The names of files, each once: the first few."""
    names = sorted({path.name for path in paths})
    return ", ".join(names[:4]) + (", ..." if len(names) > 4 else "")


def _measure_size(path: Path) -> int:
    """Bytes of a file, or of all files in a folder."""
    files = path.rglob("*") if path.is_dir() else [path]
    return sum(file.stat().st_size for file in files if file.is_file())
