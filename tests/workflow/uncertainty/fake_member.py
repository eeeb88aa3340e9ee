"""Stands for ``nequip-train``: copies a model into its folder, or fails, as ``fake.json`` above the folder says."""

import json
import os
import shutil
import sys
import time
from pathlib import Path

config, *overrides = sys.argv[1:]
values = dict(override.split("=", 1) for override in overrides)
folder = Path(values["hydra.run.dir"].strip("'"))
plan = json.loads((Path(config).parent.parent / "fake.json").read_text())
with (folder / "calls.txt").open("a") as calls:
    calls.write(json.dumps({"overrides": overrides, "threads": os.environ.get("OMP_NUM_THREADS")}) + "\n")
if values["seed"] in plan.get("failing", {}):
    print("a line of a traceback\nerror: " + plan["failing"][values["seed"]], "\n  -> do better", flush=True)
    sys.exit(2)
if values["seed"] in plan.get("waiting", []):
    (folder / "waits").touch()
    time.sleep(60)
shutil.copy(plan["models"][values["seed"]], folder / "model.safetensors")
metrics = {"held_out": {"forces_rmse": float(values["seed"])}}
(folder / "metrics.json").write_text(json.dumps(metrics))
