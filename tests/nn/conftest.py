"""Kernels that are compiled here are kept for the session, not in the user's cache folder."""

import pytest


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NEQUIP_LIKE_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield
