"""The plots of a report, as SVG: curves over epochs, predictions against labels, distributions of errors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape

import numpy as np

from nequip_like.report.history import Curve
from nequip_like.report.page.axes import (
    HEIGHT,
    HORIZONTAL,
    VERTICAL,
    draw_frame,
    fit_linear,
    fit_scale,
    wrap_plot,
)
from nequip_like.report.pictures import COLOURS, GREY

MOST_POINTS = 4000  # of a parity plot; the largest errors are always among them
_ALWAYS_DRAWN = 200
_FEW = 10  # points of a curve that are marked
_LINE = 15  # height of a line of a legend


def draw_curves(
    curves: Mapping[str, Curve],
    label: str,
    *,
    colours: Mapping[str, str],
    best_epoch: float | None = None,
    x_label: str = "epoch",
) -> str:
    """Curves over epochs, or over something else, with a legend below where there is more than one.

    Args:
        curves: Points (epoch, value) by what the legend calls them, finite.
        label: What the values are, with their unit.
        colours: Colour of each curve.
        best_epoch: An epoch that is marked.
        x_label: What they are curves over, with its unit.
    """
    epochs = [x for curve in curves.values() for x, _ in curve]
    values = [y for curve in curves.values() for _, y in curve]
    x, y = fit_linear(min(epochs), max(epochs), vertical=False), fit_scale(values, *VERTICAL)
    parts = [draw_frame(x, y, x_label, label, whole_numbers=x_label == "epoch")]
    if best_epoch is not None and x.low <= best_epoch <= x.high:
        place = x.place(best_epoch)
        parts.append(
            f'<path d="M{place:.1f} {VERTICAL[0]}V{VERTICAL[1]}" stroke="{GREY}" stroke-dasharray="2 3">'
            f"<title>best: epoch {best_epoch:g}</title></path>"
        )
    for name, curve in curves.items():
        places = [(x.place(epoch), y.place(value)) for epoch, value in curve]
        line = " ".join(f"{a:.1f},{b:.1f}" for a, b in places)
        colour = colours[name]
        parts.append(f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="1.6"/>')
        if len(curve) <= _FEW:
            for (a, b), (epoch, value) in zip(places, curve, strict=True):
                title = f"<title>{escape(name)}, {escape(x_label)} {epoch:g}: {value:.4g}</title>"
                parts.append(f'<circle cx="{a:.1f}" cy="{b:.1f}" r="3" fill="{colour}">{title}</circle>')
    return wrap_plot(*_add_legend(parts, {name: colours[name] for name in curves}, label))


def draw_parity(groups: Mapping[str, tuple[np.ndarray, np.ndarray]], quantity: str, unit: str) -> str:
    """Predictions against labels, both axes alike, with the line of perfect agreement.

    Of more than :data:`MOST_POINTS` points as many are drawn: those with the largest errors, and others at random.

    Args:
        groups: Labels and predictions (points,) by what the legend calls them, without NaN.
        quantity: What they are.
        unit: Their unit.
    """
    labels = np.concatenate([pair[0] for pair in groups.values()])
    predictions = np.concatenate([pair[1] for pair in groups.values()])
    group = np.repeat(np.arange(len(groups)), [len(pair[0]) for pair in groups.values()])
    low, high = float(min(labels.min(), predictions.min())), float(max(labels.max(), predictions.max()))
    free = 0.04 * (high - low)
    x, y = fit_linear(low - free, high + free, vertical=False), fit_linear(low - free, high + free, vertical=True)
    drawn = _choose_points(np.abs(predictions - labels))
    parts = [draw_frame(x, y, f"labelled {quantity} ({unit})", f"predicted ({unit})")]
    parts.append(f'<path d="M{x.begin} {y.begin}L{x.end} {y.end}" stroke="{GREY}" stroke-width="0.8"/>')
    colours = {name: COLOURS[i % len(COLOURS)] for i, name in enumerate(groups)}
    for i, colour in enumerate(colours.values()):
        of_group = drawn[group[drawn] == i]
        # A dot is a line without length whose ends are round: ten bytes a point.
        dots = "".join(
            f"M{x.place(label):.1f} {y.place(prediction):.1f}h0"
            for label, prediction in zip(labels[of_group].tolist(), predictions[of_group].tolist(), strict=True)
        )
        parts.append(
            f'<path d="{dots}" stroke="{colour}" stroke-width="3" stroke-linecap="round" stroke-opacity="0.55"/>'
        )
    return wrap_plot(*_add_legend(parts, colours, f"predicted against labelled {quantity}"))


def _choose_points(errors: np.ndarray) -> np.ndarray:
    """Numbers of the points that are drawn, in a random order, so that no group lies on top."""
    order = np.random.default_rng(0).permutation(len(errors))
    if len(errors) <= MOST_POINTS:
        return order
    largest = np.argpartition(errors, len(errors) - _ALWAYS_DRAWN)[-_ALWAYS_DRAWN:]
    remaining = order[~np.isin(order, largest)][: MOST_POINTS - _ALWAYS_DRAWN]
    return np.concatenate([remaining, np.sort(largest)])


def draw_errors(errors: np.ndarray, quantity: str, unit: str) -> str:
    """How often errors of each size are: bars, those beyond the ends at the ends.

    Args:
        errors: Signed errors (values,), without NaN, at least one.
        quantity: What they are of.
        unit: Their unit.
    """
    span = float(np.quantile(np.abs(errors), 0.995)) or float(np.abs(errors).max()) or 1.0
    bins = int(np.clip(np.sqrt(len(errors)), 9, 41)) // 2 * 2 + 1
    counts, edges = np.histogram(np.clip(errors, -span, span), bins=bins, range=(-span, span))
    x, y = fit_linear(-span, span, vertical=False), fit_linear(0.0, 1.05 * int(counts.max()), vertical=True)
    parts = [draw_frame(x, y, f"error of {quantity} ({unit})", "number")]
    for count, begin, end in zip(counts.tolist(), edges[:-1].tolist(), edges[1:].tolist(), strict=True):
        x_begin, x_end, top = x.place(begin), x.place(end), y.place(count)
        title = f"<title>{begin:.3g} to {end:.3g} {escape(unit)}: {count}</title>"
        parts.append(
            f'<rect x="{x_begin:.1f}" y="{top:.1f}" width="{max(x_end - x_begin - 1, 0.5):.1f}" '
            f'height="{VERTICAL[0] - top:.1f}" fill="{COLOURS[0]}">{title}</rect>'
        )
    return wrap_plot("".join(parts), f"distribution of the errors of the {quantity}")


def draw_bars(values: Mapping[str, float], label: str) -> str:
    """A horizontal bar for each value, from zero.

    Args:
        values: Values that are not negative, by name.
        label: What they are, with their unit.
    """
    row, x_begin = 24, 150
    most, width = max(values.values()) or 1.0, HORIZONTAL[1] - x_begin - 56
    parts = []
    for i, (name, value) in enumerate(values.items()):
        short_name = name if len(name) <= 24 else f"{name[:23]}…"
        middle = 22 + row * i
        parts.append(f'<text x="{x_begin - 6}" y="{middle + 4}" text-anchor="end">{escape(short_name)}</text>')
        parts.append(
            f'<rect x="{x_begin}" y="{middle - 8}" width="{value / most * width:.1f}" height="16" fill="{COLOURS[0]}">'
            f"<title>{escape(name)}</title></rect>"
        )
        parts.append(f'<text x="{x_begin + value / most * width + 5:.1f}" y="{middle + 4}">{value:.4g}</text>')
    height = 22 + row * len(values) + 14
    parts.append(f'<text x="{x_begin}" y="{height - 6}">{escape(label)}</text>')
    return wrap_plot("".join(parts), label, height)


def _add_legend(parts: list[str], colours: Mapping[str, str], label: str) -> tuple[str, str, int]:
    """What ``wrap_plot`` takes: content with a legend below of more than one name, label and height."""
    names = [name for name in colours if name] if len(colours) > 1 else []
    place, line = HORIZONTAL[0], 0
    for name in names:
        short_name = name if len(name) <= 40 else f"{name[:39]}…"
        needed = 24 + 7.2 * len(short_name)
        if place + needed > HORIZONTAL[1] and place > HORIZONTAL[0]:
            place, line = HORIZONTAL[0], line + 1
        top = HEIGHT + 8 + _LINE * line
        parts.append(f'<circle cx="{place + 4:.1f}" cy="{top}" r="4" fill="{colours[name]}"/>')
        parts.append(f'<text x="{place + 12:.1f}" y="{top + 4}">{escape(short_name)}</text>')
        place += needed
    return "".join(parts), label, HEIGHT + (_LINE * (line + 1) + 3 if names else 0)


def choose_colours(names: Sequence[str], first: str = "") -> dict[str, str]:
    """A colour for each name, in order.

    Args:
        names: Names.
        first: The name whose colour is kept for it, whether it is there or not.
    """
    remaining = [name for name in names if name != first]
    offset = 1 if first else 0
    colours = {name: COLOURS[(i + offset) % len(COLOURS)] for i, name in enumerate(remaining)}
    return {name: colours.get(name, COLOURS[0]) for name in names}
