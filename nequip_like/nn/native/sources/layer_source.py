"""C code of what a layer does atom by atom: linear maps, gate, and their derivatives, for the atoms of one block."""

from __future__ import annotations

import math
from collections.abc import Iterator

from nequip_like.nn.native.layout import WeightBlock, Weights, find_kinds, index_features, list_starts
from nequip_like.nn.native.sources.formatting import open_parallel_for, write_comment
from nequip_like.nn.native.spec import Activation, Gated, Kind, NetworkPlan

# Names of the activations in runtime.c; some are taken by the mathematics library.
C_NAMES = {"silu": "silu", "tanh": "tanh_", "ssp": "ssp", "abs": "abs_", "gelu": "gelu", "mish": "mish"}


def call(function: str, *arguments: object) -> str:
    """A call as a statement."""
    return f"{function}({', '.join(str(argument) for argument in arguments)});"


def name_array(name: str, layer: int) -> str:
    """Name in C of the array of pointers to a layer's features, one for each kind."""
    return f"{name}_{'embedding' if layer < 0 else layer}"


def locate_block(pointers: str, index: int, kind: Kind) -> str:
    """Pointer to a kind's first number of the block, which begins at atom ``a``."""
    return f"{pointers}[{index}] + a * {kind.size}"


class LayerWriter:
    """Writes the pieces for one layer; all end in complete statements.

    Args:
        plan: The network.
        weights: Its parameters.
        index: Number of the layer.
    """

    def __init__(self, plan: NetworkPlan, weights: Weights, index: int) -> None:
        self.plan, self.index = plan, index
        self.layer, self.weights = plan.layers[index], weights.layers[index]

    @property
    def table(self) -> str:
        """The radial table."""
        return f"net->parameters[{self.weights.table}]"

    def describe(self, text: str) -> str:
        """A comment that names the layer."""
        return write_comment(f"layer {self.index}, {text}")

    # --- linear maps

    def compute_factor(self, block: WeightBlock) -> float:
        """Weights are scaled by the square root of their fan-in."""
        return 1.0 / math.sqrt(block.inner * (self.plan.embedding if block.per_type else 1))

    def prepare(self) -> Iterator[str]:
        """Scaled and transposed copies of the weights, each as a task."""
        maps = {
            "linear in": self.weights.linear_in,
            "linear out": self.weights.linear_out,
            "self-connection": self.weights.self_connection,
        }
        for title, blocks in maps.items():
            if blocks:
                yield self.describe(f"{title}: scaled weights and their transpose")
            for block in blocks:
                copies = (f"net->prepared + {block.prepared}", f"net->prepared + {block.transposed}")
                weight, factor = f"net->parameters[{block.parameter}]", self.compute_factor(block)
                yield "#pragma omp task"
                if block.per_type:
                    # The embedding is contracted with the weights first, once for all atoms of a species.
                    sizes = (block.inner, self.plan.embedding, block.columns)
                    yield call("prepare_per_type", *sizes, factor, "net->parameters[0]", weight, *copies)
                else:
                    yield call("prepare_linear", block.inner, block.columns, factor, weight, *copies)

    def _multiply(self, block: WeightBlock, dim: int, x: str, o: str, add: int, transposed: bool = False) -> str:
        """``o = x W`` (or plus) for the atoms of a block; W is their species' matrix where there is one for each."""
        inner, columns = (block.columns, block.inner) if transposed else (block.inner, block.columns)
        matrix = f"net->prepared + {block.transposed if transposed else block.prepared}"
        if block.per_type:
            # All atoms of a block are of species t, so that one matrix serves them all.
            matrix += f" + t * {inner * columns}"
        return call("multiply", f"n * {dim}", inner, columns, x, matrix, o, add)

    def _locate(self, name: str, kind: int, layer: int | None = None) -> str:
        """Pointer to a kind of this (or another) layer's features, at the block."""
        index = self.index if layer is None else layer
        return locate_block(name_array(name, index), kind, _require_kinds(self.plan, index, name)[kind])

    def update(self, messages: str, features: str | None, hidden: str) -> Iterator[str]:
        """``hidden = messages W + features W_type``; messages begin at the block; without ``features`` not theirs."""
        yield self.describe("update: linear out, and self-connection")
        for k, kind in enumerate(self.layer.hidden):
            # The first product sets, the next ones add: nothing has to be cleared before.
            target, add = self._locate(hidden, k), 0
            for block in self.weights.linear_out:
                if block.target == k:
                    yield self._multiply(block, kind.dim, f"{messages}[{block.source}]", target, add)
                    add = 1
            for block in self.weights.self_connection if features is not None else ():
                if block.target == k:
                    yield self._multiply(block, kind.dim, self._locate(str(features), block.source), target, add)
                    add = 1
            if not add:
                yield _clear(target, kind)

    def update_reverse(self, hidden: str, messages: str, features: str | None) -> Iterator[str]:
        """Adjoints of the messages and, but for what is sent, of the features: of the layer before's outputs."""
        yield self.describe("update: adjoint of the messages")
        for c, kind in enumerate(self.layer.messages):
            target = self._locate(messages, c)
            blocks = [block for block in self.weights.linear_out if block.source == c]
            for add, block in enumerate(blocks):
                yield self._multiply(block, kind.dim, self._locate(hidden, block.target), target, add, transposed=True)
            if not blocks:
                yield _clear(target, kind)
        if features is None:
            return
        yield self.describe("update: adjoint of the features, through the self-connection and around the layer")
        for i, kind in enumerate(self.layer.inputs):
            target = self._locate(features, i, self.index - 1)
            yield _clear(target, kind)
            for block in (block for block in self.weights.self_connection if block.source == i):
                yield self._multiply(block, kind.dim, self._locate(hidden, block.target), target, 1, transposed=True)
            if self.layer.resnet:
                yield call("add_to", f"n * {kind.size}", self._locate(features, i), target)

    def send(self, features: str, sent: str) -> Iterator[str]:
        """What the atoms send: ``sent = norm features W``."""
        yield self.describe("linear in: what the atoms send")
        for block in self.weights.linear_in:
            kind, target = self.layer.inputs[block.source], self._locate(sent, block.source)
            yield self._multiply(block, kind.dim, self._locate(features, block.source), target, 0)
            yield call("scale_by", f"n * {kind.size}", "(REAL)net->norm[t]", target)

    def send_reverse(self, sent: str, features: str) -> Iterator[str]:
        """Scales the adjoint of what is sent, and adds its part to that of the layer before's outputs."""
        yield self.describe("linear in: adjoint of the features, through what the atoms send")
        for block in self.weights.linear_in:
            kind, source = self.layer.inputs[block.source], self._locate(sent, block.source)
            yield call("scale_by", f"n * {kind.size}", "(REAL)net->norm[t]", source)
            target = self._locate(features, block.source, self.index - 1)
            yield self._multiply(block, kind.dim, source, target, 1, transposed=True)

    # --- gate

    def _list_gates(self) -> Iterator[tuple[int, Gated, Kind, Activation]]:
        """Number among the outputs, itself, its size, and the gates' activation, of each gated kind."""
        if self.layer.gate is not None:
            for i, gated in enumerate(self.layer.gated, start=len(self.layer.scalars)):
                yield i, gated, self.layer.hidden[gated.kind], self.layer.gate

    def _locate_gates(self, name: str, gated: Gated) -> str:
        return f"{name_array(name, self.index)}[{self.layer.gate_kind}] + a * {self._gate_channels} + {gated.start}"

    @property
    def _gate_channels(self) -> int:
        return self.layer.hidden[self.layer.gate_kind].width

    def write_gate_forward(self) -> Iterator[str]:
        """The next layer's features."""
        yield self.describe("gate")
        next_layer = self.index + 1
        for i, part in enumerate(self.layer.scalars):
            kind = self.layer.hidden[part.kind]
            yield call(
                f"{C_NAMES[part.activation.name]}_forward", "n", part.width, part.activation.scale,
                self._locate("h", part.kind), kind.width, self._locate("f", i, next_layer),
            )  # fmt: skip
        for i, gated, kind, gate in self._list_gates():
            yield call(
                f"{C_NAMES[gate.name]}_gate_forward", "n", kind.dim, kind.width, gate.scale,
                self._locate_gates("h", gated), self._gate_channels, self._locate("h", gated.kind),
                self._locate("f", i, next_layer),
            )  # fmt: skip
        yield from self._add_residual("f")

    def write_gate_tangent(self) -> Iterator[str]:
        """The tangent of the next layer's features; those of the first layer have none to add."""
        yield self.describe("gate: tangent")
        next_layer = self.index + 1
        for i, part in enumerate(self.layer.scalars):
            kind = self.layer.hidden[part.kind]
            yield call(
                f"{C_NAMES[part.activation.name]}_linear", "n", part.width, part.activation.scale,
                self._locate("h", part.kind), kind.width, self._locate("ht", part.kind), kind.width,
                self._locate("ft", i, next_layer), part.width,
            )  # fmt: skip
        for i, gated, kind, gate in self._list_gates():
            yield call(
                f"{C_NAMES[gate.name]}_gate_tangent", "n", kind.dim, kind.width, gate.scale,
                self._locate_gates("h", gated), self._locate_gates("ht", gated), self._gate_channels,
                self._locate("h", gated.kind), self._locate("ht", gated.kind), self._locate("ft", i, next_layer),
            )  # fmt: skip
        if self.index > 0:
            yield from self._add_residual("ft")

    def write_gate_reverse(self) -> Iterator[str]:
        """Adjoint of the gate's input."""
        yield self.describe("gate: adjoint")
        for i, part in enumerate(self.layer.scalars):
            kind = self.layer.hidden[part.kind]
            # An activation's derivative is a number, so along and against it is one function.
            yield call(
                f"{C_NAMES[part.activation.name]}_linear", "n", part.width, part.activation.scale,
                self._locate("h", part.kind), kind.width, self._locate("yb", i), part.width,
                self._locate("hb", part.kind), kind.width,
            )  # fmt: skip
        for i, gated, kind, gate in self._list_gates():
            yield call(
                f"{C_NAMES[gate.name]}_gate_reverse", "n", kind.dim, kind.width, gate.scale,
                self._locate_gates("h", gated), self._gate_channels, self._locate("h", gated.kind),
                self._locate("yb", i), self._locate_gates("hb", gated), self._locate("hb", gated.kind),
            )  # fmt: skip

    def write_gate_dual(self) -> Iterator[str]:
        """Adjoint of the gate's input in the second pass."""
        yield self.describe("gate: adjoint in the second pass")
        for i, part in enumerate(self.layer.scalars):
            kind = self.layer.hidden[part.kind]
            yield call(
                f"{C_NAMES[part.activation.name]}_dual", "n", part.width, part.activation.scale,
                self._locate("h", part.kind), self._locate("ht", part.kind), self._locate("yb", i),
                self._locate("yb2", i), kind.width, self._locate("hb2", part.kind),
            )  # fmt: skip
        for i, gated, kind, gate in self._list_gates():
            yield call(
                f"{C_NAMES[gate.name]}_gate_dual", "n", kind.dim, kind.width, gate.scale,
                self._locate_gates("h", gated), self._locate_gates("ht", gated), self._gate_channels,
                self._locate("h", gated.kind), self._locate("ht", gated.kind), self._locate("yb", i),
                self._locate("yb2", i), self._locate_gates("hb2", gated), self._locate("hb2", gated.kind),
            )  # fmt: skip

    def _add_residual(self, name: str) -> Iterator[str]:
        if self.layer.resnet:
            for i, kind in enumerate(self.layer.inputs):
                yield call("add_to", f"n * {kind.size}", self._locate(name, i), self._locate(name, i, self.index + 1))

    # --- gradients of the weights: sums over all atoms, each thread some rows of some matrices
    #
    # The gradient of ``v . dE/dr`` has two terms for each map: its input times the adjoint of its output's tangent, and
    # its input's tangent times the adjoint of its output. The self-connection has a matrix for each species. No loop
    # ends with a barrier.

    def write_gradients_of_update(self) -> Iterator[str]:
        """Gradients of what makes outputs of messages and features: they need the adjoints of the outputs."""
        yield self.describe("linear out: gradients of the weights")
        for block in self.weights.linear_out:
            kind = self.layer.messages[block.source]
            yield from self._write_outer_products(block, kind, [("m", "hb2"), ("mt", "hb")], block.target)
        if self.weights.self_connection:
            yield self.describe("self-connection: gradients of each species' matrix")
        for block in self.weights.self_connection:
            yield from self._write_outer_products_per_type(block, [("f", "hb2"), *self._pair_tangents("hb")])

    def write_gradients_of_send(self) -> Iterator[str]:
        """Gradients of what makes messages of features: they need the adjoints of what was sent."""
        yield self.describe("linear in: gradients of the weights")
        for block in self.weights.linear_in:
            kind = self.layer.inputs[block.source]
            pairs = [("f", "sb2"), *self._pair_tangents("sb")]
            yield from self._write_outer_products(block, kind, pairs, block.source)

    def _pair_tangents(self, adjoint: str) -> list[tuple[str, str]]:
        # The first layer's features do not depend on positions: no tangent.
        return [("ft", adjoint)] if self.index > 0 else []

    def _write_outer_products(
        self, block: WeightBlock, kind: Kind, pairs: list[tuple[str, str]], target: int
    ) -> Iterator[str]:
        gradient = f"net->gradients[{block.parameter}]"
        yield from open_parallel_for(f"int64_t r = 0; r < {block.inner}; r += OUTER_ROWS", "dynamic, 1", wait=False)
        for add, (x, y) in enumerate(pairs):
            ends = (f"{name_array(x, self.index)}[{block.source}]", f"{name_array(y, self.index)}[{target}]")
            yield call("outer", "r", f"net->atoms * {kind.dim}", block.inner, block.columns, *ends, gradient, add)
        yield self._scale_rows(block, gradient)
        yield "}"

    def _write_outer_products_per_type(self, block: WeightBlock, pairs: list[tuple[str, str]]) -> Iterator[str]:
        source = self.layer.inputs[block.source]
        # Atoms are sorted by species, so those of species t are the n atoms from a on.
        pieces = f"(({block.inner} + OUTER_ROWS - 1) / OUTER_ROWS)"
        yield from open_parallel_for(f"int64_t i = 0; i < TYPES * {pieces}; i++", "dynamic, 1", wait=False)
        yield f"const int64_t t = i / {pieces}, r = i % {pieces} * OUTER_ROWS;"
        yield "const int64_t a = net->type_start[t], n = net->type_start[t + 1] - a;"
        yield f"REAL *const o = net->scratch + {block.sums} + t * {block.inner * block.columns};"
        for add, (x, y) in enumerate(pairs):
            ends = (self._locate(x, block.source), self._locate(y, block.target))
            yield call("outer", "r", f"n * {source.dim}", block.inner, block.columns, *ends, "o", add)
        yield self._scale_rows(block, "o")
        yield "}"

    def _scale_rows(self, block: WeightBlock, gradient: str) -> str:
        rows = f"({block.inner} - r < OUTER_ROWS ? {block.inner} - r : OUTER_ROWS)"
        factor = f"(REAL){self.compute_factor(block)!r}"
        return call("scale_by", f"{rows} * {block.columns}", factor, f"{gradient} + r * {block.columns}")

    def write_self_connection_gradients(self) -> Iterator[str]:
        """From the species' matrices to the self-connection's weights and, for each channel apart, the embedding."""
        types, embedding = self.plan.types, self.plan.embedding
        if self.weights.self_connection:
            yield self.describe("self-connection: gradients of weights and, channel by channel, of the embedding")
        for block in self.weights.self_connection:
            # Each channel i has its own sums for the embedding: threads add to nothing in common.
            sums = f"net->scratch + {block.embedding_sums} + i * {types * embedding}"
            yield from open_parallel_for(f"int64_t i = 0; i < {block.inner}; i++", wait=False)
            yield call("memset", sums, 0, f"sizeof(REAL) * {types * embedding}")
            yield call(
                "per_type_gradient", "i", block.inner, embedding, block.columns, "net->parameters[0]",
                f"net->parameters[{block.parameter}]", f"net->scratch + {block.sums}",
                f"net->gradients[{block.parameter}]", sums,
            )  # fmt: skip
            yield "}"

    def add_embedding_gradient(self) -> Iterator[str]:
        """The self-connection's part of the embedding's gradient, for species ``t``, added to ``o``."""
        types, embedding = self.plan.types, self.plan.embedding
        for block in self.weights.self_connection:
            sums = f"net->scratch + {block.embedding_sums} + (i * {types} + t) * {embedding}"
            yield f"for (int64_t i = 0; i < {block.inner}; i++) {call('add_to', embedding, sums, 'o')}"


def declare_arrays(plan: NetworkPlan, *features: tuple[int, str]) -> Iterator[str]:
    """Declarations of the arrays of pointers to layers' features.

    Args:
        plan: The network.
        features: Number of the layer, and name.
    """
    for index, name in features:
        starts = list_starts(_require_kinds(plan, index, name))
        pointers = ", ".join(f"FEATURES({index_features(index, name)}, {start})" for start in starts)
        yield f"REAL *const {name_array(name, index)}[] UNUSED = {{{pointers}}};"


def _require_kinds(plan: NetworkPlan, index: int, name: str) -> tuple[Kind, ...]:
    kinds = find_kinds(plan, index, name)
    if kinds is None:
        raise ValueError(f"layer {index} has no {name}")
    return kinds


def _clear(target: str, kind: Kind) -> str:
    return call("memset", target, 0, f"sizeof(REAL) * n * {kind.size}")
