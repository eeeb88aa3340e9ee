"""How near a training step comes to what the machine can do: arithmetic and bytes of the step, rates of the machine.

    python benchmarks/roofline.py --threads 2      # the rates alone, as JSON

**Rates**, measured when a benchmark runs: the best of several float32 products of 2048 x 2048 matrices, and the best of
several copies of an array that no cache holds, its pages touched before (a copy reads and writes: 2 x its size).

**Arithmetic**, 2 FLOP for each multiplication with addition. With N atoms, E edges, and for each layer C channels an
irrep, one evaluation of

- the radial network costs ``2 E sum_i w_i w_(i+1)`` for its widths ``w`` (8, 64, 64, and one weight for each path and
  channel);
- an equivariant linear map (``linear_in``, ``linear_out``, and the self-connection, which is one such map for each
  species) costs ``2 N sum (2l+1) C_in C_out``;
- the tensor product costs ``2 E sum_paths C (z + 2k+1)``: ``z`` nonzero Clebsch-Gordan coefficients ``(l1, l2 -> k)``,
  each multiplied with the edge's harmonic (once for all channels, not counted) and then with the neighbour's feature;
  and the path's weight times the result, added to the centre.

A step evaluates each several times: forward; once more backward for the forces; then backward through both for the
gradients of the parameters. The product of activations and weights ``y = x W`` is evaluated 1 + 1 + 4 times (forward;
``g W'`` for the forces; from each of the two products the gradients of both of its factors). The tensor product, which
is linear in features x, harmonics Y and weights w, is evaluated 1 + 3 + 9 times: forward; gradients of x, Y and w; then
x and w, which depend on parameters, and the incoming gradient g get one contribution for each way to replace one of the
other factors by its cotangent (x: 2, w: 2, g: 3), and x and w one more each from the energies. What does not depend on
positions (the features of the first layer) or on parameters (harmonics, radial basis) needs no gradient: the first
radial matrix is evaluated 1 + 1 + 3 times, the first layer's linear_in 1 + 0 + 2 and its tensor product 1 + 2 + 7.
Activations, gates, harmonics, sums, loss and optimizer are not counted; nor is it counted that evaluations can share
work, so this is an estimate of the work, not a bound on every imaginable algorithm.

**Bytes**, 4 for a number: each evaluation reads its operands and writes its result once, nothing of an edge between the
radial network's last product and the sum over neighbours (no message in memory), features of neighbours counted once
for each atom. It is what has to pass through memory if no cache holds anything from one evaluation to the next; a small
batch, which the caches do hold, can be faster than that.

**Limit**: the larger of FLOP / (GEMM rate) and, for batches whose bytes exceed the caches, bytes / bandwidth; both are
printed, and the share of each that the measured step reached.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from dataclasses import dataclass
from itertools import pairwise

FLOAT = 4  # bytes
INDICES = 16  # bytes of an edge's two indices


@dataclass(frozen=True)
class Work:
    """Arithmetic and memory traffic.

    Attributes:
        flop: Floating-point operations.
        bytes: Bytes read and written.
        parameters: Trained numbers.
    """

    flop: float = 0.0
    bytes: float = 0.0
    parameters: int = 0

    def __add__(self, other: Work) -> Work:
        return Work(self.flop + other.flop, self.bytes + other.bytes, self.parameters + other.parameters)

    def times(self, evaluations: int) -> Work:
        """So many evaluations with the same parameters."""
        return Work(self.flop * evaluations, self.bytes * evaluations, self.parameters)


def matrix_product(rows: int, width_in: int, width_out: int, dimension: int = 1) -> Work:
    """``(rows x dimension, width_in) @ (width_in, width_out)``."""
    numbers = rows * dimension * (width_in + width_out) + width_in * width_out
    return Work(2.0 * rows * dimension * width_in * width_out, FLOAT * numbers, width_in * width_out)


@dataclass(frozen=True)
class Layer:
    """Irreps of one layer and its paths.

    Attributes:
        inputs: (channels, irrep) that come in.
        gated: (channels, irrep) before the gate.
        outputs: (channels, irrep) after it.
        paths: (channels, l of the source, l of the harmonic, irrep of the result).
    """

    inputs: list
    gated: list
    outputs: list
    paths: list


def layers_of(architecture: dict, case: dict) -> list[Layer]:
    """The layers of NequIP: all paths of features and harmonics into the hidden features that some path reaches."""
    from e3nn.o3 import Irrep

    width, l_max, count = architecture["num_features"], case["l_max"], architecture["num_layers"]
    hidden = [
        Irrep(degree, sign)
        for degree in range(l_max + 1)
        for sign in ((1, -1) if case["parity"] else ((-1) ** degree,))
    ]
    harmonics = [Irrep(degree, (-1) ** degree) for degree in range(l_max + 1)]
    features, layers = [(width, Irrep("0e"))], []
    for index in range(count):
        wanted = hidden if index < count - 1 else [Irrep("0e")]
        products = {kind for _, source in features for y in harmonics for kind in source * y}
        outputs = [(width, kind) for kind in wanted if kind in products]
        gates = width * sum(kind.l > 0 for _, kind in outputs)
        gate = Irrep("0e") if Irrep("0e") in products else Irrep("0o")
        channels = {kind: width for _, kind in outputs}
        if gates:
            channels[gate] = channels.get(gate, 0) + gates
        paths = [
            (mul, source.l, y.l, kind) for mul, source in features for y in harmonics for kind in source * y
            if kind in channels
        ]  # fmt: skip
        gated = [(mul, kind) for kind, mul in channels.items()]
        layers.append(Layer(features, gated, outputs, paths))
        features = outputs
    return layers


def nonzero_coefficients(l1: int, l2: int, l3: int) -> int:
    """Number of nonzero real Clebsch-Gordan coefficients of one path."""
    from e3nn.o3 import wigner_3j

    return int((wigner_3j(l1, l2, l3).abs() > 1e-6).sum())


def linear_map(atoms: int, inputs: list, outputs: list) -> Work:
    """An equivariant linear map from (channels, irrep) to (channels, irrep)."""
    return sum(
        (
            matrix_product(atoms, mul_in, mul_out, kind.dim)
            for mul_in, kind in inputs
            for mul_out, same in outputs
            if same == kind
        ),
        Work(),
    )


def radial_network(architecture: dict, edges: int, weights: int) -> list[Work]:
    """One entry for each matrix of the radial network."""
    hidden = [architecture["radial_mlp_width"]] * architecture["radial_mlp_depth"]
    widths = [architecture.get("num_bessels", 8), *hidden, weights]
    return [matrix_product(edges, width_in, width_out) for width_in, width_out in pairwise(widths)]


def tensor_product(layer: Layer, l_max: int, atoms: int, edges: int) -> Work:
    """One contraction of features, harmonics and weights, summed over neighbours."""
    flop = sum(2.0 * mul * (nonzero_coefficients(l1, l2, kind.l) + kind.dim) for mul, l1, l2, kind in layer.paths)
    weights = sum(mul for mul, *_ in layer.paths)
    of_edge = FLOAT * (weights + (l_max + 1) ** 2) + INDICES
    sources = sum(mul * kind.dim for mul, kind in layer.inputs)
    results = sum(mul * kind.dim for mul, _, _, kind in layer.paths)
    return Work(edges * flop, edges * of_edge + FLOAT * atoms * (sources + results))


def training_step(architecture: dict, case: dict, atoms: int, edges: int) -> Work:
    """Work of one training step with forces; see the head of this file.

    Args:
        architecture: Arguments of the NequIP builder.
        case: Its ``l_max`` and ``parity``.
        atoms: Of the batch.
        edges: Of the batch.
    """
    width, types = architecture["num_features"], len(architecture["type_names"])
    total = Work(parameters=types * width)  # the embedding of the species
    for index, layer in enumerate(layers_of(architecture, case)):
        first = index == 0
        of_kind = {kind: sum(mul for mul, _, _, result in layer.paths if result == kind) for *_, kind in layer.paths}
        network = radial_network(architecture, edges, sum(mul for mul, *_ in layer.paths))
        total += linear_map(atoms, layer.inputs, layer.inputs).times(3 if first else 6)
        total += network[0].times(5)
        for matrix in network[1:]:
            total += matrix.times(6)
        total += tensor_product(layer, case["l_max"], atoms, edges).times(10 if first else 13)
        total += linear_map(atoms, [(mul, kind) for kind, mul in of_kind.items()], layer.gated).times(6)
        if not first:
            connection = linear_map(atoms, layer.inputs, layer.gated).times(6)
            # It has one matrix for each number of the species' embedding.
            total += Work(connection.flop, connection.bytes, connection.parameters * width)
    return total + matrix_product(atoms, width, 1).times(6)


def measure_rates(threads: int, repeats: int = 7) -> dict:
    """Float32 GEMM rate, GFLOP/s, and memory bandwidth, GB/s, each the best of several."""
    import time

    import torch

    torch.set_num_threads(threads)

    def best(run) -> float:
        run()  # touches the pages
        times = []
        for _ in range(repeats):
            start = time.perf_counter()
            run()
            times.append(time.perf_counter() - start)
        return min(times)

    size = 2048
    a, b, c = (torch.randn(size, size) for _ in range(3))
    source = torch.zeros(64 * 2**20)  # 256 MiB
    target = torch.zeros_like(source)
    gemm, copy = best(lambda: torch.mm(a, b, out=c)), best(lambda: target.copy_(source))
    return {"gflops": 2e-9 * size**3 / gemm, "gigabytes_per_s": 2e-9 * FLOAT * source.numel() / copy}


def rates(threads: int) -> dict:
    """The same, measured in a process of its own."""
    command = [sys.executable, __file__, "--threads", str(threads)]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def against_limits(work: Work, seconds: float, machine: dict) -> dict:
    """The work of a step, the time that each rate allows for it, and the share of it that the step reached."""
    gemm, memory = work.flop / machine["gflops"] / 1e9, work.bytes / machine["gigabytes_per_s"] / 1e9
    return {
        "gflop": work.flop / 1e9,
        "gigabytes": work.bytes / 1e9,
        "gemm_limit_ms": 1e3 * gemm,
        "memory_limit_ms": 1e3 * memory,
        "share_of_gemm_limit": gemm / seconds,
        "share_of_memory_limit": memory / seconds,
    }


def main() -> None:
    """Print the rates of this machine."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=1)
    print(json.dumps(measure_rates(parser.parse_args().threads)))


if __name__ == "__main__":
    main()
