"""What gpu.py runs on: packages, card, driver, and what gpu.sh installed; and what is kept of an error."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
MODULES = ("pytest", "triton", "cuequivariance_torch", "cuequivariance_ops_torch", "nequip", "openequivariance")
DISTRIBUTIONS = (
    *("torch", "triton", "e3nn", "nequip", "openequivariance", "cuequivariance-torch"),
    *("cuequivariance-ops-torch-cu12", "cuequivariance-ops-torch-cu13"),
)
ERROR = re.compile(r"^(\w+\.)*\w*(Error|Exception|Interrupt)\b")
PROBE = """
import importlib.metadata, importlib.util, json, sys
modules, distributions, device = json.loads(sys.argv[1])
found = {"modules": [name for name in modules if importlib.util.find_spec(name)], "versions": {}}
for name in distributions:
    try:
        found["versions"][name] = importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        pass
if device == "cuda":
    import torch
    found |= {"card": torch.cuda.get_device_name(0), "cuda": torch.version.cuda}
    found |= {"capability": torch.cuda.get_device_capability(0), "card_gb": torch.cuda.mem_get_info()[1] / 1e9}
print(json.dumps(found))
"""


class CellFailedError(Exception):
    """A cell gave no number; the message is the last line of its error."""


def last_error_line(text: str) -> str:
    """The last line of a text that names an exception, or else its last line."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    named = [line for line in lines if ERROR.match(line)]
    return (named or lines or ["no message"])[-1][:300]


def installed(file: Path | None) -> list[dict]:
    """What gpu.sh installed: lines of name, status, seconds and error with tabs between them."""
    lines = file.read_text().splitlines() if file else []
    return [dict(zip(("name", "status", "seconds", "why"), line.split("\t"), strict=True)) for line in lines]


def probe(python: str, device: str) -> dict:
    """Which packages an environment has, and its card.

    Raises:
        CellFailedError: If it has no torch that sees a GPU although one is asked for.
    """
    question = json.dumps([MODULES, DISTRIBUTIONS, device])
    done = subprocess.run([python, "-c", PROBE, question], capture_output=True, text=True, timeout=120)
    if done.returncode:
        raise CellFailedError(last_error_line(done.stderr))
    return json.loads(done.stdout.splitlines()[-1])


def driver() -> str | None:
    """Version of the GPU's driver."""
    try:
        query = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
        return subprocess.run(query, capture_output=True, text=True, timeout=20, check=True).stdout.splitlines()[0]
    except (OSError, subprocess.SubprocessError, IndexError):
        return None


def commit() -> str | None:
    """Which version of the code this is."""
    try:
        query = ["git", "-C", str(ROOT), "rev-parse", "--short", "HEAD"]
        return subprocess.run(query, capture_output=True, text=True, timeout=20, check=True).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None
