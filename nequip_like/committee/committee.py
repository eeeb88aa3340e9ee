"""Several trained potentials that predict together: loaded of a folder, of files, or of one file."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from nequip_like.committee.calibration import calibrate_committee
from nequip_like.committee.last_layer_draws import draw_members
from nequip_like.committee.predictions import CommitteePredictions, collect_predictions
from nequip_like.data import fields
from nequip_like.data.dataset import GraphDataset, load_dataset
from nequip_like.data.graph import split
from nequip_like.data.io.readers import Source
from nequip_like.errors import ModelFileError
from nequip_like.inference import model_file
from nequip_like.inference.last_layer_fit import UncertaintySettings
from nequip_like.inference.loading import load, load_any
from nequip_like.inference.predictor import DEFAULT_BATCH_SIZE, Predictor
from nequip_like.model.committee import CommitteePotential, SpreadCalibration
from nequip_like.model.families import Families
from nequip_like.model.potential import Potential
from nequip_like.summaries import Summarized
from nequip_like.whole_files import path_of

METADATA_FILE = "committee_metadata.json"
MEMBER_FOLDERS = "member_*"
COMMITTEE_FILE = "model.safetensors"


class Committee(Summarized):
    """Potentials that were trained alike, with different seeds.

    Args:
        members: Two potentials or more, or model files, checkpoints or run folders of these.
        device: ``cpu``, ``cuda``, ...; ``auto`` takes a GPU if there is one.
        batch_size: Structures at a time.
        families: Builders of model families by name, as for :func:`~nequip_like.inference.loading.load`.

    Attributes:
        potential: The members as one potential, for everything that takes one.

    Raises:
        ModelError: If members differ in species, cutoff, reference energies or architecture; the message says in what.
        ModelFileError: If a file cannot be read.
        ConfigError: If there is no such device, or the batch size is below 1.

    Example::

        committee = Committee.load("committee_run")
        predictions = committee.predict("candidates.xyz")
        predictions.top_uncertain(10)
        committee.save("committee.safetensors")           # one file, for NequIPCalculator, nequip-test, ...
    """

    def __init__(
        self,
        members: Sequence[Potential | str | Path] | CommitteePotential,
        device: str | torch.device = "cpu",
        batch_size: int = DEFAULT_BATCH_SIZE,
        families: Families | None = None,
    ) -> None:
        if isinstance(members, CommitteePotential):
            self.potential = members
        else:
            names = [
                f"member {i}" if isinstance(member, Potential) else str(member) for i, member in enumerate(members)
            ]
            loaded = [member if isinstance(member, Potential) else _load_member(member, families) for member in members]
            self.potential = CommitteePotential(loaded, names).eval()
        self._predictor = Predictor(self.potential, device, batch_size)
        self.potential.cache_parameters()

    @classmethod
    def load(
        cls,
        path: str | Path,
        device: str | torch.device = "cpu",
        batch_size: int = DEFAULT_BATCH_SIZE,
        families: Families | None = None,
    ) -> Committee:
        """Load a committee of the folder that ``nequip-committee`` wrote, or of one file that holds all members.

        Args:
            path: The folder, with ``member_000`` and so on in it, or the file.
            device: As for the class.
            batch_size: As for the class.
            families: As for the class.

        Raises:
            ModelFileError: If there is no committee; a member that failed is named.
            ModelError: If the members differ.
        """
        path = path_of(path)
        if path.is_dir():
            folders = list_member_folders(path)
            if not (path / COMMITTEE_FILE).is_file():
                return cls(folders, device, batch_size, families)
            path = path / COMMITTEE_FILE  # all of these, and their calibration
        potential, card = load_any(path, families=families)
        if not isinstance(potential, CommitteePotential):
            raise ModelFileError(
                f"{card['path']} holds a single potential",
                "give the folder of a committee, or Committee.from_files([...])",
            )
        return cls(potential, device, batch_size)

    @classmethod
    def from_files(
        cls,
        files: Sequence[str | Path],
        device: str | torch.device = "cpu",
        batch_size: int = DEFAULT_BATCH_SIZE,
        families: Families | None = None,
    ) -> Committee:
        """Make a committee of model files, checkpoints or run folders.

        Args:
            files: Two or more.
            device: As for the class.
            batch_size: As for the class.
            families: As for the class.

        Raises:
            ModelFileError: If one cannot be read.
            ModelError: If the members differ.
        """
        if isinstance(files, str | Path):
            raise ModelFileError(
                f"from_files got one path, {files}", "give a list of two or more, or Committee.load(FOLDER)"
            )
        return cls(list(files), device, batch_size, families)

    @classmethod
    def from_last_layer(
        cls,
        source: Potential | str | Path,
        members: int = 8,
        seed: int = 0,
        device: str | torch.device = "cpu",
        batch_size: int = DEFAULT_BATCH_SIZE,
        families: Families | None = None,
    ) -> Committee:
        """Draw a committee from the last-layer uncertainty of a single potential, which needs no further training.

        It has uncertainties of forces, which the single potential has not, at the cost of a committee's evaluation.
        Their size is that of the energies' calibration; :meth:`calibrate` on held-out forces.

        Args:
            source: A potential with an uncertainty, its model file or run folder.
            members: How many.
            seed: Of the draws.
            device: As for the class.
            batch_size: As for the class.
            families: As for the class.

        Raises:
            ModelFileError: If the file cannot be read.
            ModelError: If the potential has no such uncertainty.

        Example::

            committee = Committee.from_last_layer("run")
            committee.calibrate("held_out.xyz")
            committee.save("drawn.safetensors")
        """
        potential = source if isinstance(source, Potential) else load(source, families=families)
        return cls(draw_members(potential, members, seed), device, batch_size)

    @property
    def members(self) -> list[Potential]:
        """The potentials."""
        return self.potential.members

    def __len__(self) -> int:
        return len(self.members)

    def summary(self) -> dict[str, Any]:
        """What it is, and where it runs."""
        return {**self.potential.summary(), "device": str(self._predictor.device)}

    def save(self, path: str | Path, card: Mapping[str, Any] | None = None) -> None:
        """Write all members to one model file, which everything that takes a model file takes.

        Args:
            path: The file, usually ``committee.safetensors``.
            card: As for :func:`~nequip_like.inference.model_file.save`.

        Raises:
            OutputError: If it cannot be written.
        """
        model_file.save(self.potential, path, card)

    @property
    def calibration(self) -> SpreadCalibration | None:
        """What spreads are multiplied by, and how that was found; None of a committee that is not calibrated."""
        return self.potential.calibration

    def calibrate(
        self, held_out: Source | GraphDataset, calibration: str = "auto", coverage: float = 0.9
    ) -> SpreadCalibration:
        """Let uncertainties have the size of errors on structures that no member was trained on.

        ``energy_uncertainty``, ``forces_uncertainty`` and ``force_uncertainty`` are calibrated from now on, here and
        in what :meth:`save` writes; ``energy_std`` and ``forces_std`` remain the spread of the members.

        Args:
            held_out: Structures with labels, of the kind that is to be predicted: what :meth:`predict` takes.
            calibration: ``scale``, ``conformal`` or ``auto``, as ``uncertainty.calibration`` of a config.
            coverage: Of ``conformal``, the share of errors that are to be within.

        Raises:
            ConfigError: If there is no such method or coverage.
            DataError: If there are too few labels.
            ModelError: If a data set was made for another model.

        Example::

            committee = Committee.load("committee_run")
            committee.calibrate("held_out.xyz")
            committee.save("committee.safetensors")
        """
        settings = UncertaintySettings.read({"method": "committee", "calibration": calibration, "coverage": coverage})
        if not isinstance(held_out, GraphDataset):
            held_out = load_dataset(held_out, self.potential.type_names, self.potential.cutoff, name="held out")
        return calibrate_committee(self.potential, held_out, settings, self._predictor.batch_size)

    def predict(self, structures: Source | GraphDataset) -> CommitteePredictions:
        """Predict structures with all members: one neighbour list for all.

        Args:
            structures: As for :meth:`~nequip_like.inference.predictor.Predictor.predict`.

        Returns:
            A list with the prediction of each structure, in order.

        Raises:
            ConfigError: As :meth:`~nequip_like.inference.predictor.Predictor.predict`.
            DataError: As :meth:`~nequip_like.inference.predictor.Predictor.predict`.
            ModelError: As :meth:`~nequip_like.inference.predictor.Predictor.predict`.
        """
        predictions = CommitteePredictions()
        names = [
            name
            for name in (fields.TOTAL_ENERGY, fields.FORCES, fields.STRESS)
            if name in self.potential.predicted_fields
        ]
        for batch, origins in self._predictor.read_batches(structures):
            outputs = [
                split({fields.NUM_ATOMS: batch[fields.NUM_ATOMS], **{name: prediction[name] for name in names}})
                for prediction in self.potential.predict_members(batch)
            ]
            scales = self.potential.get_scale(fields.TOTAL_ENERGY), self.potential.get_scale(fields.FORCES)
            predictions += collect_predictions(outputs, origins, len(predictions), *scales)
        return predictions


def _load_member(path: str | Path, families: Families | None) -> Potential:
    """A member without an uncertainty of its own, which the committee has no use for and would pay for."""
    member = load(path, families=families)
    member.uncertainty = None
    return member


def list_member_folders(folder: Path) -> list[Path]:
    """Folders of the members of a committee, in order.

    Raises:
        ModelFileError: If there are none, or one of them has no model although others have.
    """
    folders = sorted(path for path in folder.glob(MEMBER_FOLDERS) if path.is_dir())
    if not folders:
        raise ModelFileError(
            f"the folder {folder.absolute()} has no member_000, ...", "give the output folder of nequip-committee"
        )
    if failed := list_failures(folder):
        number, reason = next(iter(failed.items()))
        raise ModelFileError(
            f"{folder}: member {number} is not trained: {reason}",
            "complete it: nequip-committee ... --resume; or take those that are there: Committee.from_files([...])",
        )
    return folders


def list_failures(folder: Path) -> dict[int, str]:
    """Members that the metadata of a folder tell to be without a model, by number, and why; empty without metadata.

    Raises:
        ModelFileError: If the metadata cannot be read.
    """
    file = folder / METADATA_FILE
    if not file.is_file():
        return {}
    try:
        members = json.loads(file.read_text())["members"]
        return {
            int(member["member_index"]): str(member["error"] or member["status"])
            for member in members
            if member["status"] != "done"
        }
    except (ValueError, KeyError, TypeError) as error:
        raise ModelFileError(f"{file} is damaged: {error}", "complete it: nequip-committee ... --resume") from error
