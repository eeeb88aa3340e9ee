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
    for heading in ("of", "unit"):
        table.add_column(heading)
    qualities = list(evaluation.uncertainty.values())
    shares = [f"within {100 * share:g} %" for share in qualities[0].coverage]
    for heading in (*shares, "miscalibration", "sharpness", "NLL", "Spearman"):
        table.add_column(heading, justify="right")
    for quality in qualities:
        display = SHOWN[quality.quantity]
        table.add_row(
            display.label,
            display.unit,
            *(f"{100 * covered:.1f} %" for covered in quality.coverage.values()),
            f"{quality.miscalibration_area:.3f}",
            format_number(quality.sharpness * display.factor),
            f"{quality.negative_log_likelihood:.2f}",
            f"{quality.spearman:.2f}",
        )
    return table
