"""A model card in Markdown: what a model is, what it was trained on, how good it is, and how it is used."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from nequip_like.inference.evaluation import COLUMNS
from nequip_like.report.tables import format_number
from nequip_like.report.units import FORCES, PER_ATOM_ENERGY, STRESS
from nequip_like.workflow.model_files.facts import ModelFacts
from nequip_like.workflow.model_files.telling import describe_provenance, list_data_files, list_facts

_UNKNOWN = "Not known: the file does not tell."
_OF_THE_MODEL = (
    *("family", "species", "cutoff", "parameters", "dtype", "predicts", "uncertainty", "versions", "created", "sha256"),
)


def format_model_card(facts: ModelFacts, name: str | None = None, licence: str | None = None) -> str:
    """Write a model card.

    What is not known is said to be unknown; nothing is guessed.

    Args:
        facts: What is known.
        name: Title; that of the file by default.
        licence: Of the weights, in place of what the file tells.

    Returns:
        Markdown.
    """
    return "\n".join(_walk(facts, name or facts.path.stem, licence or facts.card.get("licence"))) + "\n"


def _walk(facts: ModelFacts, name: str, licence: Any) -> Iterator[str]:
    told = dict(list_facts(facts))
    units = facts.model["units"]
    yield from (f"# {name}", "")
    yield "A machine-learning interatomic potential: energies of atoms as functions of their surroundings."
    yield from ("", "| | |", "|---|---|")
    for heading in _OF_THE_MODEL:
        if heading in told:
            yield f"| {heading} | {_escape(told[heading])} |"
    yield from ("", "## Licence", "", str(licence) if licence else "Not stated.")
    yield from ("", "## Training data", "")
    yield from _describe_data(facts)
    yield from ("", "## Errors", "")
    yield from _tabulate_errors(facts)
    yield from ("", "## Units and conventions", "")
    for field, unit in units.items():
        yield f"- `{field}`: {unit}"
    if facts.base:
        yield f"- All predictions are differences to a base, {facts.base}: add its energies, forces and stress."
    yield "- Energies are total energies, with those of isolated atoms in them:"
    yield f"  {_describe_shifts(facts.model)}"
    yield "- Stress is positive under tension; forces and stress are derivatives of the energy."
    yield from ("", "## Limits", "")
    yield f"- It knows {', '.join(facts.model['type_names'])}, and refuses other species."
    yield f"- Its cutoff is {facts.model['cutoff']:g} Å: there is nothing long-ranged in it, such as charges."
    yield "- Structures unlike the training data have errors that these tables do not tell."
    yield from ("", "## Where it comes from", "", describe_provenance(facts.card) or _UNKNOWN)
    yield from ("", "## Use", "", "```python", "import nequip_like as nl", "")
    yield f'atoms.calc = nl.NequIPCalculator("{facts.path.name}")'
    yield from ("atoms.get_potential_energy()", "```")


def _describe_data(facts: ModelFacts) -> Iterator[str]:
    files = list_data_files(facts.card)
    if files:
        yield f"Trained on `{files}`."
    for entry in facts.data:
        yield from ("", f"**{entry.get('name')}**", "")
        rows = entry.get("facts")
        for row in rows if isinstance(rows, list) else []:
            if isinstance(row, list) and len(row) == 2:
                yield f"- {row[0]}: {_escape(str(row[1]))}"
        described = entry.get("described")
        for key, value in described.items() if isinstance(described, Mapping) else ():
            yield f"- {key}: {_escape(str(value))}"
    if not files and not facts.data:
        yield _UNKNOWN


def _tabulate_errors(facts: ModelFacts) -> Iterator[str]:
    rows = [
        f"| {name} | {quantity.label} | {quantity.unit} | {' | '.join(cells)} |"
        for name, values in facts.list_errors().items()
        for quantity in (PER_ATOM_ENERGY, FORCES, STRESS)
        if any(cells := [_show(values, quantity.metric, short, quantity.factor) for _, short in COLUMNS])
    ]
    if not rows:
        yield _UNKNOWN
        return
    yield f"| data | error of | unit | {' | '.join(heading for heading, _ in COLUMNS)} |"
    yield "|---|---|---" + "|---:" * len(COLUMNS) + "|"
    yield from rows


def _show(values: Mapping[str, Any], metric: str, short: str, factor: float) -> str:
    value = values.get(f"{metric}_{short}")
    return format_number(value * factor) if isinstance(value, int | float) and not isinstance(value, bool) else ""


def _describe_shifts(model: Mapping[str, Any]) -> str:
    normalizer = model["normalizer"]
    if not normalizer:
        return "those of its parts."
    return ", ".join(f"{name} {shift:.6g} eV" for name, shift in normalizer["energy_shifts"].items())


def _escape(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", "; ")
