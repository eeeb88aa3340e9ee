"""The forms that a step of the optimizers of matrices has."""

import pytest

from nequip_like.nn.native.compiler import find_compiler
from nequip_like.optim import matrix_passes


@pytest.fixture(params=["compiled", "torch"])
def _form(request, monkeypatch):
    """The step in compiled code, and by torch operations."""
    if request.param == "torch":
        monkeypatch.setattr(matrix_passes, "_load_library", lambda: None)
    elif find_compiler() is None:
        pytest.skip("there is no C compiler")
