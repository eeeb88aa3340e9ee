"""C code of a whole network: its four passes, out of the pieces of ``runtime.c``, convolutions and layers.

- ``network_forward``: from edge vectors to the features of the last layer;
- ``network_reverse``: from their adjoint to the gradient with respect to the edge vectors;
- ``network_tangent``: the change of the last features along a change of the edge vectors;
- ``network_dual``: from the adjoints of the last features and of their tangent to the gradients of all parameters.

A force loss needs the derivative, with respect to the parameters p, of the energy's derivative with respect to the
positions r: ``d/dp (v . dE/dr)`` for the loss's own ``v = dL/d(dE/dr)``. ``v . dE/dr`` is the tangent of E along v; so
one pass forward along v, and one backward through values and tangents together, give it, and in the same pass the
gradient of an energy loss. The adjoints of the tangents are those that ``network_reverse`` found for the values; they
are kept.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from importlib.resources import files

from nequip_like.nn.kernels.paths import PathTable
from nequip_like.nn.native.convolution_source import ConvolutionWriter
from nequip_like.nn.native.harmonics_source import harmonics_code
from nequip_like.nn.native.layer_source import C_NAMES, LayerWriter, array, arrays, block_of, call
from nequip_like.nn.native.layout import Weights, size_of, slot, starts_of
from nequip_like.nn.native.spec import Kind, NetworkPlan

_BLOCK_BYTES = 1 << 17  # messages of a block of atoms stay in the second cache
_MOST_ATOMS = 16  # of a block
# A loop over the blocks of atoms: a .. stop are n atoms of species t.
_BLOCKS = (
    '_Pragma("omp for schedule(dynamic, 1)") for (int64_t b = 0; b < net->blocks; b++) {'
    "const int64_t a = net->block_start[b], stop = net->block_stop[b], n = stop - a, t = net->block_type[b];"
    "(void)n; (void)t;"
)
_EDGES = '_Pragma("omp for schedule(static)") for (int64_t e = 0; e < net->edges; e++) '
_PARALLEL = '_Pragma("omp parallel num_threads(net->threads)") {'
_FEATURES = "#define FEATURES(slot, before) (net->features + net->atoms * (net->slots[slot] + (before)))"


def network_sources(plan: NetworkPlan) -> tuple[list[str], int]:
    """Translation units (the network, and one for each different convolution), and the number of atoms in a block."""
    writer = _NetworkWriter(plan)
    return [writer.network(), *writer.convolutions()], writer.block


class _NetworkWriter:
    def __init__(self, plan: NetworkPlan) -> None:
        self.plan, self.weights = plan, Weights(plan)
        self.layers = [LayerWriter(plan, self.weights, index) for index in range(len(plan.layers))]
        self.different: dict[tuple[object, ...], ConvolutionWriter] = {}
        self.convolution_of: list[ConvolutionWriter] = []
        for index, layer in enumerate(plan.layers):
            key = (index > 0, *_table_key(layer.table))
            if key not in self.different:
                name = f"convolution_{len(self.different)}"
                self.different[key] = ConvolutionWriter(layer.table, name, moving=index > 0)
            self.convolution_of.append(self.different[key])

    @cached_property
    def head(self) -> str:
        """Definitions, and what all networks share."""
        plan = self.plan
        element = "#define REAL double\n#define REAL_IS_DOUBLE" if plan.double else "#define REAL float"
        sizes = f"#define WIDEST {plan.widest}\n#define KNOTS {plan.knots}\n#define L_MAX {plan.l_max}"
        counts = f"#define TYPES {plan.types}\n#define BLOCK {self.block}"
        runtime = files("nequip_like.nn.native").joinpath("runtime.c").read_text(encoding="utf-8")
        return "\n".join([element, sizes, counts, runtime])

    @cached_property
    def block(self) -> int:
        """Atoms of a block."""
        largest = max(size_of(layer.messages) for layer in self.plan.layers) * (8 if self.plan.double else 4)
        return max(1, min(_MOST_ATOMS, _BLOCK_BYTES // largest))

    def convolutions(self) -> list[str]:
        """Code of the different convolutions."""
        return [f"#define ONLY_CONVOLUTION\n{self.head}\n{writer.code()}\n" for writer in self.different.values()]

    def network(self) -> str:
        """Code of the rest."""
        used = {part.activation.name for layer in self.plan.layers for part in layer.scalars}
        used |= {layer.gate.name for layer in self.plan.layers if layer.gate is not None}
        parts = [
            self.head,
            *(f"DEFINE_GATE({C_NAMES[name]})" for name in sorted(used)),
            harmonics_code(self.plan.l_max),
            *(writer.declarations() for writer in self.different.values()),
            _FEATURES,
            *self._prepare(),
            *self._forward(),
            *self._reverse(),
            *self._tangent(),
            *self._dual(),
        ]
        return "\n".join(parts) + "\n"

    def _arrays(self, *names: str) -> Iterator[str]:
        """Of all layers."""
        yield from arrays(self.plan, *((index, name) for index in range(len(self.layers)) for name in names))

    def _convolve(self, index: int, function: str, *arguments: str) -> str:
        inputs = _read(array("s", index))
        return call(f"{self.convolution_of[index].name}_{function}", "net", "a", "stop", inputs, *arguments)

    def _prepare(self) -> Iterator[str]:
        yield "void network_prepare(const Net *net) {" + _PARALLEL + '_Pragma("omp single") {'
        for layer in self.layers:
            yield from layer.prepare()
        yield "}}}"

    def _forward(self) -> Iterator[str]:
        count, embedding = len(self.layers), self.plan.embedding
        yield "void network_forward(const Net *net) {"
        yield from self._arrays("f", "s", "h")
        yield from arrays(self.plan, (count, "f"))
        yield _PARALLEL + _BLOCKS
        yield "for (int64_t e = net->row[a]; e < net->row[stop]; e++) edge_forward(net, e, t);"
        row = f"net->parameters[0] + t * {embedding}"
        yield "for (int64_t i = a; i < stop; i++)"
        yield call("memcpy", f"{array('f', 0)}[0] + i * {embedding}", row, f"sizeof(REAL) * {embedding}")
        yield from self.layers[0].send("f", "s")
        yield "}"
        for index, layer in enumerate(self.layers):
            kinds = layer.layer.messages
            yield _BLOCKS + f"ALIGNED REAL own[{self.block * size_of(kinds)}];"
            # Predictions need the messages of a block only until they are mapped.
            places = ", ".join(
                f"net->keep ? FEATURES({slot(index, 'm')}, {start}) + a * {kind.size} : own + {self.block * start}"
                for start, kind in zip(starts_of(kinds), kinds, strict=True)
            )
            yield f"REAL *const messages[] = {{{places}}};"
            yield self._convolve(index, "forward", layer.table, "messages")
            yield from layer.update("messages", "f", "h")
            yield from layer.gate_forward()
            if index + 1 < count:
                yield from self.layers[index + 1].send("f", "s")
            yield "}"
        yield "}}"

    def _reverse(self) -> Iterator[str]:
        yield "void network_reverse(const Net *net) {"
        yield from self._arrays("s", "h", "yb", "hb", "mb", "sb")
        yield _PARALLEL
        yield _EDGES + "edge_sent(net, e);"
        for index, layer in reversed(list(enumerate(self.layers))):
            yield _BLOCKS
            yield from layer.gate_reverse()
            yield from layer.update_reverse("hb", "mb", "yb" if index > 0 else None)
            yield "}" + _BLOCKS
            yield _from_block("sb", index, layer.layer.inputs, "sent") if index > 0 else "REAL *const *sent = 0;"
            yield self._convolve(index, "reverse", _read(array("mb", index)), layer.table, "sent")
            if index > 0:
                yield from layer.send_reverse("sb", "yb")
            yield "}"
        yield _EDGES + "edge_reverse(net, e);"
        yield "}}"

    def _tangent(self) -> Iterator[str]:
        count = len(self.layers)
        yield "void network_tangent(const Net *net) {"
        yield from self._arrays("s", "h", "ft", "st", "mt", "ht")
        yield from arrays(self.plan, (count, "ft"))
        yield _PARALLEL
        yield _EDGES + "edge_tangent(net, e);"
        for index, layer in enumerate(self.layers):
            yield _BLOCKS + _from_block("mt", index, layer.layer.messages, "messages")
            yield self._convolve(index, "tangent", _read(array("st", index)), layer.table, "messages")
            yield from layer.update("messages", "ft" if index > 0 else None, "ht")
            yield from layer.gate_tangent()
            if index + 1 < count:
                yield from self.layers[index + 1].send("ft", "st")
            yield "}"
        yield "}}"

    def _dual(self) -> Iterator[str]:
        yield "void network_dual(const Net *net) {"
        yield from self._arrays("f", "s", "m", "h", "ft", "st", "mt", "ht", "yb", "hb", "mb", "sb")
        yield from self._arrays("yb2", "hb2", "mb2", "sb2")
        yield from arrays(self.plan, (-1, "yb2"))
        yield f"REAL *const tables = net->scratch + {self.weights.sums};"
        yield _PARALLEL + _EDGES + "edge_sent_tangent(net, e);"
        for index, layer in reversed(list(enumerate(self.layers))):
            yield _BLOCKS
            yield from layer.gate_dual()
            yield from layer.update_reverse("hb2", "mb2", "yb2")
            yield "}"
            yield from self._convolution_dual(index)
            yield from layer.weight_gradients()
            yield from layer.own_gradients()
        yield from self._embedding_gradient()
        yield "}}"

    def _convolution_dual(self, index: int) -> Iterator[str]:
        layer, width = self.layers[index], self.plan.layers[index].table.weight_numel
        size = self.plan.table_rows * width
        yield '_Pragma("omp for schedule(dynamic, 1)") for (int64_t c = 0; c < net->chunks; c++) {'
        yield f"REAL *const sums = tables + c * {size}; memset(sums, 0, sizeof(REAL) * {size});"
        yield "for (int64_t b = net->chunk_block[c]; b < net->chunk_block[c + 1]; b++) {"
        yield "const int64_t a = net->block_start[b], stop = net->block_stop[b], n = stop - a, t = net->block_type[b];"
        yield _from_block("sb2", index, layer.layer.inputs, "sent")
        others = [_read(array(name, index)) for name in ("st", "mb", "mb2")]
        yield self._convolve(index, "dual", *others, layer.table, "sent", "sums")
        yield from layer.send_reverse("sb2", "yb2")
        yield "}}"
        # Chunks are added in order: the result does not depend on the number of threads.
        yield f'_Pragma("omp for schedule(static) nowait") for (int64_t r = 0; r < {self.plan.table_rows}; r++) {{'
        yield f"REAL *const o = net->gradients[{layer.weights.table}] + r * {width};"
        yield call("memcpy", "o", f"tables + r * {width}", f"sizeof(REAL) * {width}")
        added = call("add_to", width, f"tables + c * {size} + r * {width}", "o")
        yield f"for (int64_t c = 1; c < net->chunks; c++) {added} }}"

    def _embedding_gradient(self) -> Iterator[str]:
        embedding = self.plan.embedding
        yield '_Pragma("omp barrier") _Pragma("omp for schedule(static)") for (int64_t t = 0; t < TYPES; t++) {'
        yield f"REAL *const o = net->gradients[0] + t * {embedding}; memset(o, 0, sizeof(REAL) * {embedding});"
        yield "for (int64_t a = net->type_start[t]; a < net->type_start[t + 1]; a++)"
        yield call("add_to", embedding, f"{array('yb2', -1)}[0] + a * {embedding}", "o")
        for layer in self.layers:
            yield from layer.embedding_gradient()
        yield "}"


def _read(pointers: str) -> str:
    return f"(const REAL *const *){pointers}"


def _from_block(name: str, index: int, kinds: tuple[Kind, ...], called: str) -> str:
    """An array of pointers to features from the block's first atom on."""
    pointers = ", ".join(block_of(array(name, index), i, kind) for i, kind in enumerate(kinds))
    return f"REAL *const {called}[] = {{{pointers}}};"


def _table_key(table: PathTable) -> tuple[str, int, str]:
    return str(table.features), table.l_max, str([(path.source, path.degree, str(path.kind)) for path in table.paths])
