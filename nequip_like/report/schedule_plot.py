"""Learning rate and loss weights over a run that has not begun."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from nequip_like.report.pictures import COLOURS
from nequip_like.whole_files import written_whole


@dataclass(frozen=True)
class SchedulePreview:
    """What is known of a run beforehand.

    Attributes:
        steps: Numbers of optimizer steps done, in order; values are those of the next step.
        steps_per_epoch: Optimizer steps of an epoch.
        rates: Learning rates at these steps, for each group of parameters that has its own.
        weights: Coefficients of the loss at these steps, by term.
        notes: What cannot be known beforehand, in words.
    """

    steps: Sequence[int]
    steps_per_epoch: int
    rates: Mapping[str, Sequence[float]]
    weights: Mapping[str, Sequence[float]] = field(default_factory=dict)
    notes: Sequence[str] = ()

    def describe(self) -> list[str]:
        """The same in a few lines of text."""
        last = self.steps[-1]
        lines = [f"{last + 1} optimizer steps, {self.steps_per_epoch} in an epoch"]
        for quantity, curves in (("learning rate", self.rates), ("loss weight", self.weights)):
            lines += [
                f"{' '.join([quantity, name]).strip()}: {_describe_values(self.steps, curves[name])}" for name in curves
            ]
        return [*lines, *self.notes]


def plot_schedule(preview: SchedulePreview, png: str | Path) -> None:
    """Draw learning rate and loss weights over optimizer steps and epochs.

    Args:
        preview: What to draw.
        png: The image to write.

    Raises:
        OutputError: If it cannot be written.
    """
    panels = {"learning rate": preview.rates, "loss weights": preview.weights}
    drawn = {title: curves for title, curves in panels.items() if curves}
    figure = Figure(figsize=(5.4 * len(drawn), 3.8), layout="constrained")
    FigureCanvasAgg(figure)
    for axes, (title, curves) in zip(figure.subplots(1, len(drawn), squeeze=False)[0], drawn.items(), strict=True):
        _draw(axes, title, preview, curves)
    if preview.notes:
        figure.supxlabel("; ".join(preview.notes), fontsize=8, parse_math=False)
    with written_whole(png) as partial:
        figure.savefig(partial, dpi=150)


def _draw(axes: Axes, title: str, preview: SchedulePreview, curves: Mapping[str, Sequence[float]]) -> None:
    for i, (name, values) in enumerate(curves.items()):
        axes.plot(preview.steps, values, color=COLOURS[i % len(COLOURS)], linewidth=1.4, label=name)
    axes.set(xlabel="optimizer step", title=title, ylim=(0, None))
    per_epoch = preview.steps_per_epoch
    both_ways = (lambda steps: np.asarray(steps) / per_epoch, lambda epochs: np.asarray(epochs) * per_epoch)
    epochs = axes.secondary_xaxis("top", functions=both_ways)
    epochs.set_xlabel("epoch")
    axes.grid(color="#e6e6e6", linewidth=0.6)
    axes.spines["right"].set_visible(False)
    if any(curves):
        legend = axes.legend(frameon=False, fontsize=9)
        for text in legend.get_texts():
            text.set_parse_math(False)


def _describe_values(steps: Sequence[int], values: Sequence[float]) -> str:
    if min(values) == max(values):
        return f"{values[0]:.4g} throughout"
    highest = max(values)
    at = steps[values.index(highest)] + 1
    return f"{values[0]:.4g} at step 1, at most {highest:.4g} (step {at}), {values[-1]:.4g} at step {steps[-1] + 1}"
