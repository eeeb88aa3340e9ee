"""Triton code of the convolution for one table of paths, with its first and second derivatives. For GPUs.

The sum ``S = sum_edges sum_paths sum_ijk C_ijk x_i Y_j w g_k`` (x features of the neighbour, g of the centre) is linear
in each of x, Y, w and g. The convolution is ``dS/dg``; its first derivatives are ``dS/dx, dS/dY, dS/dw``; and those of
``v . dS/d(x, Y, w)`` are sums of the same four with one of x, Y, w replaced by its v. So five functions share their
pieces.

One program is one warp. It owns an atom, a block of channels and a group of paths, and walks over the edges that the
atom receives (``centre``) or sends (``neighbour``), a few at a time: values are tiles of edges x channels, a thread
has several channels of one edge. So what is the same for all channels, products of harmonics and coefficients, is
computed once for several channels; loads are wide; and nothing is written per edge but what has an edge. No two
programs write to one place: there are no atomic operations, and results do not change from run to run.

Paths are unrolled. Groups of them bound the registers that one program needs.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import groupby

from nequip_like.nn.kernels.paths import PathTable
from nequip_like.nn.kernels.triton_paths import CodePath, Tile, groups_of_paths, groups_of_sources, paths_of

FUNCTIONS = ("forward", "first_centre", "first_neighbour", "second_centre", "second_neighbour")

_Parts = tuple[list[str], list[str], list[str]]  # lines before, inside and after the loop over edges

# Sums are written with the code's own ``add``: Triton's interpreter can run that, and not Triton's functions that are
# themselves kernels (tl.sum, tl.zeros) if Triton was imported before the interpreter was asked for.
_HEAD = '''\
"""Written by nequip_like.nn.kernels.triton_source."""

import triton
import triton.language as tl


@triton.jit
def add(one, two):
    return one + two

'''


def source_code(table: PathTable, tile: Tile) -> str:
    """Triton code for a table.

    Functions, with ``row`` the first edge of each atom, ``edge`` the edges in that order and ``other`` the atom at
    their other end: ``forward``, ``first_centre`` (gradients of harmonics and weights), ``first_neighbour`` (of
    features), ``second_centre`` (of harmonics, weights and outputs), ``second_neighbour`` (of features). Each is a
    kernel ``NAME_GROUP`` for each group of paths, launched on a grid (atoms, blocks of channels). Gradients of
    harmonics are parts, one for each block and group, which the caller adds up.
    """
    writer = _Writer(table, tile)
    return "\n".join([_HEAD, *(_function(writer, name) for name in FUNCTIONS)])


def _function(writer: _Writer, name: str) -> str:
    """Kernels of a function, one for each group.

    They are apart, not branches of one kernel: the time that Triton takes to compile grows with the square of the size.
    """
    groups = writer.sent if name.endswith("neighbour") else writer.received
    arguments = ", ".join(writer.arguments(name))
    lines = []
    for number, paths in enumerate(groups):
        lines.append(f"\n@triton.jit(do_not_specialize=['edges'])\ndef {name}_{number}({arguments}):")
        lines += [f"    {line}" for line in writer.body(name, number, paths)]
        lines.append("")
    return "\n".join(lines)


class _Writer:
    """Writes the functions; ``second_order`` adds what second derivatives need: ``v`` beside x, Y and w."""

    def __init__(self, table: PathTable, tile: Tile) -> None:
        paths = paths_of(table)
        self.tile = tile
        self.received = [[paths[number] for number in group] for group in groups_of_paths(table, tile)]
        self.sent = [[paths[number] for number in group] for group in groups_of_sources(table, tile)]
        self.sources = [(entry.ir.dim, entry.mul) for entry in table.features]
        self.kinds = [(entry.ir.dim, entry.mul) for entry in table.irreps_out]
        self.harmonics, self.weights = (table.l_max + 1) ** 2, table.weight_numel

    def arguments(self, name: str) -> list[str]:
        """Names of a function's arguments, in order; all are pointers, but ``edges``."""
        x, v, d = ([f"{letter}{s}" for s in range(len(self.sources))] for letter in "xvd")
        g, o = ([f"{letter}{k}" for k in range(len(self.kinds))] for letter in "go")
        start = ["row", "edge", "other"]
        return {
            "forward": [*start, *x, "Y", "w", *o],
            "first_centre": [*start, *x, "Y", "w", *g, "dY", "dw", "edges"],
            "first_neighbour": [*start, "Y", "w", *g, *d],
            "second_centre": [*start, *x, "Y", "w", *g, *v, "vY", "vw", *o, "dY", "dw", "edges"],
            "second_neighbour": [*start, "Y", "w", *g, "vY", "vw", *d],
        }[name]

    def body(self, name: str, group: int, paths: Sequence[CodePath]) -> list[str]:
        """Lines of a function for a group of paths."""
        second_order = name.startswith("second")
        prologue, loop, epilogue = {
            "forward": self._forward,
            "first_centre": self._centre,
            "first_neighbour": self._neighbour,
            "second_centre": self._centre,
            "second_neighbour": self._neighbour,
        }[name](paths, second_order, group)
        edges = self.tile.edges
        return [
            "atom = tl.program_id(0).to(tl.int64)",
            "block = tl.program_id(1)",
            f"one_u = block * {self.tile.channels} + tl.arange(0, {self.tile.channels})[None, :]",
            f"u = tl.broadcast_to(one_u, [{edges}, {self.tile.channels}])",
            f"lane = tl.arange(0, {edges})[:, None]",
            "first = tl.load(row + atom)",
            "last = tl.load(row + atom + 1)",
            *prologue,
            f"for start in range(first, last, {edges}):",
            *(f"    {line}" for line in [*self._edge(paths, name), *loop]),
            *epilogue,
        ]

    # --- the functions

    def _forward(self, paths: Sequence[CodePath], second_order: bool, group: int) -> _Parts:
        sums = [(f"o{path.number}_{k}", path, k) for path in paths for k in path.rows]
        loop: list[str] = []
        for source, of_source in groupby(paths, lambda path: path.source):
            loop += self._source(source, "x")
            for path in of_source:
                n = path.number
                loop += [*_matrix(path, "m", "Y"), self._weight(path, "w")]
                loop += [f"o{n}_{k} += w{n} * ({_product(path, k, 'm', 'x')})" for k in path.rows]
        return [self._zeros(name) for name, _, _ in sums], loop, self._results(paths)

    def _centre(self, paths: Sequence[CodePath], second_order: bool, group: int) -> _Parts:
        """Gradients of harmonics and weights; of second order also of the outputs.

        ``r_j = sum_ik C_ijk x_i g_k`` serves both: the gradient of the harmonics is ``w r_j``, that of the weight
        ``sum_j Y_j r_j``.
        """
        harmonics = sorted({j for path in paths for j in path.harmonics})
        prologue = self._kinds(paths, "atom")
        prologue += [self._zeros(f"o{path.number}_{k}") for path in paths for k in path.rows] if second_order else []
        loop = [f"at_dY = dY + (({group} * tl.num_programs(1) + block) * edges + e) * {self.harmonics}"]
        loop += [self._zeros(f"dY{j}") for j in harmonics]
        for source, of_source in groupby(paths, lambda path: path.source):
            loop += self._source(source, "xv" if second_order else "x")
            for path in of_source:
                loop += self._centre_path(path, second_order)
        for j in harmonics:
            loop.append(f"tl.store(at_dY + {j}, tl.reduce(dY{j}, 1, add, keep_dims=True), mask=live)")
        for j in sorted(set(range(self.harmonics)) - set(harmonics)):
            loop.append(f"tl.store(at_dY + {j}, tl.full([{self.tile.edges}, 1], 0.0, w.dtype.element_ty), mask=live)")
        return prologue, loop, self._results(paths) if second_order else []

    def _centre_path(self, path: CodePath, second_order: bool) -> list[str]:
        n = path.number
        lines = [self._weight(path, "w")]
        lines += self._gradients(path, "")
        lines += _gradient_matrix(path)
        lines += [f"r{n}_{j} = {_pulled(path, j, 'x')}" for j in path.harmonics]
        if not second_order:
            lines += [f"dY{j} += w{n} * r{n}_{j}" for j in path.harmonics]
            total = " + ".join(f"Y{j} * r{n}_{j}" for j in path.harmonics)
            return [*lines, self._store_weight(path, total)]
        lines += [self._weight(path, "vw"), *_matrix(path, "m", "Y"), *_matrix(path, "n", "vY")]
        lines += [f"s{n}_{j} = {_pulled(path, j, 'v')}" for j in path.harmonics]
        lines += [f"dY{j} += {factor}" for j in path.harmonics for factor in (f"w{n} * s{n}_{j}", f"vw{n} * r{n}_{j}")]
        total = " + ".join(f"Y{j} * s{n}_{j} + vY{j} * r{n}_{j}" for j in path.harmonics)
        lines.append(self._store_weight(path, total))
        for k in path.rows:
            mixed = f"{_product(path, k, 'm', 'v')} + {_product(path, k, 'n', 'x')}"
            lines.append(f"o{n}_{k} += w{n} * ({mixed})")
            lines.append(f"o{n}_{k} += vw{n} * ({_product(path, k, 'm', 'x')})")
        return lines

    def _neighbour(self, paths: Sequence[CodePath], second_order: bool, group: int) -> _Parts:
        """Gradients of the features, by the edges that an atom sends."""
        prologue, loop, epilogue = [], self._kinds(paths, "other_atom"), []
        for source in sorted({path.source for path in paths}):
            dim, width = self.sources[source]
            for i in range(dim):
                prologue.append(self._zeros(f"d{source}_{i}"))
                place = f"d{source} + atom * {dim * width} + {i * width} + one_u"
                value = f"tl.reduce(d{source}_{i}, 0, add, keep_dims=True)"
                epilogue.append(f"tl.store({place}, {value}{self._mask(width, '', 'one_u')})")
        for path in paths:
            n = path.number
            loop += [self._weight(path, "w"), *_matrix(path, "m", "Y")]
            loop += self._gradients(path, "live")
            if second_order:
                loop += [self._weight(path, "vw"), *_matrix(path, "n", "vY")]
            factors = [("w", "n"), ("vw", "m")] if second_order else [("w", "m")]
            loop += [
                f"d{path.source}_{i} += {weight}{n} * ({_transposed_product(path, i, matrix)})"
                for i in path.columns
                for weight, matrix in factors
            ]
        return prologue, loop, epilogue

    # --- pieces

    def _edge(self, paths: Sequence[CodePath], name: str) -> list[str]:
        """Edges of the tile, the atom at the other end, their weights and harmonics."""
        lines = ["s = start + lane", "live = s < last", "e = tl.load(edge + s, mask=live, other=0)"]
        lines.append("other_atom = tl.load(other + s, mask=live, other=0)")
        arguments = self.arguments(name)
        lines += [f"at_{w} = {w} + (e * {self.weights} + u)" for w in ("w", "vw", "dw") if w in arguments]
        lines += [f"at_{y} = {y} + e * {self.harmonics}" for y in ("Y", "vY") if y in arguments]
        for j in sorted({j for path in paths for j in path.harmonics}):
            lines += [f"{y}{j} = tl.load(at_{y} + {j}, mask=live, other=0.0)" for y in ("Y", "vY") if y in arguments]
        return lines

    def _source(self, source: int, names: str) -> Iterator[str]:
        dim, width = self.sources[source]
        for name in names:
            yield f"at_{name} = {name}{source} + (other_atom * {dim * width} + u)"
            for i in range(dim):
                yield f"{name}{source}_{i} = tl.load(at_{name} + {i * width}{self._mask(width, 'live', load=True)})"

    def _weight(self, path: CodePath, name: str) -> str:
        value = f"tl.load(at_{name} + {path.weight}{self._mask(path.width, 'live', load=True)})"
        return f"{name}{path.number} = {value}{_times(path)}"

    def _store_weight(self, path: CodePath, value: str) -> str:
        return f"tl.store(at_dw + {path.weight}, ({value}){_times(path)}{self._mask(path.width, 'live')})"

    def _gradients(self, path: CodePath, live: str) -> list[str]:
        """Gradients of the path's results."""
        n, mask = path.number, self._mask(path.width, live, load=True)
        return [f"g{n}_{k} = tl.load(at_g{path.kind} + {k * path.channels + path.offset}{mask})" for k in path.rows]

    def _kinds(self, paths: Sequence[CodePath], atom: str) -> list[str]:
        """Where the gradients of an atom's results begin."""
        kinds = sorted({path.kind for path in paths})
        return [f"at_g{kind} = g{kind} + ({atom} * {math.prod(self.kinds[kind])} + u)" for kind in kinds]

    def _results(self, paths: Sequence[CodePath]) -> list[str]:
        """Store the sums of the group's paths."""
        lines = []
        for path in paths:
            for k in range(self.kinds[path.kind][0]):
                if k in path.rows:
                    value = f"tl.reduce(o{path.number}_{k}, 0, add, keep_dims=True)"
                else:
                    value = f"tl.full([1, {self.tile.channels}], 0.0, w.dtype.element_ty)"
                place = f"o{path.kind} + atom * {math.prod(self.kinds[path.kind])} + {k * path.channels + path.offset}"
                lines.append(f"tl.store({place} + one_u, {value}{self._mask(path.width, '', 'one_u')})")
        return lines

    def _zeros(self, name: str) -> str:
        return f"{name} = tl.full([{self.tile.edges}, {self.tile.channels}], 0.0, w.dtype.element_ty)"

    def _mask(self, width: int, live: str, channel: str = "u", load: bool = False) -> str:
        """Keyword for edges beyond the last and channels beyond the width; empty where there are none."""
        parts = [live] if live else []
        if width % self.tile.channels:
            parts.append(f"({channel} < {width})")
        if not parts:
            return ""
        return f", mask={' & '.join(parts)}" + (", other=0.0" if load else "")


