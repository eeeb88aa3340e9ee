"""The runs of a run file, for the Python API and the command line."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from omegaconf import DictConfig
from rich.console import Console

from nequip_like.composition.compose import compose
from nequip_like.composition.hydra_compose import PACKAGE
from nequip_like.errors import NequipLikeError
from nequip_like.model.families import Families
from nequip_like.workflow.runner.backends import choose_backend
from nequip_like.workflow.runner.built_in.context import RunContext
from nequip_like.workflow.runner.queue import QueueResult, run_queue


def do_runs(
    file: str | Path,
    names: Sequence[str] = (),
    *,
    again: bool = False,
    dry_run: bool = False,
    trusted_packages: Sequence[str] = (),
    families: Families | None = None,
    console: Console | None = None,
    tell_failure: Callable[[NequipLikeError], None] | None = None,
) -> QueueResult:
    """Do the runs of a run file, as ``nequip-run`` does: what was done before is left out, what was stopped goes on.

    Args:
        file: The run file, ``run.yaml``.
        names: Those of its runs that are wanted; all without.
        again: Do them from their start, whatever was done before.
        dry_run: Say what would be done, and do nothing.
        trusted_packages: Packages of your own that ``backend_args`` may name classes of.
        families: Builders of model families by name, as for :func:`nequip_like.inference.loading.load`.
        console: Where to print; the terminal by default.
        tell_failure: Called with the error of each run that fails; by default it is printed.

    Returns:
        What became of the runs.

    Raises:
        NequipLikeError: For a mistake in the file or in one of its runs; none was begun then.
    """
    context = RunContext(compose_packaged, tuple(trusted_packages), families or {})
    return run_queue(
        file,
        names,
        choose_backend=lambda request: choose_backend(request, context),
        again=again,
        dry_run=dry_run,
        console=console,
        tell_failure=tell_failure,
    )


def compose_packaged(overrides: Sequence[str]) -> DictConfig:
    """Compose the package's own config: a run file means the same wherever the command is typed.

    Args:
        overrides: What is changed.

    Raises:
        ConfigError: If it cannot be composed.
    """
    return compose("train", overrides, folder=PACKAGE)
