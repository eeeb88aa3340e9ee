"""States of random number generators: what is drawn after they are restored is what was drawn before."""

from __future__ import annotations

import io
import random

import numpy as np
import torch

from nequip_like.distributed import gather_states, get_random_state, select_own_state, set_random_state


def draw() -> tuple[float, float, float, float]:
    return random.gauss(0, 1), float(np.random.normal()), float(torch.randn(())), random.random()


def test_restored_from_a_file() -> None:
    draw()  # the generators of normal numbers keep every second one
    file = io.BytesIO()
    torch.save(gather_states({"random": get_random_state()}), file)
    first = draw()
    assert draw() != first
    file.seek(0)
    state = select_own_state(torch.load(file, weights_only=True))
    assert state is not None
    set_random_state(state["random"])
    assert draw() == first


def test_states_of_other_processes_are_not_taken() -> None:
    assert select_own_state([]) is None
    assert select_own_state([{}, {}]) is None
    assert select_own_state([{"a": 1}]) == {"a": 1}
