"""What a report says of a run beside its test sets: the result, curves, data, settings, times and environment."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

from nequip_like.report.history import list_panels
from nequip_like.report.page.markup import (
    Cell,
    TableRow,
    write_code,
    write_details,
    write_facts,
    write_heading,
    write_paragraph,
    write_plots,
    write_table,
)
from nequip_like.report.page.plots import choose_colours, draw_curves
from nequip_like.report.page.run_content import RunContent, group_validation_errors
from nequip_like.report.page.tested import write_errors, write_number
from nequip_like.report.tables import format_number
from nequip_like.report.units import FORCES, PER_ATOM_ENERGY, STRESS

_FIRST = (PER_ATOM_ENERGY, FORCES, STRESS)
# What an energy and its derivatives are in, wherever they are written without a unit.
_UNITS = (
    "Energies are in eV, lengths in Å, forces in eV/Å, stress in eV/Å³ with tension positive; tables show meV, meV/Å, "
    "meV/Å³ and GPa as they say. Errors of energies are per atom where it says so. MAE and RMSE of forces and stress "
    "are over components; max is the largest error of a component. A number shows all its digits where the pointer "
    "rests on it."
)


def write_result(run: RunContent) -> Iterator[str]:
    """What came out: the errors of all test sets in one table, and the weights that were kept.

    Args:
        run: The run.
    """
    best = run.best
    facts = []
    if best.get("value") is not None:
        facts.append(("best", f"{best['monitored']} = {format_number(best['value'])}"))
    if best.get("epoch") is not None:
        facts.append(("weights", f"of epoch {best['epoch']}, step {best.get('step')} ({best.get('weights', 'raw')})"))
    facts += [("ended", reason) for reason in run.record.get("ends", ())]
    model = run.record.get("model", {})
    if "parameters" in model:
        facts.append(("parameters", f"{model['parameters']:,} trained"))
    yield write_facts(facts)
    if run.metrics:
        columns = [(q, heading, short) for q in _FIRST for heading, short in (("MAE", "mae"), ("RMSE", "rmse"))]
        columns = [
            (q, heading, short)
            for q, heading, short in columns
            if any(f"{q.metric}_{short}" in values for values in run.metrics.values())
        ]
        rows: list[TableRow] = [
            [name, *(write_number(values, f"{q.metric}_{short}", q) for q, _, short in columns)]
            for name, values in run.metrics.items()
        ]
        yield write_table(("test set", *(f"{q.label} {heading}, {q.unit}" for q, heading, _ in columns)), rows)


def write_training(run: RunContent) -> Iterator[str]:
    """Curves of the training, and the errors on the validation set of the weights that were kept.

    Args:
        run: The run.
    """
    panels = list_panels(run.curves)
    validation = group_validation_errors(run.best.get("metrics") or {})
    if not panels and not validation:
        return
    yield write_heading("Training", anchor="training")
    figures = []
    for panel, curves in panels:
        finite = {
            name: curve
            for name, points in curves.items()
            if (curve := [(x, y) for x, y in points if math.isfinite(x) and math.isfinite(y)])
        }
        if finite:
            colours = choose_colours(list(finite), "training" if panel.validation else "")
            best = run.best.get("epoch")
            figures.append((draw_curves(finite, panel.label, colours=colours, best_epoch=best), ""))
    if figures:
        yield write_plots(figures)
        if run.best.get("epoch") is not None:
            yield write_paragraph("Dashed: the epoch whose weights were kept.", "quiet")
    for name, metrics in validation.items():
        yield write_heading(f"{name}, of the weights that were kept", 3)
        yield write_errors(metrics)


def write_data(run: RunContent) -> Iterator[str]:
    """What the data are: a column for each set, warnings, levels of theory, reference energies, seeds.

    Args:
        run: The run.
    """
    sets = run.record.get("data") or []
    config = run.config.get("data")
    config = config if isinstance(config, Mapping) else {}
    if not sets and not config:
        return
    yield write_heading("Data", anchor="data")
    for entry in sets:
        for warning in entry.get("warnings", ()):
            yield write_paragraph(f"{entry['name']}: {warning}", "warning")
    if sets:
        names = [name for name, _ in sets[0]["facts"]]
        columns = [dict(entry["facts"]) for entry in sets]
        rows: list[TableRow] = [[name, *(column.get(name, "") for column in columns)] for name in names]
        described = list(dict.fromkeys(key for entry in sets for key in entry.get("described", {})))
        rows += [[key, *(entry.get("described", {}).get(key, "") for entry in sets)] for key in described]
        yield write_table(("", *(entry["name"] for entry in sets)), rows)
        if "level_of_theory" not in described and not any("theory" in key for key in described):
            yield write_paragraph("The data do not state their level of theory.", "quiet")
    sources = [(stage, format_setting(config.get(stage))) for stage in ("train", "val", "test", "replay")]
    seeds = [
        ("seed", format_setting(run.config.get("seed"))),
        ("seed of the split", format_setting(config.get("split_seed"))),
        ("seed of the order", format_setting(config.get("seed"))),
        ("fingerprint of the training frames", str(run.record.get("train_set", ""))),
    ]
    yield write_facts([*((f"data.{stage}", text) for stage, text in sources), *seeds])
    if text := run.record.get("reference_energies"):
        yield write_heading("Reference energies", 3)
        yield write_code(str(text), "command")


def write_settings(run: RunContent) -> Iterator[str]:
    """What was run: the plan as ``--check`` prints it, and the whole resolved config.

    Args:
        run: The run.
    """
    plan = run.record.get("plan") or {}
    if not plan and not run.config_text:
        return
    yield write_heading("Configuration", anchor="configuration")
    model = run.record.get("model", {})
    yield write_facts([*plan.items(), ("kernel", str(model.get("kernel", "")))])
    if run.overrides:
        yield write_paragraph("Changed on the command line:")
        yield write_code(run.overrides, "command")
    if run.config_text:
        yield write_details("The whole configuration (config.yaml)", write_code(run.config_text))


def write_times(run: RunContent) -> Iterator[str]:
    """How long it took: the whole, epochs, steps; a row for each command that the run was made by.

    Args:
        run: The run.
    """
    if not run.sessions:
        return
    yield write_heading("Times", anchor="times")
    rows: list[TableRow] = []
    for session in run.sessions:
        steps, training = session.get("steps") or 0, session.get("training_seconds") or 0.0
        epochs, frames = session.get("epochs") or 0, session.get("frames") or 0
        rows.append(
            [
                session.get("begun", ""),
                Cell(format_duration(session["seconds"]) if session.get("seconds") is not None else "not ended"),
                Cell(format_duration(training) if steps else ""),
                Cell(format_duration(session.get("validation_seconds") or 0.0) if steps else ""),
                Cell(f"{steps:,}"),
                Cell(f"{1e3 * training / steps:.3g} ms" if steps else ""),
                Cell(f"{epochs:g}"),
                Cell(format_duration(training / epochs) if epochs else ""),
                Cell(f"{frames / training:.4g}" if training and frames else ""),
            ]
        )
    columns = ("begun (UTC)", "whole", "training", "validation", "steps", "a step", "epochs", "an epoch", "frames/s")
    yield write_table(columns, rows)


def write_environment(run: RunContent) -> Iterator[str]:
    """Where and by what it was run: command, code, versions, machine; and what the units are.

    Args:
        run: The run.
    """
    yield write_heading("Environment", anchor="environment")
    printed_facts: list[tuple[str, str]] = []
    for session in run.sessions:
        machine = session.get("machine", {})
        facts = [
            ("code", str(session.get("commit") or "")),
            ("versions", ", ".join(f"{name} {version}" for name, version in session.get("versions", {}).items())),
            *((name, str(value)) for name, value in machine.items()),
        ]
        if session.get("command"):
            yield write_code(str(session["command"]), "command")
        if facts != printed_facts:
            yield write_facts(facts)
            printed_facts = facts
    yield write_heading("Units", 3)
    yield write_paragraph(_UNITS)


def format_setting(value: Any) -> str:
    r"""A value of a config as one line, or one for each entry of a list.

    Example:
        >>> format_setting({"file": "a.xyz", "index": None}), format_setting(["a.xyz", 0.1]), format_setting(None)
        ('file: a.xyz', 'a.xyz\n0.1', '')
    """
    if value is None:
        return ""
    if isinstance(value, Mapping):
        return ", ".join(f"{key}: {format_setting(entry)}" for key, entry in value.items() if entry is not None)
    if isinstance(value, list | tuple):
        return "\n".join(map(format_setting, value))
    return str(value)


def format_duration(seconds: float) -> str:
    """A time as people say it.

    Example:
        >>> format_duration(0.0342), format_duration(75.0), format_duration(7260.0)
        ('34.2 ms', '1 min 15 s', '2 h 1 min')
    """
    if seconds < 1:
        return f"{1e3 * seconds:.3g} ms"
    if seconds < 60:
        return f"{seconds:.3g} s"
    if seconds < 3600:
        minutes, remainder = divmod(round(seconds), 60)
        return f"{minutes} min {remainder} s"
    hours, remainder = divmod(round(seconds / 60), 60)
    return f"{hours} h {remainder} min"
