"""metrics.csv: written at once, gone on with, and carried over."""

from __future__ import annotations

import resource
from pathlib import Path

import pytest

from nequip_like.errors import OutputError
from nequip_like.training.csv_logger import HistoryLogger, carry_over, read_rows


def test_each_row_is_written_at_once(tmp_path: Path) -> None:
    logger = HistoryLogger(tmp_path)
    logger.log_metrics({"b": 1.5}, step=0)
    assert (tmp_path / "metrics.csv").read_text().split() == ["b,step", "1.5,0"]
    logger.log_metrics({"b": 2.5}, step=1)
    assert (tmp_path / "metrics.csv").read_text().split() == ["b,step", "1.5,0", "2.5,1"]
    logger.log_metrics({"a": 1.0}, step=2)
    assert (tmp_path / "metrics.csv").read_text().split() == ["a,b,step", ",1.5,0", ",2.5,1", "1.0,,2"]
    assert [path.name for path in tmp_path.iterdir()] == ["metrics.csv"]


def test_goes_on_in_a_file(tmp_path: Path) -> None:
    HistoryLogger(tmp_path).log_metrics({"a": 1.0}, step=0)
    HistoryLogger(tmp_path).log_metrics({"a": 2.0}, step=1)
    HistoryLogger(tmp_path).log_metrics({"b": 3.0}, step=2)
    assert [row["step"] for row in read_rows(tmp_path / "metrics.csv")] == ["0", "1", "2"]


def test_carried_over_up_to_the_step(tmp_path: Path) -> None:
    source, target = tmp_path / "a.csv", tmp_path / "new" / "metrics.csv"
    source.write_text("a,step\n1.0,0\n2.0,1\n2.5,1\n3.0,2\n4.0,")
    carry_over(source, target, 2)
    assert target.read_text().split() == ["a,step", "1.0,0", "2.0,1", "2.5,1"]
    carry_over(source, source, 1)
    assert source.read_text().split() == ["a,step", "1.0,0"]


@pytest.mark.parametrize("content", ["", "a,step\n", "a,step\n1.0,5\n", "no table at all\n\x00\n"])
def test_nothing_to_carry_over(content: str, tmp_path: Path) -> None:
    source = tmp_path / "a.csv"
    source.write_text(content)
    carry_over(source, tmp_path / "b.csv", 3)
    assert not (tmp_path / "b.csv").exists()


def test_a_full_disk_is_an_error(tmp_path: Path) -> None:
    """What was written before stays; a line that was cut off is left out when the run goes on."""
    logger = HistoryLogger(tmp_path)
    logger.log_metrics({"a": 1.0}, step=0)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (16, before[1]))
    try:
        with pytest.raises(OutputError, match=r"cannot write .*metrics\.csv: File too large"):
            logger.log_metrics({"a": 2.0}, step=1)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert [row["step"] for row in read_rows(tmp_path / "metrics.csv")] == ["0"]
