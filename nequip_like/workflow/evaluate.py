"""Testing a model: what ``nequip-test`` does, as a function."""

# ruff: noqa: PT028 (test_model is no pytest function)

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from nequip_like.data.batches.batch_size import BatchSize, SizeOfBatch
from nequip_like.data.dataset import GraphDataset
from nequip_like.data.inspection.report import inspect
from nequip_like.data.io.annotations import check_group_key
from nequip_like.data.io.readers import Source
from nequip_like.data.sources import FileSource, held_out_sources
from nequip_like.errors import ConfigError
from nequip_like.inference.evaluation import Evaluation, Evaluations, evaluate
from nequip_like.inference.loading import load_any, name_base
from nequip_like.inference.predictor import DEFAULT_BATCH_SIZE
from nequip_like.model.families import Families
from nequip_like.model.potential import Potential
from nequip_like.report.files import write_metrics, write_predictions
from nequip_like.report.pictures import read_formats
from nequip_like.report.tables import print_evaluations
from nequip_like.report.uncertainty.quality_table import make_quality_table
from nequip_like.summaries import print_line
from nequip_like.whole_files import path_of
from nequip_like.workflow.run_folder.claims import claimed

METRICS_FILE = "metrics.json"
PREDICTIONS_FILE = "predictions.extxyz"
PARITY_FILE = "parity.png"
UNCERTAINTY_FILE = "uncertainty.png"

# Warnings of data give overrides of a config.
_TYPED_HERE = (
    "note: data.key_mapping={NAME: LABEL} is --key-mapping NAME=LABEL of nequip-test, data.units={LABEL: UNIT} is "
    "--units LABEL=UNIT; in Python they are the arguments key_mapping and units"
)

Data = Source | Mapping[str, Any]


def test_model(
    model: str | Path | Potential,
    data: Data,
    output: str | Path | None = None,
    *,
    batch_size: SizeOfBatch | BatchSize = DEFAULT_BATCH_SIZE,
    device: str | torch.device = "cpu",
    key_mapping: Mapping[str, str] | None = None,
    units: Mapping[str, str] | None = None,
    group_by: str | None = None,
    console: Console | None = None,
    formats: Sequence[str] = ("png",),
    families: Families | None = None,
) -> Evaluations:
    """Test a model on data sets: prints tables, writes ``metrics.json``, ``predictions.extxyz`` and ``parity.png``.

    Args:
        model: A model file, a checkpoint, a run folder, or a potential.
        data: Files, or ``{name: file}``. Each is a data set; without names they are called as their files. Instead of a
            file a mapping may stand, as in a config's ``data.test``: ``{file: ..., index: ..., units: ...}``, and
            instead of a file name ``Atoms`` or graphs, one or many: one data set, called ``test`` without a name.
        output: Folder for the files; made if it is not there. Files of an earlier test in it are replaced. None writes
            no files.
        batch_size: Structures at a time, or ``{"atoms": 2048}``, ``{"edges": 100000}``; metrics do not depend on it.
        device: ``cpu``, ``cuda``, ...; ``auto`` takes a GPU if there is one.
        key_mapping: ``{name in the file: label}``, where names are not the usual ones.
        units: ``{"energy": ..., "length": ..., "forces": ...}`` of the files; eV and Angstrom by default.
        group_by: Key of ``atoms.info`` by whose values a table tells errors apart; by default ``config_type`` or
            ``group``, where these have 2 to 20 values in a data set.
        console: Where to print; the terminal by default.
        formats: Formats of the parity plot: ``png``, ``pdf``, ``svg``, a file for each.
        families: Builders of model families by name, as for :func:`nequip_like.inference.loading.load`.

    Returns:
        The evaluation of each data set, by name.

    Raises:
        ModelFileError: If the model cannot be read.
        DataError: If the data cannot be read, lacks all labels, or has a species that the model does not know.
        ModelError: If a prediction is not finite.
        ConfigError: If there is no such device, unit, label or format, or no frame has what is to be grouped by.
        OutputError: If another command that goes on writes into the folder, or if it cannot be written.
    """
    sources = _read_sources(data, key_mapping, units)
    console = console or Console()
    formats = read_formats(formats, "formats")
    if output is None:
        return _test(model, sources, None, batch_size, device, group_by, formats, families, console)
    output = path_of(output)
    with claimed(output.absolute(), "--output FOLDER"):
        return _test(model, sources, output, batch_size, device, group_by, formats, families, console)


