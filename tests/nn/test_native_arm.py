"""Compiled code for ARM, of networks and of passes over weights: compiled by the package ziglang, not run."""

import importlib.util
import os
import re
import subprocess
import sys

import pytest

from nequip_like.metrics.compiled import errors
from nequip_like.model import NequIPGNNModel
from nequip_like.nn.native import compiler
from nequip_like.nn.native.sources.network_source import write_network
from nequip_like.optim import matrix_passes, weight_passes

NETWORKS = {
    "small": {"model_dtype": "float32", "l_max": 1, "num_features": 4},
    "float32": {"model_dtype": "float32", "l_max": 2, "num_features": 8},
    "float64, with vectors of two numbers": {"model_dtype": "float64", "l_max": 1, "num_features": [6, 2]},
}
EM_AARCH64 = 0xB7
MACH_O_ARM64 = bytes.fromhex("cffaedfe0c000001")
VECTOR_FMLA = re.compile(r"\bfmla\s+v\d+\.(?:4s|2d)\b")
needs_zig = pytest.mark.skipif(
    importlib.util.find_spec("ziglang") is None,
    reason="there is no ziglang (pip install ziglang), which compiles for ARM",
)


@pytest.fixture
def sources(request, tmp_path):
    """Files of a network's translation units, beside those that they include."""
    model = NequIPGNNModel(
        seed=0, type_names=["H", "C", "O"], r_max=4.0, num_layers=2, parity=True, avg_num_neighbors=10.0,
        **NETWORKS[request.param],
    )  # fmt: skip
    network = write_network(model.energy_model.native.network.plan)
    return write_files(tmp_path, network.units, network.headers)


def write_files(folder, units, headers):
    """Put translation units and what they include into a folder; the paths of the units."""
    for name, text in headers.items():
        (folder / name).write_text(text)
    files = [folder / f"{number}.c" for number in range(len(units))]
    for file, text in zip(files, units, strict=True):
        file.write_text(text)
    return files


def run_zig(system, folder, *arguments):
    """Compile for ARM with the flags that the package uses there, for any ARM instead of this machine's."""
    flags = [flag.replace("native", "generic") for flag in compiler.list_flags("aarch64")]
    assert "-mcpu=generic" in flags
    command = [
        sys.executable,
        "-m",
        "ziglang",
        "cc",
        "-target",
        f"aarch64-{system}",
        "-g0",
        *flags,
        *map(str, arguments),
    ]
    environment = os.environ | dict.fromkeys(("ZIG_GLOBAL_CACHE_DIR", "ZIG_LOCAL_CACHE_DIR"), str(folder / "zig"))
    found = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=folder, check=False)
    assert found.returncode == 0, found.stderr


@needs_zig
@pytest.mark.parametrize(
    "sources", ["float32", pytest.param("float64, with vectors of two numbers", marks=pytest.mark.slow)], indirect=True
)
def test_linux(sources, tmp_path):
    """Vectors fill NEON's registers, sums of products stay in them, and OpenMP divides the work."""
    codes = []
    for source in sources:
        assembly, object_file = source.with_suffix(".s"), source.with_suffix(".o")
        run_zig("linux-gnu", tmp_path, compiler._THREADS, "-S", source, "-o", assembly)
        run_zig("linux-gnu", tmp_path, "-c", assembly, "-o", object_file)
        head = object_file.read_bytes()[:20]
        assert head[:6] == b"\x7fELF\x02\x01"  # 64 bits, the lowest byte first
        assert int.from_bytes(head[18:20], "little") == EM_AARCH64
        codes.append(assembly.read_text(errors="replace"))
        assert VECTOR_FMLA.search(codes[-1])
        assert not re.search(r"\bb[lr]?\s+fmaf?\b", codes[-1])  # no product and sum by the mathematics library
    passes = codes[0]
    assert "__kmpc_fork_call" in passes
    # The loop of a whole tile: 8 rows by 2 vectors, without a way through memory.
    product = passes[passes.index("\nproduct:") :]
    blocks = re.split(r"^\.L\w+:", product[: product.index(".cfi_endproc")], flags=re.MULTILINE)
    tiles = [block for block in blocks if len(re.findall(r"\bfmla\s", block)) == 16]
    assert len(tiles) == 1
    assert "[sp" not in tiles[0]


@needs_zig
@pytest.mark.parametrize("read", [weight_passes.read_sources, matrix_passes.read_matrix_sources])
def test_passes_over_weights(read, tmp_path):
    """Sums of squares, averages, Adam, SOAP and Muon work on vectors."""
    for source in write_files(tmp_path, *read()):
        assembly = source.with_suffix(".s")
        run_zig("linux-gnu", tmp_path, compiler._THREADS, "-S", source, "-o", assembly)
        code = assembly.read_text(errors="replace")
        assert VECTOR_FMLA.search(code)
        assert re.search(r"\bfsqrt\s+v\d+\.(?:4s|2d)\b", code)
        assert "__kmpc_fork_call" in code


@needs_zig
@pytest.mark.parametrize("target", ["linux-gnu", "macos"])
def test_errors_of_a_loss(target, tmp_path):
    """No sum is contracted with the errors that it adds up."""
    for source in write_files(tmp_path, *errors.read_error_sources()):
        assembly = source.with_suffix(".s")
        run_zig(target, tmp_path, "-S", source, "-o", assembly)
        code = assembly.read_text(errors="replace")
        block = code[code.index("sum_block:") :]
        block = block[: block.index(".cfi_endproc")]
        assert re.search(r"\bfadd\b", block)
        assert not re.search(r"\bfm(?:add|la)\b", block)


@needs_zig
@pytest.mark.parametrize("sources", ["small", pytest.param("float32", marks=pytest.mark.slow)], indirect=True)
def test_mac(sources, tmp_path):
    """Apple's compiler has no OpenMP; the types of its C library are others."""
    for source in sources:
        run_zig("macos", tmp_path, "-c", source, "-o", source.with_suffix(".o"))
        assert source.with_suffix(".o").read_bytes()[:8] == MACH_O_ARM64


def test_flags():
    assert compiler.list_flags("x86_64") == (
        "-O2", "-march=native", "-ffp-contract=fast", "-fno-math-errno", "-fno-trapping-math", "-fPIC",
    )  # fmt: skip
    assert compiler.list_flags("arm64") == compiler.list_flags("aarch64")


def test_processors_have_different_keys(monkeypatch, tmp_path):
    """Two kinds of ARM with the same extensions, as in a cluster with one home folder."""
    file = tmp_path / "cpuinfo"
    monkeypatch.setattr(compiler, "Path", lambda _: file)
    found = set()
    for part in ("0xd0c", "0xd40"):
        lines = ["processor\t: 0", "Features\t: fp asimd", "CPU implementer\t: 0x41", f"CPU part\t: {part}", ""]
        file.write_text("\n".join(lines * 2))
        found.add(compiler._identify_processor())
    assert len(found) == 2
