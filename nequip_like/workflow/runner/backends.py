"""Which backend does a run."""

from __future__ import annotations

from nequip_like.errors import ConfigError
from nequip_like.workflow.runner.backend import Backend
from nequip_like.workflow.runner.built_in.backend import BuiltInBackend
from nequip_like.workflow.runner.built_in.context import RunContext
from nequip_like.workflow.runner.requests import RunRequest


def choose_backend(request: RunRequest, context: RunContext) -> Backend:
    """The backend of a run: our own library, or a program of others.

    Raises:
        ConfigError: If there is none for it.
    """
    if request.is_external:
        # The place of the external backends: nequip_like.workflow.runner.external.
        raise ConfigError(f"backend: {request.backend or request.task} is not there yet", "give a family of ours")
    return BuiltInBackend(context)
