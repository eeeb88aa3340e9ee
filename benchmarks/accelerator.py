"""Device and precision of the workers, from what they are told: ``device`` and ``precision`` of their spec.

Ours has no option for TF32: it computes in ``model_dtype`` and leaves torch's switches as they are, so tf32 is torch's
own switch for float32 matrix products. bf16 is ``torch.autocast`` around model and loss, as Lightning has it with
``trainer.precision=bf16-mixed``, which our configs take; there is nothing like it for dynamics.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext

from workers import peak_megabytes

PRECISIONS = ("float32", "tf32", "bf16")


def device(spec: Mapping) -> str:
    """Name of the device."""
    return spec.get("device", "cpu")


def use_tf32(spec: Mapping) -> None:
    """Let torch compute float32 matrix products in TF32, if that is asked for; nequip has a switch of its own."""
    if spec.get("precision") == "tf32":
        import torch

        torch.set_float32_matmul_precision("high")


def autocast(spec: Mapping) -> AbstractContextManager[object]:
    """The context of model and loss."""
    if spec.get("precision") != "bf16":
        return nullcontext()
    import torch

    return torch.autocast(device(spec), torch.bfloat16)


def peak(spec: Mapping) -> Callable[[], float]:
    """What measures the largest memory, MB: of the tensors on a GPU, of the whole process on a CPU."""
    if device(spec) == "cpu":
        return peak_megabytes
    import torch

    return lambda: torch.cuda.max_memory_allocated() / 1e6
