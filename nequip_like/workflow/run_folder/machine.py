"""What a run is made by: the machine, and the commit of this package where it is a checkout."""

from __future__ import annotations

import functools
import os
import platform
import subprocess
from pathlib import Path

import torch

import nequip_like
from nequip_like.process_settings import count_usable_cores

_GB = 1e9


def describe_machine(device: torch.device, processes: int = 1) -> dict[str, str]:
    """Describe the machine that this process runs on; not its name, which tells nobody anything.

    Args:
        device: The device that is trained on.
        processes: Number of processes of the run.
    """
    facts = {"system": platform.platform(), "processor": _read_processor()}
    facts["cores"] = f"{count_usable_cores()} of {os.cpu_count()}, {torch.get_num_threads()} threads"
    if hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
        facts["memory"] = f"{os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / _GB:.0f} GB"
    facts["device"] = str(device)
    if device.type == "cuda":
        memory = torch.cuda.get_device_properties(device).total_memory / _GB
        facts["device"] = f"{torch.cuda.get_device_name(device)}, {memory:.0f} GB, CUDA {torch.version.cuda}"
    if processes > 1:
        facts["processes"] = str(processes)
    return facts


def _read_processor() -> str:
    info = Path("/proc/cpuinfo")
    if info.is_file():
        for line in info.read_text(encoding="utf-8", errors="replace").splitlines():
            name, _, value = line.partition(":")
            if name.strip() in ("model name", "Processor"):
                return value.strip()
    return platform.processor() or platform.machine()


@functools.cache
def describe_commit() -> str:
    """The commit of this package's checkout; empty where it is none, or there is no git.

    It is asked for once: what was loaded is what there was then.
    """
    root = Path(nequip_like.__file__).resolve().parents[1]
    lines = _ask_git(root, "rev-parse", "--show-toplevel", "HEAD").splitlines()
    # An environment in somebody's own repository is no checkout of ours.
    if len(lines) != 2 or Path(lines[0]).resolve() != root:
        return ""
    changed = _ask_git(root, "status", "--porcelain", "--untracked-files=no", "--", "nequip_like")
    return f"commit {lines[1]}{', with changes' if changed.strip() else ''}"


def _ask_git(root: Path, *words: str) -> str:
    """What git prints; nothing where it fails: whether there is a commit is all that is asked."""
    try:
        git = subprocess.run(["git", "-C", str(root), *words], capture_output=True, text=True, timeout=5, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return git.stdout if git.returncode == 0 else ""
