"""How long a user waits: for imports, for ``--help``, and from the command to the end of the first training step.

    python benchmarks/startup.py --peer nequip=/path/to/python/with/nequip --json out.json
    python benchmarks/startup.py --peer earlier=/path/to/python/with/an/earlier/commit --cases check first_step

Every case runs in a process of its own, ours and the peer's in turn, round by round; one run before is not counted.
``cpu`` is user and system time of that process, which other people's work on the machine changes less than ``wall``.
``ratio`` is the peer's wall time over ours. The first step is that of a run with the same data, architecture, loss,
optimizer and batch; a callback (first_step.py) writes down when it has ended, in the same way for both.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from command import machine, processors, pythons_of
from nequip_config import ARCHITECTURE, CSV_LOGGER, weigh_errors, write_nequip_config

FOLDER = Path(__file__).parent
DATA = FOLDER.parent / "tutorials" / "data" / "ethanol" / "train.xyz"
CODES = ("nequip", "earlier")  # NequIP, and this package at another commit
IMPORTS = {
    # Names are taken out of the modules: some load them only then.
    "import_torch": {"ours": "import torch", "nequip": "import torch"},
    "import_package": {"ours": "import nequip_like", "nequip": "import nequip"},
    "import_model": {
        "ours": "from nequip_like.model import NequIPGNNModel",
        "nequip": "from nequip.model import NequIPGNNModel",
    },
    "import_loss": {
        "ours": "from nequip_like.training import EnergyForceLoss",
        "nequip": "from nequip.train import EnergyForceLoss",
    },
    "import_train": {
        "ours": "from nequip_like.training import EMALightningModule",
        "nequip": "from nequip.train import EMALightningModule",
    },
    "import_ase": {
        "ours": "from nequip_like.integrations.ase import NequIPCalculator",
        "nequip": "from nequip.ase import NequIPCalculator",
    },
}
CASES = (*IMPORTS, "help", "compose", "check", "first_step", "first_step_tutorial")

OURS = """\
defaults: [train, _self_]
run: [train]
data: {{train: {data}, val: 10, batch_size: 5}}
cutoff_radius: 5.0
model: {model}
trainer: {{accelerator: cpu}}
trusted_packages: [first_step]
callbacks: {{first_step: {{_target_: first_step.FirstStep}}}}
"""
TUTORIAL = ["-cn", "tutorial", "run=[train]", "trusted_packages=[first_step]"]
TUTORIAL += ["+callbacks.first_step._target_=first_step.FirstStep"]

Times = dict[str, float]


def timed(command: list[str], config: str | None = None, until_first_step: bool = False) -> Times:
    """Wall and CPU seconds of a process, all of it or up to the end of its first training step.

    Args:
        command: The command; it runs in a folder of its own.
        config: Content of the file ``config.yaml`` there.
        until_first_step: Whether :class:`first_step.FirstStep` is part of the run, and tells.
    """
    path = os.pathsep.join(filter(None, (str(FOLDER), os.environ.get("PYTHONPATH"))))
    environment = {**os.environ, "PYTHONPATH": path}
    with tempfile.TemporaryDirectory() as folder:
        if config is not None:
            (Path(folder) / "config.yaml").write_text(config)
        start = time.time()
        with subprocess.Popen(
            command, cwd=folder, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
        ) as process:
            assert process.stderr is not None
            messages = process.stderr.read()
            _, status, usage = os.wait4(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(status)  # it is waited for already
        times = {"wall": time.time() - start, "cpu": usage.ru_utime + usage.ru_stime}
        told = Path(folder) / "first_step.json"
        if process.returncode or told.is_file() is not until_first_step:
            raise RuntimeError(f"{' '.join(command)} ended with status {process.returncode}:\n{messages}")
        if until_first_step:
            times = json.loads(told.read_text())
            times["wall"] -= start
    return times


def write_config(code: str, data: Path) -> str:
    """The config of a short training.

    Args:
        code: "ours" or a peer.
        data: Structures with energies and forces of H, C and O.
    """
    if code != "nequip":
        return OURS.format(data=data, model=json.dumps(ARCHITECTURE))
    return write_nequip_config(
        ["H", "C", "O"],
        {"seed": 0, "split_dataset": {"file_path": str(data), "train": 0.98, "val": 0.02}},
        {
            "max_epochs": 1,
            "logger": {"_target_": CSV_LOGGER, "save_dir": "."},
            "callbacks": [{"_target_": "first_step.FirstStep"}],
        },
        {
            "loss": weigh_errors("Loss", ["total_energy", "forces"], has_stress=False),
            "val_metrics": weigh_errors("Metrics", ["total_energy_mae", "forces_mae"], has_stress=False),
            "optimizer": {"_target_": "torch.optim.Adam", "lr": 0.01},
        },
        {"seed": 1},
    )


def measurement(case: str, code: str, python: str, data: Path, overrides: list[str]) -> Callable[[], Times] | None:
    """What measures a case once; None if the code has no such case.

    Args:
        case: One of :data:`CASES`.
        code: "ours" or a peer.
        python: Its interpreter.
        data: Structures with energies and forces of H, C and O.
        overrides: For our runs.
    """
    script = str(Path(python).with_name("nequip-train"))
    config = write_config(code, data)
    own = overrides if code == "ours" else []
    if case in IMPORTS:
        statement = IMPORTS[case].get(code)  # an earlier commit may have other modules
        return None if statement is None else (lambda: timed([python, "-c", statement]))
    if case == "help":
        return lambda: timed([script, "--help"], config)  # NequIP's needs a config
    if case == "first_step":
        return lambda: timed([script, "-cn", "config", *own], config, until_first_step=True)
    if code == "nequip":
        return None
    if case in ("check", "compose"):
        option = ["--check"] if case == "check" else ["--cfg", "job"]
        return lambda: timed([script, "-cn", "tutorial", *option, *own])
    return lambda: timed([script, *TUTORIAL, *own], until_first_step=True)


def row_of(case: str, times: dict[str, list[Times]]) -> dict:
    """Medians and spread of one case; ratios round by round."""
    row: dict = {"case": case}
    for code, rounds in times.items():
        for kind in ("wall", "cpu"):
            seconds = [one[kind] for one in rounds]
            row |= {f"{code}_{kind}_s": statistics.median(seconds), f"{code}_{kind}_min_s": min(seconds)}
    for code in [code for code in times if code != "ours"]:
        ratios = [peer["wall"] / ours["wall"] for peer, ours in zip(times[code], times["ours"], strict=True)]
        row |= {"peer": code, "ratio": statistics.median(ratios), "ratio_min": min(ratios), "ratio_max": max(ratios)}
    return row


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--peer", action="append", default=[], metavar="NAME=PYTHON", help="code and interpreter: nequip"
    )
    parser.add_argument("--cases", nargs="+", choices=CASES, default=list(CASES))
    parser.add_argument("--data", type=Path, default=DATA, help="labelled structures of H, C and O")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path, metavar="FILE")
    parser.add_argument("--override", action="append", default=[], help="for our runs: --override model.kernel=batched")
    options = parser.parse_args()
    pythons = pythons_of(parser, options, CODES)
    result: dict = {"machine": machine(int(os.environ.get("OMP_NUM_THREADS") or processors())), "cases": []}
    for case in options.cases:
        found = {
            code: measurement(case, code, python, options.data.absolute(), options.override)
            for code, python in pythons.items()
        }
        measures = {code: measure for code, measure in found.items() if measure is not None}
        for measure in measures.values():
            measure()  # files are in memory, and compiled, afterwards
        times: dict[str, list[Times]] = {code: [] for code in measures}
        for _ in range(options.rounds):
            for code, measure in measures.items():
                times[code].append(measure())
        row = row_of(case, times)
        result["cases"].append(row)
        print(" ".join(f"{k}={v:.3g}" if isinstance(v, float) else f"{k}={v}" for k, v in row.items()), flush=True)
    if options.json:
        options.json.write_text(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
