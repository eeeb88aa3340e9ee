"""C code of the convolution for one table of paths, and of its derivatives.

The sum ``S = sum_edges sum_paths sum_ijk C_ijk x_i Y_j w g_k`` (x features of the sender, g adjoint of the receiver's
messages) is linear in each of x, Y, w and g. So all that training needs is the same contraction with roles exchanged:

- ``forward``: the messages ``dS/dg``;
- ``reverse``: the adjoints of the features, of the harmonics, and of the edge's length (through ``dw/dr``);
- ``tangent``: the change of the messages along a change of x, Y and w (a derivative of ``forward``, so a sum of it with
  one argument replaced by its tangent);
- ``dual``: the adjoints of features and radial table of ``S`` and of its tangent together.

The first and the third run over the edges that an atom receives, the others over those that it sends: what an atom
accumulates stays in cache, and no two threads write to one place. For an edge, a source degree, a harmonic degree and
a result degree, harmonics and Clebsch-Gordan coefficients give a small matrix ``m[k][i]`` of scalars, which serves the
paths of both parities; vectors run over channels. Nothing is written per edge and channel.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from torch import Tensor

from nequip_like.nn.kernels.paths import PathTable, PlacedPath

_TINY = 1e-12


@dataclass(frozen=True)
class _Group:
    """Paths of the same degrees, which share their coefficients ``C[i][j][k]``."""

    degree: int
    coupling: Tensor
    paths: list[PlacedPath]

    def entries(self) -> list[tuple[int, int]]:
        """Places ``(k, i)`` of the matrix that are not zero for all harmonics."""
        found = self.coupling.abs().amax(dim=1) > _TINY
        return [(int(k), int(i)) for i, k in found.nonzero().tolist()]

    def terms(self, j: int) -> list[tuple[int, int, float]]:
        """``(i, k, C_ijk)`` of one harmonic."""
        return [
            (i, k, float(self.coupling[i, j, k])) for i, k in (self.coupling[:, j].abs() > _TINY).nonzero().tolist()
        ]

    @property
    def rows(self) -> list[int]:
        """Components of the result."""
        return sorted({k for k, _ in self.entries()})

    @property
    def columns(self) -> list[int]:
        """Components of the source."""
        return sorted({i for _, i in self.entries()})


class ConvolutionWriter:
    """Writes the four functions for a table.

    Args:
        table: The paths.
        name: Beginning of the functions' names.
        moving: Whether the features depend on the positions; those of the first layer do not, so that they need no
            adjoint in ``reverse`` and have no tangent.
    """

    def __init__(self, table: PathTable, name: str, moving: bool) -> None:
        self.name, self.moving = name, moving
        self.groups = _groups(table)
        self.sources = [entry.dim for entry in table.features]
        self.kinds = [entry.dim for entry in table.irreps_out]
        self.weights = table.weight_numel

    def code(self) -> str:
        """C code of all four."""
        return "\n".join("\n".join(part) for part in (self._forward(), self._reverse(), self._tangent(), self._dual()))

    def declarations(self) -> str:
        """Their prototypes."""
        signatures = (self._signature(kind) for kind in ("forward", "reverse", "tangent", "dual"))
        return "\n".join(f"{signature};" for signature in signatures)

    def _signature(self, function: str) -> str:
        arguments = {
            "forward": "const REAL *table, REAL *const *o",
            "reverse": "const REAL *const *g, const REAL *table, REAL *const *xb",
            "tangent": "const REAL *const *st, const REAL *table, REAL *const *o",
            "dual": "const REAL *const *st, const REAL *const *g, const REAL *const *g2, const REAL *table, "
            "REAL *const *xb, REAL *table_gradient",
        }[function]
        common = "const Net *net, int64_t start, int64_t stop, const REAL *const *s"
        return f"void {self.name}_{function}({common}, {arguments})"

    def _forward(self) -> Iterator[str]:
        yield from self._received("forward")
        yield "weights_at(basis, interval, table, WIDTH, w);"
        yield from _pointers("X", "s", "sender", self.sources)
        for group in self.groups:
            yield from _matrix(group, "m", "Y")
            for path in group.paths:
                yield from self._channels(path, slope=False)
                yield from _loads(path, "x", "X", group.columns)
                # The weight multiplies the shorter of the two sides.
                early = len(group.columns) < len(group.rows)
                if early:
                    yield from (f"x_{i} *= w_u;" for i in group.columns)
                for k in group.rows:
                    total = _sum(group, "m", "x", k)
                    yield f"AT(O{path.kind} + {_at(path, k)}) += {total if early else f'w_u * ({total})'};"
                yield "}"
            yield "}"
        yield "}}}"

    def _reverse(self) -> Iterator[str]:
        yield from self._sent("reverse", "xb")
        yield "weights_and_slopes_at(basis, interval, table, WIDTH, w, slope);"
        yield from _pointers("G", "g", "centre", self.kinds)
        yield "V along = {0}, turn[HARMONICS];"
        yield "for (int j = 0; j < HARMONICS; j++) turn[j] = (V){0};"
        for group in self.groups:
            yield from _matrix(group, "m", "Y")
            for path in group.paths:
                yield from self._channels(path)
                yield from _loads(path, "x", "X", group.columns)
                yield from _loads(path, "g", "G", group.rows)
                yield from self._turned(group, "b", [("m", "g")])
                yield f"along += slope_u * ({_dot(group.columns, 'x', 'b')});"
                if self.moving:
                    yield from (f"AT(D{path.source} + {i * path.width} + u) += w_u * b_{i};" for i in group.columns)
                if group.degree > 0:  # Y_0 is constant
                    yield from _harmonics_gradient(group)
                yield "}"
            yield "}"
        yield "net->length_gradient[i] += sum_lanes(along);"
        yield "for (int j = 1; j < HARMONICS; j++) net->harmonics_gradient[i * HARMONICS + j] += sum_lanes(turn[j]);"
        yield "}}}"

    def _tangent(self) -> Iterator[str]:
        yield from self._received("tangent")
        yield "const REAL *Yt = net->harmonics_tangent + e * HARMONICS, dr = net->length_tangent[e];"
        yield "weights_and_slopes_at(basis, interval, table, WIDTH, w, slope);"
        yield from _pointers("X", "s", "sender", self.sources)
        if self.moving:
            yield from _pointers("Xt", "st", "sender", self.sources)
        for group in self.groups:
            yield from _matrix(group, "m", "Y")
            yield from _matrix(group, "n", "Yt", opened=True)
            for path in group.paths:
                yield from self._channels_and_tangents(group, path)
                for i in group.columns:
                    moved = f"w_u * xt_{i} + wt_u * x_{i}" if self.moving else f"wt_u * x_{i}"
                    yield f"const V p_{i} = {moved}, q_{i} = w_u * x_{i};"
                for k in group.rows:
                    total = _sum(group, "m", "p", k)
                    if group.degree > 0:
                        total += " + " + _sum(group, "n", "q", k)
                    yield f"AT(O{path.kind} + {_at(path, k)}) += {total};"
                yield "}"
            yield "}"
        yield "}}}"

    def _dual(self) -> Iterator[str]:
        yield from self._sent("dual", "xb", always=True)
        yield "ALIGNED REAL wb[WIDTH], wtb[WIDTH];"
        yield "const REAL *Yt = net->sent_harmonics_tangent + i * HARMONICS, dr = net->sent_length_tangent[i];"
        yield "weights_and_slopes_at(basis, interval, table, WIDTH, w, slope);"
        yield from _pointers("G", "g", "centre", self.kinds)
        yield from _pointers("H", "g2", "centre", self.kinds)
        for group in self.groups:
            yield from _matrix(group, "m", "Y")
            yield from _matrix(group, "n", "Yt", opened=True)
            for path in group.paths:
                yield from self._channels_and_tangents(group, path)
                yield from _loads(path, "g", "G", group.rows)
                yield from _loads(path, "h", "H", group.rows)
                yield from self._turned(group, "b", [("m", "g")])
                yield from self._turned(group, "a", [("m", "h"), *([("n", "g")] if group.degree > 0 else [])])
                for i in group.columns:
                    yield f"AT(D{path.source} + {i * path.width} + u) += w_u * a_{i} + wt_u * b_{i};"
                first = _dot(group.columns, "x", "a")
                if self.moving:
                    first += " + " + _dot(group.columns, "xt", "b")
                yield f"AT(wb + {path.weight} + u) = {first};"
                yield f"AT(wtb + {path.weight} + u) = {_dot(group.columns, 'x', 'b')};"
                yield "}"
            yield "}"
        yield "table_gradient_at(basis, interval, dr, wb, wtb, WIDTH, table_gradient);"
        yield "}}}"

    # --- pieces

    def _received(self, function: str) -> Iterator[str]:
        """Loops over atoms and the edges that they receive; outputs begin at the first atom."""
        yield f"{self._signature(function)} {{ enum {{ WIDTH = {self.weights} }};"
        yield "for (int64_t a = start; a < stop; a++) {"
        yield from _cleared("O", "o", self.kinds)
        yield "for (int64_t e = net->row[a]; e < net->row[a + 1]; e++) {"
        yield "const int64_t interval = net->interval[e], sender = net->neighbour[e]; if (interval < 0) continue;"
        yield "const REAL *Y = net->harmonics + e * HARMONICS, *basis = net->basis + e * 2 * TAPS;"
        yield "ALIGNED REAL w[WIDTH], slope[WIDTH]; (void)slope;"

    def _sent(self, function: str, output: str, always: bool = False) -> Iterator[str]:
        """Loops over atoms and the edges that they send."""
        yield f"{self._signature(function)} {{ enum {{ WIDTH = {self.weights} }};"
        yield "for (int64_t a = start; a < stop; a++) {"
        yield from _pointers("X", "s", "a", self.sources)
        if self.moving and function == "dual":
            yield from _pointers("Xt", "st", "a", self.sources)
        if self.moving or always:
            yield from _cleared("D", output, self.sources)
        yield "for (int64_t i = net->sent_row[a]; i < net->sent_row[a + 1]; i++) {"
        yield "const int64_t interval = net->sent_interval[i], centre = net->sent_centre[i];"
        yield "if (interval < 0) continue;"
        yield "const REAL *Y = net->sent_harmonics + i * HARMONICS, *basis = net->sent_basis + i * 2 * TAPS;"
        yield "ALIGNED REAL w[WIDTH], slope[WIDTH];"

    @staticmethod
    def _channels(path: PlacedPath, slope: bool = True) -> Iterator[str]:
        yield f"EACH(u, {path.width}) {{ const V w_u = GET(w + {path.weight} + u);"
        if slope:
            yield f"const V slope_u = GET(slope + {path.weight} + u);"

    def _channels_and_tangents(self, group: _Group, path: PlacedPath) -> Iterator[str]:
        """The same with the source's components, and the tangents of both."""
        yield from self._channels(path)
        yield "const V wt_u = dr * slope_u;"
        yield from _loads(path, "x", "X", group.columns)
        if self.moving:
            yield from _loads(path, "xt", "Xt", group.columns)

    @staticmethod
    def _turned(group: _Group, name: str, pairs: list[tuple[str, str]]) -> Iterator[str]:
        """Results brought back to the source: ``name_i = sum_k m_ki g_k``."""
        for i in group.columns:
            terms = [f"{m}_{k}_{i} * {g}_{k}" for m, g in pairs for k, column in group.entries() if column == i]
            yield f"const V {name}_{i} = {' + '.join(terms)};"


