"""The Chebyshev descriptor: values by hand, by triplets and of aenet's Fortran code; derivatives by differences."""

import math
from pathlib import Path

import ase.io
import numpy as np
import pytest
import torch
from ase import Atoms

from nequip_like.errors import ConfigError
from nequip_like.nn.chebyshev.compiled import load_descriptor_code
from nequip_like.nn.chebyshev.descriptor import ChebyshevDescriptor, Environments, type_spins
from nequip_like.nn.chebyshev.polynomials import chebyshev_in_legendre, chebyshev_polynomials, cosine_cutoff
from nequip_like.nn.chebyshev.triplets import list_triplets, sum_over_triplets
from tests.nn.chebyshev.environments import environments_of, scattered

FORTRAN = Path(__file__).parents[4] / "shared" / "data" / "tio2_aenet" / "fortran"
with_references = pytest.mark.skipif(not FORTRAN.is_dir(), reason="the shared data sets are not here")


def test_polynomials_are_cosines_of_multiples():
    angle = torch.linspace(0.0, math.pi, 9, dtype=torch.float64)
    expected = torch.cos(angle.unsqueeze(1) * torch.arange(8))
    torch.testing.assert_close(chebyshev_polynomials(torch.cos(angle), 7), expected, rtol=0, atol=1e-13)
    assert chebyshev_polynomials(angle, 0).tolist() == [[1.0]] * 9


def test_legendre_coefficients_give_chebyshev_polynomials():
    x = np.linspace(-1, 1, 11)
    legendre = np.polynomial.legendre.legvander(x, 11) @ chebyshev_in_legendre(11).numpy().T
    np.testing.assert_allclose(legendre, chebyshev_polynomials(torch.from_numpy(x), 11).numpy(), atol=1e-12)


def test_cutoff_is_smooth():
    radius = torch.tensor([0.0, 1.5, 3.0, 3.0 - 1e-7, 4.0], dtype=torch.float64, requires_grad=True)
    values = cosine_cutoff(radius, 3.0)
    (slopes,) = torch.autograd.grad(values.sum(), radius)
    assert values.tolist() == pytest.approx([1.0, 0.5, 0.0, 0.0, 0.0], abs=1e-13)
    assert slopes.tolist() == pytest.approx([0.0, -math.pi / 6, 0.0, 0.0, 0.0], abs=1e-7)


def test_spins():
    assert [type_spins(number) for number in (1, 2, 3, 4, 5)] == [
        [0], [-1, 1], [-1, 0, 1], [-2, -1, 1, 2], [-2, -1, 0, 1, 2]
    ]  # fmt: skip


def test_three_atoms_by_hand():
    """Two neighbours of species with spins -1 and 1 at 2 A, at 60 degrees; both cutoff functions are 1/2."""
    vectors = torch.tensor([[2.0, 0.0, 0.0], [1.0, math.sqrt(3.0), 0.0]], dtype=torch.float64)
    descriptor = ChebyshevDescriptor(2, 2, 4.0, 2, 4.0)
    features = descriptor(Environments(vectors, torch.tensor([0, 0]), torch.tensor([0, 1]), 2))
    radial, angular = [1.0, 0.0, -1.0], [0.25, 0.125, -0.125]
    expected = [*radial, *angular, 0.0, 0.0, 0.0, *(-value for value in angular)]
    assert features[0].tolist() == pytest.approx(expected, abs=1e-14)
    assert features[1].tolist() == [0.0] * 12


def test_triplets_in_any_order_of_edges():
    centre = torch.tensor([2, 0, 2, 0, 2, 3])
    pairs = {tuple(sorted(pair)) for pair in zip(*(part.tolist() for part in list_triplets(centre, 5)), strict=True)}
    assert pairs == {(0, 2), (0, 4), (2, 4), (1, 3)}
    assert [len(part) for part in list_triplets(torch.tensor([0, 1]), 2)] == [0, 0]


