"""C code of what a layer does atom by atom: linear maps, gate, and their derivatives, for the atoms of one block."""

from __future__ import annotations

import math
from collections.abc import Iterator

from nequip_like.nn.native.layout import Linear, Weights, kinds_of, slot, starts_of
from nequip_like.nn.native.spec import Activation, Gated, Kind, NetworkPlan

# Names of the activations in runtime.c; some are taken by the mathematics library.
C_NAMES = {"silu": "silu", "tanh": "tanh_", "ssp": "ssp", "abs": "abs_", "gelu": "gelu", "mish": "mish"}


def call(function: str, *arguments: object) -> str:
    """A call as a statement."""
    return f"{function}({', '.join(str(argument) for argument in arguments)});"


def array(name: str, layer: int) -> str:
    """Name in C of the array of pointers to a layer's features, one for each kind."""
    return f"{name}_{'embedding' if layer < 0 else layer}"


def block_of(pointers: str, index: int, kind: Kind) -> str:
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

    # --- linear maps

    def factor(self, linear: Linear) -> float:
        """Weights are scaled by the square root of their fan-in."""
        return 1.0 / math.sqrt(linear.inner * (self.plan.embedding if linear.per_type else 1))

    def prepare(self) -> Iterator[str]:
        """Scaled and transposed copies of the weights, each as a task."""
        for linear in (*self.weights.into, *self.weights.out, *self.weights.own):
            copies = (f"net->prepared + {linear.prepared}", f"net->prepared + {linear.turned}")
            weight, factor = f"net->parameters[{linear.parameter}]", self.factor(linear)
            yield '_Pragma("omp task")'
            if linear.per_type:
                width = self.plan.embedding
                embedding = "net->parameters[0]"
                yield call("prepare_per_type", linear.inner, width, linear.columns, factor, embedding, weight, *copies)
            else:
                yield call("prepare_linear", linear.inner, linear.columns, factor, weight, *copies)

    def _multiply(self, linear: Linear, dim: int, x: str, o: str, add: int, turned: bool = False) -> str:
        """``o = x W`` (or plus) for the atoms of a block; W is their species' matrix where there is one for each."""
        inner, columns = (linear.columns, linear.inner) if turned else (linear.inner, linear.columns)
        matrix = f"net->prepared + {linear.turned if turned else linear.prepared}"
        if linear.per_type:
            matrix += f" + t * {inner * columns}"
        return call("multiply", f"n * {dim}", inner, columns, x, matrix, o, add)

    def _block(self, name: str, kind: int, layer: int | None = None) -> str:
        """Pointer to a kind of this (or another) layer's features, at the block."""
        index = self.index if layer is None else layer
        if index == -1:
            kinds = self.plan.layers[0].inputs
        elif index == len(self.plan.layers):
            kinds = self.layer.outputs
        else:
            kinds = kinds_of(self.plan.layers[index], name)
        return block_of(array(name, index), kind, kinds[kind])

    def update(self, messages: str, features: str | None, hidden: str) -> Iterator[str]:
        """``hidden = messages W + features W_type``; messages begin at the block; without ``features`` not theirs."""
        for k, kind in enumerate(self.layer.hidden):
            target, add = self._block(hidden, k), 0
            for linear in (one for one in self.weights.out if one.target == k):
                yield self._multiply(linear, kind.dim, f"{messages}[{linear.source}]", target, add)
                add = 1
            for linear in (one for one in self.weights.own if one.target == k and features is not None):
                yield self._multiply(linear, kind.dim, self._block(str(features), linear.source), target, add)
                add = 1
            if not add:
                yield _cleared(target, kind)

    def update_reverse(self, hidden: str, messages: str, features: str | None) -> Iterator[str]:
        """Adjoints of the messages and, but for what is sent, of the features: of the layer before's outputs."""
        for c, kind in enumerate(self.layer.messages):
            target = self._block(messages, c)
            used = [linear for linear in self.weights.out if linear.source == c]
            for add, linear in enumerate(used):
                yield self._multiply(linear, kind.dim, self._block(hidden, linear.target), target, add, turned=True)
            if not used:
                yield _cleared(target, kind)
        if features is None:
            return
        for i, kind in enumerate(self.layer.inputs):
            target = self._block(features, i, self.index - 1)
            yield _cleared(target, kind)
            for linear in (one for one in self.weights.own if one.source == i):
                yield self._multiply(linear, kind.dim, self._block(hidden, linear.target), target, 1, turned=True)
            if self.layer.resnet:
                yield call("add_to", f"n * {kind.size}", self._block(features, i), target)

    def send(self, features: str, sent: str) -> Iterator[str]:
        """What the atoms send: ``sent = norm features W``."""
        for linear in self.weights.into:
            kind, target = self.layer.inputs[linear.source], self._block(sent, linear.source)
            yield self._multiply(linear, kind.dim, self._block(features, linear.source), target, 0)
            yield call("scale_by", f"n * {kind.size}", "(REAL)net->norm[t]", target)

    def send_reverse(self, sent: str, features: str) -> Iterator[str]:
        """Scales the adjoint of what is sent, and adds its part to that of the layer before's outputs."""
        for linear in self.weights.into:
            kind, source = self.layer.inputs[linear.source], self._block(sent, linear.source)
            yield call("scale_by", f"n * {kind.size}", "(REAL)net->norm[t]", source)
            target = self._block(features, linear.source, self.index - 1)
            yield self._multiply(linear, kind.dim, source, target, 1, turned=True)

    # --- gate

    def _gates(self) -> Iterator[tuple[int, Gated, Kind, Activation]]:
        """Number among the outputs, itself, its size, and the gates' activation, of each gated kind."""
        if self.layer.gate is not None:
            for i, gated in enumerate(self.layer.gated, start=len(self.layer.scalars)):
                yield i, gated, self.layer.hidden[gated.kind], self.layer.gate

    def _of_gates(self, name: str, gated: Gated) -> str:
        return f"{array(name, self.index)}[{self.layer.gate_kind}] + a * {self._gate_channels} + {gated.start}"

    @property
    def _gate_channels(self) -> int:
        return self.layer.hidden[self.layer.gate_kind].width

    def gate_forward(self) -> Iterator[str]:
        """The next layer's features."""
        after = self.index + 1
        for i, part in enumerate(self.layer.scalars):
            kind, name = self.layer.hidden[part.kind], C_NAMES[part.activation.name]
            target = self._block("f", i, after)
            yield call(
                f"{name}_forward",
                "n",
                part.width,
                part.activation.scale,
                self._block("h", part.kind),
                kind.width,
                target,
            )
        for i, gated, kind, gate in self._gates():
            yield call(
                f"{C_NAMES[gate.name]}_gate_forward", "n", kind.dim, kind.width, gate.scale,
                self._of_gates("h", gated), self._gate_channels, self._block("h", gated.kind),
                self._block("f", i, after),
            )  # fmt: skip
        yield from self._residual("f")

    def gate_tangent(self) -> Iterator[str]:
        """The tangent of the next layer's features; those of the first layer have none to add."""
        after = self.index + 1
        for i, part in enumerate(self.layer.scalars):
            kind = self.layer.hidden[part.kind]
            yield call(
                f"{C_NAMES[part.activation.name]}_linear", "n", part.width, part.activation.scale,
                self._block("h", part.kind), kind.width, self._block("ht", part.kind), kind.width,
                self._block("ft", i, after), part.width,
            )  # fmt: skip
        for i, gated, kind, gate in self._gates():
            yield call(
                f"{C_NAMES[gate.name]}_gate_tangent", "n", kind.dim, kind.width, gate.scale,
                self._of_gates("h", gated), self._of_gates("ht", gated), self._gate_channels,
                self._block("h", gated.kind), self._block("ht", gated.kind), self._block("ft", i, after),
            )  # fmt: skip
        if self.index > 0:
            yield from self._residual("ft")

    def gate_reverse(self) -> Iterator[str]:
        """Adjoint of the gate's input."""
        for i, part in enumerate(self.layer.scalars):
            kind = self.layer.hidden[part.kind]
            yield call(
                f"{C_NAMES[part.activation.name]}_linear", "n", part.width, part.activation.scale,
                self._block("h", part.kind), kind.width, self._block("yb", i), part.width,
                self._block("hb", part.kind), kind.width,
            )  # fmt: skip
        for i, gated, kind, gate in self._gates():
            yield call(
                f"{C_NAMES[gate.name]}_gate_reverse", "n", kind.dim, kind.width, gate.scale,
                self._of_gates("h", gated), self._gate_channels, self._block("h", gated.kind), self._block("yb", i),
                self._of_gates("hb", gated), self._block("hb", gated.kind),
            )  # fmt: skip

    def gate_dual(self) -> Iterator[str]:
        """Adjoint of the gate's input in the second pass."""
        for i, part in enumerate(self.layer.scalars):
            kind = self.layer.hidden[part.kind]
            yield call(
                f"{C_NAMES[part.activation.name]}_dual", "n", part.width, part.activation.scale,
                self._block("h", part.kind), self._block("ht", part.kind), self._block("yb", i),
                self._block("yb2", i), kind.width, self._block("hb2", part.kind),
            )  # fmt: skip
        for i, gated, kind, gate in self._gates():
            yield call(
                f"{C_NAMES[gate.name]}_gate_dual", "n", kind.dim, kind.width, gate.scale,
                self._of_gates("h", gated), self._of_gates("ht", gated), self._gate_channels,
                self._block("h", gated.kind), self._block("ht", gated.kind), self._block("yb", i),
                self._block("yb2", i), self._of_gates("hb2", gated), self._block("hb2", gated.kind),
            )  # fmt: skip

    def _residual(self, name: str) -> Iterator[str]:
        if self.layer.resnet:
            for i, kind in enumerate(self.layer.inputs):
                yield call("add_to", f"n * {kind.size}", self._block(name, i), self._block(name, i, self.index + 1))

    # --- gradients of the weights: sums over all atoms, each thread some rows of some matrices

    def weight_gradients(self) -> Iterator[str]:
        """Gradients of the linear maps, of the self-connection for each species' matrix; ends at a barrier."""
        # The first layer's features do not depend on positions: no tangent.
        tangents = self.index > 0
        for linear in self.weights.into:
            kind = self.layer.inputs[linear.source]
            yield from self._outer(linear, kind, [("f", "sb2"), *([("ft", "sb")] if tangents else [])], linear.source)
        for linear in self.weights.out:
            kind = self.layer.messages[linear.source]
            yield from self._outer(linear, kind, [("m", "hb2"), ("mt", "hb")], linear.target)
        for linear in self.weights.own:
            yield from self._outer_per_type(linear, [("f", "hb2"), *([("ft", "hb")] if tangents else [])])
        # What the next layer overwrites has to be read by all threads before.
        yield '_Pragma("omp barrier")'

    def _outer(self, linear: Linear, kind: Kind, pairs: list[tuple[str, str]], target: int) -> Iterator[str]:
        gradient = f"net->gradients[{linear.parameter}]"
        yield _rows_of(linear)
        for add, (x, y) in enumerate(pairs):
            ends = (f"{array(x, self.index)}[{linear.source}]", f"{array(y, self.index)}[{target}]")
            yield call("outer", "r", f"net->atoms * {kind.dim}", linear.inner, linear.columns, *ends, gradient, add)
        yield self._scaled(linear, gradient) + "}"

    def _outer_per_type(self, linear: Linear, pairs: list[tuple[str, str]]) -> Iterator[str]:
        source = self.layer.inputs[linear.source]
        yield _rows_of(linear, f"net->scratch + {linear.sums}")
        for add, (x, y) in enumerate(pairs):
            ends = (self._block(x, linear.source), self._block(y, linear.target))
            yield call("outer", "r", f"n * {source.dim}", linear.inner, linear.columns, *ends, "o", add)
        yield self._scaled(linear, "o") + "}"

    def _scaled(self, linear: Linear, gradient: str) -> str:
        rows = f"({linear.inner} - r < OUTER_ROWS ? {linear.inner} - r : OUTER_ROWS)"
        factor = f"(REAL){self.factor(linear)!r}"
        return call("scale_by", f"{rows} * {linear.columns}", factor, f"{gradient} + r * {linear.columns}")

    def own_gradients(self) -> Iterator[str]:
        """From the species' matrices to the self-connection's weights and, for each channel apart, the embedding."""
        types, embedding = self.plan.types, self.plan.embedding
        for linear in self.weights.own:
            partial = f"net->scratch + {linear.partial} + i * {types * embedding}"
            yield f'_Pragma("omp for schedule(static) nowait") for (int64_t i = 0; i < {linear.inner}; i++) {{'
            yield call("memset", partial, 0, f"sizeof(REAL) * {types * embedding}")
            yield call(
                "per_type_gradient", "i", linear.inner, embedding, linear.columns, "net->parameters[0]",
                f"net->parameters[{linear.parameter}]", f"net->scratch + {linear.sums}",
                f"net->gradients[{linear.parameter}]", partial,
            ) + "}"  # fmt: skip

    def embedding_gradient(self) -> Iterator[str]:
        """The self-connection's part of the embedding's gradient, for species ``t``, added to ``o``."""
        types, embedding = self.plan.types, self.plan.embedding
        for linear in self.weights.own:
            partial = f"net->scratch + {linear.partial} + (i * {types} + t) * {embedding}"
            yield f"for (int64_t i = 0; i < {linear.inner}; i++) {call('add_to', embedding, partial, 'o')}"


