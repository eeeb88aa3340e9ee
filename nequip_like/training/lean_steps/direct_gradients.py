"""Gradients of the usual loss of a compiled potential, without autograd's engine."""

from __future__ import annotations

import torch
from torch import Tensor

from nequip_like.metrics.closed_form import differentiate_sum
from nequip_like.nn.native.differentiation import put_gradients


def differentiate_directly(loss: Tensor) -> bool:
    """Do what ``loss.backward()`` does, where the loss is a weighted sum of usual errors of a compiled potential.

    Its graph has two nodes then, whose gradients are functions of ours.

    Args:
        loss: The loss of a step.

    Returns:
        Whether it is done; if not, nothing has changed.
    """
    node = loss.grad_fn
    if node is None or torch.is_anomaly_enabled():
        return False
    adjoints = differentiate_sum(loss)
    return adjoints is not None and put_gradients(node.next_functions, adjoints)