@pytest.mark.parametrize("order", [0, 1, 6, 11])
def test_moments_are_the_sum_over_triplets(order):
    environments = scattered()
    descriptor = ChebyshevDescriptor(3, 4, 4.0, order, 3.1)
    features = descriptor(environments)
    vectors, centre, types, atoms = environments
    for begin, weights in ((5, torch.ones(len(vectors))), (11 + order, descriptor.spins[types])):
        angular = sum_over_triplets(vectors, centre, atoms, order, 3.1, weights.double())
        assert float(angular.abs().max()) > 0.1
        torch.testing.assert_close(features[:, begin : begin + order + 1], angular, rtol=0, atol=1e-12)


def test_neighbours_on_one_line():
    """Angles of 0 and 180 degrees, where the derivative of an arc cosine would be infinite."""
    vectors = torch.tensor([[1.3, 0.4, -0.2], [2.6, 0.8, -0.4], [-1.3, -0.4, 0.2]], dtype=torch.float64)
    environments = Environments(vectors, torch.zeros(3, dtype=torch.int64), torch.tensor([0, 1, 1]), 1)
    descriptor = ChebyshevDescriptor(2, 5, 4.0, 5, 4.0)
    jacobian = descriptor.differentiate(environments)[1]
    assert jacobian.isfinite().all()
    check_jacobian(descriptor, environments)


def check_jacobian(descriptor, environments):
    """Compare with central differences, edge by edge."""
    features, jacobian = descriptor.differentiate(environments)
    torch.testing.assert_close(features, descriptor(environments), rtol=0, atol=0)
    step = 1e-5
    for edge in range(len(environments.vectors)):
        for axis in range(3):
            ends = []
            for sign in (1, -1):
                moved = environments.vectors.clone()
                moved[edge, axis] += sign * step
                ends.append(descriptor(environments._replace(vectors=moved)))
            difference = (ends[0] - ends[1]) / (2 * step)
            expected = torch.zeros_like(difference)
            expected[environments.centre[edge]] = jacobian[edge, :, axis]
            torch.testing.assert_close(difference, expected, rtol=1e-7, atol=1e-8)


def test_jacobian_by_finite_differences():
    check_jacobian(ChebyshevDescriptor(3, 4, 4.0, 3, 3.1), scattered(atoms=2, neighbours=5))


def test_jacobian_is_what_autograd_gives():
    environments = scattered()
    descriptor = ChebyshevDescriptor(3, 10, 4.0, 6, 3.1)
    vectors = environments.vectors.clone().requires_grad_(True)
    features = descriptor(environments._replace(vectors=vectors))
    jacobian = descriptor.differentiate(environments)[1]
    for column in range(descriptor.size):
        (gradient,) = torch.autograd.grad(features[:, column].sum(), vectors, retain_graph=True)
        torch.testing.assert_close(jacobian[:, column], gradient, rtol=0, atol=1e-11)


def test_second_derivatives():
    vectors = scattered(atoms=1, neighbours=3).vectors.clamp(-1.7, 1.7).requires_grad_(True)
    descriptor = ChebyshevDescriptor(2, 3, 3.5, 3, 3.2)
    kept = torch.zeros(3, dtype=torch.int64), torch.tensor([0, 1, 1])
    assert torch.autograd.gradgradcheck(lambda v: descriptor(Environments(v, *kept, 1)), (vectors,), atol=1e-5)


def test_closest_neighbours_are_left_out_on_demand():
    vectors = torch.tensor([[0.5, 0.0, 0.0], [0.0, 2.0, 0.0], [0.0, 0.0, 0.7]], dtype=torch.float64)
    environments = Environments(vectors, torch.zeros(3, dtype=torch.int64), torch.tensor([0, 1, 1]), 1)
    without = ChebyshevDescriptor(2, 3, 4.0, 2, 3.0, min_cutoff=0.55)
    rest = Environments(vectors[1:], environments.centre[1:], environments.neighbour_types[1:], 1)
    expected = ChebyshevDescriptor(2, 3, 4.0, 2, 3.0)(rest)
    torch.testing.assert_close(without(environments), expected, rtol=0, atol=0)
    features, jacobian = without.differentiate(environments)
    assert torch.equal(features, expected)
    assert float(jacobian[0].abs().max()) == 0.0
    assert (jacobian[1:].abs().amax(dim=(1, 2)) > 0.1).all()


