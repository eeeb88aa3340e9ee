"""Where features, prepared parameters and temporary sums lie: offsets, the same in C and in Python."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import accumulate

from nequip_like.nn.native.spec import Kind, LayerPlan, NetworkPlan

# Of each layer: features, what is sent, messages, input of the gate; with t their tangents, with b their adjoints, with
# b2 the adjoints of the second pass. yb and yb2 are of the layer's outputs.
NAMES = ("f", "s", "m", "h", "ft", "st", "mt", "ht", "yb", "hb", "mb", "sb", "yb2", "hb2", "mb2", "sb2")
_KEPT = frozenset({"f", "s", "h"})  # by predictions
_PASSING = frozenset({"yb2", "hb2", "mb2", "sb2"})  # also in training


def kinds_of(layer: LayerPlan, name: str) -> tuple[Kind, ...]:
    """Kinds of the features called ``name``."""
    return {"f": layer.inputs, "s": layer.inputs, "m": layer.messages, "h": layer.hidden, "y": layer.outputs}[name[0]]


def size_of(kinds: tuple[Kind, ...]) -> int:
    """Numbers of one atom."""
    return sum(kind.size for kind in kinds)


def starts_of(kinds: tuple[Kind, ...]) -> list[int]:
    """First number of each kind."""
    return [0, *accumulate(kind.size for kind in kinds)][:-1]


def slot(layer: int, name: str) -> int:
    """Index of a layer's features in the table of slots.

    The last layer's outputs are ``f`` (and ``ft``) of the layer behind it; ``yb2`` of layer -1 is the adjoint of the
    embedding.
    """
    return (layer + 1) * len(NAMES) + NAMES.index(name)


@dataclass(frozen=True)
class Slots:
    """Offsets of all features, in numbers for each atom.

    Attributes:
        offsets: By :func:`slot`; -1 where there is none.
        total: Numbers of one atom altogether.
    """

    offsets: list[int]
    total: int


def feature_slots(plan: NetworkPlan, keep: bool) -> Slots:
    """Offsets for predictions, or for training, which keeps what the second pass needs.

    What passes through from layer to layer shares its place with every second layer's.
    """
    count = len(plan.layers)
    offsets = [-1] * ((count + 2) * len(NAMES))
    shared: dict[tuple[str, int], int] = {}
    largest = {
        name: max(size_of(kinds_of(layer, name)) for layer in plan.layers) for name in NAMES if name[0] in "yhms"
    }
    total = 0
    for index in range(-1, count + 1):
        for name in NAMES:
            kinds = _kinds_at(plan, index, name)
            if kinds is None or not (keep or name in _KEPT or name in ("yb", "hb", "mb", "sb")):
                continue
            place = (name, index % 2)
            if (keep and name not in _PASSING) or name in _KEPT:
                offsets[slot(index, name)] = total
                total += size_of(kinds)
            else:
                if place not in shared:
                    shared[place] = total
                    total += max(largest.get(name, 0), size_of(plan.layers[0].inputs))
                offsets[slot(index, name)] = shared[place]
    return Slots(offsets, total)


def _kinds_at(plan: NetworkPlan, index: int, name: str) -> tuple[Kind, ...] | None:
    if index == -1:
        return plan.layers[0].inputs if name == "yb2" else None
    if index == len(plan.layers):
        return plan.layers[-1].outputs if name in ("f", "ft") else None
    return kinds_of(plan.layers[index], name)


@dataclass(frozen=True)
class Linear:
    """One block of weights: its number among the parameters, its shape, and where its prepared copies begin.

    Attributes:
        source: Kind that comes in.
        target: Kind that goes out.
        parameter: Index among the parameters.
        inner: Channels that come in.
        columns: Channels that go out.
        prepared: First number of the scaled copy; the transposed one follows.
        copies: Matrices in one copy: 1, or one for each species.
        per_type: Whether there is one for each species.
        sums: First number of the gradient's temporary sums, for those with one matrix for each species.
    """

    source: int
    target: int
    parameter: int
    inner: int
    columns: int
    prepared: int
    copies: int
    per_type: bool
    sums: int

    @property
    def turned(self) -> int:
        """First number of the transposed copy."""
        return self.prepared + self.copies * self.inner * self.columns

    @property
    def partial(self) -> int:
        """First number of the embedding's gradients, one for each channel that comes in."""
        return self.sums + self.copies * self.inner * self.columns


@dataclass(frozen=True)
class LayerWeights:
    """Weights of one layer."""

    into: tuple[Linear, ...]
    out: tuple[Linear, ...]
    own: tuple[Linear, ...]
    table: int


class Weights:
    """All parameters in order: embedding, then for each layer linear_in, linear_out, self-connection, radial table.

    Attributes:
        layers: The layers' weights.
        count: Number of parameters.
        prepared: Numbers that the prepared copies take.
        sums: Numbers that temporary sums take, without those of the radial tables.
    """

    def __init__(self, plan: NetworkPlan) -> None:
        self.count, self.prepared, self.sums = 1, 0, 0
        self._plan = plan
        layers = []
        for layer in plan.layers:
            into = [self._linear(i, i, kind, kind, False) for i, kind in enumerate(layer.inputs)]
            out = [
                self._linear(source, k, layer.messages[source], layer.hidden[k], False)
                for k, source in enumerate(layer.out_sources)
                if source is not None
            ]
            own = [
                self._linear(source, k, layer.inputs[source], layer.hidden[k], True)
                for k, source in enumerate(layer.self_sources or ())
                if source is not None
            ]
            layers.append(LayerWeights(tuple(into), tuple(out), tuple(own), self.count))
            self.count += 1
        self.layers = tuple(layers)

    def _linear(self, source: int, target: int, left: Kind, right: Kind, per_type: bool) -> Linear:
        copies = self._plan.types if per_type else 1
        made = Linear(source, target, self.count, left.width, right.width, self.prepared, copies, per_type, self.sums)
        self.count += 1
        self.prepared += 2 * copies * left.width * right.width
        if per_type:
            # Gradients of the species' matrices, and for each channel one of the embedding.
            self.sums += self._plan.types * left.width * (right.width + self._plan.embedding)
        return made
