"""A trained potential with what a notebook asks of it: errors over the training, plots, predictions, files."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from nequip_like.compat.aenet.potentials import write_aenet_potential
from nequip_like.data.dataset import GraphDataset
from nequip_like.data.fields import Graph
from nequip_like.data.io.readers import Source
from nequip_like.errors import ConfigError
from nequip_like.inference import model_file
from nequip_like.inference.evaluation import Evaluations, evaluate
from nequip_like.inference.loading import load_any
from nequip_like.inference.predictor import DEFAULT_BATCH_SIZE, Predictor
from nequip_like.integrations.ase import NequIPCalculator
from nequip_like.model.families import Families
from nequip_like.report.history import read_curves
from nequip_like.summaries import Summarized
from nequip_like.workflow.run_folder.records import HISTORY_FILE
from nequip_like.workflow.train import TrainingResult

if TYPE_CHECKING:
    import pandas


class TrainedPotential(Summarized):
    """A potential of any family, and the run that trained it.

    Args:
        path: Folder of a run, a model file or a checkpoint.
        device: ``cpu``, ``cuda``, ...; ``auto`` takes a GPU if there is one.
        batch_size: Structures at a time.
        families: Builders of model families by name, as for :func:`~nequip_like.inference.loading.load`.
        result: What the training gave, where it was just done.

    Attributes:
        potential: The potential.
        folder: The folder of the run; of a model file the one that it lies in.
        result: What the training gave; None of a potential that was loaded.

    Raises:
        ModelFileError: If there is no such model.

    Example::

        trained = nl.train_potential("train.xyz", ["cutoff_radius=5.0", "trainer.max_epochs=100"])
        trained.errors                       # a table with a row for each epoch
        trained.predict(atoms)["forces"]
        trained.save("potential.safetensors")
    """

    def __init__(
        self,
        path: str | Path,
        device: str | torch.device = "cpu",
        batch_size: int = DEFAULT_BATCH_SIZE,
        families: Families | None = None,
        result: TrainingResult | None = None,
    ) -> None:
        self.potential, self._card = load_any(path, families=families)
        file = Path(self._card["path"]).absolute()
        self.folder = file.parent.parent if file.parent.name == "checkpoints" else file.parent
        self.result = result
        self._predictor = Predictor(self.potential, device, batch_size)

    @classmethod
    def load(
        cls, path: str | Path, device: str | torch.device = "cpu", families: Families | None = None
    ) -> TrainedPotential:
        """Load what was trained or saved before.

        Args:
            path: As for the class.
            device: As for the class.
            families: As for the class.
        """
        return cls(path, device, families=families)

    def summary(self) -> dict[str, Any]:
        """What it is, where it lies, and the errors that are looked at first."""
        errors = {name: value for name, value in self.stats.items() if name.endswith(("forces_rmse", "energy_rmse"))}
        return {**self.potential.summary(), "folder": self.folder, **errors}

    # --- the training

    @property
    def errors(self) -> pandas.DataFrame | list[dict[str, float]]:
        """A row for each epoch: all columns of ``metrics.csv`` by their names there, eV and Angstrom.

        A table of pandas where that is installed, else a list of rows.

        Raises:
            ConfigError: If the potential was loaded from a file that lies in no run's folder.
        """
        read = read_curves(self._find_history())
        curves = {name: curve for name, curve in read.items() if not name.startswith("test")}  # after the last epoch
        shown = {epoch for name, curve in curves.items() if name.startswith("train") for epoch, _ in curve}
        epochs = sorted(shown or {epoch for curve in curves.values() for epoch, _ in curve})
        values = {name: dict(curve) for name, curve in curves.items()}
        rows = [
            {"epoch": int(epoch), **{name: curve[epoch] for name, curve in values.items() if epoch in curve}}
            for epoch in epochs
        ]
        try:
            import pandas
        except ImportError:
            return rows
        return pandas.DataFrame(rows)

    @property
    def stats(self) -> dict[str, Any]:
        """Of the weights that are kept: their ``epoch`` and ``step``, and each validation error by its name."""
        provenance = self._card.get("provenance") or self._card
        where = {"epoch": provenance.get("epoch"), "step": provenance.get("step", provenance.get("global_step"))}
        tested = {} if self.result is None else self.result.best_metrics
        return {**where, **(self._card.get("metrics") or {}), **tested}

    def plot_training(self, path: str | Path = "training.png") -> list[Path]:
        """Draw loss, errors and learning rate over epochs.

        Args:
            path: The image; its suffix chooses the format.

        Raises:
            ConfigError: As for :attr:`errors`.
            OutputError: If it cannot be written.
        """
        from nequip_like.report.curves import plot_curves  # matplotlib

        return plot_curves(self._find_history(), path, best_epoch=self.stats["epoch"])

    def plot_errors(self, structures: Source | GraphDataset, path: str | Path = "parity.png") -> list[Path]:
        """Draw predictions over labels, with the errors.

        Args:
            structures: Labelled structures: files, ``Atoms``, graphs, or a data set.
            path: The image; its suffix chooses the format.

        Raises:
            DataError: If they have no label that is predicted.
            OutputError: If it cannot be written.
        """
        from nequip_like.report.parity import plot_parity  # matplotlib

        evaluation = evaluate(self.potential, structures, self._predictor.batch_size, self._predictor.device)
        return plot_parity(Evaluations({evaluation.dataset.name: evaluation}), path)

    # --- predictions

    def predict(self, structures: Source | GraphDataset) -> Graph | list[Graph]:
        """Predict; see :meth:`~nequip_like.inference.predictor.Predictor.predict`.

        Args:
            structures: One structure, or many, or files.
        """
        return self._predictor.predict(structures)  # type: ignore[arg-type] # each of its two forms

    def predict_dataset(self, dataset: GraphDataset) -> list[Graph]:
        """Predict a data set, with the neighbour lists that it has.

        Args:
            dataset: Made for this potential: ``load_dataset``, or one of ``nl.DataModule``.

        Raises:
            ModelError: If it was made for other species or a smaller cutoff.
        """
        return self._predictor.predict(dataset)

    def make_calculator(self, **arguments: Any) -> NequIPCalculator:
        """A calculator for ASE.

        Args:
            **arguments: As for :class:`~nequip_like.integrations.ase.NequIPCalculator`.
        """
        return NequIPCalculator(self.potential, **arguments)

    # --- files

    def save(self, path: str | Path, card: Mapping[str, Any] | None = None) -> None:
        """Write one model file, with metrics and provenance of the training.

        Args:
            path: The file, usually ``NAME.safetensors``.
            card: What else to tell, such as ``licence``.

        Raises:
            OutputError: If it cannot be written.
        """
        kept: dict[str, Any] = {n: self._card[n] for n in ("metrics", "provenance", "base") if n in self._card}
        model_file.save(self.potential, path, {**kept, **(card or {})})

    def to_aenet_ascii(self, folder: str | Path, prefix: str = "") -> dict[str, Path]:
        """Write the network of each species as aenet's ``PREFIX.Ti.nn.ascii``.

        Args:
            folder: Where to write.
            prefix: What the names begin with.

        Raises:
            ModelError: If the potential is no descriptor network.
        """
        return write_aenet_potential(self.potential, folder, prefix)

    def _find_history(self) -> Path:
        file = self.folder / HISTORY_FILE
        if not file.is_file():
            raise ConfigError(f"{self.folder} has no {HISTORY_FILE}", "load the folder of the run, not a copied file")
        return file
