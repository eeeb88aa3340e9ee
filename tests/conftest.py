"""Settings of every test process: threads, and no windows and no network."""

import os

os.environ.setdefault("MPLBACKEND", "Agg")
os.environ.setdefault("WANDB_MODE", "disabled")

if "PYTEST_XDIST_WORKER" in os.environ:
    # Processes side by side share the cores: one thread each, in processes that tests start as well.
    os.environ.setdefault("OMP_NUM_THREADS", "1")

    import torch

    torch.set_num_threads(1)
