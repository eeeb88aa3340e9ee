"""Names of one second become different folders. That it holds for processes side by side: test_claims.py."""

from __future__ import annotations

import pytest

from nequip_like.errors import OutputError
from nequip_like.workflow.run_folder.new_folders import make_new


def test_numbered(tmp_path):
    wanted = tmp_path / "outputs" / "2026-01-01" / "12-00-00"
    assert [make_new(wanted).name for _ in range(3)] == ["12-00-00", "12-00-00-2", "12-00-00-3"]


def test_where_nothing_can_be_made(tmp_path):
    (tmp_path / "outputs").write_text("a file")
    with pytest.raises(OutputError, match=r"^cannot write .*outputs/12-00-00: "):
        make_new(tmp_path / "outputs" / "12-00-00")
