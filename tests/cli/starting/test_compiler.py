"""What stands for torch's compiler before it is loaded, each in a process of its own."""

from __future__ import annotations

import subprocess
import sys

import pytest

BEFORE = """
import sys
import torch
from nequip_like.cli.starting.compiler import defer_compiler

defer_compiler()
loaded = lambda: "torch._dynamo.eval_frame" in sys.modules
from torch._dynamo import OptimizedModule, disable, graph_break

layer = torch.nn.Linear(1, 1)
assert not isinstance(layer, OptimizedModule) and not issubclass(torch.nn.Linear, OptimizedModule)
twice = disable(lambda x: 2 * x)
assert twice(2) == 4
graph_break()
assert not loaded()
"""


def run(code: str) -> None:
    done = subprocess.run([sys.executable, "-c", BEFORE + code], capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_what_was_imported_before_knows_what_is_compiled_later():
    run("""
compiled = torch.compile(layer, backend="eager")
assert loaded()
assert type(compiled) is torch._dynamo.OptimizedModule is not OptimizedModule
assert isinstance(compiled, OptimizedModule) and issubclass(type(compiled), OptimizedModule)
assert not isinstance(layer, OptimizedModule)
""")


@pytest.mark.slow
def test_a_function_is_kept_from_being_compiled():
    """As often as with the compiler's own ``disable``: the graph before the call, and the one after it."""
    run("""
import torch._dynamo.testing
own = torch._dynamo.disable(lambda x: 2 * x)
for function in (twice, own):
    counter = torch._dynamo.testing.CompileCounter()
    compiled = torch.compile(lambda x: function(x + 1) + 1, backend=counter)
    assert compiled(torch.ones(1)) == 5.0
    assert counter.frame_count == 2, counter.frame_count
    torch._dynamo.reset()
counter = torch._dynamo.testing.CompileCounter()
def parts(x):
    y = x + 1
    torch._dynamo.graph_break()
    return y + 1
assert torch.compile(parts, backend=counter)(torch.ones(1)) == 3.0 and counter.frame_count == 2
graph_break()
""")


@pytest.mark.slow
def test_what_is_no_function_is_left_to_the_compiler():
    run("""
assert disable(recursive=False)(lambda x: 2 * x)(2) == 4
assert disable(layer)(torch.ones(1, 1)).shape == (1, 1)
assert loaded()
""")


@pytest.mark.slow
def test_optimizers_are_compiled_as_ever():
    """Their methods were kept from the compiler before it was there."""
    run("""
weight = torch.nn.Parameter(torch.ones(2))
optimizer = torch.optim.AdamW([weight], lr=0.1)
weight.grad = torch.ones(2)
optimizer.step()
optimizer.zero_grad()
assert not loaded()
weight.grad = torch.ones(2)
torch.compile(optimizer.step, backend="eager")()
assert loaded()
other = torch.nn.Parameter(torch.ones(2))
reference = torch.optim.AdamW([other], lr=0.1)
for _ in range(2):
    other.grad = torch.ones(2)
    reference.step()
torch.testing.assert_close(weight, other)
""")
