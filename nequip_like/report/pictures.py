"""Formats of the pictures of a report, and how they are saved."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

from nequip_like.arguments import check
from nequip_like.whole_files import written_whole

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Format = Literal["png", "pdf", "svg"]
FORMATS: tuple[str, ...] = get_args(Format)
# Okabe and Ito's palette, which people with colour vision deficiency can tell apart.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#F0E442", "#000000")
GREY = "#666666"
_DPI = 150


def read_formats(value: Any, key: str = "report.format") -> list[str]:
    """The formats that a config or a command asks for, each once.

    Args:
        value: A list of ``png``, ``pdf`` and ``svg``, or one of them.
        key: Its name, for messages.

    Raises:
        ConfigError: If it is something else.

    Example:
        >>> read_formats("pdf"), read_formats(["png", "svg", "png"])
        (['pdf'], ['png', 'svg'])
    """
    formats = [value] if isinstance(value, str) else value
    check(key, formats, Sequence[Format])
    return list(dict.fromkeys(formats))


def save_figure(figure: Figure, path: str | Path, formats: Sequence[str] | None = None) -> list[Path]:
    """Save a figure as one file for each format. Text of PDF files can be searched and edited.

    Args:
        figure: The figure.
        path: Where; the suffix tells the format.
        formats: Formats in the place of the suffix.

    Returns:
        The files.

    Raises:
        OutputError: If one cannot be written.
    """
    import matplotlib  # here: the check of a config needs only the formats

    path = Path(path)
    files = [path] if formats is None else [path.with_suffix(f".{format_name}") for format_name in formats]
    with matplotlib.rc_context({"pdf.fonttype": 42}):
        for file in files:
            with written_whole(file) as partial:
                figure.savefig(partial, dpi=_DPI)
    return files


def draw_light_grid(axes: Axes) -> None:
    """A light grid behind the data, and no frame."""
    axes.grid(color="#e6e6e6", linewidth=0.6, which="major")
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
