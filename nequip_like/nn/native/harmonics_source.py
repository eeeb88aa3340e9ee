"""C code of the spherical harmonics and of their derivatives along and against a direction.

The recursion is that of :mod:`nequip_like.nn.spherical_harmonics`; its tangent and its adjoint follow term by term.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

from nequip_like.nn.spherical_harmonics import SphericalHarmonics

_ROOT = repr(math.sqrt(3.0))


def harmonics_code(l_max: int) -> str:
    """Functions ``evaluate_harmonics``, ``harmonics_along`` and ``harmonics_adjoint``, all in double."""
    terms = list(_terms(l_max))
    first = l_max >= 1
    forward = [f"y[{1 + i}] = {_ROOT} * unit[{i}];" for i in range(3) if first]
    forward += [f"y[{at}] += {c!r} * y[{left}] * y[{right}];" for at, left, right, c in terms]
    along = [f"yt[{1 + i}] = {_ROOT} * turn[{i}];" for i in range(3) if first]
    along += [
        f"yt[{at}] += {c!r} * (yt[{left}] * y[{right}] + y[{left}] * yt[{right}]);" for at, left, right, c in terms
    ]
    adjoint = [
        f"yb[{left}] += {c!r} * yb[{at}] * y[{right}]; yb[{right}] += {c!r} * yb[{at}] * y[{left}];"
        for at, left, right, c in reversed(terms)
    ]
    adjoint += [f"turn[{i}] = {f'{_ROOT} * yb[{1 + i}]' if first else '0'};" for i in range(3)]
    clear = "for (int j = 0; j < HARMONICS; j++)"
    return "\n".join(
        [
            f"static void evaluate_harmonics(const double *unit, double *y) {{ {clear} y[j] = 0; y[0] = 1;",
            *forward,
            "}",
            f"static void harmonics_along(const double *y, const double *turn, double *yt) {{ {clear} yt[j] = 0;",
            *along,
            "}",
            "static void harmonics_adjoint(const double *y, double *yb, double *turn) {",
            *adjoint,
            "}",
        ]
    )


def _terms(l_max: int) -> Iterator[tuple[int, int, int, float]]:
    """``y[at] += c * y[left] * y[right]``, degree by degree."""
    tables = SphericalHarmonics(l_max)
    for degree in range(2, l_max + 1):
        coupling = getattr(tables, f"coupling_{degree}").view(2 * degree - 1, 3, 2 * degree + 1)
        for i, j, k in (coupling.abs() > 1e-12).nonzero().tolist():
            yield degree**2 + k, (degree - 1) ** 2 + i, 1 + j, float(coupling[i, j, k])
