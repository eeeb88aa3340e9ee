"""A run of MLflow that goes on where training goes on."""

from __future__ import annotations

import os
from argparse import Namespace
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from lightning.fabric.loggers.logger import rank_zero_experiment
from lightning.pytorch.loggers import MLFlowLogger
from lightning.pytorch.utilities import rank_zero_only

from nequip_like.arguments import checked
from nequip_like.training.loggers.run_ids import keep_run_id, read_run_id
from nequip_like.whole_files import path_of

_SERVICE = "mlflow"
_LONGEST = 250  # letters of a value that Lightning hands on


class MlflowRunLogger(MLFlowLogger):
    """Lightning's MLFlowLogger for one run folder.

    A run that goes on in the folder of another is the same run of MLflow: its name stands in ``mlflow-run-id.txt``.

    Args:
        save_dir: The run folder.
        experiment_name: Experiment.
        run_name: Name of the run; MLflow invents one without it.
        tracking_uri: Server or folder; without it what the variable ``MLFLOW_TRACKING_URI`` says, or else ``mlruns`` in
            the run folder.
        **options: Further arguments of Lightning's logger: ``tags``, ``artifact_location``, ...
    """

    @checked
    def __init__(
        self,
        save_dir: str | Path = ".",
        experiment_name: str = "nequip_like",
        run_name: str | None = None,
        tracking_uri: str | None = None,
        **options: Any,
    ) -> None:
        self._folder = path_of(save_dir).absolute()
        uri = tracking_uri or os.environ.get("MLFLOW_TRACKING_URI") or (self._folder / "mlruns").as_uri()
        if uri.startswith("file:"):  # newer versions want to be told that files are meant
            os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")
        super().__init__(experiment_name=experiment_name, run_name=run_name, tracking_uri=uri, **options)

    @property
    @rank_zero_experiment
    def experiment(self) -> Any:
        """The client of MLflow; the run begins when this is asked for."""
        if self._initialized:
            return self._mlflow_client
        if self._run_id is None:
            self._run_id = read_run_id(self._folder, _SERVICE)
        client = super().experiment
        keep_run_id(self._folder, _SERVICE, str(self._run_id))
        return client

    @rank_zero_only
    def log_hyperparams(self, params: dict[str, Any] | Namespace) -> None:
        """Log the config. MLflow lets no value of a run change: what a later command changed becomes a tag."""
        config = dict(vars(params)) if isinstance(params, Namespace) else dict(params)
        logged = self.experiment.get_run(self.run_id).data.params
        settings = {key: str(value)[:_LONGEST] for key, value in _flatten(config)}
        super().log_hyperparams({key: value for key, value in settings.items() if key not in logged})
        for key, value in settings.items():
            if key in logged and logged[key] != value:
                self.experiment.set_tag(self.run_id, f"changed/{key}", value)


def _flatten(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Keys as Lightning names them: ``trainer/max_epochs``."""
    for key, value in values.items():
        if isinstance(value, Mapping) and value:
            yield from _flatten(value, f"{prefix}{key}/")
        else:
            yield f"{prefix}{key}", value
