"""The physics tests of a model family as one class to inherit; it needs pytest to run, not to be imported."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import numpy as np
import torch
from ase import Atoms

from nequip_like.model.potential import Potential
from nequip_like.testing import composition, derivatives, rebuilding, symmetry
from nequip_like.testing.structures import CUTOFF, ISOLATED_ENERGIES, TYPE_NAMES, crystal, molecule, predict
from nequip_like.testing.tolerances import TOLERANCES

_PAIR_CUTOFFS: dict[str, float | dict[str, float]] = {"H": 2.0, "C": {"H": 2.0, "O": 2.6}, "O": {"H": 2.0, "C": 2.6}}
_EXPECTED_CUTOFFS = {("H", "H"): 2.0, ("H", "C"): 2.0, ("H", "O"): 2.0, ("C", "O"): 2.6, ("C", "C"): CUTOFF}
_ARGUMENTS: dict[str, Any] = {
    "type_names": list(TYPE_NAMES),
    "r_max": CUTOFF,
    "avg_num_neighbors": 6.0,
    "per_type_energy_scales": {"H": 7.0, "C": 15.0, "O": 11.0},
    "per_type_energy_shifts": ISOLATED_ENERGIES,
    "seed": 7,
}


class PotentialContract:
    """Tests of one model family. Inherit, name the class ``Test...``, and override :meth:`build`.

    Attributes:
        variants: Keyword arguments for :meth:`build`, by name; each test runs with each of them.
        device: Where the potentials run.
        has_pair_cutoffs: Whether the family knows ``per_edge_type_cutoff``.
        force_power: Power of the distance to the cutoff that forces go to zero with: 2 where the second derivative of
            the energy is continuous there, 1 where it is not (a cosine cutoff).
        families: Its builder by its name, ``{"pair": PairModel}``, unless it is built in or installed.
    """

    variants: ClassVar[Mapping[str, Mapping[str, Any]]] = {"default": {}}
    device: ClassVar[str] = "cpu"
    has_pair_cutoffs: ClassVar[bool] = True
    force_power: ClassVar[int] = 2
    families: ClassVar[Mapping[str, Callable[..., Potential]]] = {}

    def build(self, **arguments: Any) -> Potential:
        """Build a potential of the family.

        Args:
            **arguments: ``type_names``, ``r_max``, ``model_dtype`` ("float32" or "float64"), ``seed``,
                ``avg_num_neighbors``, ``per_type_energy_scales``, ``per_type_energy_shifts``, in some tests
                ``per_edge_type_cutoff``, and those of the variant.
        """
        raise NotImplementedError("override build() with the builder of the model family")

    def make(self, dtype: str, variant: Mapping[str, Any], **changes: Any) -> Potential:
        """A potential in evaluation mode, with the arguments that the tests rely on."""
        return self.build(**{**_ARGUMENTS, "model_dtype": dtype, **variant, **changes}).to(self.device).eval()

    def pytest_generate_tests(self, metafunc: Any) -> None:
        """Run each test with each dtype and variant that it asks for."""
        if "dtype" in metafunc.fixturenames:
            metafunc.parametrize("dtype", ["float32", "float64"])
        if "variant" in metafunc.fixturenames:
            metafunc.parametrize("variant", list(self.variants.values()), ids=list(self.variants))

    # --- symmetry

    def test_rotation_inversion_translation(self, dtype: str, variant: Mapping[str, Any]) -> None:
        """Predictions turn with the structure."""
        potential = self.make(dtype, variant)
        rotation = symmetry.random_rotation(3)
        for atoms in (molecule(), crystal()):
            for matrix, translation in ((rotation, 0.0), (-np.eye(3), 0.0), (np.eye(3), 3.7), (-rotation, -1.3)):
                symmetry.check_equivariance(potential, atoms, matrix, TOLERANCES[dtype].rounding, translation)

    def test_order_of_atoms_and_edges(self, dtype: str, variant: Mapping[str, Any]) -> None:
        """The order in which atoms and edges are listed does not matter."""
        potential = self.make(dtype, variant)
        for atoms in (molecule(), crystal()):
            symmetry.check_atom_order(potential, atoms, TOLERANCES[dtype].rounding)
            symmetry.check_edge_order(potential, atoms, TOLERANCES[dtype].rounding)

    def test_wrapped_and_unwrapped(self, dtype: str, variant: Mapping[str, Any]) -> None:
        """Atoms may lie outside of the cell."""
        symmetry.check_wrapping(self.make(dtype, variant), crystal(), TOLERANCES[dtype].rounding)

    def test_no_net_force(self, dtype: str, variant: Mapping[str, Any]) -> None:
        """Forces add up to zero; stress and virial are symmetric."""
        symmetry.check_net_force(predict(self.make(dtype, variant), crystal()), TOLERANCES[dtype].rounding)

    # --- parts and wholes

    def test_predicted_fields(self, dtype: str, variant: Mapping[str, Any]) -> None:
        """Every predicted field has the shape and float64 of the table; a molecule's stress and virial are NaN."""
        potential = self.make(dtype, variant)
        for atoms in (molecule(), crystal()):
            symmetry.check_field_shapes(potential, atoms)

    def test_batching(self, dtype: str, variant: Mapping[str, Any]) -> None:
        """A batch of molecules, crystals and atoms gives each what it gets alone."""
        structures = [molecule(), crystal(), Atoms("O"), crystal().repeat((1, 1, 2)), molecule()[:3]]
        composition.check_batching(self.make(dtype, variant), structures, TOLERANCES[dtype].rounding)

    def test_isolated_atoms(self, dtype: str, variant: Mapping[str, Any]) -> None:
        """Isolated atoms have exactly their energies, also in a graph without edges."""
        composition.check_isolated_atoms(self.make(dtype, variant), ISOLATED_ENERGIES)

    def test_distant_parts(self, dtype: str, variant: Mapping[str, Any]) -> None:
        """Energies of distant structures add, forces concatenate."""
        potential = self.make(dtype, variant)
        composition.check_distant_parts(potential, molecule(), molecule()[1:4], TOLERANCES[dtype].rounding)

    def test_supercell(self, dtype: str, variant: Mapping[str, Any]) -> None:
        """A supercell has n times the energy and the same forces and stress."""
        composition.check_supercell(self.make(dtype, variant), crystal(), TOLERANCES[dtype].rounding)

    # --- derivatives

    def test_forces_are_energy_gradient(self, variant: Mapping[str, Any]) -> None:
        """F = -dE/dx."""
        potential = self.make("float64", variant)
        for atoms in (molecule(), crystal()):
            derivatives.check_forces(potential, atoms, TOLERANCES["float64"].finite_differences)

    def test_stress_is_strain_derivative(self, variant: Mapping[str, Any]) -> None:
        """Stress is dE/dstrain / V, virial = -V * stress."""
        potential = self.make("float64", variant)
        derivatives.check_stress(potential, crystal(), TOLERANCES["float64"].finite_differences)

    def test_no_gradient_across_structures(self, dtype: str, variant: Mapping[str, Any]) -> None:
        """Structures of a batch are strictly apart."""
        derivatives.check_no_gradient_across(self.make(dtype, variant), [molecule(), crystal(), molecule()[:3]])

    def test_training_and_evaluation_agree(self, dtype: str, variant: Mapping[str, Any]) -> None:
        """Predictions are the same in both modes."""
        derivatives.check_modes_agree(self.make(dtype, variant), crystal(), TOLERANCES[dtype].rounding)

    def test_loss_without_molecule_stress(self, dtype: str, variant: Mapping[str, Any]) -> None:
        """The NaN stress of a molecule does not reach the weights; nor do structures without edges."""
        potential = self.make(dtype, variant)
        derivatives.check_finite_gradients(potential, [molecule(), crystal(), Atoms("O")])
        derivatives.check_finite_gradients(potential, [molecule()])

    def test_weight_gradients(self, variant: Mapping[str, Any]) -> None:
        """Gradients of a loss of forces and stress are right."""
        potential = self.make("float64", variant)
        tolerance = TOLERANCES["float64"].finite_differences
        derivatives.check_weight_gradients(potential, [molecule(), crystal()], tolerance)

    # --- smoothness at the cutoff

    def test_pair_smoothness(self, variant: Mapping[str, Any]) -> None:
        """The interaction of two atoms vanishes smoothly at the cutoff."""
        potential = self.make("float64", variant)
        for centre, neighbour in _EXPECTED_CUTOFFS:
            composition.check_pair_cutoff(potential, centre, neighbour, CUTOFF, ISOLATED_ENERGIES, self.force_power)

    def test_smoothness_within_a_structure(self, variant: Mapping[str, Any]) -> None:
        """Energy and forces are continuous while an atom leaves a molecule."""
        potential = self.make("float64", variant)
        composition.check_crossing(potential, molecule(), "C", dict.fromkeys(TYPE_NAMES, CUTOFF))

    def test_pair_cutoffs(self, variant: Mapping[str, Any]) -> None:
        """The same with cutoffs of each pair of species."""
        if not self.has_pair_cutoffs:
            return
        potential = self.make("float64", variant, per_edge_type_cutoff=_PAIR_CUTOFFS)
        for (centre, neighbour), cutoff in _EXPECTED_CUTOFFS.items():
            composition.check_pair_cutoff(potential, centre, neighbour, cutoff, ISOLATED_ENERGIES, self.force_power)
        cutoffs = {"H": 2.0, "C": CUTOFF, "O": 2.6}
        composition.check_crossing(potential, molecule(), "C", cutoffs)
        derivatives.check_forces(potential, crystal(), TOLERANCES["float64"].finite_differences)

    # --- weights and what builds them

    def test_built_again(self, dtype: str, variant: Mapping[str, Any]) -> None:
        """Config and weights, which files hold, are all that it takes."""
        rebuilding.check_built_again(self.make(dtype, variant), crystal(), TOLERANCES[dtype].rounding, self.families)

    def test_seed_decides_the_weights(self, dtype: str, variant: Mapping[str, Any]) -> None:
        """The same seed gives the same weights, another seed others, and the global random state is left alone."""
        random_state = torch.get_rng_state()
        first = self.make(dtype, variant, seed=11).state_dict()
        assert torch.equal(torch.get_rng_state(), random_state)
        torch.manual_seed(99)
        again, different = (self.make(dtype, variant, seed=seed).state_dict() for seed in (11, 12))
        torch.set_rng_state(random_state)
        assert list(first) == list(again) == list(different)
        assert all(torch.equal(first[key], again[key]) for key in first)
        assert not all(torch.equal(first[key], different[key]) for key in first)
