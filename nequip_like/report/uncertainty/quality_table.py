"""The quality of uncertainties as a table."""

from __future__ import annotations

from rich.table import Table
from rich.text import Text

from nequip_like.inference.evaluation import Evaluation
from nequip_like.report.tables import format_number
from nequip_like.report.units import FORCES, PER_ATOM_ENERGY, Shown

SHOWN: dict[str, Shown] = {quantity.metric: quantity for quantity in (PER_ATOM_ENERGY, FORCES)}


def make_quality_table(name: str, evaluation: Evaluation) -> Table | None:
    """Shares of errors within what is claimed, sharpness, likelihood and ranks; None without uncertainties."""
    if not evaluation.uncertainty:
        return None
    table = Table(title=Text(f"{name}: uncertainty"), title_justify="left")
    table.add_column("")
    qualities = list(evaluation.uncertainty.values())
    displays = [SHOWN[quality.quantity] for quality in qualities]
    for display in displays:
        table.add_column(f"{display.label}\n{display.unit}", justify="right")
    for share in qualities[0].coverage:
        claim = f"errors within the claimed {100 * share:g} %"
        table.add_row(claim, *(f"{100 * quality.coverage[share]:.1f} %" for quality in qualities))
    table.add_row("miscalibration area", *(f"{quality.miscalibration_area:.3f}" for quality in qualities))
    pairs = zip(qualities, displays, strict=True)
    table.add_row("sharpness", *(format_number(quality.sharpness * display.factor) for quality, display in pairs))
    table.add_row("negative log likelihood", *(f"{quality.negative_log_likelihood:.2f}" for quality in qualities))
    table.add_row("Spearman correlation with errors", *(f"{quality.spearman:.2f}" for quality in qualities))
    return table
