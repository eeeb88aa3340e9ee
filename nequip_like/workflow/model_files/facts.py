"""What is known of a model: of its file, of the run that it comes from, and of itself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nequip_like.artifacts.description import describe_model
from nequip_like.data.published import compute_checksum
from nequip_like.inference.loading import IN_RUN_FOLDER, name_base
from nequip_like.inference.manifest import find_manifest, read_json_object
from nequip_like.model.potential import Potential
from nequip_like.report.page.run_content import RECORD_FILE, group_validation_errors, read_json_file
from nequip_like.summaries import Summarized

_METRICS_FILE = "metrics.json"
_IN_A_RUN = ("checkpoints", "artifacts")  # folders that a run has models in
_TESTED = (IN_RUN_FOLDER[0], "best.ckpt")  # which the errors of a run's tests are of


@dataclass(frozen=True, repr=False)
class ModelFacts(Summarized):
    """What is known of a model.

    Attributes:
        path: The file that it stands in.
        sha256: Of this file.
        kind: What the file is, in words.
        potential: The model.
        model: :func:`~nequip_like.artifacts.description.describe_model` of it.
        card: What its file tells beside that: ``metrics``, ``provenance``, ``licence``, ``versions``, ``created``, ...
        data: Of each data set of its run: ``name``, ``facts``, ``warnings``, ``described``; empty where none is known.
        test_errors: Errors by test set, eV and Angstrom; empty where no test is known.
    """

    path: Path
    sha256: str
    kind: str
    potential: Potential
    model: Mapping[str, Any]
    card: Mapping[str, Any]
    data: list[Mapping[str, Any]] = field(default_factory=list)
    test_errors: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    def summary(self) -> dict[str, Any]:
        """Where it is, and what."""
        return {"path": str(self.path), "kind": self.kind, "potential": self.potential}

    def list_errors(self) -> dict[str, Mapping[str, Any]]:
        """Errors by data set, eV and Angstrom: of validations, by their place where there are several, and of tests."""
        metrics = self.card.get("metrics")
        sets = group_validation_errors(metrics) if isinstance(metrics, Mapping) else {}
        validations = {name if len(sets) > 1 else "validation": errors for name, errors in sets.items()}
        return {**validations, **{f"test {name}": errors for name, errors in self.test_errors.items()}}

    @property
    def base(self) -> str:
        """To what its predictions are differences, in words; empty if they are whole energies."""
        return name_base(self.card)

    def as_json(self) -> dict[str, Any]:
        """All of it, in plain values."""
        left_out = ("config", "type_names", "cutoff", "units", "uncertainty", "path")
        return {
            "path": str(self.path),
            "sha256": self.sha256,
            "kind": self.kind,
            "model": dict(self.model),
            **{key: value for key, value in self.card.items() if key not in left_out},
            "data": list(self.data),
            "test_errors": dict(self.test_errors),
        }


def collect_facts(source: Path, potential: Potential, card: Mapping[str, Any]) -> ModelFacts:
    """Collect what is known of a model that was read.

    Args:
        source: What the user named: a file, a run folder, or artifacts.
        potential: The model.
        card: What its file tells, with its ``path``.

    Raises:
        DataError: If files of the run are damaged.
    """
    file = Path(card["path"])
    told = dict(card)
    manifest = find_manifest(source)
    # Whoever read the model has compared the SHA-256 of its files.
    content = {} if manifest is None else read_json_object(manifest)
    told |= {key: content[key] for key in ("licence", "notes") if key in content and key not in told}
    run = None if "imported_from" in (told.get("provenance") or {}) else _find_run(source, file)
    record = {} if run is None else read_json_file(run / RECORD_FILE)
    errors = read_json_file(run / _METRICS_FILE) if run is not None and file.name in _TESTED else {}
    data = record.get("data")
    return ModelFacts(
        path=file,
        sha256=content["weights"]["sha256"] if content else compute_checksum(file) if file.is_file() else "",
        kind=_name_kind(source, file, told),
        potential=potential,
        model=describe_model(potential),
        card=told,
        data=[entry for entry in data if isinstance(entry, Mapping)] if isinstance(data, list) else [],
        test_errors={str(name): value for name, value in errors.items() if isinstance(value, Mapping)},
    )


def _find_run(source: Path, file: Path) -> Path | None:
    """The folder of the run that the model is of: the one that was named, or the one where its file has its place."""
    inside = file.parent.name in _IN_A_RUN
    folder = source if source.is_dir() and not inside else file.parent.parent if inside else file.parent
    has_its_place = inside or file.name == IN_RUN_FOLDER[0]
    return folder if has_its_place and (folder / RECORD_FILE).is_file() else None


def _name_kind(source: Path, file: Path, card: Mapping[str, Any]) -> str:
    if "imported_from" in (card.get("provenance") or {}) and "format" not in card:
        package = card["provenance"]["imported_from"].get("package")
        return f"model of {package}"
    if find_manifest(source) is not None:
        return "artifacts"
    kind = f"model file, format version {card['format_version']}" if "format_version" in card else "checkpoint"
    return f"{kind}, of a run folder" if source.is_dir() else kind
