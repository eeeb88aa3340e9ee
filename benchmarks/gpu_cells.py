"""What gpu.py measures, in the order of importance, what each cell needs, and how long it may take."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

TRITON, CUE = "tests/nn/test_triton.py", "tests/nn/test_cue.py"
CASES = ("l1", "l2", "l3")
BATCHES = (64, 5, 256)  # frames of 27 atoms; the first is what the rarer codes and precisions are measured with
WATERS = (64, 3333, 343, 1331)  # molecules; the first two, 192 and 9,999 atoms, likewise

OURS = ("ours batched", "ours triton", "ours cuequivariance")
EVERYWHERE = (*OURS, "nequip")
# NequIP's accelerated kernels as its manual has them: OpenEquivariance for training and dynamics, cuEquivariance for
# compiled dynamics only.
TRAINING = (*EVERYWHERE, "nequip_oeq", "nequip_compiled", "nequip_oeq_compiled")
DYNAMICS = (*EVERYWHERE, "nequip_compiled", "nequip_oeq_compiled", "nequip_cueq_compiled")
# Only the batched kernel is torch operations throughout, which is what autocast knows about.
AUTOCAST = ("ours batched", "nequip")

LIMIT = 60.0  # seconds of a cell
COMPILING_LIMIT = 150.0  # of one that compiles: torch.compile of NequIP, Triton's kernels of l >= 2, tests of kernels
LEAST = 10.0  # seconds that have to be left to begin a cell
COMPILING_LEAST = 40.0


@dataclass(frozen=True)
class Cell:
    """One measurement, or one file of tests.

    Attributes:
        kind: "tests", "train" or "md".
        code: "ours batched" (with its kernel), "nequip", ...; of tests the file.
        case: Architecture, see cases.py; of tests which of them: "quick" or "slow".
        size: Frames of a batch, or molecules of water.
        precision: See accelerator.py.
    """

    kind: str
    code: str
    case: str
    size: int = 0
    precision: str = "float32"

    @property
    def is_ours(self) -> bool:
        """Whether a failure is ours."""
        return self.kind == "tests" or self.code.startswith("ours")

    @property
    def place(self) -> tuple[str, str, int]:
        """What has to be equal for two times to be compared."""
        return self.kind, self.case, self.size

    @property
    def name(self) -> str:
        """For people, and for the names of files."""
        parts = (self.kind, self.case, str(self.size or ""), self.precision if self.size else "", self.code)
        return " ".join(filter(None, parts))

    @property
    def compiles(self) -> bool:
        """Whether most of its time is that of a compiler."""
        slow_triton = self.code == "ours triton" and self.case != "l1"
        return self.kind == "tests" or self.code.endswith("_compiled") or slow_triton

    @property
    def limit(self) -> float:
        """Seconds that it may take."""
        return COMPILING_LIMIT if self.compiles else LIMIT

    @property
    def least(self) -> float:
        """Seconds that have to be left to begin it."""
        return COMPILING_LEAST if self.compiles else LEAST

    def needs(self, device: str) -> tuple[str, ...]:
        """Modules that have to be installed."""
        cue = ("cuequivariance_torch", "cuequivariance_ops_torch") if device == "cuda" else ("cuequivariance_torch",)
        needed = {
            **{TRITON: ("pytest", "triton"), CUE: ("pytest", *cue)},
            **{"ours batched": (), "ours triton": ("triton",), "ours cuequivariance": cue},
        }
        if self.code in needed:
            return needed[self.code]
        return ("nequip", *(("openequivariance",) if "oeq" in self.code else cue if "cueq" in self.code else ()))


def plan(cases: Sequence[str] = CASES, batches: Sequence[int] = BATCHES, waters: Sequence[int] = WATERS) -> list[Cell]:
    """All cells, the most important first; each once.

    Args:
        cases: Architectures; the first is measured most thoroughly.
        batches: Frames of a batch; the first is the one that everything is measured with.
        waters: Molecules of water; the first two likewise.
    """
    first, others, batch, ends = cases[:1], cases[1:], batches[:1], waters[:2]
    tests = [Cell("tests", file, "quick") for file in (TRITON, CUE)]
    slow_tests = [Cell("tests", file, "slow") for file in (TRITON, CUE)]
    cells = [
        *tests,
        *_cells("train", first, batches, EVERYWHERE),
        *_cells("md", first, ends, EVERYWHERE),
        *_cells("train", first, batch, ("nequip_oeq", "nequip_compiled")),
        *_cells("md", first, ends, ("nequip_compiled", "nequip_oeq_compiled")),
        *_cells("train", others, batch, EVERYWHERE),
        *_cells("train", first, batch, EVERYWHERE, "tf32"),
        *_cells("train", first, batch, AUTOCAST, "bf16"),
        *_cells("md", others, ends, EVERYWHERE),
        *slow_tests,
        *_cells("train", cases, batch, TRAINING),
        *_cells("md", cases, ends, DYNAMICS),
        *_cells("train", cases, batches, TRAINING),
        *_cells("md", cases, waters, DYNAMICS),
        *_cells("train", others, batch, EVERYWHERE, "tf32"),
        *_cells("train", others, batch, AUTOCAST, "bf16"),
        *_cells("md", cases, ends, EVERYWHERE, "tf32"),
    ]
    return list(dict.fromkeys(cells))


def _cells(
    kind: str, cases: Sequence[str], sizes: Sequence[int], codes: Sequence[str], precision: str = "float32"
) -> Iterator[Cell]:
    for case in cases:
        for size in sizes:
            yield from (Cell(kind, code, case, size, precision) for code in codes)