def test_neighbours_of_a_skin_change_nothing():
    environments = scattered(atoms=1)
    descriptor = ChebyshevDescriptor(3, 20, 4.5, 6, 3.1)
    far = environments.vectors / environments.vectors.norm(dim=1, keepdim=True) * 9.0
    wide = Environments(
        *(torch.cat([part, more]) for part, more in zip(environments[:3], (far, *environments[1:3]), strict=True)), 1
    )
    assert torch.equal(descriptor(environments), descriptor(wide))
    assert float(descriptor.differentiate(wide)[1][len(far) :].abs().max()) == 0.0


def test_orders_beyond_the_harmonics_are_refused():
    with pytest.raises(ConfigError, match="angular_order is 12"):
        ChebyshevDescriptor(2, 4, 4.0, 12, 4.0)


@with_references
@pytest.mark.parametrize(
    ("structure", "species", "sizes"),
    [
        ("water.xyz", ["O", "H"], (10, 4.0, 3, 1.5)),
        ("lmnto_structure001.xsf", ["Li", "Mo", "Ni", "Ti", "O"], (10, 4.0, 3, 1.5)),
        ("aucu.xsf", ["Au", "Cu"], (5, 3.5, 5, 3.5)),
    ],
    ids=["water", "lmnto", "aucu"],
)
def test_values_of_the_fortran_code(structure, species, sizes):
    stem = structure.split(".")[0].removesuffix("_structure001")
    expected = np.loadtxt(FORTRAN / f"{stem}_ref.csv", delimiter=",", ndmin=2)
    atoms = ase.io.read(FORTRAN / structure)
    assert isinstance(atoms, Atoms)
    radial_order, radial_cutoff, angular_order, angular_cutoff = sizes
    descriptor = ChebyshevDescriptor(len(species), radial_order, radial_cutoff, angular_order, angular_cutoff)
    features = descriptor(environments_of(atoms, species, max(radial_cutoff, angular_cutoff)))
    assert features.shape == expected.shape
    assert float(np.abs(expected).max()) > 1.0
    np.testing.assert_allclose(features.numpy(), expected, rtol=0, atol=1e-10)


def ordered(environments):
    order = torch.argsort(environments.centre, stable=True)
    return Environments(*(part[order] for part in environments[:3]), environments.atoms)


@pytest.mark.skipif(load_descriptor_code() is None, reason="there is no C compiler")
@pytest.mark.parametrize("species", [1, 2, 3])
@pytest.mark.parametrize("threads", [1, 3])
def test_compiled_code_gives_the_same(species, threads):
    environments = ordered(scattered(atoms=25, neighbours=19, species=species))
    descriptor = ChebyshevDescriptor(species, 5, 3.9, 6, 3.1, min_cutoff=0.8)
    vectors = environments.vectors.clone().requires_grad_(True)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    features = descriptor(environments._replace(vectors=vectors))
    assert type(features.grad_fn).__name__ == "CompiledFeaturesBackward"
    weights = torch.randn(features.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    (pulls,) = torch.autograd.grad((features * weights).sum(), vectors, retain_graph=True)
    torch.set_num_threads(before)
    by_torch = descriptor.describe(environments._replace(vectors=vectors))
    (expected,) = torch.autograd.grad((by_torch * weights).sum(), vectors, create_graph=True)
    torch.testing.assert_close(features, by_torch, rtol=0, atol=1e-11)
    torch.testing.assert_close(pulls, expected, rtol=0, atol=1e-11)
    # A gradient that is to be differentiated is torch's.
    (again,) = torch.autograd.grad((features * weights).sum(), vectors, create_graph=True)
    torch.testing.assert_close(
        *(torch.autograd.grad(gradient.square().sum(), vectors)[0] for gradient in (again, expected)), rtol=0, atol=1e-9
    )


def test_edges_in_no_order_and_no_edges():
    environments = scattered()
    descriptor = ChebyshevDescriptor(3, 3, 4.0, 2, 3.1)
    torch.testing.assert_close(descriptor(environments), descriptor(ordered(environments)), rtol=0, atol=1e-12)
    nothing = Environments(*(part[:0] for part in environments[:3]), 3)
    assert torch.equal(descriptor(nothing), torch.zeros(3, descriptor.size, dtype=torch.float64))
    assert descriptor.differentiate(nothing)[1].shape == (0, descriptor.size, 3)
