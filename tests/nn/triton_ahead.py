"""Compile the Triton kernels for GPUs on a machine without one, and count what they need.

    python -m tests.nn.triton_ahead --models l1 l2_parity --targets 80 90

prints for each function: registers of a thread (the most of its kernels), bytes of spilled registers, and instructions
in the loop over edges, of all its kernels, for one edge and 32 channels. Needs triton, with its ptxas and nvdisasm.
"""

import argparse
import itertools
import re
import subprocess
import tempfile
from pathlib import Path

import torch
from e3nn.o3 import Irreps

from nequip_like.nn.kernels.paths import PathTable
from nequip_like.nn.kernels.triton_convolution import OPTIONS, TritonConvolution
from nequip_like.nn.kernels.triton_source import FUNCTIONS

MODELS = {"l1": (1, False), "l1_parity": (1, True), "l2": (2, False), "l2_parity": (2, True), "l3": (3, False)}
CHANNELS = 32
DTYPES = {"float32": (torch.float32, "*fp32"), "float64": (torch.float64, "*fp64")}


def table_of(model):
    """The convolution of a middle layer, with 32 channels of each kind."""
    l_max, parity = MODELS[model]
    signs = {degree: (1, -1) if parity else ((-1) ** degree,) for degree in range(l_max + 1)}
    irreps = Irreps([(CHANNELS, (degree, sign)) for degree in signs for sign in signs[degree]])
    return PathTable(irreps, l_max, irreps)


def kernels_of(convolution, function):
    names = [name for name in vars(convolution.functions) if re.fullmatch(rf"{function}_\d+", name)]
    return [getattr(convolution.functions, name) for name in sorted(names)]


def assembled(kernel, pointer, capability):
    """PTX and machine code of a kernel for a GPU of a compute capability such as 90."""
    import triton
    from triton.backends.compiler import GPUTarget

    signature, attributes = {}, {}
    for index, name in enumerate(kernel.arg_names):
        signature[name] = "*i64" if name in ("row", "edge", "other") else "i32" if name == "edges" else pointer
        if name != "edges":
            attributes[(index,)] = [["tt.divisibility", 16]]  # as torch allocates
    source = triton.compiler.ASTSource(kernel, signature, attrs=attributes)
    compiled = triton.compile(source, target=GPUTarget("cuda", capability, 32), options=OPTIONS)
    return compiled.asm["ptx"], compiled.asm["cubin"]


def needs(ptx, cubin):
    """Registers, spilled bytes, and instructions in the loops over edges."""
    from triton.backends.nvidia.compiler import get_ptxas

    target = re.search(r"\.target sm_(\d+)(\w*)", ptx)
    assembler = Path(get_ptxas(int(target[1])).path)
    with tempfile.TemporaryDirectory() as folder:
        code, binary = Path(folder, "kernel.ptx"), Path(folder, "kernel.cubin")
        code.write_text(ptx)
        binary.write_bytes(cubin)
        report = _output(assembler, "-v", f"-arch=sm_{target[1]}{target[2]}", code, "-o", Path(folder, "again.cubin"))
        listing = _output(assembler.with_name("nvdisasm"), "-c", binary)
    registers = int(re.search(r"Used (\d+) registers", report)[1])
    spilled = sum(int(size) for size in re.findall(r"(\d+) bytes spill", report))
    return registers, spilled, _instructions_in_loops(listing)


def _output(*command):
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, check=True)
    return done.stdout + done.stderr


def _instructions_in_loops(listing):
    """Instructions between a label and a branch back to it."""
    place, labels, total = 0, {}, 0
    for line in listing.splitlines():
        if label := re.match(r"\s*(\.L_\w+):", line):
            labels[label[1]] = place
        elif code := re.search(r"/\*[0-9a-f]{4,}\*/\s+(.*?);", line):
            place += 1
            back = re.search(r"BRA.*`\((\.L_\w+)\)", code[1])
            start = labels.get(back[1], place) if back else place
            total += place - start if place - start > 1 else 0  # a branch to itself pads the end
    return total


def counts(model, dtype, capability):
    """What each function needs: registers, spilled bytes, instructions for an edge."""
    element, pointer = DTYPES[dtype]
    convolution = TritonConvolution(table_of(model), element)
    result = {}
    for function in FUNCTIONS:
        found = [needs(*assembled(kernel, pointer, capability)) for kernel in kernels_of(convolution, function)]
        registers, spilled, instructions = zip(*found, strict=True)
        result[function] = (len(found), max(registers), sum(spilled), sum(instructions) / convolution.tile.edges)
    return result


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", choices=MODELS, default=list(MODELS))
    parser.add_argument("--targets", nargs="+", type=int, default=[80, 90])
    parser.add_argument("--dtypes", nargs="+", choices=DTYPES, default=list(DTYPES))
    arguments = parser.parse_args()
    for model, dtype, capability in itertools.product(arguments.models, arguments.dtypes, arguments.targets):
        for function, (kernels, registers, spilled, instructions) in counts(model, dtype, capability).items():
            where = f"{model:10s} {dtype} sm_{capability} {function:17s}"
            needed = f"registers {registers:3d}  spilled {spilled:4d}  instructions {instructions:7.1f}"
            print(f"{where} kernels {kernels:2d}  {needed}", flush=True)


if __name__ == "__main__":
    main()
