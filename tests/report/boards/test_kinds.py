"""Which loggers are dashboards, and tables of text."""

from pathlib import Path

from lightning.pytorch.loggers import CSVLogger

from nequip_like.report.boards.kinds import find_boards, format_markdown


def test_a_plain_logger_is_no_dashboard(tmp_path):
    assert find_boards([CSVLogger(tmp_path)]) == []


def test_a_table_of_text_names_its_structures_and_keeps_its_columns():
    text = format_markdown(("file", "error", "structure"), [("a|b\nc", 1.5, Path("/tmp/x/frame3.pdb"))])
    assert text.splitlines() == ["| file | error | structure |", "|---|---|---|", "| a\\|b c | 1.5 | frame3.pdb |"]
