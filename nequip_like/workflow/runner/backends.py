"""Which backend does a run."""

from __future__ import annotations

from nequip_like.workflow.runner import keys
from nequip_like.workflow.runner.backend import Backend
from nequip_like.workflow.runner.built_in.backend import BuiltInBackend
from nequip_like.workflow.runner.built_in.context import RunContext
from nequip_like.workflow.runner.external.backends import ExternalBackend
from nequip_like.workflow.runner.external.nequip.backend import NequIPBackend
from nequip_like.workflow.runner.requests import RunRequest


def choose_backend(request: RunRequest, context: RunContext) -> Backend:
    """The backend of a run: our own library, or a program of others."""
    if request.is_external and request.backend == keys.NEQUIP_EXTERNAL and request.task != "backend":
        return NequIPBackend()
    if request.is_external:
        return ExternalBackend()
    return BuiltInBackend(context)