def _groups(table: PathTable) -> list[_Group]:
    groups: dict[tuple[int, int, int], _Group] = {}
    for path, placed in zip(table.paths, table.placed(), strict=True):
        degrees = (table.features[path.source].ir.l, path.degree, path.kind.l)
        if degrees not in groups:
            groups[degrees] = _Group(path.degree, table.coupling(path), [])
        groups[degrees].paths.append(placed)
    return list(groups.values())


def _matrix(group: _Group, name: str, harmonics: str, opened: bool = False) -> Iterator[str]:
    """Scalars ``m_k_i``; opens a block if none is open."""
    if not opened:
        yield "{"
    elif group.degree == 0:
        return
    for k, i in group.entries():
        terms = [
            f"(REAL){value!r}" + (f" * {harmonics}[{group.degree**2 + j}]" if group.degree else "")
            for j, value in enumerate(group.coupling[i, :, k].tolist())
            if abs(value) > _TINY
        ]
        yield f"const REAL {name}_{k}_{i} = {' + '.join(terms)};"


def _harmonics_gradient(group: _Group) -> Iterator[str]:
    """Of each harmonic of the group: ``turn_j += w sum_ik C_ijk x_i g_k``."""
    pairs = {(i, k) for j in range(group.coupling.shape[1]) for i, k, _ in group.terms(j)}
    yield from (f"const V q_{i}_{k} = x_{i} * g_{k};" for i, k in sorted(pairs))
    for j in range(group.coupling.shape[1]):
        if terms := [f"(REAL){value!r} * q_{i}_{k}" for i, k, value in group.terms(j)]:
            yield f"turn[{group.degree**2 + j}] += w_u * ({' + '.join(terms)});"


