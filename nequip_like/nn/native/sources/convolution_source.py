"""C code of the convolution for one table of paths, and of its derivatives.

The sum ``S = sum_edges sum_paths sum_ijk C_ijk x_i Y_j w g_k`` (x features of the sender, g adjoint of the receiver's
messages) is linear in each of x, Y, w and g. So all that training needs is the same contraction with roles exchanged:

- ``forward``: the messages ``dS/dg``;
- ``reverse``: the adjoints of the features, of the harmonics, and of the edge's length (through ``dw/dr``);
- ``tangent``: the change of the messages along a change of x, Y and w (a derivative of ``forward``, so a sum of it with
  one argument replaced by its tangent);
- ``dual``: the adjoints of features and radial table of ``S`` and of its tangent together;
- ``reverse_tangent``, for Hessians, in the place of ``dual``: the adjoints of features, harmonics and length of both.

The first and the third run over the edges that an atom receives, the others over those that it sends: what an atom
accumulates stays in cache, and no two threads write to one place. For an edge, a source degree, a harmonic degree and
a result degree, harmonics and Clebsch-Gordan coefficients give a small matrix ``m[k][i]`` of scalars, which serves the
paths of both parities; vectors run over channels. Nothing is written per edge and channel.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from dataclasses import dataclass

from torch import Tensor

from nequip_like.nn.kernels.paths import PathTable, PlacedPath
from nequip_like.nn.native.sources.formatting import write_comment

_TINY = 1e-12  # Clebsch-Gordan coefficients below it are zeros with a rounding error


@dataclass(frozen=True)
class _PathGroup:
    """Paths of the same degrees, which share their coefficients ``C[i][j][k]``."""

    degrees: tuple[int, int, int]
    coupling: Tensor
    paths: list[PlacedPath]

    @property
    def degree(self) -> int:
        """Degree of the harmonics."""
        return self.degrees[1]

    def list_entries(self) -> list[tuple[int, int]]:
        """Places ``(k, i)`` of the matrix that are not zero for all harmonics."""
        nonzero = self.coupling.abs().amax(dim=1) > _TINY
        return [(int(k), int(i)) for i, k in nonzero.nonzero().tolist()]

    def list_terms(self, j: int) -> list[tuple[int, int, float]]:
        """``(i, k, C_ijk)`` of one harmonic."""
        return [
            (i, k, float(self.coupling[i, j, k])) for i, k in (self.coupling[:, j].abs() > _TINY).nonzero().tolist()
        ]

    @property
    def rows(self) -> list[int]:
        """Components of the result."""
        return sorted({k for k, _ in self.list_entries()})

    @property
    def columns(self) -> list[int]:
        """Components of the source."""
        return sorted({i for _, i in self.list_entries()})

    def describe(self) -> str:
        """The product in words."""
        source, harmonic, result = self.degrees
        return write_comment(f"paths l={source} (x) Y_{harmonic} -> l={result}: coefficients times harmonics")


class ConvolutionWriter:
    """Writes the four functions for a table.

    Args:
        table: The paths.
        name: Beginning of the functions' names.
        moving: Whether the features depend on the positions; those of the first layer do not, so that they need no
            adjoint in ``reverse`` and have no tangent.
        hessian: Whether ``reverse_tangent`` is written in the place of ``dual``.
    """

    def __init__(self, table: PathTable, name: str, moving: bool, hessian: bool = False) -> None:
        self.name, self.moving = name, moving
        self.last = "reverse_tangent" if hessian else "dual"
        self.groups = _group_paths(table)
        self.source_sizes = [entry.dim for entry in table.features]
        self.message_sizes = [entry.dim for entry in table.irreps_out]
        self.weight_count = table.weight_numel

    def write(self) -> Iterator[str]:
        """Lines of all four."""
        yield from self._write_forward()
        yield from self._write_reverse()
        yield from self._write_tangent()
        yield from self._write_dual() if self.last == "dual" else self._write_reverse_tangent()

    def declare(self) -> Iterator[str]:
        """Their prototypes."""
        for function in ("forward", "reverse", "tangent", self.last):
            yield f"{self._declare(function)};"

    def _declare(self, function: str) -> str:
        second = (
            "const REAL *const *st, const REAL *const *g, const REAL *const *g2, const REAL *table, REAL *const *xb"
        )
        arguments = {
            "forward": "const REAL *table, REAL *const *o",
            "reverse": "const REAL *const *g, const REAL *table, REAL *const *xb",
            "tangent": "const REAL *const *st, const REAL *table, REAL *const *o",
            "dual": f"{second}, REAL *table_gradient",
            "reverse_tangent": second,
        }[function]
        common = "const Net *net, int64_t start, int64_t stop, const REAL *const *s"
        return f"void {self.name}_{function}({common}, {arguments})"

    def _write_forward(self) -> Iterator[str]:
        yield write_comment("messages o that the atoms start .. stop receive, of the features s of their neighbours")
        yield from self._open_received_edges("forward")
        yield "weights_at(basis, interval, table, WIDTH, w);"
        yield from _declare_pointers("X", "s", "sender", self.source_sizes)
        for group in self.groups:
            yield from _open_matrix(group, "m", "Y")
            for path in group.paths:
                yield from self._open_channels(path, slope=False)
                yield from _load_components(path, "x", "X", group.columns)
                # The weight multiplies the shorter of the two sides: fewer products for each channel.
                early = len(group.columns) < len(group.rows)
                if early:
                    yield from (f"x_{i} *= w_u;" for i in group.columns)
                for k in group.rows:
                    total = _sum_row(group, "m", "x", k)
                    yield f"AT(O{path.kind} + {_place(path, k)} + u) += {total if early else f'w_u * ({total})'};"
                yield "}"
            yield "}"
        yield from ("}", "}", "}")

    def _write_reverse(self) -> Iterator[str]:
        yield write_comment("adjoints: xb of what atoms start .. stop send, of lengths and harmonics of the edges")
        yield from self._open_sent_edges("reverse")
        yield "weights_and_slopes_at(basis, interval, table, WIDTH, w, slope);"
        yield from _declare_pointers("G", "g", "centre", self.message_sizes)
        for group in self.groups:
            yield from _open_matrix(group, "m", "Y")
            for path in group.paths:
                yield from self._open_channels(path)
                yield from _load_components(path, "x", "X", group.columns)
                yield from _load_components(path, "g", "G", group.rows)
                yield from _pull_back(group, "b", [("m", "g")])
                yield f"along += slope_u * ({_contract(group.columns, 'x', 'b')});"
                if self.moving:
                    yield from (f"AT(D{path.source} + {i * path.width} + u) += w_u * b_{i};" for i in group.columns)
                # Y_0 is constant: nothing comes back to the direction through it.
                if group.degree > 0:
                    yield from _add_harmonics_gradient(group, "x_{i} * g_{k}", "w_u * ")
                yield "}"
            yield "}"
        yield from _add_edge_sums()
        yield from ("}", "}", "}")

    def _write_tangent(self) -> Iterator[str]:
        yield write_comment("tangents o of the messages, along the tangents st of the features and those of the edges")
        yield from self._open_received_edges("tangent")
        yield "const REAL *Yt = net->harmonics_tangent + e * HARMONICS, dr = net->length_tangent[e];"
        yield "weights_and_slopes_at(basis, interval, table, WIDTH, w, slope);"
        yield from _declare_pointers("X", "s", "sender", self.source_sizes)
        if self.moving:
            yield from _declare_pointers("Xt", "st", "sender", self.source_sizes)
        for group in self.groups:
            yield from _open_matrix(group, "m", "Y")
            yield from _add_tangent_matrix(group)
            for path in group.paths:
                yield from self._open_channels_with_tangents(group, path)
                # The product rule: one factor of x Y w at a time is replaced by its tangent. p has that of x and of
                # w, and meets the matrix m of Y; q has none, and meets the matrix n of Y's tangent.
                for i in group.columns:
                    replaced = f"w_u * xt_{i} + wt_u * x_{i}" if self.moving else f"wt_u * x_{i}"
                    yield f"const V p_{i} = {replaced}, q_{i} = w_u * x_{i};"
                for k in group.rows:
                    total = _sum_row(group, "m", "p", k)
                    if group.degree > 0:
                        total += " + " + _sum_row(group, "n", "q", k)
                    yield f"AT(O{path.kind} + {_place(path, k)} + u) += {total};"
                yield "}"
            yield "}"
        yield from ("}", "}", "}")

    def _write_dual(self) -> Iterator[str]:
        yield write_comment("adjoints, from messages (g2) and their tangents (g): xb of features, and of the table")
        # The first layer's features need an adjoint here, too: the embedding is trained.
        yield from self._open_sent_edges("dual", always=True)
        yield "ALIGNED REAL wb[WIDTH], wtb[WIDTH];"
        yield from self._load_tangents_of_edge()
        for group in self.groups:
            yield from _open_matrix(group, "m", "Y")
            yield from _add_tangent_matrix(group)
            for path in group.paths:
                weight_adjoint = yield from self._pull_back_with_tangents(group, path, adjoint=True)
                # Every weight belongs to one path, so these are set, not added to, and need not be cleared before.
                yield f"AT(wb + {path.weight} + u) = {weight_adjoint};"
                yield f"AT(wtb + {path.weight} + u) = {_contract(group.columns, 'x', 'b')};"
                yield "}"
            yield "}"
        # Edges of all atoms add to the same rows: each chunk of atoms has a table_gradient of its own.
        yield "table_gradient_at(basis, interval, dr, wb, wtb, WIDTH, table_gradient);"
        yield from ("}", "}", "}")

    def _write_reverse_tangent(self) -> Iterator[str]:
        yield write_comment("changes of what reverse gives, from those (g2) of the messages' adjoints (g)")
        yield from self._open_sent_edges("reverse_tangent")
        yield "ALIGNED REAL bend[WIDTH];"
        yield from self._load_tangents_of_edge()
        yield "weights_at(net->sent_curvature + i * TAPS, interval, table, WIDTH, bend);"
        change = "w_u * (x_{i} * h_{k}" + (" + xt_{i} * g_{k})" if self.moving else ")") + " + wt_u * x_{i} * g_{k}"
        for group in self.groups:
            yield from _open_matrix(group, "m", "Y")
            yield from _add_tangent_matrix(group)
            for path in group.paths:
                weight_adjoint = yield from self._pull_back_with_tangents(group, path, adjoint=self.moving)
                bent = f"dr * GET(bend + {path.weight} + u) * ({_contract(group.columns, 'x', 'b')})"
                yield f"along += slope_u * ({weight_adjoint}) + {bent};"
                if group.degree > 0:
                    yield from _add_harmonics_gradient(group, change, "")
                yield "}"
            yield "}"
        yield from _add_edge_sums("_tangent")
        yield from ("}", "}", "}")

    def _open_received_edges(self, function: str) -> Iterator[str]:
        """Loops over atoms and the edges that they receive; outputs begin at the first atom."""
        yield f"{self._declare(function)} {{"
        yield f"enum {{ WIDTH = {self.weight_count} }};"
        yield "for (int64_t a = start; a < stop; a++) {"
        yield from _clear_outputs("O", "o", self.message_sizes)
        yield write_comment("edges that atom a receives")
        yield "for (int64_t e = net->row[a]; e < net->row[a + 1]; e++) {"
        yield "const int64_t interval = net->interval[e], sender = net->neighbour[e];"
        yield _skip_beyond_cutoff()
        yield "const REAL *Y = net->harmonics + e * HARMONICS, *basis = net->basis + e * 2 * TAPS;"
        yield "ALIGNED REAL w[WIDTH], slope[WIDTH] UNUSED;"

    def _open_sent_edges(self, function: str, always: bool = False) -> Iterator[str]:
        """Loops over atoms and the edges that they send.

        Edges are sorted by sender for this: what comes back to an atom is then added by the one thread that has the
        atom, in an order that does not depend on the number of threads.
        """
        yield f"{self._declare(function)} {{"
        yield f"enum {{ WIDTH = {self.weight_count} }};"
        yield "for (int64_t a = start; a < stop; a++) {"
        yield from _declare_pointers("X", "s", "a", self.source_sizes)
        if self.moving and function == self.last:
            yield from _declare_pointers("Xt", "st", "a", self.source_sizes)
        if self.moving or always:
            yield from _clear_outputs("D", "xb", self.source_sizes)
        yield write_comment("edges that atom a sends")
        yield "for (int64_t i = net->sent_row[a]; i < net->sent_row[a + 1]; i++) {"
        yield "const int64_t interval = net->sent_interval[i], centre = net->sent_centre[i];"
        yield _skip_beyond_cutoff()
        yield "const REAL *Y = net->sent_harmonics + i * HARMONICS, *basis = net->sent_basis + i * 2 * TAPS;"
        yield "ALIGNED REAL w[WIDTH], slope[WIDTH];"
        if function != "dual":
            yield write_comment("sums over the channels: along (the length's) and turn (the harmonics')")
            yield "V along = {0}, turn[HARMONICS];"
            yield "for (int j = 0; j < HARMONICS; j++) turn[j] = (V){0};"

    @staticmethod
    def _open_channels(path: PlacedPath, slope: bool = True) -> Iterator[str]:
        """A loop over a path's channels, a vector of them at a time, with their weights."""
        yield write_comment(f"path {path.number}")
        yield f"EACH(u, {path.width}) {{"
        yield f"const V w_u = GET(w + {path.weight} + u);"
        if slope:
            yield f"const V slope_u = GET(slope + {path.weight} + u);"

    def _open_channels_with_tangents(self, group: _PathGroup, path: PlacedPath) -> Iterator[str]:
        """The same with the source's components, and the tangents of both."""
        yield from self._open_channels(path)
        yield "const V wt_u = dr * slope_u;"
        yield from _load_components(path, "x", "X", group.columns)
        if self.moving:
            yield from _load_components(path, "xt", "Xt", group.columns)

    def _load_tangents_of_edge(self) -> Iterator[str]:
        """Of an edge that is sent: its tangents, its weights, and where its receiver's adjoints lie."""
        yield "const REAL *Yt = net->sent_harmonics_tangent + i * HARMONICS, dr = net->sent_length_tangent[i];"
        yield "weights_and_slopes_at(basis, interval, table, WIDTH, w, slope);"
        yield from _declare_pointers("G", "g", "centre", self.message_sizes)
        yield from _declare_pointers("H", "g2", "centre", self.message_sizes)

    def _pull_back_with_tangents(self, group: _PathGroup, path: PlacedPath, adjoint: bool) -> Generator[str, None, str]:
        """A path's channels, with ``adjoint`` its part of the features' adjoint; returns that of the weights."""
        yield from self._open_channels_with_tangents(group, path)
        yield from _load_components(path, "g", "G", group.rows)
        yield from _load_components(path, "h", "H", group.rows)
        yield from _pull_back(group, "b", [("m", "g")])
        yield from _pull_back(group, "a", [("m", "h"), *([("n", "g")] if group.degree > 0 else [])])
        for i in group.columns if adjoint else ():
            yield f"AT(D{path.source} + {i * path.width} + u) += w_u * a_{i} + wt_u * b_{i};"
        weight_adjoint = _contract(group.columns, "x", "a")
        return f"{weight_adjoint} + {_contract(group.columns, 'xt', 'b')}" if self.moving else weight_adjoint


