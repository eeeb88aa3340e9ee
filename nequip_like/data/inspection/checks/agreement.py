"""Whether energies, forces and stress belong together, and whether a stress has the sign of one."""

from __future__ import annotations

from collections.abc import Iterator

from nequip_like.data import fields
from nequip_like.data.inspection.checks.findings import Finding, Subject
from nequip_like.data.inspection.checks.volume_response import measure_volume_response
from nequip_like.data.inspection.label_check import Factor

_FALLS, _FEWEST_FRAMES = -0.8, 10  # correlation of stress and volume, that only a wrong sign has
_TELLING = 0.7  # correlation with a pair potential; of ionic crystals it is a poor model


def find_force_mismatch(subject: Subject) -> Iterator[Finding]:
    """Energies that change otherwise between close frames than the forces say."""
    comparison = subject.comparison
    if comparison.forces is not None:
        yield Finding("wrong", comparison.forces)
    factor = comparison.of_forces
    if factor is None or not factor.is_determined:
        yield Finding("ok", f"not told: {comparison.pairs} pairs of close frames, which say too little")
    else:
        text = f"energies change {_format(factor)} times as much between close frames as the forces say"
        yield Finding("ok", f"{text} ({comparison.pairs} pairs; right ones make it 0.8 to 1.2)")


def find_mismatch_of_files(subject: Subject) -> Iterator[Finding]:
    """Files whose labels contradict each other, where all files together do not."""
    for file, comparison in subject.comparison_of_files.items():
        if comparison.forces is not None and subject.comparison.forces is None:
            yield Finding("wrong", f"of {file}: {comparison.forces}", _list_frames(subject, file))


def find_stress_mismatch_of_files(subject: Subject) -> Iterator[Finding]:
    """Files whose stress contradicts energies or forces, where that of all files together does not."""
    for file, comparison in subject.comparison_of_files.items():
        if comparison.stress is not None and subject.comparison.stress is None:
            yield Finding("wrong", f"of {file}: {comparison.stress}", _list_frames(subject, file))


def _list_frames(subject: Subject, file: str) -> list[int]:
    return [i for i, name in enumerate(subject.files) if name == file]


def find_stress_mismatch(subject: Subject) -> Iterator[Finding]:
    """A stress of the wrong sign, unit, order or pressure, by the energies, the forces, or the volume."""
    if fields.STRESS not in subject.dataset.labels:
        yield Finding("ok", "no stress is labelled")
        return
    comparison, response = subject.comparison, measure_volume_response(subject.dataset.frames)
    if comparison.stress is not None:
        yield Finding("wrong", comparison.stress)
    elif response is not None and response.frames >= _FEWEST_FRAMES and response.correlation < _FALLS:
        yield Finding(
            "wrong",
            f"stress falls as the volume grows (correlation {response.correlation:.2f}, {response.frames} frames); is "
            "the sign wrong? If it is positive under compression, declare 'data.units={stress_sign: compression}'",
        )
    says = []
    if comparison.of_stress is not None and comparison.of_stress.is_determined:
        says.append(f"energies change {_format(comparison.of_stress)} times as much with the cell as it says")
    if comparison.correlation is not None and comparison.correlation > _TELLING:
        says.append(f"correlation {comparison.correlation:.2f} with a pair potential fitted to the forces")
    if response is not None:
        says.append(
            f"correlation {response.correlation:.2f} with the volume, bulk modulus about {response.modulus:.0f} GPa"
        )
    yield Finding("ok", "; ".join(says) or "not told: neither the cell nor the forces change enough")


def _format(factor: Factor) -> str:
    return f"{factor.value:.2f}"
