"""A committee: several potentials as one, whose energy is their mean and whose spread tells how far to trust it."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn

from nequip_like.data import fields
from nequip_like.data.fields import Graph
from nequip_like.errors import ModelError
from nequip_like.model.hessian import multiply
from nequip_like.model.potential import Potential
from nequip_like.nn.native.network import NativeNetwork
from nequip_like.nn.native.threads import limit_threads

FAMILY = "committee"
# Arguments of a builder that say what the members are not: the start of the weights, numbers of the training data that
# a resampled set has others of, and how the network is evaluated.
_FREE_ARGUMENTS = {"seed", "avg_num_neighbors", "per_type_energy_scales", "kernel"}
_REFERENCES = "per_type_energy_shifts"


@dataclass(frozen=True)
class SpreadCalibration:
    """What the standard deviations over the members are multiplied by, so that they tell the errors of the mean.

    What all members lack in common is not in their spread, so that it is too small as a rule.

    Attributes:
        method: ``scale`` or ``conformal``, as for :class:`~nequip_like.model.last_layer.Calibration`.
        coverage: The stated share of errors of ``conformal``; None of ``scale``.
        scales: The factor of each calibrated label: ``total_energy``, ``forces``.
        counts: Number of held-out errors that told it: energies, and components of forces.
        frames: Number of held-out structures.
        source: Where these come from, in words.
    """

    method: str
    coverage: float | None
    scales: Mapping[str, float]
    counts: Mapping[str, int]
    frames: int
    source: str

    def describe(self) -> dict[str, Any]:
        """As JSON values, for the card of a model file."""
        return asdict(self)


class MeanEnergy(nn.Module):
    """Mean of the energies of atoms over several energy models.

    Args:
        members: The potentials.
    """

    def __init__(self, members: Sequence[Potential]) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)

    def forward(self, graph: Graph, vectors: Tensor) -> Tensor:
        """Energies of the atoms, shape (atoms,), eV, float64."""
        return torch.stack([cast(Potential, member).energy_model(graph, vectors) for member in self.members]).mean(0)

    def multiply_hessian(self, graph: Graph, changes: Tensor) -> Tensor:
        """The Hessian times changes of the positions (changes, atoms, 3): the members' mean."""
        products = [multiply(cast(Potential, member).energy_model, graph, changes) for member in self.members]
        return torch.stack(products).mean(0)

    @property
    def kernel_in_use(self) -> str:
        """That of the members, in words."""
        return f"{len(self.members)} times {cast(Potential, self.members[0]).kernel_in_use}"

    @property
    def accepts_skin_edges(self) -> bool:
        """Whether all members do."""
        return all(cast(Potential, member).accepts_skin_edges for member in self.members)

    def cache_parameters(self) -> None:
        """Let all members keep what they make of their parameters."""
        for member in self.members:
            cast(Potential, member).cache_parameters()


