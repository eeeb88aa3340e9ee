"""Axes of small plots as SVG: scales, rounded ticks with labels, a light grid."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from nequip_like.report.pictures import GREY

WIDTH, HEIGHT = 340, 250  # of a plot: a phone shows one across, a screen three
_LEFT, _RIGHT, _TOP, _BOTTOM = 58, 12, 14, 42
_GRID = "#e6e6e6"
_DECADES_WITH_STEPS = 2.5  # with fewer decades 2 and 5 of each are labelled, too


@dataclass(frozen=True)
class Scale:
    """Where values lie along an axis.

    Attributes:
        low: Value at its beginning.
        high: Value at its end.
        begin: Place of its beginning, pixels.
        end: Place of its end, pixels.
        logarithmic: Whether equal ratios are equally far from each other.

    Example:
        >>> Scale(0.0, 10.0, 100.0, 200.0).place(5.0), Scale(1.0, 100.0, 0.0, 100.0, logarithmic=True).place(10.0)
        (150.0, 50.0)
    """

    low: float
    high: float
    begin: float
    end: float
    logarithmic: bool = False

    def place(self, value: float) -> float:
        """The place of a value, pixels; values beyond the ends lie at the ends."""
        value, low, high = (math.log(x) if self.logarithmic else x for x in (value, self.low, self.high))
        share = (value - low) / (high - low)
        return self.begin + min(max(share, 0.0), 1.0) * (self.end - self.begin)

    def list_ticks(self, most: int = 5, integer: bool = False) -> list[float]:
        """Round numbers within the scale.

        Args:
            most: About how many.
            integer: Only whole numbers.

        Example:
            >>> Scale(0.0, 23.0, 0.0, 1.0).list_ticks(), Scale(2.0, 400.0, 0.0, 1.0, logarithmic=True).list_ticks()
            ([0.0, 5.0, 10.0, 15.0, 20.0], [2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0])
        """
        if self.logarithmic:
            return self._list_powers()
        raw = (self.high - self.low) / most
        unit = 10.0 ** math.floor(math.log10(raw))
        step = next(unit * factor for factor in (1, 2, 5, 10) if unit * factor >= raw * 0.999)
        step = max(step, 1.0) if integer else step
        first, last = math.ceil(self.low / step - 1e-9), math.floor(self.high / step + 1e-9)
        return [float(f"{i * step:.12g}") for i in range(first, last + 1)]

    def _list_powers(self) -> list[float]:
        first, last = math.floor(math.log10(self.low)), math.ceil(math.log10(self.high))
        few = math.log10(self.high / self.low) < _DECADES_WITH_STEPS
        every = max(1, (last - first) // 6)
        values = [
            float(f"{factor}e{power}")
            for power in range(first, last + 1)
            for factor in ((1, 2, 5) if few else (1,))
            if few or (power - first) % every == 0
        ]
        return [value for value in values if self.low * 0.999 <= value <= self.high * 1.001]


def fit_scale(values: Sequence[float], begin: float, end: float, margin: float = 0.05) -> Scale:
    """A scale with all values on it: logarithmic where they are positive and span more than a decade.

    Args:
        values: Finite numbers.
        begin: Place of the smallest, pixels.
        end: Place of the largest, pixels.
        margin: Free part at both ends.
    """
    low, high = min(values), max(values)
    if low > 0 and high > 10 * low:
        widen = (high / low) ** margin
        return Scale(low / widen, high * widen, begin, end, logarithmic=True)
    free = margin * (high - low) or max(abs(high) * margin, 1e-12)
    return Scale(low - free, high + free, begin, end)


def fit_linear(low: float, high: float, *, vertical: bool) -> Scale:
    """A linear scale along the whole of a plot's axis; of one value it is a little wider.

    Args:
        low: Value at its beginning.
        high: Value at its end.
        vertical: Whether it is the axis that goes up.
    """
    if high <= low:
        low, high = low - max(abs(low) * 0.05, 0.5), low + max(abs(low) * 0.05, 0.5)
    return Scale(low, high, *(VERTICAL if vertical else HORIZONTAL))


HORIZONTAL = (float(_LEFT), float(WIDTH - _RIGHT))
VERTICAL = (float(HEIGHT - _BOTTOM), float(_TOP))


def draw_frame(x: Scale, y: Scale, x_label: str, y_label: str, *, whole_numbers: bool = False) -> str:
    """Grid, ticks and labels of a plot.

    Args:
        x: Scale of the horizontal axis.
        y: Scale of the vertical axis.
        x_label: What the horizontal axis shows, with its unit.
        y_label: What the vertical axis shows, with its unit.
        whole_numbers: Ticks of the horizontal axis are whole numbers.
    """
    (x_begin, x_end), (bottom, top) = HORIZONTAL, VERTICAL
    parts = []
    for value in x.list_ticks(integer=whole_numbers):
        place = x.place(value)
        parts.append(f'<path d="M{place:.1f} {bottom}V{top}" stroke="{_GRID}"/>')
        parts.append(f'<text x="{place:.1f}" y="{bottom + 15}" text-anchor="middle">{format_tick(value)}</text>')
    for value in y.list_ticks():
        place = y.place(value)
        parts.append(f'<path d="M{x_begin} {place:.1f}H{x_end}" stroke="{_GRID}"/>')
        parts.append(f'<text x="{x_begin - 6}" y="{place + 4:.1f}" text-anchor="end">{format_tick(value)}</text>')
    parts.append(f'<path d="M{x_begin} {top}V{bottom}H{x_end}" fill="none" stroke="{GREY}"/>')
    middle = (top + bottom) / 2
    parts.append(f'<text x="{(x_begin + x_end) / 2}" y="{HEIGHT - 6}" text-anchor="middle">{escape(x_label)}</text>')
    parts.append(
        f'<text x="13" y="{middle}" text-anchor="middle" transform="rotate(-90 13 {middle})">{escape(y_label)}</text>'
    )
    return "".join(parts)


def wrap_plot(content: str, label: str, height: int = HEIGHT) -> str:
    """A whole plot.

    Args:
        content: What is drawn.
        label: What it shows, for those who cannot see it.
        height: Its height, pixels.
    """
    return (
        f'<svg viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}" role="img" '
        f'aria-label="{escape(label)}">{content}</svg>'
    )


def format_tick(value: float) -> str:
    """A round number as short as it can be.

    Example:
        >>> format_tick(0.5), format_tick(-2000.0), format_tick(1e-05), format_tick(100000.0)
        ('0.5', '−2000', '10⁻⁵', '10⁵')
    """
    if value and not 1e-3 <= abs(value) < 1e5:
        mantissa, _, power = f"{value:.0e}".partition("e")
        raised = str(int(power)).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))
        text = {"1": "", "-1": "-"}.get(mantissa, f"{mantissa}·") + f"10{raised}"
    else:
        text = f"{value:g}"
    return text.replace("-", "−")
