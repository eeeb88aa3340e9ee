"""Where a simulation may go: it stops when the potential is no longer to be trusted, and the structure is kept."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import ase.io
import numpy as np
from ase import Atoms
from ase.calculators.calculator import all_changes
from ase.calculators.singlepoint import SinglePointCalculator

from nequip_like.arguments import Positive, check
from nequip_like.committee.committee import Committee
from nequip_like.committee.predictions import compute_force_uncertainty
from nequip_like.data import fields
from nequip_like.errors import ConfigError, UntrustedError
from nequip_like.integrations.ase import NequIPCalculator
from nequip_like.model.potential import Potential
from nequip_like.whole_files import output_errors, path_of

UNTRUSTED_FILE = "untrusted.extxyz"


class TrustRegion:
    """Structures whose predicted uncertainties are not above thresholds.

    It can watch any dynamics or relaxation of ASE: ``dynamics.attach(TrustRegion(0.2).watch(atoms))``.

    Args:
        max_force_uncertainty: Largest uncertainty of the force on an atom, eV/Angstrom: the mean over x, y and z of
            ``forces_uncertainty``; None does not look at it.
        max_energy_uncertainty: Largest uncertainty of the energy per atom, eV; None does not look at it.
        file: Extended XYZ file that structures outside are appended to; None keeps none.

    Raises:
        ConfigError: If there is no threshold, or it is not above 0.
    """

    def __init__(
        self,
        max_force_uncertainty: float | None = None,
        max_energy_uncertainty: float | None = None,
        file: str | Path | None = UNTRUSTED_FILE,
    ) -> None:
        thresholds = {"max_force_uncertainty": max_force_uncertainty, "max_energy_uncertainty": max_energy_uncertainty}
        given = {name: value for name, value in thresholds.items() if value is not None}
        if not given:
            raise ConfigError("no uncertainty is limited", "give max_force_uncertainty, in eV/Angstrom")
        for name, value in given.items():
            check(name, value, Positive)
        self.max_force_uncertainty = max_force_uncertainty
        self.max_energy_uncertainty = max_energy_uncertainty
        self.file = None if file is None else path_of(file)

    def check(self, atoms: Atoms, results: Mapping[str, Any]) -> None:
        """Refuse a structure outside, and keep it.

        Args:
            atoms: The structure.
            results: What a calculator predicts of it.

        Raises:
            UntrustedError: If an uncertainty is above its threshold.
            ConfigError: If the potential predicts no such uncertainty.
            OutputError: If the structure cannot be written.
        """
        reasons = []
        if self.max_force_uncertainty is not None:
            of_atoms = compute_force_uncertainty(np.asarray(_get(results, fields.FORCES_UNCERTAINTY)))
            worst = int(of_atoms.argmax())
            if not of_atoms[worst] <= self.max_force_uncertainty:
                reasons.append(
                    f"the force on atom {worst} ({atoms.symbols[worst]}) has an uncertainty of {of_atoms[worst]:.3g} "
                    f"eV/Angstrom, more than {self.max_force_uncertainty:g}"
                )
        if self.max_energy_uncertainty is not None:
            per_atom = float(_get(results, fields.ENERGY_UNCERTAINTY)) / len(atoms)
            if not per_atom <= self.max_energy_uncertainty:
                reasons.append(
                    f"the energy has an uncertainty of {per_atom:.3g} eV/atom, more than "
                    f"{self.max_energy_uncertainty:g}"
                )
        if reasons:
            kept = "" if self.file is None else f"; the structure is in {self.file}"
            if self.file is not None:
                write_untrusted(atoms, results, self.file)
            raise UntrustedError(
                f"outside of the region of trust: {'; '.join(reasons)}{kept}",
                "label the structure and train with it, or raise the threshold",
            )

    def watch(self, atoms: Atoms) -> Watch:
        """An observer for ``dynamics.attach``.

        Args:
            atoms: The structure that moves.
        """
        return Watch(self, atoms)


class Watch:
    """An observer of a dynamics that ends it outside of a region of trust.

    Args:
        region: The region.
        atoms: The structure that moves; its calculator predicts uncertainties.
    """

    def __init__(self, region: TrustRegion, atoms: Atoms) -> None:
        self.region, self.atoms = region, atoms

    def __call__(self) -> None:
        """Called by the dynamics after a step.

        Raises:
            UntrustedError: If the structure is outside.
        """
        self.atoms.get_potential_energy()  # computed already by the step, as a rule
        self.region.check(self.atoms, self.atoms.calc.results)


def write_untrusted(atoms: Atoms, results: Mapping[str, Any], file: Path) -> None:
    """Append a structure with its prediction and the uncertainties to an extended XYZ file.

    Args:
        atoms: The structure.
        results: What was predicted of it.
        file: The file.

    Raises:
        OutputError: If it cannot be written.
    """
    frame = atoms.copy()
    frame.info[fields.ENERGY_UNCERTAINTY] = results.get(fields.ENERGY_UNCERTAINTY, np.nan)
    if fields.FORCES_UNCERTAINTY in results:
        frame.arrays[fields.FORCES_UNCERTAINTY] = results[fields.FORCES_UNCERTAINTY]
    known = {name: results[name] for name in ("energy", "forces", "stress") if name in results}
    frame.calc = SinglePointCalculator(frame, **known)
    with output_errors(file):
        file.parent.mkdir(parents=True, exist_ok=True)
        ase.io.write(file, frame, format="extxyz", append=True)


def _get(results: Mapping[str, Any], name: str) -> Any:
    if name not in results:
        raise ConfigError(
            f"the potential predicts no {name}",
            "take a committee, or for energies a model that was trained with uncertainty=llpr",
        )
    return results[name]


class CommitteeCalculator(NequIPCalculator):
    """A committee as a calculator of ASE, which refuses structures that it is not to be trusted on.

    Beside mean energies, forces and stress, ``results["energy_uncertainty"]`` (eV) and
    ``results["forces_uncertainty"]`` (atoms, 3) are the standard deviations over the members.

    Args:
        committee: The folder of ``nequip-committee``, a file that holds all members, a list of model files or
            potentials, or a :class:`~nequip_like.committee.committee.Committee`.
        max_force_uncertainty: As for :class:`TrustRegion`: a structure above it is written, and a calculation raises
            ``UntrustedError``, which ends the dynamics. Without a threshold nothing is refused.
        max_energy_uncertainty: As for :class:`TrustRegion`.
        untrusted_file: As ``file`` of :class:`TrustRegion`.
        **arguments: As for :class:`~nequip_like.integrations.ase.NequIPCalculator`.

    Raises:
        ModelError: If the members differ.
        ModelFileError: If there is no committee.
        ConfigError: If a threshold is not above 0.

    Example::

        atoms.calc = CommitteeCalculator("committee_run", max_force_uncertainty=0.3)
        dynamics.run(100_000)   # UntrustedError where the members disagree; the structure is in untrusted.extxyz
    """

    def __init__(
        self,
        committee: str | Path | Sequence[str | Path | Potential] | Committee,
        *,
        max_force_uncertainty: float | None = None,
        max_energy_uncertainty: float | None = None,
        untrusted_file: str | Path | None = UNTRUSTED_FILE,
        **arguments: Any,
    ) -> None:
        families = arguments.get("families")
        if isinstance(committee, str | Path):
            committee = Committee.load(committee, families=families)
        elif not isinstance(committee, Committee):
            committee = Committee(committee, families=families)
        self.trust_region = None
        if max_force_uncertainty is not None or max_energy_uncertainty is not None:
            self.trust_region = TrustRegion(max_force_uncertainty, max_energy_uncertainty, untrusted_file)
        super().__init__(committee.potential, **arguments)

    def calculate(
        self,
        atoms: Atoms | None = None,
        properties: Sequence[str] = ("energy",),
        system_changes: Sequence[str] = tuple(all_changes),
    ) -> None:
        """Compute all properties; ASE calls this.

        Raises:
            UntrustedError: If the structure is outside of the region of trust.
            ModelError: As :meth:`~nequip_like.integrations.ase.NequIPCalculator.calculate`.
        """
        super().calculate(atoms, properties, system_changes)
        if self.trust_region is not None:
            structure, snapshot = cast(Atoms, self.atoms), self._last
            self._last = None  # asked again for the same structure, it refuses again
            self.trust_region.check(structure, self.results)
            self._last = snapshot
