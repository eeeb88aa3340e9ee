"""A run of Weights & Biases that goes on where training goes on, and needs neither an account nor a network."""

from __future__ import annotations

import netrc
import os
from pathlib import Path
from typing import Any, Literal, get_args
from urllib.parse import urlsplit

from lightning.fabric.loggers.logger import rank_zero_experiment
from lightning.pytorch.loggers import WandbLogger
from lightning.pytorch.utilities import rank_zero_only

from nequip_like.arguments import checked
from nequip_like.training.loggers.run_ids import keep_run_id, read_run_id
from nequip_like.whole_files import output_errors, path_of

_SERVICE = "wandb"
_HOST = "https://api.wandb.ai"
STEP, EPOCH = "trainer/global_step", "epoch"  # the horizontal axes

Mode = Literal["auto", "online", "offline", "disabled"]


class WandbRunLogger(WandbLogger):
    """Lightning's WandbLogger for one run folder.

    A run that goes on in the folder of another is the same run at W&B: its name there stands in ``wandb-run-id.txt``.
    Files are in ``wandb/`` of the folder.

    Args:
        save_dir: The run folder.
        project: Project at W&B.
        name: Name of the run; W&B invents one without it.
        mode: ``online``, ``offline``, ``disabled``; ``auto`` is what the variable ``WANDB_MODE`` says, or else online
            where somebody is logged in and offline where nobody is.
        **options: Further arguments of ``wandb.init``: ``entity``, ``group``, ``tags``, ...
    """

    @checked
    def __init__(
        self,
        save_dir: str | Path = ".",
        project: str = "nequip_like",
        name: str | None = None,
        mode: Mode = "auto",
        **options: Any,
    ) -> None:
        self.mode = choose_mode(mode)
        self._folder = path_of(save_dir).absolute()
        super().__init__(name=name, save_dir=self._folder, project=project, mode=self.mode, **options)

    @property
    @rank_zero_experiment
    def experiment(self) -> Any:
        """The run of wandb; it begins when this is asked for."""
        if self._experiment is not None:
            return self._experiment
        with output_errors(self._folder):  # where it is not there, wandb goes to the folder of temporary files
            self._folder.mkdir(parents=True, exist_ok=True)
        if self._wandb_init.get("id") is None:
            self._wandb_init["id"] = read_run_id(self._folder, _SERVICE)
        run = super().experiment
        if self.mode != "disabled":
            keep_run_id(self._folder, _SERVICE, str(run.id))
        run.define_metric(EPOCH)
        return run

    @rank_zero_only
    def finalize(self, status: str) -> None:
        """After a failure, end the run: the next one in this process would go on with it otherwise."""
        super().finalize(status)
        if status == "failed":
            self.finish(exit_code=1)

    def finish(self, exit_code: int = 0) -> str:
        """End the run, and bring all to the disk or the server; what is logged later begins it again.

        Args:
            exit_code: Other than 0 after a failure.

        Returns:
            The command that uploads it, of a run that is offline; otherwise nothing.
        """
        run = self._experiment
        if run is None:
            return ""
        files = Path(str(getattr(run, "dir", self._folder))).parent
        self._wandb_init["id"] = getattr(run, "id", None)
        run.finish(exit_code=exit_code)
        self._experiment = None
        return f"wandb sync {files}" if self.mode == "offline" else ""


def choose_mode(mode: Mode) -> Mode:
    """The mode that ``auto`` stands for; any other as it is.

    Args:
        mode: The mode.
    """
    if mode != "auto":
        return mode
    variable = os.environ.get("WANDB_MODE", "")
    for word in get_args(Mode):
        if variable == word != "auto":
            return word
    return "online" if has_login() else "offline"


def has_login() -> bool:
    """Whether ``wandb login`` was called for the server, or the environment has a key. The key itself is not read."""
    if os.environ.get("WANDB_API_KEY") or os.environ.get("WANDB_IDENTITY_TOKEN_FILE"):
        return True
    host = urlsplit(os.environ.get("WANDB_BASE_URL", _HOST)).hostname or ""
    files = [os.environ["NETRC"]] if "NETRC" in os.environ else ["~/.netrc", "~/_netrc"]
    return any(_has_entry(path_of(file), host) for file in files)


def _has_entry(path: Path, host: str) -> bool:
    try:
        return host in netrc.netrc(path).hosts
    except (OSError, netrc.NetrcParseError):  # no such file, or none that says anything
        return False