def _group_paths(table: PathTable) -> list[_PathGroup]:
    groups: dict[tuple[int, int, int], _PathGroup] = {}
    for path, placed in zip(table.paths, table.placed(), strict=True):
        degrees = (table.features[path.source].ir.l, path.degree, path.kind.l)
        if degrees not in groups:
            groups[degrees] = _PathGroup(degrees, table.coupling(path), [])
        groups[degrees].paths.append(placed)
    return list(groups.values())


def _skip_beyond_cutoff() -> str:
    # A neighbour list with a skin holds such edges; they have no basis and no harmonics.
    return "if (interval < 0) continue;"


def _open_matrix(group: _PathGroup, name: str, harmonics: str) -> Iterator[str]:
    """A block with the scalars ``m_k_i = sum_j C_ijk Y_j``, which all channels of all paths of the group share."""
    yield group.describe()
    yield "{"
    yield from _write_matrix(group, name, harmonics)


def _add_tangent_matrix(group: _PathGroup) -> Iterator[str]:
    """In the same block the scalars ``n_k_i`` of the harmonics' tangents; Y_0 is constant and has none."""
    if group.degree > 0:
        yield from _write_matrix(group, "n", "Yt")


def _write_matrix(group: _PathGroup, name: str, harmonics: str) -> Iterator[str]:
    for k, i in group.list_entries():
        terms = [
            f"(REAL){value!r}" + (f" * {harmonics}[{group.degree**2 + j}]" if group.degree else "")
            for j, value in enumerate(group.coupling[i, :, k].tolist())
            if abs(value) > _TINY
        ]
        yield f"const REAL {name}_{k}_{i} = {' + '.join(terms)};"


