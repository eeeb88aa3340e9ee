"""C code of a whole network: its four passes, out of the pieces of ``runtime.c``, convolutions and layers.

- ``network_forward``: from edge vectors to the features of the last layer;
- ``network_reverse``: from their adjoint to the gradient with respect to the edge vectors;
- ``network_tangent``: the change of the last features along a change of the edge vectors;
- ``network_dual``: from the adjoints of the last features and of their tangent to the gradients of all parameters.

For Hessians ``network_reverse_tangent`` takes the place of the last one, see ``hessian.c``.

A force loss needs the derivative, with respect to the parameters p, of the energy's derivative with respect to the
positions r: ``d/dp (v . dE/dr)`` for the loss's own ``v = dL/d(dE/dr)``. ``v . dE/dr`` is the tangent of E along v; so
one pass forward along v, and one backward through values and tangents together, give it, and in the same pass the
gradient of an energy loss. The adjoints of the tangents are those that ``network_reverse`` computed for the values;
they are stored until then.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from importlib.resources import files

from nequip_like.nn.kernels.paths import PathTable
from nequip_like.nn.native.layout import Weights, index_features, list_starts, sum_sizes
from nequip_like.nn.native.sources.convolution_source import ConvolutionWriter
from nequip_like.nn.native.sources.formatting import (
    cast_to_read,
    format_lines,
    open_parallel_for,
    open_threads,
    write_comment,
    write_edge_loop,
)
from nequip_like.nn.native.sources.harmonics_source import write_harmonics, write_harmonics_adjoint_along
from nequip_like.nn.native.sources.layer_source import (
    C_NAMES,
    LayerWriter,
    call,
    declare_arrays,
    locate_block,
    name_array,
)
from nequip_like.nn.native.spec import Kind, NetworkPlan

_RUNTIME = "runtime.c"
_PERCEPTRON, _HEAD, _HESSIAN = "perceptron.c", "head.c", "hessian.c"
_RADIAL, _RADIAL_GRADIENTS, _RADIAL_LAYOUT = "radial.c", "radial_gradients.c", "radial_layout.c"
_INCLUDED = (_RUNTIME, _PERCEPTRON, _HEAD, _RADIAL, _RADIAL_GRADIENTS, _RADIAL_LAYOUT)
_LEGEND = (
    "runtime.c lies in the folder nn/native of the package nequip_like.",
    "Of layer 0: f_0 features, s_0 what atoms send, m_0 messages, h_0 input of the gate, y_0 output of the layer.",
    "With t their tangents (ft_0), with b their adjoints (hb_0), with b2 adjoints of the second pass (hb2_0).",
)
_BLOCK_BYTES = 1 << 17  # messages of a block of atoms stay in the second cache
_MOST_ATOMS = 16  # of a block
_WIDEST_REGISTER = 64  # at least the numbers that a register of any processor holds
_FEATURES = "#define FEATURES(index, before) (net->features + net->atoms * (net->feature_offsets[index] + (before)))"
# Atoms a .. stop: n of species t.
_BLOCK_RANGE = (
    "const int64_t a = net->block_start[b], stop = net->block_stop[b];",
    "const int64_t n UNUSED = stop - a, t UNUSED = net->block_type[b];",
)


@dataclass(frozen=True)
class NetworkSources:
    """C code of a network.

    Attributes:
        units: Translation units: the network, one for each different convolution, the head, the radial networks, and
            the pass back through these.
        headers: Text by name of the files that they include.
        block: Most atoms of a block.
    """

    units: list[str]
    headers: dict[str, str]
    block: int


def write_network(plan: NetworkPlan, hessian: bool = False) -> NetworkSources:
    """C code of a network.

    Args:
        plan: The network.
        hessian: With second derivatives by positions in the place of gradients of the parameters.
    """
    writer = _NetworkWriter(plan, hessian)
    folder = files("nequip_like.nn.native")
    names = (*_INCLUDED, *((_HESSIAN,) if hessian else ()))
    headers = {name: folder.joinpath(name).read_text(encoding="utf-8") for name in names}
    units = [writer.write_passes(), *writer.write_convolutions(), writer.write_head(), *writer.write_radial()]
    return NetworkSources([format_lines(unit) for unit in units], headers, writer.block)


class _NetworkWriter:
    def __init__(self, plan: NetworkPlan, hessian: bool) -> None:
        self.plan, self.weights, self.hessian = plan, Weights(plan), hessian
        self.layers = [LayerWriter(plan, self.weights, index) for index in range(len(plan.layers))]
        # Layers with the same paths share one convolution, which is compiled once.
        self.convolutions: dict[tuple[object, ...], ConvolutionWriter] = {}
        self.convolution_of: list[ConvolutionWriter] = []
        for index, layer in enumerate(plan.layers):
            key = (index > 0, *_identify_table(layer.table))
            if key not in self.convolutions:
                name = f"convolution_{len(self.convolutions)}"
                self.convolutions[key] = ConvolutionWriter(layer.table, name, index > 0, hessian)
            self.convolution_of.append(self.convolutions[key])

    def _define(self, widest: int) -> Iterator[str]:
        """Definitions, and what all networks share."""
        plan = self.plan
        yield f"#define REAL {'double' if plan.double else 'float'}"
        if plan.double:
            yield "#define REAL_IS_DOUBLE"
        yield f"#define WIDEST {widest}"
        yield f"#define KNOTS {plan.knots}"
        yield f"#define L_MAX {plan.l_max}"
        yield f"#define TYPES {plan.types}"
        yield f"#define BLOCK {self.block}"
        if self.hessian:
            yield "#define HESSIAN"
        yield f'#include "{_RUNTIME}"'

    @cached_property
    def block(self) -> int:
        """Atoms of a block."""
        largest = max(sum_sizes(layer.messages) for layer in self.plan.layers) * (8 if self.plan.double else 4)
        return max(1, min(_MOST_ATOMS, _BLOCK_BYTES // largest))

    def write_convolutions(self) -> Iterator[list[str]]:
        """Lines of the different convolutions."""
        for writer in self.convolutions.values():
            layers = [str(index) for index, convolution in enumerate(self.convolution_of) if convolution is writer]
            title = write_comment(f"convolution of layer{'s' if len(layers) > 1 else ''} {', '.join(layers)}")
            yield [title, "#define ONLY_CONVOLUTION", *self._define(self.plan.widest), *writer.write()]

    def write_head(self) -> list[str]:
        """Lines of the head, which pads its rows to whole vectors, whatever the numbers of channels."""
        title = write_comment("readout, sums over edges and structures, and the gradients of a loss")
        return [title, "#define ONLY_CONVOLUTION", *self._define(_WIDEST_REGISTER), f'#include "{_HEAD}"']

    def write_radial(self) -> Iterator[list[str]]:
        """Lines of the radial networks, which are double whatever the network is, and of the pass back."""
        element = "double" if self.plan.double else "float"
        passes = (
            ("radial networks as tables of splines", "double", _RADIAL),
            ("the gradients of the radial networks' weights", element, _RADIAL_GRADIENTS),
        )
        for title, real, file in passes:
            numbers = [f"#define REAL {real}", *(["#define REAL_IS_DOUBLE"] if real == "double" else [])]
            sizes = [f"#define WIDEST {_WIDEST_REGISTER}", "#define L_MAX 0", "#define TYPES 1"]
            yield [
                *(write_comment(title), "#define ONLY_CONVOLUTION", *numbers, *sizes),
                *(f"#define ELEMENT {element}", f'#include "{_RUNTIME}"', f'#include "{file}"'),
            ]

    def write_passes(self) -> list[str]:
        """Lines of the rest."""
        activations = {part.activation.name for layer in self.plan.layers for part in layer.scalars}
        activations |= {layer.gate.name for layer in self.plan.layers if layer.gate is not None}
        return [
            write_comment(f"A network of {len(self.layers)} layers, numbered from 0: its four passes."),
            *map(write_comment, _LEGEND),
            *self._define(self.plan.widest),
            *(f"DEFINE_GATE({C_NAMES[name]})" for name in sorted(activations)),
            *write_harmonics(self.plan.l_max),
            *(line for writer in self.convolutions.values() for line in writer.declare()),
            _FEATURES,
            *self._write_prepare(),
            *self._write_forward(),
            *self._write_reverse(),
            *self._write_tangent(),
            *(self._write_reverse_tangent() if self.hessian else self._write_dual()),
        ]

    def _declare_arrays(self, *names: str) -> Iterator[str]:
        """Of all layers."""
        yield from declare_arrays(self.plan, *((index, name) for index in range(len(self.layers)) for name in names))

    def _convolve(self, index: int, function: str, *arguments: str) -> Iterator[str]:
        inputs = cast_to_read(name_array("s", index))
        title = {
            "forward": "messages",
            "reverse": "adjoints of what was sent, of lengths and harmonics",
            "tangent": "tangent of the messages",
            "dual": "adjoints in the second pass, of what was sent and of the radial table",
            "reverse_tangent": "changes of the adjoints of what was sent, of lengths and harmonics",
        }[function]
        yield self.layers[index].describe(f"convolution: {title}")
        yield call(f"{self.convolution_of[index].name}_{function}", "net", "a", "stop", inputs, *arguments)

    def _write_prepare(self) -> Iterator[str]:
        yield write_comment("scaled and transposed copies of the weights, once for unchanged parameters")
        yield "void network_prepare(const Net *net) {"
        yield from open_threads()
        yield "#pragma omp single"
        yield "{"
        for layer in self.layers:
            yield from layer.prepare()
        yield from ("}", "}", "}")

    def _write_forward(self) -> Iterator[str]:
        count, embedding = len(self.layers), self.plan.embedding
        yield write_comment("forward pass: from edge vectors to the features of the last layer")
        yield "void network_forward(const Net *net) {"
        yield from self._declare_arrays("f", "s", "h")
        yield from declare_arrays(self.plan, (count, "f"))
        yield from open_threads()
        # Whoever has a block of atoms also evaluates the edges that it receives: they are in its cache for layer 0.
        yield from _open_blocks("edges: radial basis and harmonics; atoms: embedding of the species")
        yield "for (int64_t e = net->row[a]; e < net->row[stop]; e++) edge_forward(net, e, t);"
        row = f"net->parameters[0] + t * {embedding}"
        copy = call("memcpy", f"{name_array('f', 0)}[0] + i * {embedding}", row, f"sizeof(REAL) * {embedding}")
        yield f"for (int64_t i = a; i < stop; i++) {copy}"
        yield from self.layers[0].send("f", "s")
        yield "}"
        for index, layer in enumerate(self.layers):
            kinds = layer.layer.messages
            # The loop before has ended with a barrier: all atoms have sent when the first message is summed. Within a
            # layer none is needed, since an atom's update reads its own messages only.
            yield from _open_blocks(f"layer {index}")
            yield f"ALIGNED REAL local_messages[{self.block * sum_sizes(kinds)}];"
            # Predictions need the messages of a block only until they are mapped: they stay in the thread's cache.
            places = ", ".join(
                f"net->keep ? FEATURES({index_features(index, 'm')}, {start}) + a * {kind.size}"
                f" : local_messages + {self.block * start}"
                for start, kind in zip(list_starts(kinds), kinds, strict=True)
            )
            yield f"REAL *const messages[] = {{{places}}};"
            yield from self._convolve(index, "forward", layer.table, "messages")
            yield from layer.update("messages", "f", "h")
            yield from layer.write_gate_forward()
            if index + 1 < count:
                yield from self.layers[index + 1].send("f", "s")
            yield "}"
        yield from ("}", "}")

    def _write_reverse(self) -> Iterator[str]:
        yield write_comment("pass back: from the adjoint of the last features to the gradient by the edge vectors")
        yield "void network_reverse(const Net *net) {"
        yield from self._declare_arrays("s", "h", "yb", "hb", "mb", "sb")
        yield from open_threads()
        yield from write_edge_loop("copies of what belongs to the edges, by sending atom", "edge_sent(net, e);")
        for index, layer in reversed(list(enumerate(self.layers))):
            yield from _open_blocks(f"layer {index}: from its outputs to its messages")
            yield from layer.write_gate_reverse()
            yield from layer.update_reverse("hb", "mb", "yb" if index > 0 else None)
            yield "}"
            # A new loop, hence a barrier: an edge's sender reads the adjoint of the messages of the edge's receiver.
            yield from _open_blocks(f"layer {index}: from its messages to its inputs")
            # Nothing before the first layer depends on positions, so its inputs need no adjoint.
            if index > 0:
                yield _declare_from_block("sb", index, layer.layer.inputs, "sent")
            else:
                yield "REAL *const *sent = 0;"
            messages = cast_to_read(name_array("mb", index))
            yield from self._convolve(index, "reverse", messages, layer.table, "sent")
            if index > 0:
                yield from layer.send_reverse("sb", "yb")
            yield "}"
        yield from write_edge_loop("gradient by the edge vectors", "edge_reverse(net, e);")
        yield from ("}", "}")

    def _write_tangent(self) -> Iterator[str]:
        count = len(self.layers)
        yield write_comment("tangent pass: the change of all features along a change of the edge vectors")
        yield "void network_tangent(const Net *net) {"
        yield from self._declare_arrays("s", "h", "ft", "st", "mt", "ht")
        yield from declare_arrays(self.plan, (count, "ft"))
        yield from open_threads()
        yield from write_edge_loop("tangents of lengths and harmonics", "edge_tangent(net, e);")
        for index, layer in enumerate(self.layers):
            yield from _open_blocks(f"layer {index}: tangent")
            yield _declare_from_block("mt", index, layer.layer.messages, "messages")
            tangents = cast_to_read(name_array("st", index))
            yield from self._convolve(index, "tangent", tangents, layer.table, "messages")
            yield from layer.update("messages", "ft" if index > 0 else None, "ht")
            yield from layer.write_gate_tangent()
            if index + 1 < count:
                yield from self.layers[index + 1].send("ft", "st")
            yield "}"
        yield from ("}", "}")

    def _write_dual(self) -> Iterator[str]:
        yield write_comment("second pass back, through values and tangents together: gradients of all parameters")
        yield "void network_dual(const Net *net) {"
        yield from self._declare_arrays("f", "s", "m", "h", "ft", "st", "mt", "ht", "yb", "hb", "mb", "sb")
        yield from self._declare_arrays("yb2", "hb2", "mb2", "sb2")
        yield from declare_arrays(self.plan, (-1, "yb2"))
        yield write_comment("gradients of the radial tables, chunk by chunk")
        yield f"REAL *const tables = net->scratch + {self.weights.sums};"
        yield from open_threads()
        yield from write_edge_loop("copies of the edges' tangents, by sending atom", "edge_sent_tangent(net, e);")
        for index, layer in reversed(list(enumerate(self.layers))):
            yield from _open_blocks(f"layer {index}: second pass, from its outputs to its messages")
            yield from layer.write_gate_dual()
            yield from layer.update_reverse("hb2", "mb2", "yb2")
            yield "}"
            # A small batch has a chunk or two: the threads that get none begin with the gradients of the weights.
            yield from self._write_convolution_dual(index)
            yield from layer.write_gradients_of_update()
            yield "#pragma omp barrier"
            yield from self._write_table_sums(index)
            yield from layer.write_gradients_of_send()
            yield from layer.write_self_connection_gradients()
            # What the next layer overwrites has to be read by all threads before.
            yield "#pragma omp barrier"
        yield from self._write_embedding_gradient()
        yield from ("}", "}")

    def _write_reverse_tangent(self) -> Iterator[str]:
        yield from write_harmonics_adjoint_along(self.plan.l_max)
        yield f'#include "{_HESSIAN}"'
        yield write_comment("tangent of the pass back: the change of the gradient by the edge vectors")
        yield "void network_reverse_tangent(const Net *net) {"
        yield from self._declare_arrays("s", "h", "st", "ht", "yb", "mb", "yb2", "hb2", "mb2", "sb2")
        yield from open_threads()
        yield from write_edge_loop("copies of the edges' tangents, by sending atom", "edge_sent_change(net, e);")
        for index, layer in reversed(list(enumerate(self.layers))):
            yield from _open_blocks(f"layer {index}: from the changes of its outputs' adjoints to its messages'")
            yield from layer.write_gate_dual()
            yield from layer.update_reverse("hb2", "mb2", "yb2" if index > 0 else None)
            yield "}"
            yield from _open_blocks(f"layer {index}: from its messages to its inputs")
            if index > 0:
                yield _declare_from_block("sb2", index, layer.layer.inputs, "sent")
            else:
                yield "REAL *const *sent = 0;"
            arguments = [cast_to_read(name_array(name, index)) for name in ("st", "mb", "mb2")]
            yield from self._convolve(index, "reverse_tangent", *arguments, layer.table, "sent")
            if index > 0:
                yield from layer.send_reverse("sb2", "yb2")
            yield "}"
        yield from write_edge_loop("change of the gradient by the edge vectors", "edge_reverse_tangent(net, e);")
        yield from ("}", "}")

    def _write_convolution_dual(self, index: int) -> Iterator[str]:
        layer, width = self.layers[index], self.plan.layers[index].table.weight_numel
        size = self.plan.table_rows * width
        # All edges add to one radial table. Each chunk of atoms has one of its own, so no thread writes where another
        # does; there are as many chunks as the edges ask for, whatever the number of threads.
        yield write_comment(f"layer {index}: second pass, from its messages to its inputs and the radial table")
        yield from open_parallel_for("int64_t c = 0; c < net->chunks; c++", "dynamic, 1", wait=False)
        yield f"REAL *const sums = tables + c * {size};"
        yield f"memset(sums, 0, sizeof(REAL) * {size});"
        yield "for (int64_t b = net->chunk_block[c]; b < net->chunk_block[c + 1]; b++) {"
        yield from _BLOCK_RANGE
        yield _declare_from_block("sb2", index, layer.layer.inputs, "sent")
        arguments = [cast_to_read(name_array(name, index)) for name in ("st", "mb", "mb2")]
        yield from self._convolve(index, "dual", *arguments, layer.table, "sent", "sums")
        yield from layer.send_reverse("sb2", "yb2")
        yield from ("}", "}")

    def _write_table_sums(self, index: int) -> Iterator[str]:
        layer, width = self.layers[index], self.plan.layers[index].table.weight_numel
        size = self.plan.table_rows * width
        # Chunks are added in order: the result does not depend on the number of threads.
        yield layer.describe("radial table: sum of the chunks")
        yield from open_parallel_for(f"int64_t r = 0; r < {self.plan.table_rows}; r++", wait=False)
        yield f"REAL *const o = net->gradients[{layer.weights.table}] + r * {width};"
        yield call("memcpy", "o", f"tables + r * {width}", f"sizeof(REAL) * {width}")
        add = call("add_to", width, f"tables + c * {size} + r * {width}", "o")
        yield f"for (int64_t c = 1; c < net->chunks; c++) {add}"
        yield "}"

    def _write_embedding_gradient(self) -> Iterator[str]:
        embedding = self.plan.embedding
        yield write_comment("gradient of the embedding: as features of the first layer, and in the self-connections")
        yield from open_parallel_for("int64_t t = 0; t < TYPES; t++")
        yield f"REAL *const o = net->gradients[0] + t * {embedding};"
        yield f"memset(o, 0, sizeof(REAL) * {embedding});"
        add = call("add_to", embedding, f"{name_array('yb2', -1)}[0] + a * {embedding}", "o")
        yield f"for (int64_t a = net->type_start[t]; a < net->type_start[t + 1]; a++) {add}"
        for layer in self.layers:
            yield from layer.add_embedding_gradient()
        yield "}"


def _open_blocks(title: str) -> Iterator[str]:
    """A loop over the blocks of atoms.

    A block's atoms belong to one thread, and what an atom receives, sends or holds is written by that thread only.
    """
    yield write_comment(title)
    yield from open_parallel_for("int64_t b = 0; b < net->blocks; b++", "dynamic, 1")
    yield from _BLOCK_RANGE


def _declare_from_block(name: str, index: int, kinds: tuple[Kind, ...], variable: str) -> str:
    """An array of pointers to features from the block's first atom on."""
    pointers = ", ".join(locate_block(name_array(name, index), i, kind) for i, kind in enumerate(kinds))
    return f"REAL *const {variable}[] = {{{pointers}}};"


def _identify_table(table: PathTable) -> tuple[str, int, str]:
    return str(table.features), table.l_max, str([(path.source, path.degree, str(path.kind)) for path in table.paths])
