"""Run files, and queues of them."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from rich.console import Console

from nequip_like.composition.runs import compose_packaged
from nequip_like.workflow.runner.backends import choose_backend
from nequip_like.workflow.runner.built_in.context import RunContext
from nequip_like.workflow.runner.queue import QueueResult, run_queue

# As small as models and runs can be; a schedule that does not depend on the length of the run.
TINY = {
    "nequip": ["model.l_max=1", "model.num_layers=2", "model.num_features=4", "model.radial_mlp_depth=1",
               "model.radial_mlp_width=8", "model.kernel=batched"],
    "descriptor_ann": ["model.radial_order=3", "model.angular_order=1", "model.networks=[[4,tanh]]"],
}  # fmt: skip
QUIET = ["report.format=[]", "report.html=false", "cutoff_radius=4.0"]


@pytest.fixture
def training(molecule_file: Path) -> Callable[..., dict[str, Any]]:
    """A run that trains: ``training("nequip", name="a")``."""

    def make(backend: str = "nequip", **changes: Any) -> dict[str, Any]:
        run = {
            "name": "fit", "backend": backend, "task": "train", "run_dir": "models/fit", "device": "cpu",
            "data": {"train": str(molecule_file), "val": 5}, "train": {"epochs": 1, "scheduler": "plateau"},
            "backend_args": [*TINY.get(backend, []), *QUIET],
        }  # fmt: skip
        return {**run, **changes}

    return make


@pytest.fixture
def do(tmp_path: Path) -> Callable[..., tuple[QueueResult, str]]:
    """Does runs: ``do([run, ...])`` gives what became of them and what was printed."""

    def do(runs: list[dict[str, Any]] | None = None, choose: Any = None, **options: Any) -> tuple[QueueResult, str]:
        file = tmp_path / "run.yaml"
        if runs is not None:
            file.write_text(yaml.safe_dump({"runs": runs}))
        printed = io.StringIO()
        context = RunContext(compose_packaged)
        result = run_queue(
            file,
            options.pop("names", ()),
            choose_backend=choose or (lambda request: choose_backend(request, context)),
            console=Console(file=printed, width=200),
            **options,
        )
        return result, printed.getvalue()

    return do
