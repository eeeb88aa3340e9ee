"""Where features, prepared parameters and temporary sums lie: offsets, the same in C and in Python."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import accumulate

from nequip_like.nn.native.spec import Kind, LayerPlan, NetworkPlan

# Of each layer: features, what is sent, messages, input of the gate; with t their tangents, with b their adjoints, with
# b2 the adjoints of the second pass. yb and yb2 are of the layer's outputs.
NAMES = ("f", "s", "m", "h", "ft", "st", "mt", "ht", "yb", "hb", "mb", "sb", "yb2", "hb2", "mb2", "sb2")
# Of these a prediction has a place for every layer: its pass back reads s and h again. It reads no messages: the maps
# behind them are linear, so that their adjoint needs the weights only.
_IN_PREDICTIONS = frozenset({"f", "s", "h"})
_ADJOINTS = frozenset({"yb", "hb", "mb", "sb"})
# What no pass reads again once the layer before has it. Also in training two places are enough for all layers.
_TRANSIENT = frozenset({"yb2", "hb2", "mb2", "sb2"})


def select_kinds(layer: LayerPlan, name: str) -> tuple[Kind, ...]:
    """Kinds of the features called ``name``."""
    return {"f": layer.inputs, "s": layer.inputs, "m": layer.messages, "h": layer.hidden, "y": layer.outputs}[name[0]]


def find_kinds(plan: NetworkPlan, index: int, name: str) -> tuple[Kind, ...] | None:
    """The same by a layer's number, -1 and the number behind the last one included; None if there are none.

    The last layer's outputs are ``f`` (and ``ft``) of the layer behind it; ``yb2`` of layer -1 is the adjoint of the
    embedding.
    """
    if index == -1:
        return plan.layers[0].inputs if name == "yb2" else None
    if index == len(plan.layers):
        return plan.layers[-1].outputs if name in ("f", "ft") else None
    return select_kinds(plan.layers[index], name)


def sum_sizes(kinds: tuple[Kind, ...]) -> int:
    """Numbers of one atom."""
    return sum(kind.size for kind in kinds)


def list_starts(kinds: tuple[Kind, ...]) -> list[int]:
    """First number of each kind."""
    return [0, *accumulate(kind.size for kind in kinds)][:-1]


def index_features(layer: int, name: str) -> int:
    """Index of a layer's features in the table of offsets; layers as in :func:`find_kinds`."""
    return (layer + 1) * len(NAMES) + NAMES.index(name)


@dataclass(frozen=True)
class FeatureOffsets:
    """Offsets of all features, in numbers for each atom.

    Attributes:
        offsets: By :func:`index_features`; -1 where there is none.
        total: Numbers of one atom altogether.
    """

    offsets: list[int]
    total: int


def assign_offsets(plan: NetworkPlan, keep: bool) -> FeatureOffsets:
    """Offsets for predictions, or for training (``keep``), which needs more of each layer in the second pass.

    What passes through from layer to layer shares its place with every second layer's.
    """
    count = len(plan.layers)
    offsets = [-1] * ((count + 2) * len(NAMES))
    shared: dict[tuple[str, int], int] = {}
    largest = {
        name: max(sum_sizes(select_kinds(layer, name)) for layer in plan.layers) for name in NAMES if name[0] in "yhms"
    }
    total = 0
    for index in range(-1, count + 1):
        for name in NAMES:
            kinds = find_kinds(plan, index, name)
            if kinds is None or not (keep or name in _IN_PREDICTIONS | _ADJOINTS):
                continue
            if name in _IN_PREDICTIONS or (keep and name not in _TRANSIENT):
                offsets[index_features(index, name)] = total
                total += sum_sizes(kinds)
            else:
                # A layer reads its outputs' adjoint while it writes its inputs', which is the outputs' of the layer
                # before: odd and even layers take turns. Each place is as large as the largest layer needs it.
                place = (name, index % 2)
                if place not in shared:
                    shared[place] = total
                    total += max(largest.get(name, 0), sum_sizes(plan.layers[0].inputs))
                offsets[index_features(index, name)] = shared[place]
    return FeatureOffsets(offsets, total)


@dataclass(frozen=True)
class WeightBlock:
    """The weights between two kinds: their number among the parameters, their shape, where their copies begin.

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
    def transposed(self) -> int:
        """First number of the transposed copy."""
        return self.prepared + self.copies * self.inner * self.columns

    @property
    def embedding_sums(self) -> int:
        """First number of the embedding's gradients, one for each channel that comes in."""
        return self.sums + self.copies * self.inner * self.columns


@dataclass(frozen=True)
class LayerWeights:
    """Weights of one layer; ``table`` is the number of its radial table among the parameters."""

    linear_in: tuple[WeightBlock, ...]
    linear_out: tuple[WeightBlock, ...]
    self_connection: tuple[WeightBlock, ...]
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
        self.count, self.prepared, self.sums = 1, 0, 0  # the embedding is parameter 0
        self._plan = plan
        layers = []
        for layer in plan.layers:
            linear_in = [self._add_block(i, i, kind, kind, False) for i, kind in enumerate(layer.inputs)]
            linear_out = [
                self._add_block(source, k, layer.messages[source], layer.hidden[k], False)
                for k, source in enumerate(layer.out_sources)
                if source is not None
            ]
            self_connection = [
                self._add_block(source, k, layer.inputs[source], layer.hidden[k], True)
                for k, source in enumerate(layer.self_sources or ())
                if source is not None
            ]
            layers.append(LayerWeights(tuple(linear_in), tuple(linear_out), tuple(self_connection), self.count))
            self.count += 1
        self.layers = tuple(layers)

    def _add_block(self, source: int, target: int, inner: Kind, outer: Kind, per_type: bool) -> WeightBlock:
        copies = self._plan.types if per_type else 1
        shape = (inner.width, outer.width)
        block = WeightBlock(source, target, self.count, *shape, self.prepared, copies, per_type, self.sums)
        self.count += 1
        self.prepared += 2 * copies * inner.width * outer.width
        if per_type:
            # Gradients of the species' matrices, and for each channel one of the embedding: threads that share the
            # channels among them then add to nothing in common.
            self.sums += self._plan.types * inner.width * (outer.width + self._plan.embedding)
        return block