def _matrix(path: CodePath, name: str, harmonics: str) -> list[str]:
    lines = []
    for k, i in path.entries:
        terms = [(t.value, f"{harmonics}{t.j}") for t in path.terms if (t.k, t.i) == (k, i)]
        lines.append(f"{name}{path.number}_{k}_{i} = {_combination(terms)}")
    return lines


def _combination(terms: Sequence[tuple[float, str]]) -> str:
    """Sum of multiples; a factor of 1 is not written."""
    return " + ".join({1.0: name, -1.0: f"(-{name})"}.get(value, f"{value!r} * {name}") for value, name in terms)


def _times(path: CodePath) -> str:
    return "" if path.scale == 1.0 else f" * {path.scale!r}"


def _product(path: CodePath, k: int, matrix: str, vector: str) -> str:
    """Row k of the matrix times the source."""
    return " + ".join(
        f"{matrix}{path.number}_{k}_{i} * {vector}{path.source}_{i}" for row, i in path.entries if row == k
    )


def _transposed_product(path: CodePath, i: int, matrix: str) -> str:
    """Column i of the matrix times the gradient of the result."""
    return " + ".join(
        f"{matrix}{path.number}_{k}_{i} * g{path.number}_{k}" for k, column in path.entries if column == i
    )


def _gradient_matrix(path: CodePath) -> list[str]:
    """``h_ji = sum_k C_ijk g_k``."""
    lines = []
    for j, i in sorted({(t.j, t.i) for t in path.terms}):
        terms = [(t.value, f"g{path.number}_{t.k}") for t in path.terms if (t.j, t.i) == (j, i)]
        lines.append(f"h{path.number}_{j}_{i} = {_combination(terms)}")
    return lines


def _pulled(path: CodePath, j: int, vector: str) -> str:
    """``sum_i h_ji x_i``."""
    columns = sorted({t.i for t in path.terms if t.j == j})
    return " + ".join(f"h{path.number}_{j}_{i} * {vector}{path.source}_{i}" for i in columns)
