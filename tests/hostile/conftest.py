"""A file that no code may make."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture
def canary(tmp_path: Path) -> Iterator[Path]:
    """Where hostile inputs try to write; it must not be there at the end."""
    path = tmp_path / "canary"
    yield path
    assert not path.exists(), "code in a file was run"