def _pull_back(group: _PathGroup, name: str, pairs: list[tuple[str, str]]) -> Iterator[str]:
    """Results brought back to the source: ``name_i = sum_k m_ki g_k``."""
    for i in group.columns:
        terms = [f"{m}_{k}_{i} * {g}_{k}" for m, g in pairs for k, column in group.list_entries() if column == i]
        yield f"const V {name}_{i} = {' + '.join(terms)};"


def _add_edge_sums(end: str = "") -> Iterator[str]:
    # An edge is sent by one atom and an atom belongs to one thread, so nobody else adds to these two.
    yield f"net->length_gradient{end}[i] += sum_lanes(along);"
    yield f"for (int j = 1; j < HARMONICS; j++) net->harmonics_gradient{end}[i * HARMONICS + j] += sum_lanes(turn[j]);"


def _add_harmonics_gradient(group: _PathGroup, product: str, weight: str) -> Iterator[str]:
    """Of each harmonic of the group: ``turn_j += weight sum_ik C_ijk product_ik``."""
    harmonics = range(group.coupling.shape[1])
    # The products are made once, since several harmonics need the same one.
    pairs = {(i, k) for j in harmonics for i, k, _ in group.list_terms(j)}
    yield from (f"const V q_{i}_{k} = {product.format(i=i, k=k)};" for i, k in sorted(pairs))
    for j in harmonics:
        if terms := [f"(REAL){value!r} * q_{i}_{k}" for i, k, value in group.list_terms(j)]:
            yield f"turn[{group.degree**2 + j}] += {weight}({' + '.join(terms)});"


