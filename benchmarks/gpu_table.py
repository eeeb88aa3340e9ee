"""The table of gpu.py, from its rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

HEADER = (
    *("step", "model", "size", "precision", "code", "ms (least to largest)", "NequIP eager / it", "first step, s"),
    *("memory, MB", "difference", "status"),
)
SHOWN = ("card", "driver", "cuda", "commit", "versions", "budget_s", "used_s", "data")


def table(result: Mapping) -> str:
    """The whole result as Markdown: what it was measured on, what was installed, and one row for each cell."""
    about = [f"- {key}: {result[key]}" for key in SHOWN if result.get(key) not in (None, "")]
    installed = [
        f"- install {row['name']}: {row['status']} in {row['seconds']} s{': ' + row['why'] if row['why'] else ''}"
        for row in result["install"]
    ]
    rows = [_cells(row, result["cells"]) for row in result["cells"]]
    lines = ["| " + " | ".join(cells) + " |" for cells in (HEADER, ["---"] * len(HEADER), *rows)]
    return "\n".join([f"# {result['card']}", "", *about, *installed, "", *lines]) + "\n"


def _cells(row: Mapping, rows: Sequence[Mapping]) -> list[str]:
    times = f"{row['ms']:.3g} ({row['ms_min']:.3g} to {row['ms_max']:.3g})" if "ms" in row else ""
    status = row["status"] + (f": {row['why']}" if row.get("why") else "")
    return [
        *(row["kind"], row["case"], _size(row), row["precision"], row["code"], times, _ratio(row, rows)),
        *(_number(row, "first_s"), _number(row, "peak_mb"), _number(row, "difference"), status.replace("|", "/")),
    ]


def _size(row: Mapping) -> str:
    if row["kind"] == "train":
        return f"{row['size']} frames"
    return f"{3 * row['size']} atoms" if row["kind"] == "md" else ""


def _number(row: Mapping, key: str) -> str:
    return f"{row[key]:.3g}" if row.get(key) is not None else ""


def _ratio(row: Mapping, rows: Sequence[Mapping]) -> str:
    """The time of NequIP's eager float32 model at the same place over the row's."""
    place = ("kind", "case", "size")
    for peer in rows:
        same = all(peer[key] == row[key] for key in place)
        if same and peer["code"] == "nequip" and peer["precision"] == "float32" and "ms" in peer and "ms" in row:
            return f"{peer['ms'] / row['ms']:.3g}"
    return ""