def arrays(plan: NetworkPlan, *wanted: tuple[int, str]) -> Iterator[str]:
    """Declarations of the arrays of pointers to layers' features."""
    for index, name in wanted:
        if index == -1:
            kinds = plan.layers[0].inputs
        elif index == len(plan.layers):
            kinds = plan.layers[-1].outputs
        else:
            kinds = kinds_of(plan.layers[index], name)
        pointers = ", ".join(f"FEATURES({slot(index, name)}, {start})" for start in starts_of(kinds))
        yield f"REAL *const {array(name, index)}[] = {{{pointers}}}; (void){array(name, index)};"


def _cleared(target: str, kind: Kind) -> str:
    return call("memset", target, 0, f"sizeof(REAL) * n * {kind.size}")


def _rows_of(linear: Linear, per_type_sums: str | None = None) -> str:
    """A loop over pieces of a matrix's rows ``r``; for one matrix ``o`` of each species also over those."""
    if per_type_sums is None:
        return (
            '_Pragma("omp for schedule(dynamic, 1) nowait") '
            f"for (int64_t r = 0; r < {linear.inner}; r += OUTER_ROWS) {{"
        )
    pieces = f"(({linear.inner} + OUTER_ROWS - 1) / OUTER_ROWS)"
    return (
        f'_Pragma("omp for schedule(dynamic, 1) nowait") for (int64_t i = 0; i < TYPES * {pieces}; i++) {{'
        f"const int64_t t = i / {pieces}, r = i % {pieces} * OUTER_ROWS;"
        "const int64_t a = net->type_start[t], n = net->type_start[t + 1] - a;"
        f"REAL *const o = {per_type_sums} + t * {linear.inner * linear.columns};"
    )