class CommitteePotential(Potential):
    """The mean of several potentials, and their standard deviation as its uncertainty.

    It is a potential as any other: it is saved in one model file, predicts, is tested and runs dynamics. Beside the
    means of energies, forces, stress and virial it predicts ``energy_uncertainty (graphs, 1)`` and
    ``forces_uncertainty (atoms, 3)``: standard deviations over the members, ``sqrt(mean((x_m - mean x)^2))``, that is
    with the number of members below the sum (ddof 0); times the factors of ``calibration``, where there is one.

    Args:
        members: Two potentials or more. They agree in species, cutoff, reference energies and architecture.
        names: What they are called in messages; their numbers by default.

    Raises:
        ModelError: If there are fewer than two, or two of them differ; the message says in what.

    Example:
        >>> from ase.build import molecule
        >>> from nequip_like.inference.predictor import Predictor
        >>> from nequip_like.model import NequIPGNNModel
        >>> tiny = {"r_max": 3.0, "num_layers": 2, "num_features": 4, "avg_num_neighbors": 2, "kernel": "reference"}
        >>> members = [NequIPGNNModel(type_names=["H", "O"], seed=seed, **tiny).eval() for seed in (1, 2)]
        >>> water = molecule("H2O")
        >>> first, second = (float(Predictor(member).predict(water)["total_energy"]) for member in members)
        >>> together = Predictor(CommitteePotential(members)).predict(water)
        >>> abs(float(together["total_energy"]) - (first + second) / 2) < 1e-6
        True
        >>> abs(float(together["energy_uncertainty"]) - abs(first - second) / 2) < 1e-6
        True
    """

    def __init__(self, members: Sequence[Potential], names: Sequence[str] | None = None) -> None:
        check_members(members, names or [f"member {i}" for i in range(len(members))])
        first = members[0]
        config = {"family": FAMILY, "arguments": {"members": [member.config for member in members]}}
        super().__init__(MeanEnergy(members), first.type_names, first.cutoff, config, first.do_derivatives)
        #: Of the spreads, see ``committee/calibration.py``.
        self.calibration: SpreadCalibration | None = None

    @property
    def members(self) -> list[Potential]:
        """The potentials."""
        return [cast(Potential, member) for member in cast(MeanEnergy, self.energy_model).members]

    def summary(self) -> dict[str, Any]:
        """What it is, and how many members it has."""
        calibrated = {} if self.calibration is None else {"calibration": self.calibration.method}
        return {**super().summary(), "members": len(self.members), **calibrated}

    def describe_uncertainty(self) -> dict[str, Any] | None:
        """What the spread of the members is multiplied by, and how that was found; None if it is not."""
        return None if self.calibration is None else self.calibration.describe()

    @property
    def predicted_fields(self) -> tuple[str, ...]:
        """Names of the fields that ``forward`` adds."""
        of_members = [name for name in self.members[0].predicted_fields if name not in fields.UNCERTAINTIES.values()]
        return (*of_members, *(name for of_field, name in fields.UNCERTAINTIES.items() if of_field in of_members))

    def predict_members(self, graph: Graph) -> list[Graph]:
        """Predict with each member: one neighbour list, one sorting of edges; side by side on threads where that helps.

        Args:
            graph: A structure or batch with edges and ``atom_types``.

        Returns:
            For each member its predicted fields, and the graph's own without labels.

        Raises:
            ModelError: Under ``torch.inference_mode()``.
        """
        members = self.members
        compiled = _find_compiled(members, graph)
        for network in compiled[1:]:
            network.share_edges(compiled[0])
        workers = min(len(members), torch.get_num_threads())
        if workers < 2 or self.training or len(compiled) < len(members):
            return [member(graph) for member in members]
        # The compiled network holds no lock of Python's while it runs. Threads of one member wait for each other at the
        # end of each loop, of which a network has many; threads of different members never do.
        share = max(1, torch.get_num_threads() // workers)
        with ThreadPoolExecutor(workers) as pool:
            return list(pool.map(lambda member: _predict_beside(member, graph, share), members))

    def _predict(self, graph: Graph) -> Graph:
        return self.join(self.predict_members(graph))

    def join(self, predictions: Sequence[Graph]) -> Graph:
        """Join the members' predictions to the committee's: means, and the uncertainties."""
        joined = {
            name: torch.stack([prediction[name] for prediction in predictions]).mean(0)
            for name in self.predicted_fields
            if name not in fields.UNCERTAINTIES.values()
        }
        for of_field, name in fields.UNCERTAINTIES.items():
            if of_field in joined:
                spread = torch.stack([prediction[of_field] for prediction in predictions]).std(0, correction=0)
                joined[name] = spread * self.get_scale(of_field)
        return joined

    def get_scale(self, label: str) -> float:
        """What the spread of a label is multiplied by; 1 where nothing is calibrated."""
        return 1.0 if self.calibration is None else self.calibration.scales.get(label, 1.0)


def build_committee(config: Any, build: Callable[[Any], Potential]) -> CommitteePotential:
    """Build a committee from the ``config`` of another one.

    Args:
        config: ``{"family": "committee", "arguments": {"members": [config of each]}}``.
        build: Builds a member of its config.

    Raises:
        ModelError: If it describes no committee, or its members differ.
    """
    configs = config["arguments"].get("members")
    if not isinstance(configs, list) or not all(
        isinstance(member_config, dict) and member_config.get("family") != FAMILY for member_config in configs
    ):
        raise ModelError("the config of a committee does not list its members", "save the committee again")
    return CommitteePotential([build(member_config) for member_config in configs])


def check_members(members: Sequence[Potential], names: Sequence[str]) -> None:
    """Refuse potentials whose predictions cannot be averaged.

    Args:
        members: The potentials.
        names: What each is called in messages.

    Raises:
        ModelError: If there are fewer than two, or one differs from the first.
    """
    if len(members) < 2:
        raise ModelError(
            f"a committee of {len(members)} has no spread", "give two potentials or more, trained with different seeds"
        )
    first = members[0]
    for member, name in zip(members[1:], names[1:], strict=True):
        for aspect, mine, theirs in _list_properties(first, member):
            if mine != theirs:
                raise ModelError(
                    f"{names[0]} and {name} differ in {aspect}: {_show(mine)} and {_show(theirs)}",
                    "a committee has members that were trained alike, with different seeds: nequip-committee",
                )


def _list_properties(first: Potential, member: Potential) -> list[tuple[str, Any, Any]]:
    """What members agree in: its name, and both values; each argument of the architecture by itself."""
    mine, theirs = (potential.config.get("arguments", {}) for potential in (first, member))
    arguments = sorted((mine.keys() | theirs.keys()) - _FREE_ARGUMENTS - {_REFERENCES, "type_names", "r_max"})
    return [
        ("species", first.type_names, member.type_names),
        ("cutoff", first.cutoff, member.cutoff),
        ("family", first.config.get("family"), member.config.get("family")),
        ("reference energies", mine.get(_REFERENCES), theirs.get(_REFERENCES)),
        ("predicted fields", first.predicted_fields, member.predicted_fields),
        *((f"architecture ({name})", mine.get(name), theirs.get(name)) for name in arguments),
    ]


def _show(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def _find_compiled(members: Sequence[Potential], graph: Graph) -> list[NativeNetwork]:
    """The compiled networks of those members that run as such on these structures."""
    device = graph[fields.POSITIONS].device
    natives = [getattr(member.energy_model, "native", None) for member in members]
    return [native.network for native in natives if native is not None and native.supports(device)]


def _predict_beside(member: Potential, graph: Graph, threads: int) -> Graph:
    with limit_threads(threads), torch.no_grad():
        return cast(Graph, member(graph))
