"""Names of one second become different folders. That it holds for processes side by side: test_claims.py."""

from __future__ import annotations

from pathlib import Path

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser

from nequip_like.errors import OutputError
from nequip_like.workflow.run_folder.new_folders import format_folder_override, make_new


def test_numbered(tmp_path):
    wanted = tmp_path / "outputs" / "2026-01-01" / "12-00-00"
    assert [make_new(wanted).name for _ in range(3)] == ["12-00-00", "12-00-00-2", "12-00-00-3"]


def test_where_nothing_can_be_made(tmp_path):
    (tmp_path / "outputs").write_text("a file")
    with pytest.raises(OutputError, match=r"^cannot write .*outputs/12-00-00: "):
        make_new(tmp_path / "outputs" / "12-00-00")


@pytest.mark.parametrize("name", ["a b", "k=1,l=2", "it's", "back\\slash", "end\\", "a\\'b", "[x]{y}", "ü"])
def test_override_of_any_name(name):
    (parsed,) = OverridesParser.create().parse_overrides([format_folder_override("sweep", Path(name))])
    assert (parsed.key_or_group, parsed.value()) == ("hydra.sweep.dir", name)
