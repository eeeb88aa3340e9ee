"""Predicting files of any size: what ``nequip-predict`` does, as a function."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch

import nequip_like
from nequip_like.arguments import check
from nequip_like.data.batches.batch_size import BatchSize, SizeOfBatch
from nequip_like.data.bulk.reading import PIECE, check_unchanged, open_runs
from nequip_like.data.io.given import expand
from nequip_like.data.io.sets.frame_sets import KEPT_OPEN
from nequip_like.errors import ConfigError, DataError, OutputError
from nequip_like.inference.energy_only import energies_only
from nequip_like.inference.loading import load_any, name_base
from nequip_like.inference.model_file import hash_weights
from nequip_like.inference.predictor import Predictor
from nequip_like.model.families import Families
from nequip_like.model.potential import Potential
from nequip_like.summaries import Summarized
from nequip_like.whole_files import check_absent, output_errors, path_of, written_whole
from nequip_like.workflow.prediction.additions import SKIPPED, SKIPPED_BEGIN, RunPredictor
from nequip_like.workflow.prediction.formats import FORMATS, choose_format
from nequip_like.workflow.prediction.journal import PredictionJournal, has_progress
from nequip_like.workflow.run_folder.claims import claimed

#: Structures at a time by default: many small ones, or one that is large.
DEFAULT_BATCH = {"atoms": 1024}
SKIPPED_SUFFIX = ".skipped.csv"  # behind the name of the output
Progress = Callable[[int, int, int], None]


@dataclass(frozen=True, repr=False)
class PredictionSummary(Summarized):
    """What predictions of files came to.

    Attributes:
        path: The file that was written.
        format: Its format.
        frames: Number of structures.
        resumed: Number of those that an earlier, stopped prediction had left.
        nonfinite: Number of structures whose energy or forces are not finite.
        first_nonfinite: Where the first of them comes from; empty if there is none.
        skipped: Number of structures that were left out; the end of a file that cannot be read counts as one.
        first_skipped: What is wrong with the first of them; empty if there is none.
        skipped_path: The file that lists them; None if there is none.
        base: To what the predictions are differences (delta learning); empty if they are whole energies.
    """

    path: Path
    format: str
    frames: int
    resumed: int
    nonfinite: int
    first_nonfinite: str
    base: str = ""
    skipped: int = 0
    first_skipped: str = ""
    skipped_path: Path | None = None

    def summary(self) -> dict[str, Any]:
        """The file, and how many structures."""
        skipped = {"skipped": self.skipped} if self.skipped else {}
        return {
            "path": str(self.path), "format": self.format, "frames": self.frames, "resumed": self.resumed, **skipped
        }  # fmt: skip


def predict_files(
    model: str | Path | Potential,
    files: str | Path | Sequence[str | Path],
    output: str | Path,
    *,
    format: str | None = None,
    batch_size: SizeOfBatch | BatchSize = DEFAULT_BATCH,
    energy_only: bool = False,
    amp: bool = False,
    device: str | torch.device = "cpu",
    resume: bool = False,
    overwrite: bool = False,
    on_error: Literal["stop", "skip"] = "stop",
    trust_pickle: bool = False,
    families: Families | None = None,
    piece: int = PIECE,
    progress: Progress = lambda done, runs, frames: None,
) -> PredictionSummary:
    """Predict all structures of files, and write what is predicted to one file, in their order.

    Files are read, predicted and written piece by piece, so memory does not grow with their size; formats that can
    only be read from their begin (``.traj``, compressed files, outputs of programs) are one piece. What is written lies
    in a folder ``OUTPUT.part`` until the output is whole.

    Args:
        model: A model file, a checkpoint, a run folder, or a potential.
        files: Files, folders that are data sets, patterns, archives; or prepared sets. Labels are not looked at.
        output: The file to be written. Its suffix tells the format: ``.extxyz``, ``.csv``, ``.npz``, ``.aselmdb``.
        format: ``extxyz``, ``csv``, ``npz`` or ``lmdb``, where the suffix does not tell.
        batch_size: Structures at a time; or as many as have no more atoms or edges together: ``{"atoms": 1024}``.
        energy_only: Energies, and their uncertainties where the model has some; no derivative is computed.
        amp: Autocast to half precision, on a GPU.
        device: ``cpu``, ``cuda``, ...; ``auto`` takes a GPU if there is one.
        resume: Go on with an earlier prediction that was stopped. The file is the same as without the stop.
        overwrite: Whether an output that is there, or a part of one, is replaced.
        on_error: What a structure does that cannot be read or predicted (broken text, a species that the model does not
            know, a position that is no number, two atoms at one place): it ends the prediction, which can go on with
            ``resume=True, on_error="skip"``, or it is left out and listed in ``OUTPUT.skipped.csv``.
        trust_pickle: Read files of pickles, too.
        families: Builders of model families by name, as for :func:`nequip_like.inference.loading.load`.
        piece: Bytes of a large file that are read at once.
        progress: Called after each piece with how many are done, how many there are, and the structures so far.

    Returns:
        What was written.

    Raises:
        ConfigError: If an argument cannot be right, or ``amp`` is asked for on a CPU.
        DataError: If a structure cannot be read, or has a species that the model does not know, and is not to be left
            out; if none is left, or if a file is changed meanwhile.
        ModelFileError: If the model cannot be read.
        OutputError: If the output is there already or is one of the files, if ``resume`` is asked for with another
            model, other files or other options, or if it cannot be written.
    """
    target = path_of(output)
    chosen_format = choose_format(target, format)
    size = BatchSize.read("batch_size", batch_size)
    loaded, card = (model, {}) if isinstance(model, Potential) else load_any(model, families=families)
    predictor = Predictor(loaded, device, size)
    if amp and predictor.device.type != "cuda":
        raise ConfigError("amp is half precision on a GPU, but the device is a CPU", "leave amp out, or give a GPU")
    part = target.with_name(target.name + ".part")
    _check_output(target, part, resume, overwrite)
    _check_is_no_input(target, files)
    check("on_error", on_error, Literal["stop", "skip"])
    skips = on_error == "skip"
    with ExitStack() as stack:
        potential = stack.enter_context(energies_only(predictor.potential, energy_only))
        potential.cache_parameters()
        stack.callback(KEPT_OPEN.close)
        sources, runs = stack.enter_context(open_runs(files, trust_pickle, piece, with_broken=skips))
        stack.enter_context(claimed(part.absolute(), "--output FILE"))
        _check_output(target, part, resume, overwrite)  # another process may have ended meanwhile
        several = len(set[str]().union(*(run.files for run in runs))) > 1
        writer = FORMATS[chosen_format][0](potential.predicted_fields, several)
        request = {
            "model": _identify(potential),
            "input": [source["sha256"] for source in sources],
            "format": chosen_format,
            "batch_size": str(size),
            "energy_only": energy_only,
            "amp": amp,
            "device": predictor.device.type,
            "piece": piece,
            "version": nequip_like.__version__,
        }
        journal = PredictionJournal(part, request, {**writer.list_begins(), SKIPPED: SKIPPED_BEGIN}, resume)
        if journal.notes.get("skips") and not skips:
            raise OutputError(
                f"{part.absolute()} was begun with --on-error skip", "give it again, or begin again with --overwrite"
            )
        resumed = journal.frames
        stack.callback(journal.remove_if_empty)
        progress(journal.runs, len(runs), journal.frames)
        stack.enter_context(torch.autocast("cuda", torch.float16) if amp else nullcontext())
        run_predictor = RunPredictor(predictor, size, writer, skips)
        for run in runs[journal.runs :]:
            with _telling_how_to_go_on(journal):
                addition = run_predictor.predict(run, journal.frames, journal.notes)
            # From a file that cannot be read to its end, one that skips makes other runs than one that stops.
            journal.add(addition.parts, addition.frames, {**addition.notes, **({"skips": True} if skips else {})})
            progress(journal.runs, len(runs), journal.frames)
        check_unchanged(sources)
        notes = journal.notes
        if journal.frames == 0:
            journal.remove()
            raise DataError(
                f"no structure could be predicted; the first: {notes.get('first_skipped', 'there is none')}",
                "look whether model and files are for each other",
            )
        skipped_path = _keep_skipped(journal, target)
        writer.build(journal.locate, target, journal.frames)
        journal.remove()
    with suppress(OSError):  # somebody put something there
        part.rmdir()
    return PredictionSummary(
        target,
        chosen_format,
        journal.frames,
        resumed,
        notes.get("nonfinite", 0),
        notes.get("first", ""),
        name_base(card),
        notes.get("skipped", 0),
        notes.get("first_skipped", ""),
        skipped_path,
    )


@contextmanager
def _telling_how_to_go_on(journal: PredictionJournal) -> Iterator[None]:
    """Add to the error of a broken structure how to go on without it."""
    try:
        yield
    except DataError as error:
        options = f"{'--resume ' if journal.runs else ''}--on-error skip"
        advice = f"{error.advice}; or leave out what is broken: {options} (eval: {{on_error: skip}} of a run file)"
        raise DataError(error.message, advice) from error


def _keep_skipped(journal: PredictionJournal, target: Path) -> Path | None:
    """Put the list of what was left out beside the output; one of an earlier prediction is removed."""
    path = target.with_name(target.name + SKIPPED_SUFFIX)
    with output_errors(path):
        if not journal.notes.get("skipped"):
            path.unlink(missing_ok=True)
            return None
        with written_whole(path) as partial:
            shutil.copyfile(journal.locate(SKIPPED), partial)
    return path


def _check_output(target: Path, part: Path, resume: bool, overwrite: bool) -> None:
    if target.is_dir():
        raise OutputError(f"{target.absolute()} is a folder", "give the name of a file")
    check_absent(target, overwrite)
    if has_progress(part) and not (resume or overwrite):
        raise OutputError(
            f"{part.absolute()} is a prediction that was stopped",
            "go on with --resume, or begin again with --overwrite",
        )


def _check_is_no_input(target: Path, files: str | Path | Sequence[str | Path]) -> None:
    """An output that is replaced may not be what is read, such as one of a pattern's that was written before."""
    if target.exists() and any(path.samefile(target) for path in expand(files)):
        raise OutputError(f"{target.absolute()} is one of the files that are read", "give another name, or folder")


def _identify(potential: Potential) -> str:
    """What tells one potential from another: its config, its weights, and what its uncertainty is made of."""
    tensors = dict(potential.state_dict())
    if potential.uncertainty is not None:
        tensors["uncertainty.root"] = potential.uncertainty.root
    told = [potential.config, potential.describe_uncertainty()]
    digest = hashlib.sha256(json.dumps(told, sort_keys=True).encode())
    digest.update(hash_weights(tensors).encode())
    return digest.hexdigest()
