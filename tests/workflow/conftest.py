"""A model to begin with, and configs that do."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from nequip_like.inference import model_file
from tests.workflow.tuning import nothing, shaken, source_potential, write


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "source.safetensors"
    model_file.save(source_potential(), path)
    return path


@pytest.fixture
def tune(compose: Callable[..., Any], source: Path) -> Callable[..., Any]:
    """A config of a fine-tuning: ``tune("finetune.modules=[readout]")``."""

    def tune(*overrides: str) -> Any:
        return compose(f"finetune.source={source}", "model.kernel=batched", *overrides)

    return tune


@pytest.fixture
def with_sulphur(tmp_path: Path) -> Path:
    return write(tmp_path / "s.xyz", shaken(["H2O", "SH2", "CH4", "CO2", "CS", "SO2"], 4), nothing)
