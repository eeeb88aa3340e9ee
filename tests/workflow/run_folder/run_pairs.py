"""Pairs of whole ``nequip-train`` commands that begin at the same instant: ``python run_pairs.py 200 DATA.xyz``.

With ``--fork`` each command is a fork of this process, which has imported everything: ten times as many in a minute.

Half of the pairs have no folder of their own, half are given the same one. What each run left is compared with what the
same seed leaves alone, to the last digit of its metrics.csv.
"""

from __future__ import annotations

import collections
import json
import os
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import yaml

from nequip_like.cli.train import main
from nequip_like.inference import read_card

CONFIG = """\
defaults: [train, _self_]
run: [train]
data: {{train: {data}, val: 4}}
cutoff_radius: 4.0
model: {{num_layers: 1, num_features: 2, radial_mlp_depth: 1, radial_mlp_width: 4, kernel: batched}}
trainer: {{max_epochs: 1, accelerator: cpu, log_every_n_steps: 1}}
"""
SEEDS = (1, 2)
EARLIER = "earlier-run"
AFTER = "one after the other"
Start = Callable[..., Any]  # of a command: folder, seed, overrides


def begin(folder: Path, seed: int, *overrides: str) -> subprocess.Popen:
    command = [sys.executable, "-m", "nequip_like.cli.train", "config.yaml", f"seed={seed}", *overrides]
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("PYTEST", "PL_", "HYDRA", "NEQUIP_LIKE"))}
    return subprocess.Popen(
        command,
        cwd=folder,
        env=environment | {"OMP_NUM_THREADS": "1", "MPLBACKEND": "Agg"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )


class Fork:
    """A command in a fork of this process, with what is asked of a Popen."""

    def __init__(self, folder: Path, seed: int, *overrides: str) -> None:
        self.errors = folder / f"errors{seed}.txt"
        self.returncode = 0
        self.pid = os.fork()
        if not self.pid:
            # Longer than the second that a refusal waits for a run that is about to end.
            self._run(folder, ["nequip-train", "config.yaml", f"seed={seed}", "trainer.max_epochs=25", *overrides])

    def _run(self, folder: Path, arguments: list[str]) -> None:
        status = 1
        try:
            for number, path in ((1, os.devnull), (2, self.errors)):
                os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT), number)
            os.chdir(folder)
            sys.argv = arguments
            main()
            status = 0
        except SystemExit as end:
            status = int(end.code or 0)
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stderr.flush()
            os._exit(status)

    def communicate(self) -> tuple[str, str]:
        self.returncode = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        return "", self.errors.read_text()


def pair(folder: Path, alone: dict[int, str], start: Start, *overrides: str) -> str:
    """What became of two runs: the exit statuses, or the first thing that is wrong."""
    commands = [start(folder, seed, *overrides) for seed in SEEDS]
    errors = [command.communicate()[1] for command in commands]
    statuses = [command.returncode for command in commands]
    for status, error in zip(statuses, errors, strict=True):
        refused = status == 2 and "belongs to a run that is going on" in error and "Traceback" not in error
        if status != 0 and not refused:
            return f"status {status}: {error}"
    ended = [seed for seed, status in zip(SEEDS, statuses, strict=True) if status == 0]
    models = sorted(path.parent for path in folder.rglob("model.safetensors"))
    found = [path for path in models if path.name != EARLIER]
    if len(ended) == 2 and len(found) == 1 and (found[0] / EARLIER).is_dir():
        # On a busy machine one may have ended before the other began; then the folder is the second one's.
        return AFTER if whole(found[0], alone) in SEEDS else f"{whole(found[0], alone)}"
    if len(found) != len(ended):
        return f"{len(ended)} runs left {len(found)} models: {statuses}"
    seeds = [whole(run, alone) for run in found]
    return f"statuses {sorted(statuses)}" if sorted(seeds) == ended else f"seeds {seeds} of {ended}"


def whole(run: Path, alone: dict[int, str]) -> Any:
    """The seed that everything in a folder is of, or what differs."""
    seeds = {
        "config.yaml": yaml.safe_load((run / "config.yaml").read_text())["seed"],
        "overrides": int(yaml.safe_load((run / ".hydra" / "overrides.yaml").read_text())[0].partition("=")[2]),
        "model": read_card(run / "model.safetensors")["provenance"]["config"]["seed"],
    }
    for name in ("last", "best"):
        content = torch.load(run / "checkpoints" / f"{name}.ckpt", weights_only=True)
        seeds[name] = content["nequip_like"]["config"]["seed"]
    if len(set(seeds.values())) != 1:
        return seeds
    seed = seeds["model"]
    if alone and (run / "metrics.csv").read_text() != alone[seed]:
        return f"metrics.csv of seed {seed} differs"
    names = {path.name for path in run.iterdir()} - {EARLIER}
    expected = {"model.safetensors", "metrics.csv", "training.png", "config.yaml", "hparams.yaml", "train.log"}
    expected |= {".hydra", "checkpoints", "indices.json", "report.html", "run.json"}
    return seed if names == expected else f"files {sorted(names)}"


def run_pairs(pairs: int, data: Path, top: Path, start: Start = begin) -> collections.Counter[str]:
    """Outcomes, and how often each came."""
    alone: dict[int, str] = {}
    for seed in SEEDS:
        folder = prepare(top / f"alone{seed}", data)
        command = start(folder, seed, "hydra.run.dir=run")
        command.communicate()
        if command.returncode or whole(folder / "run", {}) != seed:
            return collections.Counter({f"seed {seed} alone fails": 1})
        alone[seed] = (folder / "run" / "metrics.csv").read_text()
    outcomes: collections.Counter[str] = collections.Counter()
    for i in range(pairs):
        folder = prepare(top / str(i), data)
        kind, overrides = ("own folders", ()) if i % 2 else ("one folder", ("hydra.run.dir=run",))
        outcomes[f"{kind}: {pair(folder, alone, start, *overrides)}"] += 1
        print(i, dict(outcomes), file=sys.stderr, flush=True)
    return outcomes


def prepare(folder: Path, data: Path) -> Path:
    folder.mkdir()
    (folder / "config.yaml").write_text(CONFIG.format(data=data))
    return folder


if __name__ == "__main__":
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as top:
        start = Fork if "--fork" in sys.argv else begin
        print(json.dumps(run_pairs(int(sys.argv[1]), Path(sys.argv[2]).absolute(), Path(top), start)))
