"""The final metrics of a committee's members as one table: mean ± standard deviation of each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from rich.table import Table
from rich.text import Text

from nequip_like.report.tables import format_number


def compute_statistics(metrics: Sequence[Mapping[str, float]]) -> dict[str, dict[str, float]]:
    """Statistics of each metric over members.

    Args:
        metrics: ``{name: value}`` of each member.

    Returns:
        ``{name: {mean, std, min, max, n}}``; the standard deviation has the number of members below the sum.

    Example:
        >>> compute_statistics([{"a": 1.0}, {"a": 3.0}])
        {'a': {'mean': 2.0, 'std': 1.0, 'min': 1.0, 'max': 3.0, 'n': 2}}
    """
    statistics = {}
    for name in dict.fromkeys(name for member in metrics for name in member):
        values = np.array([member[name] for member in metrics if name in member])
        statistics[name] = {
            "mean": float(values.mean()),
            "std": float(values.std()),
            "min": float(values.min()),
            "max": float(values.max()),
            "n": len(values),
        }
    return statistics


def make_committee_table(statistics: Mapping[str, Mapping[str, float]]) -> Table:
    """A row for each metric: mean ± standard deviation over the members, and their number; in eV and Å."""
    table = Table(title="Committee: mean ± standard deviation over the members", title_justify="left")
    table.add_column("metric (eV, Å)", no_wrap=True)
    for heading in ("mean ± std", "members"):
        table.add_column(heading, justify="right", no_wrap=True)
    for name, values in statistics.items():
        mean = f"{format_number(values['mean'])} ± {format_number(values['std'])}"
        table.add_row(Text(name), mean, str(values["n"]))
    return table
