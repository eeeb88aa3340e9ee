"""Damaged LMDB and HDF5 files: their libraries are written in C, and a crash there ends the process.

So another process reads them, and names the file before it does.
"""

import os
import random
import subprocess
import sys
from pathlib import Path

import pytest

from nequip_like.data.io.formats import read_atoms
from nequip_like.errors import NequipLikeError
from tests.data.io.sets.written_sets import WRITERS, make_frames
from tests.hostile.mutations import damaged, refused, share

ROOT = Path(__file__).parents[2]
BATCHES = 2
NAMES = {"aselmdb": "a.aselmdb", "nequip": "nequip.lmdb", "fairchem": "fairchem.lmdb", "mace": "a.h5"}
PAGE = 4096


def overwritten(content, seed):
    """One to eight numbers replaced where they stand, most of them in the first bytes of a page."""
    rng = random.Random(seed)
    data = bytearray(content)
    for _ in range(rng.choice((1, 1, 1, 2, 8))):
        width = rng.choice((1, 2, 4, 8))
        in_header = rng.random() < 0.7
        at = rng.randrange(len(data) // PAGE) * PAGE + 2 * rng.randrange(48) if in_header else rng.randrange(len(data))
        number = rng.choice((0, 1, 2, rng.getrandbits(8 * width), (1 << 8 * width) - 1, rng.randrange(40)))
        data[at : at + width] = (number % (1 << 8 * width)).to_bytes(width, "little")[: len(data) - at]
    return bytes(data)


def read_each(folder, name, first, last):
    """In the other process: read the file with each damage, and print which ones were refused."""
    path = Path(folder) / f"damaged_{name}"
    whole = (Path(folder) / name).read_bytes()
    for seed in range(int(first), int(last)):
        print(seed, end=" ", flush=True)
        path.write_bytes((damaged if seed % 3 == 0 else overwritten)(whole, seed))
        print("refused" if refused(lambda: read_naming(path)) else "read", flush=True)


def read_naming(path):
    try:
        read_atoms(path, trust_pickle=True)
    except NequipLikeError as error:
        if path.name not in error.message:
            raise AssertionError(f"an error without the name of the file: {error}") from error
        raise


@pytest.mark.slow
@pytest.mark.parametrize("batch", range(BATCHES))
@pytest.mark.parametrize("kind", NAMES)
def test_no_damage_ends_the_process(tmp_path, kind, batch):
    name, seeds = NAMES[kind], share(kind, batch, BATCHES)
    frames = [atoms for atoms in make_frames(8 if kind == "mace" else 24) if atoms.pbc.all() or kind != "fairchem"]
    WRITERS[name](tmp_path / name, frames)
    assert refused(lambda: read_naming(tmp_path / name)) is False
    code = f"from {__name__} import read_each; read_each({str(tmp_path)!r}, {name!r}, {seeds.start}, {seeds.stop})"
    run = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])},
    )
    outcomes = [line.split() for line in run.stdout.splitlines()]
    assert run.returncode == 0, f"seed {outcomes[-1][0]}: {run.returncode}, {run.stderr[-1000:]}"
    assert [int(seed) for seed, _ in outcomes] == list(seeds)
    assert any(outcome == "refused" for _, outcome in outcomes)
