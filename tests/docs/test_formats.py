"""The page of file formats has the table of the code."""

from pathlib import Path

from nequip_like.data.io.file_formats import FORMATS, Format

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "formats.md"


def row(form: Format) -> str:
    labels = "those that it names" if form.labels is None else ", ".join(form.labels) or "none"
    return f"| {form.title} | `{form.name}` | {labels} |"


def test_table_of_formats():
    lines = PAGE.read_text().splitlines()
    start = lines.index("|---|---|---|") + 1
    assert lines[start : start + len(FORMATS)] == [row(form) for form in FORMATS.values()]
    assert lines[start + len(FORMATS)] == ""
