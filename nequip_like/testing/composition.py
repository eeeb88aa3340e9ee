"""Checks of parts and wholes: batches, distant and isolated atoms, supercells, and atoms that cross the cutoff."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from ase import Atoms

from nequip_like.data import fields
from nequip_like.data.graph import split
from nequip_like.model.potential import Potential
from nequip_like.testing.structures import batch_of, far_apart, graph_of, pair, predict
from nequip_like.testing.symmetry import check_predictions
from nequip_like.testing.tolerances import check_close


def check_batching(potential: Potential, structures: Sequence[Atoms], tolerance: float) -> None:
    """A batch gives each structure what it gets alone, in every predicted field.

    Raises:
        AssertionError: Naming the structure and field that differ.
    """
    batch = batch_of(structures, potential)
    together = split({**batch, **predict(potential, batch)})
    for i, atoms in enumerate(structures):
        alone = predict(potential, atoms)
        part = {key: together[i][key] for key in alone}
        check_predictions(part, alone, tolerance, f"structure {i} of the batch: ")


def check_isolated_atoms(potential: Potential, energies: Mapping[str, float]) -> None:
    """An atom without neighbours has exactly its isolated energy and no force, alone and in a graph without edges.

    Args:
        potential: The potential to check.
        energies: Expected energy of the isolated atom of each species, eV.

    Raises:
        AssertionError: If an energy is not exact, or a force not zero.
    """
    scattered = Atoms(list(energies), positions=[[50.0 * i, 0.0, 0.0] for i in range(len(energies))])
    singles = [Atoms(symbol, positions=[[0.1, 0.2, 0.3]]) for symbol in energies]
    for atoms in (*singles, scattered):
        if graph_of(atoms, potential)[fields.EDGE_INDEX].numel():
            raise AssertionError("the test structure has edges")
        prediction = predict(potential, atoms)
        expected = torch.tensor([[energies[symbol]] for symbol in atoms.get_chemical_symbols()], dtype=torch.float64)
        check_close(prediction[fields.PER_ATOM_ENERGY], expected, 0.0, "energy of isolated atoms")
        check_close(prediction[fields.TOTAL_ENERGY], expected.sum(0, keepdim=True), 1e-15, "sum of isolated energies")
        check_close(prediction[fields.FORCES], torch.zeros(len(atoms), 3, dtype=torch.float64), 0.0, "isolated forces")


def check_distant_parts(potential: Potential, part: Atoms, distant_part: Atoms, tolerance: float) -> None:
    """Structures farther apart than the cutoff do not see each other: energies add, atomic fields concatenate.

    Raises:
        AssertionError: If they do not.
    """
    parts = [predict(potential, part), predict(potential, distant_part)]
    combined = predict(potential, far_apart(part, distant_part, 2 * potential.cutoff))
    energy = parts[0][fields.TOTAL_ENERGY] + parts[1][fields.TOTAL_ENERGY]
    check_close(combined[fields.TOTAL_ENERGY], energy, tolerance, "energy of the whole")
    for key in combined:
        if fields.field(key).owner == "node":
            check_close(combined[key], torch.cat([part[key] for part in parts]), tolerance, f"{key} of the whole")


def check_supercell(potential: Potential, atoms: Atoms, tolerance: float, repeat: Sequence[int] = (2, 1, 3)) -> None:
    """A supercell has the energy and virial of its cells, the same stress, and each atom's fields.

    Raises:
        AssertionError: If it has not.
    """
    copies = repeat[0] * repeat[1] * repeat[2]
    cell, supercell = predict(potential, atoms), predict(potential, atoms.repeat(tuple(repeat)))
    extensive = {fields.TOTAL_ENERGY, fields.VIRIAL}
    for key, value in cell.items():
        if fields.field(key).owner == "node":
            expected = value.repeat(copies, *[1] * (value.dim() - 1))
        else:
            expected = copies * value if key in extensive else value
        check_close(supercell[key], expected, tolerance, f"{key} of the supercell")


def check_pair_cutoff(
    potential: Potential,
    species: str,
    partner: str,
    cutoff: float,
    energies: Mapping[str, float],
    force_power: int = 2,
) -> None:
    """The interaction of two atoms goes to zero with its first derivative at their cutoff and stays zero behind it.

    Args:
        potential: The potential to check, in float64.
        species: Species of one atom.
        partner: Species of its partner.
        cutoff: Their cutoff, Angstrom; may be shorter than the potential's own.
        energies: Energies of the isolated atoms, eV.
        force_power: Power of the distance to the cutoff that the force goes to zero with.

    Raises:
        AssertionError: If energy or force do not vanish, or if there is no interaction at all.
    """
    alone = energies[species] + energies[partner]

    def interaction(fraction: float) -> tuple[float, float]:
        prediction = predict(potential, pair(species, partner, fraction * cutoff))
        return (
            abs(float(prediction[fields.TOTAL_ENERGY]) - alone),
            float(prediction[fields.FORCES].abs().max()),
        )

    subject = f"{species}-{partner} with cutoff {cutoff}"
    inside = [interaction(fraction) for fraction in (0.4, 0.5, 0.6, 0.7)]
    energy, force = max(entry[0] for entry in inside), max(entry[1] for entry in inside)
    if not (energy > 1e-6 and force > 1e-6):
        raise AssertionError(f"{subject}: the atoms do not interact within the cutoff, so that nothing was tested")
    distance = 1e-4
    near_energy, near_force = interaction(1 - distance)
    small_force = 100 * distance**force_power * force
    if not (near_energy <= 1e-6 * energy + 1e-15 * abs(alone) and near_force <= small_force):
        raise AssertionError(f"{subject}: energy {near_energy:.2e}, force {near_force:.2e} just within the cutoff")
    for fraction in (1 + 1e-12, 1 + 1e-4, 1.1, 2.0):
        if interaction(fraction) != (0.0, 0.0):
            raise AssertionError(f"{subject}: atoms at {fraction} cutoffs interact")


def check_crossing(potential: Potential, atoms: Atoms, probe: str, cutoffs: Mapping[str, float]) -> None:
    """Energy and forces are continuous while a probe atom crosses the cutoff of each atom of a structure.

    Args:
        potential: The potential to check, in float64.
        atoms: The structure, without a cell.
        probe: Species of the atom that moves.
        cutoffs: Cutoff between the probe and each species, Angstrom.

    Raises:
        AssertionError: If energy or forces jump.
    """
    step = 1e-6
    outwards = atoms.positions - atoms.positions.mean(0)
    for index, symbol in enumerate(atoms.get_chemical_symbols()):
        direction = outwards[index] / ((outwards[index] ** 2).sum()) ** 0.5
        sides = []
        for side in (-step, step):
            place = atoms.positions[index] + (cutoffs[symbol] + side) * direction
            sides.append(predict(potential, atoms + Atoms(probe, positions=[place])))
        force = torch.stack([side[fields.FORCES] for side in sides])
        work = float(force.mean(0)[-1] @ torch.tensor(direction)) * 2 * step
        subject = f"{probe} at the cutoff of atom {index} ({symbol})"
        energy = [float(side[fields.TOTAL_ENERGY]) for side in sides]
        check_close(torch.tensor(energy[1] - energy[0] + work), torch.tensor(0.0), 1e-10, f"energy of {subject}")
        check_close(force[0], force[1], 1e-4, f"forces with {subject}")