# Not a test of ours, whatever its name says to pytest.
test_model.__test__ = False  # type: ignore[attr-defined]


def _test(
    model: str | Path | Potential,
    sources: Mapping[str, FileSource],
    output: Path | None,
    batch_size: SizeOfBatch | BatchSize,
    device: str | torch.device,
    group_by: str | None,
    formats: Sequence[str],
    families: Families | None,
    console: Console,
) -> Evaluations:
    if isinstance(model, Potential):
        potential, origin = model, ""
    else:
        potential, card = load_any(model, families=families)
        weights = f" ({card['weights']} weights)" if "weights" in card else ""
        origin = f"model: {card['path']}{weights}"
        if base := name_base(card):
            origin += f"; it predicts differences to {base}, with which labels are compared as they are"
    datasets = {
        name: GraphDataset(source.read(), potential.cutoff, potential.type_names, name=name)
        for name, source in sources.items()
    }
    if origin:
        print_line(console, origin)
    warnings = [f"{dataset.name}: {warning}" for dataset in datasets.values() for warning in inspect(dataset).warnings]
    for warning in warnings:
        print_line(console, f"warning: {warning}")
    if any("data.key_mapping=" in warning or "data.units=" in warning for warning in warnings):
        print_line(console, _TYPED_HERE)
    return report_test_sets(potential, datasets, output, batch_size, console, device, group_by, formats)


def report_test_sets(
    potential: Potential,
    datasets: Mapping[str, GraphDataset],
    output: str | Path | None,
    batch_size: SizeOfBatch | BatchSize = DEFAULT_BATCH_SIZE,
    console: Console | None = None,
    device: str | torch.device | None = None,
    group_by: str | None = None,
    formats: Sequence[str] = ("png",),
) -> Evaluations:
    """Evaluate a potential on data sets that are read already; prints and writes what :func:`test_model` does.

    Args:
        potential: The potential.
        datasets: ``{name: data set}``.
        output: Folder for the files; made if it is not there. None writes no files.
        batch_size: Structures at a time.
        console: Where to print; the terminal by default.
        device: Where to compute; where the potential is by default.
        group_by: As for :func:`test_model`.
        formats: Formats of the parity plot, a file for each.

    Returns:
        The evaluation of each data set, by name.

    Raises:
        DataError: If a data set has no label that the model predicts.
        OutputError: If a file cannot be written.
        ModelError: If a data set was made for another model, or if a prediction is not finite.
        ConfigError: If there is no such device.
    """
    console = console or Console()

    if device is None:
        device = next(potential.parameters()).device
    if group_by is not None:
        check_group_key([frame for dataset in datasets.values() for frame in dataset.annotations], group_by)
    evaluations = Evaluations(
        (name, evaluate(potential, dataset, batch_size, device, group_by=group_by))
        for name, dataset in datasets.items()
    )
    print_evaluations(evaluations, console)
    for name, evaluation in evaluations.items():
        if (table := make_quality_table(name, evaluation)) is not None:
            console.print(table)
    if output is not None:
        _write_files(evaluations, path_of(output), formats, console)
    return evaluations


def _write_files(evaluations: Mapping[str, Evaluation], output: Path, formats: Sequence[str], console: Console) -> None:
    write_metrics(evaluations, output / METRICS_FILE)
    left_out = write_predictions(evaluations, output / PREDICTIONS_FILE)
    from nequip_like.report.parity import plot_parity  # matplotlib, which an interrupted test has no use for
    from nequip_like.report.uncertainty.quality_plot import plot_uncertainty

    files = [
        *plot_parity(evaluations, output / PARITY_FILE, formats),
        *plot_uncertainty(evaluations, output / UNCERTAINTY_FILE, formats),
    ]
    pictures = [file.name for file in files]
    print_line(console, f"written to {output}: {', '.join([METRICS_FILE, PREDICTIONS_FILE, *pictures])}")
    if left_out:
        note = f"not in {PREDICTIONS_FILE}, for it cannot hold them: {', '.join(left_out)}"
        print_line(console, note)


def _read_sources(
    data: Data, key_mapping: Mapping[str, str] | None, units: Mapping[str, str] | None
) -> dict[str, FileSource]:
    sources: dict[str, FileSource] = {}
    for name, source in held_out_sources(data, "test", key_mapping, units).items():
        if not isinstance(source, FileSource):
            raise ConfigError(f"the data set '{name}' is {source.size!r}, not a file", "give files to test on")
        sources[name] = source
    if not sources:
        raise ConfigError("no data to test on", "give one file or more")
    return sources