def _declare_pointers(name: str, array: str, atom: str, sizes: list[int]) -> Iterator[str]:
    """Where an atom's features begin, kind by kind."""
    yield from (f"const REAL *{name}{i} = {array}[{i}] + {atom} * {size};" for i, size in enumerate(sizes))


def _clear_outputs(name: str, array: str, sizes: list[int]) -> Iterator[str]:
    """The same of what is written, at zero: sums over edges begin there."""
    for i, size in enumerate(sizes):
        yield f"REAL *{name}{i} = {array}[{i}] + (a - start) * {size};"
        yield f"memset({name}{i}, 0, sizeof(REAL) * {size});"


def _load_components(path: PlacedPath, name: str, array: str, components: list[int]) -> Iterator[str]:
    """Vectors ``name_c`` of a source's or of a result's components."""
    for c in components:
        # Sources have their own channels only; a result shares its kind with the results of other paths.
        place = (
            f"{array}{path.source} + {c * path.width}"
            if array.startswith("X")
            else f"{array}{path.kind} + {_place(path, c)}"
        )
        yield f"V {name}_{c} = GET({place} + u);"


def _sum_row(group: _PathGroup, matrix: str, vector: str, k: int) -> str:
    return " + ".join(f"{matrix}_{k}_{i} * {vector}_{i}" for row, i in group.list_entries() if row == k)


def _contract(components: list[int], vector: str, covector: str) -> str:
    return " + ".join(f"{vector}_{i} * {covector}_{i}" for i in components)


def _place(path: PlacedPath, k: int) -> int:
    """First channel of a path's component k within its kind."""
    return k * path.channels + path.offset