def _pointers(name: str, of: str, atom: str, sizes: list[int]) -> Iterator[str]:
    yield from (f"const REAL *{name}{i} = {of}[{i}] + {atom} * {size};" for i, size in enumerate(sizes))


def _cleared(name: str, of: str, sizes: list[int]) -> Iterator[str]:
    for i, size in enumerate(sizes):
        yield f"REAL *{name}{i} = {of}[{i}] + (a - start) * {size}; memset({name}{i}, 0, sizeof(REAL) * {size});"


def _loads(path: PlacedPath, name: str, of: str, components: list[int]) -> Iterator[str]:
    """Vectors ``name_c`` of a source's or of a result's components."""
    for c in components:
        place = (
            f"{of}{path.source} + {c * path.width}" if of.startswith("X") else f"{of}{path.kind} + {_place(path, c)}"
        )
        yield f"V {name}_{c} = GET({place} + u);"


def _sum(group: _Group, matrix: str, vector: str, k: int) -> str:
    return " + ".join(f"{matrix}_{k}_{i} * {vector}_{i}" for row, i in group.entries() if row == k)


def _dot(components: list[int], one: str, two: str) -> str:
    return " + ".join(f"{one}_{i} * {two}_{i}" for i in components)


def _place(path: PlacedPath, k: int) -> int:
    return k * path.channels + path.offset


def _at(path: PlacedPath, k: int) -> str:
    return f"{_place(path, k)} + u"
