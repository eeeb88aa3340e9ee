"""The facts of a model, line by line, for the terminal."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from nequip_like.report.tables import format_number
from nequip_like.report.units import FORCES, PER_ATOM_ENERGY, STRESS
from nequip_like.workflow.model_files.facts import ModelFacts

_MOST = 12  # species that are listed
_ERRORS = (PER_ATOM_ENERGY, FORCES, STRESS)


def list_facts(facts: ModelFacts) -> list[tuple[str, str]]:
    """What is known, as pairs of a heading and words, in the order in which it is asked for."""
    return [(heading, words) for heading, words in _walk(facts) if words]


def format_facts(facts: ModelFacts) -> str:
    """The same as text, a line for each."""
    rows = list_facts(facts)
    width = max(len(heading) for heading, _ in rows)
    return "\n".join(f"{heading:<{width}}  {words}" for heading, words in rows)


def describe_errors(metrics: Mapping[str, Any]) -> str:
    """Errors as people say them: ``energy per atom 0.46 meV/atom, forces 19.5 meV/Å`` (RMSE)."""
    words = []
    for quantity in _ERRORS:
        value = metrics.get(f"{quantity.metric}_rmse")
        if isinstance(value, int | float) and not isinstance(value, bool):
            words.append(f"{quantity.label} {format_number(value * quantity.factor)} {quantity.unit}")
    return f"{', '.join(words)} (RMSE)" if words else ""


def list_data_files(card: Mapping[str, Any]) -> str:
    """The training data that the config of the run names."""
    provenance = card.get("provenance")
    config = provenance.get("config") if isinstance(provenance, Mapping) else None
    data = config.get("data") if isinstance(config, Mapping) else None
    train = data.get("train") if isinstance(data, Mapping) else None
    if isinstance(train, Mapping):
        train = train.get("file") or train.get("files")
    if isinstance(train, list):
        train = ", ".join(str(entry.get("file") if isinstance(entry, Mapping) else entry) for entry in train)
    return "" if train is None else str(train)


def describe_provenance(card: Mapping[str, Any]) -> str:
    """Which weights these are: of which run, epoch and step, or of which file of another package."""
    provenance = card.get("provenance")
    told = provenance if isinstance(provenance, Mapping) else card
    words = []
    if isinstance(source := told.get("imported_from"), Mapping):
        words.append(f"imported from {source.get('path')} of {source.get('package')}")
    if isinstance(tuned := told.get("finetune"), Mapping):
        words.append(f"fine-tuned from {tuned.get('source')}")
    if told.get("weights") is not None:
        words.append(f"{told['weights']} weights")
    if told.get("epoch") is not None:
        words.append(f"epoch {told['epoch']}")
    step = told.get("step", told.get("global_step"))
    return ", ".join([*words, *([f"step {step}"] if step is not None else [])])


def _walk(facts: ModelFacts) -> Iterator[tuple[str, str]]:
    model, card = facts.model, facts.card
    names = model["type_names"]
    yield "file", str(facts.path)
    yield "kind", facts.kind
    yield "sha256", facts.sha256
    yield "family", str(model["family"])
    more = f" and {len(names) - _MOST} more" if len(names) > _MOST else ""
    yield "species", " ".join(names[:_MOST]) + more
    yield "cutoff", f"{model['cutoff']:g} Å"
    yield "parameters", f"{model['parameters']:,}"
    yield "dtype", str(model["dtype"])
    yield "kernel", facts.potential.kernel_in_use
    yield "predicts", ", ".join(f"{name} ({unit})" for name, unit in model["units"].items() if name != "pos")
    yield "base", f"predictions are differences to {facts.base}" if facts.base else ""
    yield "uncertainty", _describe_uncertainty(model)
    yield "trained on", list_data_files(card)
    for entry in facts.data:
        rows = entry.get("facts")
        pairs = [row for row in rows if isinstance(row, list) and len(row) == 2] if isinstance(rows, list) else []
        yield f"data {entry.get('name')}", ", ".join(f"{name}: {value}" for name, value in pairs[:4])
    for name, errors in facts.list_errors().items():
        yield name, describe_errors(errors)
    yield "weights", describe_provenance(card)
    yield "licence", str(card.get("licence") or "")
    versions = _find_versions(card)
    yield "versions", ", ".join(f"{name} {version}" for name, version in versions.items())
    yield "created", str(card.get("created") or "")


def _describe_uncertainty(model: Mapping[str, Any]) -> str:
    if model["family"] == "committee":
        spread = "standard deviation over the members"
        factors = (model["uncertainty"] or {}).get("scales", {})
        return spread + "".join(f", of {name} times {factor:.4g}" for name, factor in factors.items())
    if model["uncertainty"] is None:
        return "none"
    values = [(key, value) for key, value in model["uncertainty"].items() if isinstance(value, int | float | str)]
    return "last layer: " + ", ".join(f"{key} {value:.4g}" if isinstance(value, float) else f"{key} {value}"
                                      for key, value in values)  # fmt: skip


def _find_versions(card: Mapping[str, Any]) -> Mapping[str, Any]:
    provenance = card.get("provenance")
    for place in (card, provenance):
        versions = place.get("versions") if isinstance(place, Mapping) else None
        if isinstance(versions, Mapping):
            return versions
    return {}
