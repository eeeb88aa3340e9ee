"""Work of the labels between frames that lie close together: what energies, forces and stress must agree on.

Two frames of the same atoms are joined by a straight path of fractional coordinates and of the cell. Along it the
energy changes by ``-F dx + V sigma : deps``, which the labels give at both ends; the trapezoidal rule makes of these
the difference of the two energies. Nothing else is assumed, so it holds for relaxations, molecular dynamics with and
without a barostat, strained cells and shaken atoms alike.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from dataclasses import fields as dataclass_fields

import torch
from ase.symbols import Symbols

from nequip_like.data import fields
from nequip_like.data.fields import Graph
from nequip_like.data.graph import has_label, volumes

_LONGEST_WAY = 0.7  # Angstrom; what an atom meets on a longer one is not known at its ends
_LARGEST_STRAIN = 0.04
_SAME_CELL = 1e-6  # strain; files round lattice vectors
_MOST_FRAMES = 1000  # of one composition, whose closest are looked for among all pairs
_MOST_PRODUCTS = 2e9  # of that search: 0.2 s
_MOST_GROUPS = 100
_PARTNERS = 2  # closest frames of each
_STRAINED_PARTNERS = 50  # the same among frames that differ by a strain only, where the work is nearly exact
_STILL = 0.02  # Angstrom; as far as atoms may move in these
_MOST_COORDINATES = 5e6  # of the pairs that are looked at
_MOST_PAIRS = 100  # of one composition, beside those that differ by a strain only
# The trapezoidal rule is off by E''' / 12 where the work changes by E''. Of a bond, E''' is about 3 times E'' per
# Angstrom and 6 times per strain; half of it is left where many bonds add up.
_ERROR_PER_ANGSTROM = 0.15
_ERROR_PER_STRAIN = 0.4
_NOISE = 2e-4  # eV/atom; what basis sets and k points leave in energies of unlike cells


@dataclass(frozen=True)
class Work:
    """Pairs of close frames.

    Attributes:
        energy: Difference of the energies (pairs,), eV.
        forces: Work of the forces (pairs,), eV.
        virial: Mean of stress times volume (pairs, 3, 3), eV; zero where the cell is the same.
        strain: Strain from one cell to the other (pairs, 3, 3).
        volume: Mean volume (pairs,), Angstrom^3.
        error: What the trapezoidal rule and the noise of energies leave, typically (pairs,), eV.
    """

    energy: torch.Tensor
    forces: torch.Tensor
    virial: torch.Tensor
    strain: torch.Tensor
    volume: torch.Tensor
    error: torch.Tensor

    def __len__(self) -> int:
        """Number of pairs."""
        return len(self.energy)

    @property
    def stress(self) -> torch.Tensor:
        """Work of the stress (pairs,), eV."""
        return (self.virial * self.strain).sum(dim=(1, 2))

    @property
    def dilation(self) -> torch.Tensor:
        """Work of a stress of 1 eV/Angstrom^3 along all axes (pairs,), Angstrom^3."""
        return self.volume * self.strain.diagonal(dim1=1, dim2=2).sum(dim=1)


def compute_work(frames: Sequence[Graph]) -> list[tuple[str, Work]]:
    """Find close frames of the same atoms, and the work that their labels say is done between them.

    Args:
        frames: Graphs of single structures. Those without an energy or with incomplete forces are left out; frames
            whose cells differ are compared where both have a stress.

    Returns:
        For each kind of structure, those with the most frames first, its formula and the pairs of its frames.
    """
    groups: dict[tuple[object, ...], list[Graph]] = {}
    for frame in frames:
        complete = fields.FORCES in frame and not bool(frame[fields.FORCES].isnan().any())
        if complete and has_label(frame, fields.TOTAL_ENERGY):
            key = (frame[fields.ATOMIC_NUMBERS].numpy().tobytes(), tuple(frame[fields.PBC][0].tolist()))
            groups.setdefault(key, []).append(frame)
    largest = sorted((group for group in groups.values() if len(group) > 1), key=len, reverse=True)[:_MOST_GROUPS]
    return [(_find_formula(group[0]), _compute_work_in_group(group)) for group in largest]


def join_works(works: Sequence[Work]) -> Work:
    """All pairs of several kinds of structures."""
    if not works:
        none = torch.zeros(0, dtype=torch.float64)
        return Work(none, none, none.reshape(0, 3, 3), none.reshape(0, 3, 3), none, none)
    return Work(*(torch.cat([getattr(work, f.name) for work in works]) for f in dataclass_fields(Work)))


def _find_formula(frame: Graph) -> str:
    return str(Symbols(frame[fields.ATOMIC_NUMBERS].numpy()).get_chemical_formula())


def _compute_work_in_group(frames: list[Graph]) -> Work:
    """Close pairs among frames of the same atoms, those with the shortest way first."""
    products = 3 * len(frames[0][fields.POSITIONS])
    frames = frames[: max(2, min(_MOST_FRAMES, int((_MOST_PRODUCTS / products) ** 0.5)))]
    periodic = frames[0][fields.PBC][0]
    cells = _complete_cells(torch.cat([frame[fields.CELL] for frame in frames]), periodic)
    fractional = torch.linalg.solve(cells, torch.stack([frame[fields.POSITIONS] for frame in frames]), left=False)
    starts, ends, closest = _find_close_pairs(fractional, cells, periodic)
    displacements = fractional[ends] - fractional[starts]
    displacements = displacements - displacements.round() * periodic

    forces = torch.stack([frame[fields.FORCES] for frame in frames])
    energies = torch.cat([frame[fields.TOTAL_ENERGY].flatten() for frame in frames])
    virials = torch.cat([_compute_virial(frame) for frame in frames])
    volume = torch.linalg.det(cells).abs()
    paths = [displacements @ cells[end] for end in (starts, ends)]
    way = torch.maximum(*(path.norm(dim=2).amax(dim=1) for path in paths))
    of_forces = [-(forces[end] * path).sum(dim=(1, 2)) for end, path in zip((starts, ends), paths, strict=True)]
    deformations = [torch.linalg.solve(cells[end], cells[ends] - cells[starts]) for end in (starts, ends)]
    size = torch.maximum(*(deformation.abs().amax(dim=(1, 2)) for deformation in deformations))
    rigid = (size < _SAME_CELL)[:, None, None]
    strain = torch.where(rigid, 0.0, (deformations[0] + deformations[0].mT + deformations[1] + deformations[1].mT) / 4)
    virial = torch.where(rigid, 0.0, (virials[starts] + virials[ends]) / 2)
    change = torch.where(rigid, 0.0, (virials[ends] - virials[starts]) * strain).sum(dim=(1, 2))
    curved = (of_forces[1] - of_forces[0]).abs() + change.abs()
    error = (_ERROR_PER_ANGSTROM * way + _ERROR_PER_STRAIN * size) * curved + _NOISE * len(frames[0][fields.POSITIONS])
    usable = (way < _LONGEST_WAY) & (size < _LARGEST_STRAIN) & ~virial.isnan().any(dim=2).any(dim=1)
    still = usable & (way < _STILL) & (size >= _SAME_CELL)
    moving = torch.nonzero(usable & closest & ~still & (way > 0)).flatten()
    moving = moving[way[moving].argsort(stable=True)[:_MOST_PAIRS]]
    selected = torch.cat([torch.nonzero(still).flatten(), moving])
    return Work(
        (energies[ends] - energies[starts])[selected],
        (sum(of_forces) / 2)[selected],
        virial[selected],
        strain[selected],
        ((volume[starts] + volume[ends]) / 2)[selected],
        error[selected],
    )


def _complete_cells(cells: torch.Tensor, periodic: torch.Tensor) -> torch.Tensor:
    """The cells, or unit vectors where they are not periodic or do not span space (nothing repeats along these)."""
    spanning = bool((torch.linalg.det(cells).abs() > 1e-6).all())
    return cells if bool(periodic.any()) and spanning else torch.eye(3, dtype=cells.dtype).expand_as(cells)


def _compute_virial(frame: Graph) -> torch.Tensor:
    """Stress times volume (1, 3, 3); NaN without, and where the cell has directions that do not repeat."""
    if fields.STRESS in frame and bool(frame[fields.PBC].all()):
        return frame[fields.STRESS] * volumes(frame)[:, None, None]
    return torch.full((1, 3, 3), torch.nan, dtype=torch.float64)


def _find_close_pairs(
    fractional: torch.Tensor, cells: torch.Tensor, periodic: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Every frame with its neighbours: indices of both (pairs,), and whether they are the closest ones (pairs,).

    Atoms count where their image next to the first frame's is, so that most ways across a border are short.
    """
    frames, atoms = fractional.shape[:2]
    unwrapped = fractional - (fractional - fractional[0]).round() * periodic
    mean = cells.mean(dim=0)
    # A strain counts as the way that it moves atoms: their root mean square distance from the middle of the cell.
    edge = torch.linalg.det(mean).abs() ** (1 / 3)
    strained = torch.linalg.solve(mean, cells) * edge * (atoms / 12) ** 0.5
    place = torch.cat([(unwrapped @ mean).flatten(1), strained.flatten(1)], dim=1)
    distance = torch.cdist(place, place)
    distance.fill_diagonal_(torch.inf)
    affordable = int(_MOST_COORDINATES / (3 * frames * atoms))
    partners = min(frames - 1, max(_PARTNERS, min(_STRAINED_PARTNERS, affordable)))
    nearest = distance.topk(partners, largest=False).indices
    indices = torch.arange(frames)[:, None].expand_as(nearest)
    closest = (torch.arange(partners) < _PARTNERS).expand_as(nearest)
    # A pair that both frames name stands once, and is close if either says so.
    numbers = torch.minimum(indices, nearest) * frames + torch.maximum(indices, nearest)
    unique, place_of = numbers.flatten().unique(return_inverse=True)
    close = torch.zeros(len(unique), dtype=torch.bool).index_put_((place_of[closest.flatten()],), torch.tensor(True))
    return unique // frames, unique % frames, close
