"""C code of the spherical harmonics and of their derivatives along and against a direction.

The recursion is that of :mod:`nequip_like.nn.spherical_harmonics`; its tangent and its adjoint follow term by term.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

from nequip_like.nn.native.sources.formatting import write_comment
from nequip_like.nn.spherical_harmonics import SphericalHarmonics

_ROOT = repr(math.sqrt(3.0))
_CLEAR = "for (int j = 0; j < HARMONICS; j++) {array}[j] = 0;"


def write_harmonics(l_max: int) -> Iterator[str]:
    """Functions ``evaluate_harmonics``, ``harmonics_along`` and ``harmonics_adjoint``, all in double.

    In double also where the network is float32: they cost little beside the channels, and in a force the contributions
    of the neighbours nearly cancel.
    """
    terms = list(_list_terms(l_max))
    axes = range(3 if l_max >= 1 else 0)

    yield write_comment("spherical harmonics y of a unit vector, degree by degree")
    yield "static void evaluate_harmonics(const double *unit, double *y) {"
    yield _CLEAR.format(array="y")
    yield "y[0] = 1;"
    yield from (f"y[{1 + i}] = {_ROOT} * unit[{i}];" for i in axes)
    yield from (f"y[{result}] += {c!r} * y[{lower}] * y[{axis}];" for result, lower, axis, c in terms)
    yield "}"

    yield write_comment("their tangent yt along a change of the unit vector")
    yield "static void harmonics_along(const double *y, const double *turn, double *yt) {"
    yield _CLEAR.format(array="yt")
    yield from (f"yt[{1 + i}] = {_ROOT} * turn[{i}];" for i in axes)
    for result, lower, axis, c in terms:
        yield f"yt[{result}] += {c!r} * (yt[{lower}] * y[{axis}] + y[{lower}] * yt[{axis}]);"
    yield "}"

    yield write_comment("from their adjoint yb to that of the unit vector; yb is used up")
    yield "static void harmonics_adjoint(const double *y, double *yb, double *turn) {"
    # From the highest degree down: an adjoint is passed on only when all that was made of its harmonic has added to it.
    for result, lower, axis, c in reversed(terms):
        yield f"yb[{lower}] += {c!r} * yb[{result}] * y[{axis}];"
        yield f"yb[{axis}] += {c!r} * yb[{result}] * y[{lower}];"
    yield from (f"turn[{i}] = {f'{_ROOT} * yb[{1 + i}]' if l_max >= 1 else '0'};" for i in range(3))
    yield "}"


def write_harmonics_adjoint_along(l_max: int) -> Iterator[str]:
    """Function ``harmonics_adjoint_along``: ``harmonics_adjoint``, and its change along that of all it is given."""
    yield write_comment(
        "from the adjoint yb of harmonics y, and the changes of both, to the unit vector's; both are used up"
    )
    arguments = ", ".join(f"double *{name}" for name in ("yb", "ybt", "turn", "turn_t"))
    yield f"static void harmonics_adjoint_along(const double *y, const double *yt, {arguments}) {{"
    for result, lower, axis, c in reversed(list(_list_terms(l_max))):
        for target, other in ((lower, axis), (axis, lower)):
            yield f"yb[{target}] += {c!r} * yb[{result}] * y[{other}];"
            yield f"ybt[{target}] += {c!r} * (ybt[{result}] * y[{other}] + yb[{result}] * yt[{other}]);"
    for turn, adjoint in (("turn", "yb"), ("turn_t", "ybt")):
        yield from (f"{turn}[{i}] = {f'{_ROOT} * {adjoint}[{1 + i}]' if l_max >= 1 else '0'};" for i in range(3))
    yield "}"


def _list_terms(l_max: int) -> Iterator[tuple[int, int, int, float]]:
    """``y[result] += c * y[lower] * y[axis]``, degree by degree."""
    tables = SphericalHarmonics(l_max)
    for degree in range(2, l_max + 1):
        coupling = getattr(tables, f"coupling_{degree}").view(2 * degree - 1, 3, 2 * degree + 1)
        for i, j, k in (coupling.abs() > 1e-12).nonzero().tolist():
            yield degree**2 + k, (degree - 1) ** 2 + i, 1 + j, float(coupling[i, j, k])
