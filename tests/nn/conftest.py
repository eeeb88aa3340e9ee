"""Kernels compiled here are kept for the session, shared by its processes, and not in the user's cache folder."""

import os

import pytest


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory):
    folder = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        folder = folder.parent
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NEQUIP_LIKE_CACHE", str(folder / "cache"))
        yield
