"""A run that gets no memory says which batch it was, and what to change."""

import re
import subprocess
import sys

import pytest
import torch

from nequip_like.errors import OutOfMemoryError
from nequip_like.model.potential import Potential
from nequip_like.workflow.train import train

CPU_ALLOCATOR = "[enforce fail at alloc_cpu.cpp:121] err == 0. DefaultCPUAllocator: can't allocate memory: 99 bytes"


def fail_at(monkeypatch, number, error, training):
    """Let the potential raise at one of its calls, of those in training mode or of the others."""
    forward, calls = Potential.forward, []

    def predict(self, graph):
        if self.training is training:
            calls.append(graph)
            if len(calls) == number:
                raise error
        return forward(self, graph)

    monkeypatch.setattr(Potential, "forward", predict)
    return calls


def test_gpu_out_of_memory_in_training(compose, monkeypatch):
    # The first calls in training mode are those of the estimate of the memory: one frame, then two of them.
    error = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
    calls = fail_at(monkeypatch, 5, error, training=True)
    with pytest.raises(OutOfMemoryError) as caught:
        train(compose("data.batch_size={atoms:12}", "model.kernel=batched", "trainer.num_sanity_val_steps=0"))
    frames = calls[-1]["frame_index"].tolist()
    assert len(frames) == 3
    said = caught.value.message
    assert said.startswith("a training step ran out of memory with a batch of 3 frames (12 atoms, ")
    assert "CUDA out of memory. Tried to allocate 2.00 GiB." in said
    assert re.search(r"; the largest is \S*molecules\.xyz frame \d+ \(4 atoms, \d+ edges\)$", said)
    assert "a smaller data.batch_size (12 atoms) with a larger trainer.accumulate_grad_batches" in caught.value.advice
    assert "model.num_features" in caught.value.advice
    assert caught.value.__cause__ is error


def test_validation_out_of_memory(compose, monkeypatch):
    fail_at(monkeypatch, 1, RuntimeError(CPU_ALLOCATOR), training=False)
    with pytest.raises(OutOfMemoryError, match=r"a validation ran out of memory .*\n.*data\.val_batch_size \(10 fr"):
        train(compose("model.kernel=fused", "run=[val]"))


def test_other_errors_stay(compose, monkeypatch):
    fail_at(monkeypatch, 1, RuntimeError("something else"), training=False)
    with pytest.raises(RuntimeError, match=r"^something else$"):
        train(compose("model.kernel=fused", "run=[val]"))


_LIMITED = """
import resource
import nequip_like.cli.train as cli
from nequip_like.workflow import train as workflow

fit = workflow.explaining_memory

def limit(trainer, data):
    # From here on as much as the process has now, and 64 MB.
    with open("/proc/self/statm") as file:
        size = int(file.read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (size + 2**26, size + 2**26))
    return fit(trainer, data)

workflow.explaining_memory = limit
cli.main()
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="limits address space")
def test_a_real_run_with_too_little_memory(tmp_path, molecule_file, tiny):
    """Torch's own allocator fails, in a process whose address space may grow by 64 MB only."""
    overrides = [
        *("-cn", "train", f"data.train={molecule_file}", "data.val=4", "cutoff_radius=4.0", *tiny),
        *("model.num_features=256", "model.kernel=batched", "data.batch_size=20", f"output_dir={tmp_path / 'run'}"),
    ]
    done = subprocess.run(
        [sys.executable, "-c", _LIMITED, *overrides], cwd=tmp_path, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 2, done.stderr
    assert "error: a training step ran out of memory with a batch of 20 frames (80 atoms, " in done.stderr
    assert "can't allocate memory" in done.stderr
    assert re.search(r"the largest is \S*molecules\.xyz frame \d+ \(4 atoms", done.stderr)
    assert "  -> give a smaller data.batch_size (20 frames)" in done.stderr
