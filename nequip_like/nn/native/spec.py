"""What the compiled network has to know of a model: sizes, paths, activations. No weights."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import cast

from e3nn.o3 import Irreps

from nequip_like.nn.activations import moment_scale
from nequip_like.nn.features import Gate, Linear, SelfConnection
from nequip_like.nn.interaction import InteractionLayer
from nequip_like.nn.kernels.paths import PathTable

# Activations of perceptrons, by their numbers in perceptron.c; None is linear.
ACTIVATIONS = (None, "silu", "tanh", "ssp", "abs", "gelu", "mish")
TAPS = 6  # splines that are not zero on an interval of the radial table


@dataclass(frozen=True)
class Kind:
    """Features of one irrep: ``dim`` components of ``width`` channels."""

    dim: int
    width: int

    @property
    def size(self) -> int:
        """Numbers of one atom."""
        return self.dim * self.width


@dataclass(frozen=True)
class Activation:
    """An activation, and the constant that gives it unit second moment."""

    name: str
    scale: float


@dataclass(frozen=True)
class Scalars:
    """Channels ``0 .. width`` of a kind of the gate's input that pass an activation."""

    kind: int
    width: int
    activation: Activation


@dataclass(frozen=True)
class Gated:
    """A kind of the gate's input that is multiplied by the gates from channel ``start`` on."""

    kind: int
    start: int


@dataclass(frozen=True)
class LayerPlan:
    """One interaction layer.

    Attributes:
        inputs: Features that come in (also those that are sent).
        messages: Sums over the neighbours.
        hidden: Input of the gate.
        outputs: Features that go out: first the scalars, then the gated kinds.
        table: Paths of the convolution.
        out_sources: For each hidden kind the kind of the messages that it is made of, or None.
        self_sources: The same for the self-connection and the inputs; None without one.
        scalars: What becomes of scalars.
        gated: What becomes of the other kinds.
        gate_kind: Hidden kind that holds the gates.
        gate: Their activation, None if there are no gates.
        resnet: Whether the inputs are added to the outputs.
    """

    inputs: tuple[Kind, ...]
    messages: tuple[Kind, ...]
    hidden: tuple[Kind, ...]
    outputs: tuple[Kind, ...]
    table: PathTable
    out_sources: tuple[int | None, ...]
    self_sources: tuple[int | None, ...] | None
    scalars: tuple[Scalars, ...]
    gated: tuple[Gated, ...]
    gate_kind: int
    gate: Activation | None
    resnet: bool


@dataclass(frozen=True)
class NetworkPlan:
    """A whole network.

    Attributes:
        layers: Its layers.
        types: Number of species.
        embedding: Width of the species embedding.
        l_max: Highest degree of the edge harmonics.
        knots: Intervals of the radial table.
        double: Whether the elements are float64.
    """

    layers: tuple[LayerPlan, ...]
    types: int
    embedding: int
    l_max: int
    knots: int
    double: bool

    # Vectors never reach over the end of a kind's channels, so no loop needs a remainder.
    @property
    def widest(self) -> int:
        """The largest power of two that divides all numbers of channels, so the most that fit into a vector."""
        widths = [kind.width for layer in self.layers for kind in (*layer.inputs, *layer.hidden, *layer.outputs)]
        widths += [part.width for layer in self.layers for part in layer.scalars]
        common = math.gcd(*widths)
        return common & -common

    @property
    def table_rows(self) -> int:
        """Rows of a radial table."""
        return self.knots + TAPS - 1


def plan_layer(layer: InteractionLayer) -> LayerPlan:
    """The plan of a layer."""
    gate, connection = layer.gate, layer.self_connection
    table = cast(PathTable, layer.convolution.table)
    return LayerPlan(
        inputs=_list_kinds(layer.irreps_in),
        messages=_list_kinds(table.irreps_out),
        hidden=_list_kinds(gate.irreps_in),
        outputs=_list_kinds(gate.irreps_out),
        table=table,
        out_sources=_list_sources(layer.linear_out),
        self_sources=None if connection is None else _list_sources(connection),
        scalars=tuple(
            Scalars(kind, width, Activation(name, moment_scale(name)))
            for kind, width, name in zip(gate.scalar_kinds, gate.scalar_widths, gate.scalar_names, strict=True)
        ),
        gated=_list_gated(gate),
        gate_kind=gate.gate_kind if gate.gated_kinds else 0,
        gate=Activation(gate.gate_name, moment_scale(gate.gate_name)) if gate.gated_kinds else None,
        resnet=layer.resnet,
    )


def _list_kinds(irreps: Irreps) -> tuple[Kind, ...]:
    return tuple(Kind(entry.ir.dim, entry.mul) for entry in irreps)


def _list_sources(linear: Linear | SelfConnection) -> tuple[int | None, ...]:
    return tuple(linear.sources)


def _list_gated(gate: Gate) -> tuple[Gated, ...]:
    # The gates of all gated kinds lie behind each other in one kind of the gate's input.
    result, start = [], gate.gate_start if gate.gated_kinds else 0
    for kind, width in zip(gate.gated_kinds, gate.gated_widths, strict=True):
        result.append(Gated(kind, start))
        start += width
    return tuple(result)
