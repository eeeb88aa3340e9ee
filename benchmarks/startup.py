"""Time from typing the command to the end of the first training step, and of ``--help``.

    python benchmarks/startup.py [--repeats 5] [OVERRIDE ...]

Runs ``nequip-train -cn tutorial`` in a temporary folder, with a callback that writes down when the first step ended.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import lightning


class FirstStep(lightning.Callback):
    """Writes the wall time at which the first training step ended, and stops the run."""

    def on_train_batch_end(self, trainer: lightning.Trainer, *arguments: object) -> None:
        """Called by Lightning."""
        Path("first_step").write_text(str(time.time()))
        trainer.should_stop = True
        trainer.limit_val_batches = 0


def first_step(overrides: list[str]) -> float:
    """Seconds from the start of the process to the end of the first step."""
    command = [sys.executable, "-m", "nequip_like.cli.train", "-cn", "tutorial", "run=[train]"]
    command += ["trusted_packages=[startup]", "+callbacks.first_step._target_=startup.FirstStep", *overrides]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent)}
    with tempfile.TemporaryDirectory() as folder:
        start = time.time()
        subprocess.run(command, cwd=folder, env=environment, check=True, stdout=subprocess.DEVNULL)
        return float((Path(folder) / "first_step").read_text()) - start


def help_text() -> float:
    """Seconds that ``--help`` takes."""
    start = time.perf_counter()
    subprocess.run([sys.executable, "-m", "nequip_like.cli.train", "--help"], check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - start


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--json", type=Path)
    parser.add_argument("overrides", nargs="*")
    options = parser.parse_args()
    first = [first_step([*options.overrides, "trainer.max_steps=1"]) for _ in range(options.repeats)]
    texts = [help_text() for _ in range(options.repeats)]
    result = {
        "first_step_s": {"min": min(first), "median": statistics.median(first), "max": max(first)},
        "help_s": {"min": min(texts), "median": statistics.median(texts), "max": max(texts)},
    }
    print(json.dumps(result, indent=1))
    if options.json:
        options.json.write_text(json.dumps(result))


if __name__ == "__main__":
    main()
