"""Moving rows between atoms and edges: gather, and the sum over rows of the same index."""

from __future__ import annotations

import importlib.util

from torch import Tensor

# The optional extra ``scatter``. It has no wheels for current torch, so torch's own operation is the default.
_HAS_TORCH_SCATTER = importlib.util.find_spec("torch_scatter") is not None


def gather_rows(rows: Tensor, index: Tensor) -> Tensor:
    """``rows[index]`` along the first dimension."""
    return rows.index_select(0, index)


def sum_rows(rows: Tensor, index: Tensor, size: int) -> Tensor:
    """Sum of the rows that have the same index, shape (size, ...).

    Example:
        >>> import torch
        >>> sum_rows(torch.tensor([1.0, 2.0, 4.0]), torch.tensor([0, 2, 0]), size=3).tolist()
        [5.0, 0.0, 2.0]
    """
    if _HAS_TORCH_SCATTER:
        from torch_scatter import scatter_sum

        return scatter_sum(rows, index, dim=0, dim_size=size)
    return rows.new_zeros(size, *rows.shape[1:]).index_add(0, index, rows)
