"""C code of the convolution for one table of paths, with its first and second derivatives.

The sum ``S = sum_edges sum_paths sum_ijk C_ijk x_i Y_j w g_k`` (x features of the neighbour, g of the centre) is linear
in each of x, Y, w and g. The convolution is ``dS/dg``; its first derivatives are ``dS/dx, dS/dY, dS/dw``; and those of
``v . dS/d(x, Y, w)`` are sums of the same four with one of x, Y, w replaced by its v. So there are five functions, all
made of the same pieces. Each passes once over the edges of an atom, either those that it receives (``centre``) or those
that it sends (``neighbour``): nothing is written per edge but what has an edge, and no two threads write to one place.

For an edge and a path, the harmonics and the Clebsch-Gordan coefficients give a small matrix ``m[k][i]``, whose entries
are scalars in registers; the loop over channels, which is innermost in memory, is what the compiler turns into vectors.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from e3nn.o3 import wigner_3j
from torch import Tensor, float64

from nequip_like.nn.kernels.paths import PathTable

_HEAD = """\
#include <stdint.h>
#include <string.h>
typedef const int64_t *I;
typedef const REAL *restrict C;
typedef REAL *restrict W;
#define ATOMS _Pragma("omp parallel for schedule(dynamic, 8)") for (int64_t a = 0; a < atoms; a++)
#define CHANNELS(n) _Pragma("omp simd") for (int u = 0; u < n; u++)
"""


@dataclass(frozen=True)
class _Path:
    """A path with what the code needs of it.

    Attributes:
        source: Index of the source irrep.
        width: Its number of channels.
        kind: Index of the result's kind.
        channels: Number of channels of that kind, of all paths together.
        offset: First channel of this path within the kind.
        weight: First weight of this path.
        harmonic: First harmonic of this path.
        coupling: Coefficients ``C[i][j][k]``, float64.
    """

    source: int
    width: int
    kind: int
    channels: int
    offset: int
    weight: int
    harmonic: int
    coupling: Tensor

    def entries(self) -> list[tuple[int, int]]:
        """Places ``(k, i)`` of the matrix that are not zero for all harmonics."""
        found = self.coupling.abs().amax(dim=1) > 1e-12
        return [(int(k), int(i)) for i, k in found.nonzero().tolist()]

    def row(self, k: int) -> list[int]:
        """Columns of a row of the matrix."""
        return [i for row, i in self.entries() if row == k]

    def rows(self) -> list[int]:
        """Rows that are not zero."""
        return sorted({k for k, _ in self.entries()})


def source_code(table: PathTable) -> str:
    """C code for a table; the element type is the macro ``REAL``.

    Functions, with ``row`` the first edge of each atom: ``forward``, ``first_centre`` (gradients of harmonics and
    weights), ``first_neighbour`` (of features), ``second_centre`` (of harmonics, weights and outputs),
    ``second_neighbour`` (of features).
    """
    paths, kinds = _paths(table), _kinds(table)
    writer = _Writer(table, paths, kinds)
    parts = [
        writer.forward(),
        writer.centre(second=False),
        writer.neighbour(second=False),
        writer.centre(second=True),
        writer.neighbour(second=True),
    ]
    return _HEAD + "\n".join(parts)


def _kinds(table: PathTable) -> list[tuple[int, int]]:
    """Dimension and channels of each kind of result."""
    return [(entry.ir.dim, entry.mul) for entry in table.irreps_out]


def _paths(table: PathTable) -> list[_Path]:
    kinds = list(table.paths_of_kind)
    filled = dict.fromkeys(kinds, 0)
    channels = [mul for _, mul in _kinds(table)]
    result, weight = [], 0
    for path in table.paths:
        entry, kind = table.features[path.source], kinds.index(path.kind)
        coupling = wigner_3j(entry.ir.l, path.degree, path.kind.l, dtype=float64) * math.sqrt(path.kind.dim)
        result.append(
            _Path(path.source, entry.mul, kind, channels[kind], filled[path.kind], weight, path.degree**2, coupling)
        )
        filled[path.kind] += entry.mul
        weight += entry.mul
    return result


class _Writer:
    """Writes the functions; ``second`` adds what second derivatives need: ``v`` beside x, Y and w."""

    def __init__(self, table: PathTable, paths: list[_Path], kinds: list[tuple[int, int]]) -> None:
        self.paths, self.kinds = paths, kinds
        self.sizes = [entry.dim for entry in table.features]
        self.harmonics, self.weights = (table.l_max + 1) ** 2, table.weight_numel

    def forward(self) -> str:
        lines = [
            f"void forward(int64_t atoms, I row, I neighbour, {self._of_sources('C x')}, C Y_, C w_, "
            f"{self._of_kinds('W o')}) {{ ATOMS {{"
        ]
        lines += [self._cleared("O", "o", kind) for kind in range(len(self.kinds))]
        lines += ["for (int64_t e = row[a]; e < row[a + 1]; e++) {", *self._edge(False), *self._sources("X", "x")]
        for path in self.paths:
            lines += ["{", *_matrix(path, "m", "Y"), f"CHANNELS({path.width}) {{", self._weight(path, False)]
            lines += _loads(path, "x", "X")
            for k in path.rows():
                lines.append(f"O{path.kind}[{_at(path, k)}] += w * ({_sum(path, k, 'm', 'x')});")
            lines.append("}}")
        return "\n".join([*lines, "}}}"])

    def centre(self, second: bool) -> str:
        """Gradients of harmonics and weights; in the second function also of the outputs."""
        name, more = "first_centre", ""
        if second:
            name, more = "second_centre", f"{self._of_sources('C v')}, C vY_, C vw_, {self._of_kinds('W o')}, "
        lines = [
            f"void {name}(int64_t atoms, I row, I neighbour, {self._of_sources('C x')}, C Y_, C w_, "
            f"{self._of_kinds('C g')}, {more}W dY_, W dw_) {{ ATOMS {{"
        ]
        for kind, (dim, channels) in enumerate(self.kinds):
            lines.append(f"C G{kind} = g{kind} + a * {dim * channels};")
            if second:
                lines.append(self._cleared("O", "o", kind))
        lines += ["for (int64_t e = row[a]; e < row[a + 1]; e++) {", *self._edge(second), *self._sources("X", "x")]
        if second:
            lines += self._sources("V", "v", declare_sender=False)
        lines.append(f"W dw = dw_ + e * {self.weights}; REAL dY[{self.harmonics}] = {{0}};")
        for path in self.paths:
            lines += self._centre_path(path, second)
        return "\n".join([*lines, f"memcpy(dY_ + e * {self.harmonics}, dY, sizeof dY);", "}}}"])

    def _centre_path(self, path: _Path, second: bool) -> Iterator[str]:
        yield "{"
        yield from _matrix(path, "m", "Y")
        if second:
            yield from _matrix(path, "n", "vY")
        # p[k][i] is the gradient of m[k][i].
        sums = [f"p_{k}_{i}" for k, i in path.entries()]
        yield f"REAL {', '.join(f'{name} = 0' for name in sums)};"
        yield f'_Pragma("omp simd reduction(+: {", ".join(sums)})") for (int u = 0; u < {path.width}; u++) {{'
        yield self._weight(path, second)
        yield from _loads(path, "x", "X")
        if second:
            yield from _loads(path, "v", "V")
        yield "REAL sum = 0;"
        for k in path.rows():
            place = f"{path.kind}[{_at(path, k)}]"
            yield f"const REAL g_{k} = G{place};"
            product = _sum(path, k, "m", "v") + " + " + _sum(path, k, "n", "x") if second else _sum(path, k, "m", "x")
            yield f"const REAL t_{k} = {product}; sum += g_{k} * t_{k};"
            if second:
                yield f"O{place} += w * t_{k} + vw * ({_sum(path, k, 'm', 'x')});"
            for i in path.row(k):
                yield f"p_{k}_{i} += g_{k} * ({f'w * v_{i} + vw * x_{i}' if second else f'w * x_{i}'});"
        yield f"dw[{path.weight} + u] = sum; }}"
        for j in range(path.coupling.shape[1]):
            terms = [
                f"(REAL){float(path.coupling[i, j, k])!r} * p_{k}_{i}"
                for k, i in path.entries()
                if abs(float(path.coupling[i, j, k])) > 1e-12
            ]
            if terms:
                yield f"dY[{path.harmonic + j}] += {' + '.join(terms)};"
        yield "}"

    def neighbour(self, second: bool) -> str:
        """Gradients of the features, by the edges that an atom sends."""
        name, more = ("second_neighbour", "C vY_, C vw_, ") if second else ("first_neighbour", "")
        lines = [
            f"void {name}(int64_t atoms, I row, I edge, I centre, C Y_, C w_, {self._of_kinds('C g')}, "
            f"{more}{self._of_sources('W d')}) {{ ATOMS {{"
        ]
        for source, size in enumerate(self.sizes):
            lines.append(f"W D{source} = d{source} + a * {size}; memset(D{source}, 0, sizeof(REAL) * {size});")
        lines += ["for (int64_t s = row[a]; s < row[a + 1]; s++) {", "const int64_t e = edge[s];", *self._edge(second)]
        for kind, (dim, channels) in enumerate(self.kinds):
            lines.append(f"C G{kind} = g{kind} + centre[s] * {dim * channels};")
        for path in self.paths:
            lines += ["{", *_matrix(path, "m", "Y"), *(_matrix(path, "n", "vY") if second else ())]
            lines += [f"CHANNELS({path.width}) {{", self._weight(path, second)]
            lines += [f"const REAL g_{k} = G{path.kind}[{_at(path, k)}];" for k in path.rows()]
            for i in sorted({i for _, i in path.entries()}):
                rows = [k for k, column in path.entries() if column == i]
                turned = " + ".join(f"m_{k}_{i} * g_{k}" for k in rows)
                value = f"w * ({turned})"
                if second:
                    value = f"w * ({' + '.join(f'n_{k}_{i} * g_{k}' for k in rows)}) + vw * ({turned})"
                lines.append(f"D{path.source}[{i * path.width} + u] += {value};")
            lines.append("}}")
        return "\n".join([*lines, "}}}"])

    # --- pieces

    def _of_sources(self, prefix: str) -> str:
        return ", ".join(f"{prefix}{source}" for source in range(len(self.sizes)))

    def _of_kinds(self, prefix: str) -> str:
        return ", ".join(f"{prefix}{kind}" for kind in range(len(self.kinds)))

    def _cleared(self, name: str, of: str, kind: int) -> str:
        size = self.kinds[kind][0] * self.kinds[kind][1]
        return f"W {name}{kind} = {of}{kind} + a * {size}; memset({name}{kind}, 0, sizeof(REAL) * {size});"

    def _edge(self, second: bool) -> list[str]:
        lines = [f"C Y = Y_ + e * {self.harmonics}; C W_e = w_ + e * {self.weights};"]
        if second:
            lines.append(f"C vY = vY_ + e * {self.harmonics}; C vW_e = vw_ + e * {self.weights};")
        return lines

    def _sources(self, name: str, of: str, declare_sender: bool = True) -> list[str]:
        lines = ["const int64_t sender = neighbour[e];"] if declare_sender else []
        return lines + [f"C {name}{s} = {of}{s} + sender * {size};" for s, size in enumerate(self.sizes)]

    @staticmethod
    def _weight(path: _Path, second: bool) -> str:
        line = f"const REAL w = W_e[{path.weight} + u];"
        return f"{line} const REAL vw = vW_e[{path.weight} + u];" if second else line


def _matrix(path: _Path, name: str, harmonics: str) -> Iterator[str]:
    for k, i in path.entries():
        terms = [
            f"(REAL){float(value)!r} * {harmonics}[{path.harmonic + j}]"
            for j, value in enumerate(path.coupling[i, :, k].tolist())
            if abs(value) > 1e-12
        ]
        yield f"const REAL {name}_{k}_{i} = {' + '.join(terms)};"


def _loads(path: _Path, name: str, of: str) -> list[str]:
    columns = sorted({i for _, i in path.entries()})
    return [f"const REAL {name}_{i} = {of}{path.source}[{i * path.width} + u];" for i in columns]


def _sum(path: _Path, k: int, matrix: str, vector: str) -> str:
    return " + ".join(f"{matrix}_{k}_{i} * {vector}_{i}" for i in path.row(k))


def _at(path: _Path, k: int) -> str:
    return f"{k * path.channels + path.offset} + u"
