"""Wrong data files, and how each is given to the package as a user gives it."""

from __future__ import annotations

import contextlib
import io
import os
import sys
from pathlib import Path
from unittest import mock

from tests.mistakes import Mistake
from tests.mistakes.data_errors import DATA_ERRORS
from tests.mistakes.data_files import CONFIG
from tests.mistakes.data_set_errors import DATA_SET_ERRORS
from tests.mistakes.data_warnings import DATA_WARNINGS

DATA_MISTAKES: tuple[Mistake, ...] = (*DATA_ERRORS, *DATA_SET_ERRORS, *DATA_WARNINGS)


def run_data_mistake(mistake: Mistake, folder: Path) -> tuple[int, str, list[str]]:
    """Do what the user did.

    Returns:
        The exit status, the error stream, and the warnings.
    """
    for name, content in mistake.files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    stream, out = io.StringIO(), io.StringIO()
    warnings: list[str] = []
    with contextlib.chdir(folder), contextlib.redirect_stderr(stream), contextlib.redirect_stdout(out):
        if mistake.command == "DataModule":
            status = _data_module(mistake, warnings)
        elif mistake.command == "nequip-train":
            status = _train(mistake)
        else:
            status = _test(mistake, folder)
    return status, stream.getvalue(), warnings


def _data_module(mistake: Mistake, warnings: list[str]) -> int:
    from nequip_like.cli.errors import run_cli
    from nequip_like.data.datamodule import DataModule

    def look() -> None:
        settings = {"train": "train.xyz", "cutoff_radius": 4.0, **mistake.settings}
        for inspection in DataModule(**settings).prepare().inspections:
            warnings.extend(inspection.warnings)

    return run_cli(look)


def _train(mistake: Mistake) -> int:
    from nequip_like.cli.train import main

    if not Path("config.yaml").exists():
        Path("config.yaml").write_text(CONFIG)
    overrides = mistake.overrides or ("data.train=train.xyz", "data.val=2")
    # Hydra sets these for the time of a run, and pytest's own process goes on after it.
    with (
        mock.patch.object(sys, "argv", ["nequip-train", "config.yaml", *overrides, "run=[train,val]"]),
        mock.patch.dict(os.environ),
    ):
        try:
            main()
        except SystemExit as end:
            return int(end.code or 0)
    return 0


def _test(mistake: Mistake, folder: Path) -> int:
    from nequip_like.cli.test import main
    from nequip_like.inference import save
    from nequip_like.model import NequIPGNNModel

    small = {"num_features": 4, "num_layers": 1, "radial_mlp_width": 4, "avg_num_neighbors": 2.0}
    if "model.safetensors" not in mistake.files:
        save(NequIPGNNModel(type_names=["H", "O"], r_max=4.0, **small).eval(), folder / "model.safetensors")
    return main(["model.safetensors", *(mistake.arguments or ("test.xyz",)), "--device", "cpu"])
