"""Tables: the metrics, in the units that they state."""

import io

import pytest
import torch
from rich.console import Console

from nequip_like.report.tables import format_number, print_evaluations


def printed(evaluations):
    console = Console(record=True, width=160, file=io.StringIO())
    print_evaluations(evaluations, console)
    return console.export_text()


def cells(text, label, unit):
    (line,) = [
        [cell.strip() for cell in line.split("│")[1:-1]]
        for line in text.splitlines()
        if line.startswith("│") and [cell.strip() for cell in line.split("│")[1:3]] == [label, unit]
    ]
    return line[2:]


def test_rows(evaluations):
    evaluation = evaluations["mixed [set]"]
    text = printed({"mixed [set]": evaluation})
    assert "mixed [set]: 7 frames, 48 atoms" in text
    for label, unit, metric, factor in [
        ("energy", "meV", "total_energy_{}", 1e3),
        ("energy per atom", "meV/atom", "per_atom_energy_{}", 1e3),
        ("forces", "meV/Å", "forces_{}", 1e3),
        ("on H", "meV/Å", "forces_{}_H", 1e3),
        ("on O", "meV/Å", "forces_{}_O", 1e3),
        ("stress", "meV/Å³", "stress_{}", 1e3),
        ("stress", "GPa", "stress_{}", 160.21766208),
    ]:
        values = [evaluation.metrics[metric.format(short)] * factor for short in ("mae", "rmse", "maxabserr")]
        assert cells(text, label, unit) == [format_number(value) for value in values]
    assert "forces: 5 of 7 frames have labels" in text
    assert "RMS of the forces" in text
    for frame in evaluation.worst:
        assert frame.origin in text


def test_baseline_stands_below(evaluations):
    """No forces and no stress: the errors are the labels; energies have the mean of what the shifts leave."""
    evaluation = evaluations["mixed [set]"]
    text = printed({"mixed [set]": evaluation})
    forces = torch.cat([frame["forces"] for frame in evaluation.dataset.frames])
    forces = forces[~forces.isnan()]
    values = [forces.abs().mean(), forces.square().mean().sqrt(), forces.abs().max()]
    assert cells(text, "baseline", "meV/Å") == [format_number(float(value) * 1e3) for value in values]
    stress = torch.cat([frame["stress"] for frame in evaluation.dataset.frames])
    mean = float(stress[~stress.isnan()].abs().mean())
    assert cells(text, "baseline", "GPa")[0] == format_number(mean * 160.21766208)
    baseline = evaluation.baseline["per_atom_energy_rmse"]
    assert cells(text, "baseline", "meV/atom")[1] == format_number(1e3 * baseline)


def test_absent_labels(evaluations):
    text = printed({"second": evaluations["second"]})
    assert "GPa" not in text
    assert "stress" not in text


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.0, "0"), (12.345, "12.35"), (0.012345, "0.01235"), (123456.7, "123457"), (1e-9, "1.000e-09"), (-2.0, "-2.000")],
)
def test_number(value, text):
    assert format_number(value) == text
