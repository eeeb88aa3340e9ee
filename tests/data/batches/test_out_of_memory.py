import errno

import pytest
import torch

from nequip_like.data.batches.out_of_memory import explain_out_of_memory, is_out_of_memory
from nequip_like.data.graph import collate


@pytest.mark.parametrize(
    ("error", "is_one"),
    [
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."), True),
        (MemoryError(), True),
        (
            RuntimeError("[enforce fail at alloc_cpu.cpp:121] DefaultCPUAllocator: can't allocate memory: you tried"),
            True,
        ),
        (RuntimeError("MPS backend out of memory (MPS allocated: 17.8 GB)"), True),
        (RuntimeError("std::bad_alloc"), True),
        (RuntimeError("DataLoader worker (pid 12) is killed by signal: Killed."), True),
        (OSError(errno.ENOMEM, "Cannot allocate memory"), True),
        (OSError(errno.ENOENT, "No such file"), False),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), False),
        (ValueError("out of memory"), False),
    ],
    ids=["cuda", "python", "cpu", "mps", "c++", "worker", "fork", "file", "shape", "value"],
)
def test_errors_of_memory(error, is_one):
    assert is_out_of_memory(error) is is_one


def test_torchs_own_error_is_one():
    with pytest.raises(RuntimeError) as caught:
        torch.empty(2**55, dtype=torch.float64)
    assert is_out_of_memory(caught.value)


@pytest.fixture
def graphs(make_graph):
    from nequip_like.data.dataset import GraphDataset

    atoms = [make_graph("H" * n, [[0, 0, float(i)] for i in range(n)]) for n in (2, 4, 1)]
    return [GraphDataset(atoms, 1.5, ["H"])[i] for i in range(3)]


def explain(batch):
    return explain_out_of_memory(
        MemoryError("no room"),
        "a training step",
        batch,
        "train.xyz frame {}".format,
        "data.batch_size (3 frames)",
        "wait",
    )


def test_the_largest_frame_is_named(graphs):
    error = explain(collate(graphs))
    assert error.message == (
        "a training step ran out of memory with a batch of 3 frames (7 atoms, 8 edges; no room); the largest is "
        "train.xyz frame 1 (4 atoms, 6 edges)"
    )
    assert error.advice == "give a smaller data.batch_size (3 frames), or wait"


def test_a_frame_alone_is_to_be_left_out(graphs):
    error = explain(collate(graphs[1:2]))
    assert error.message == (
        "a training step ran out of memory with a batch of train.xyz frame 1 (4 atoms, 6 edges; no room)"
    )
    assert error.advice == "leave such frames out, data.filters={max_atoms: 3}, or wait"


def test_without_a_batch():
    error = explain(None)
    assert (
        str(error)
        == "a training step ran out of memory (no room)\n  -> give a smaller data.batch_size (3 frames), or wait"
    )
