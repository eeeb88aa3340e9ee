"""The physics checks notice what they are for: each is shown a potential with a planted error.

The family here is a pair potential in a few lines, which also shows that the contract is not made for NequIP alone.
"""

from typing import ClassVar

import numpy as np
import pytest
import torch
from ase import Atoms

from nequip_like.data import fields
from nequip_like.model import Potential
from nequip_like.testing import TOLERANCES, PotentialContract, composition, derivatives, rebuilding, symmetry
from nequip_like.testing.structures import CUTOFF, ISOLATED_ENERGIES, TYPE_NAMES, crystal, graph_of, molecule, predict
from nequip_like.testing.tolerances import check_close

ROUNDING = TOLERANCES["float64"].rounding
DIFFERENCES = TOLERANCES["float64"].finite_differences


PAIR_DEFECTS = {
    "direction": lambda e, x, r: e * (1 + 0.01 * (r[:, 0] / r.norm(dim=1)) ** 2),
    "handed": lambda e, x, r: e * (1 + 0.01 * r.prod(dim=1)),
    "step": lambda e, x, r: e + 1e-4 * (x < 1),
    "kink": lambda e, x, r: e + 1e-2 * (1 - x).clamp(min=0),
    "edge order": lambda e, x, r: e * (1 + 1e-4 * torch.arange(len(e)) / max(len(e), 1)),
    "batch mean": lambda e, x, r: e - 1e-6 * e.mean(),
    "detached": lambda e, x, r: e + 0.01 * e.detach(),
    "forgotten": lambda e, x, r: e * 1.01,
    "nan": lambda e, x, r: e * torch.where(x < 2, x, (x - 5).sqrt()) / x,
}


class PairEnergy(torch.nn.Module):
    """``E_i = E0_i + sum_j c_i c_j (1 - r_ij / r_cut)^4``, plus whatever ``defect`` names."""

    def __init__(self, type_names, r_max, shifts, seed=0, defect=""):
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        self.strength = torch.nn.Parameter(1 + torch.rand(len(type_names), generator=generator, dtype=torch.float64))
        self.register_buffer("shifts", torch.tensor([shifts[name] for name in type_names], dtype=torch.float64))
        self.r_max, self.defect = r_max, defect

    def forward(self, graph, vectors):
        centre, neighbour = graph[fields.EDGE_INDEX]
        types = graph[fields.ATOM_TYPES]
        lengths = torch.linalg.vector_norm(vectors, dim=1)
        x = lengths / self.r_max
        pairs = self.strength[types[centre]] * self.strength[types[neighbour]] * (1 - x).clamp(min=0) ** 4
        if self.defect in PAIR_DEFECTS:
            pairs = PAIR_DEFECTS[self.defect](pairs, x, vectors)
        energies = self.shifts[types] + vectors.new_zeros(len(types)).index_add(0, centre, pairs)
        if self.defect == "atom order":
            energies = energies * (1 + 1e-6 * torch.arange(len(types)))
        elif self.defect == "isolated":
            energies = energies + 1e-12
        return energies


def build(defect="", *, type_names=TYPE_NAMES, r_max=CUTOFF, per_type_energy_shifts=ISOLATED_ENERGIES, seed=0):
    arguments = {
        "defect": "" if defect == "forgotten" else defect,
        "type_names": list(type_names),
        "r_max": r_max,
        "per_type_energy_shifts": per_type_energy_shifts,
        "seed": seed,
    }
    energy_model = PairEnergy(type_names, r_max, per_type_energy_shifts, seed, defect)
    return Potential(energy_model, type_names, r_max, {"family": "pair", "arguments": arguments}).eval()


class TestPairFamily(PotentialContract):
    """Another family passes the contract; its cutoff and its dtype are the only ones it has."""

    has_pair_cutoffs = False
    families: ClassVar = {"pair": build}

    def build(self, type_names, r_max, seed, per_type_energy_shifts, **_):
        return build(type_names=type_names, r_max=r_max, seed=seed, per_type_energy_shifts=per_type_energy_shifts)


ROTATION = symmetry.random_rotation(3)
CHECKS = {
    "rotation": lambda p: symmetry.check_equivariance(p, molecule(), ROTATION, ROUNDING),
    "crystal rotation": lambda p: symmetry.check_equivariance(p, crystal(), ROTATION, ROUNDING),
    "inversion": lambda p: symmetry.check_equivariance(p, molecule(), -np.eye(3), ROUNDING),
    "atom order": lambda p: symmetry.check_atom_order(p, molecule(), ROUNDING),
    "edge order": lambda p: symmetry.check_edge_order(p, molecule(), ROUNDING),
    "batching": lambda p: composition.check_batching(p, [molecule(), crystal()], ROUNDING),
    "across": lambda p: derivatives.check_no_gradient_across(p, [molecule(), crystal()]),
    "isolated": lambda p: composition.check_isolated_atoms(p, ISOLATED_ENERGIES),
    "distant": lambda p: composition.check_distant_parts(p, molecule(), molecule()[:3], ROUNDING),
    "supercell": lambda p: composition.check_supercell(p, crystal(), ROUNDING),
    "cutoff": lambda p: composition.check_pair_cutoff(p, "C", "O", CUTOFF, ISOLATED_ENERGIES),
    "crossing": lambda p: composition.check_crossing(p, molecule(), "C", dict.fromkeys(TYPE_NAMES, CUTOFF)),
    "forces": lambda p: derivatives.check_forces(p, molecule(), DIFFERENCES),
    "stress": lambda p: derivatives.check_stress(p, crystal(), DIFFERENCES),
    "again": lambda p: rebuilding.check_built_again(p, molecule(), ROUNDING, {"pair": build}),
    "weights": lambda p: derivatives.check_weight_gradients(p, [molecule(), crystal()], DIFFERENCES),
}


@pytest.mark.parametrize("check", CHECKS)
def test_the_sound_potential_passes(check):
    CHECKS[check](build())


@pytest.mark.parametrize(
    ("defect", "check"),
    [
        ("direction", "rotation"),
        ("direction", "crystal rotation"),
        ("handed", "inversion"),
        ("edge order", "edge order"),
        ("atom order", "atom order"),
        ("batch mean", "batching"),
        ("batch mean", "across"),
        ("isolated", "isolated"),
        ("batch mean", "distant"),
        ("atom order", "supercell"),
        ("step", "cutoff"),
        ("kink", "cutoff"),
        ("step", "crossing"),
        ("kink", "crossing"),
        ("detached", "forces"),
        ("detached", "stress"),
        ("detached", "weights"),
        ("forgotten", "again"),
    ],
)
def test_each_check_notices_its_error(defect, check):
    with pytest.raises(AssertionError):
        CHECKS[check](build(defect))


@pytest.mark.parametrize(
    ("check", "change"),
    [
        ("rotation", lambda result: {**result, fields.FORCES: result[fields.FORCES][:, [1, 0, 2]]}),
        ("inversion", lambda result: {**result, fields.FORCES: result[fields.FORCES].abs()}),
        ("crystal rotation", lambda result: {**result, fields.STRESS: result[fields.STRESS].abs()}),
        ("forces", lambda result: {**result, fields.FORCES: -result[fields.FORCES]}),
        ("stress", lambda result: {**result, fields.STRESS: -result[fields.STRESS]}),
        ("stress", lambda result: {**result, fields.VIRIAL: -result[fields.VIRIAL]}),
        ("batching", lambda result: {**result, fields.STRESS: result[fields.STRESS].cumsum(0)}),
    ],
)
def test_checks_notice_wrong_derivatives(check, change):
    class Changed(Potential):
        def forward(self, graph):
            return change(super().forward(graph))

    sound = build()
    with pytest.raises(AssertionError):
        CHECKS[check](Changed(sound.energy_model, TYPE_NAMES, CUTOFF, {}).eval())


@pytest.mark.parametrize(
    ("key", "change", "message"),
    [
        ("forces", lambda value: value.float(), "forces is (5, 3) torch.float32 instead of (5, 3) torch.float64"),
        ("total_energy", lambda value: value[0], "total_energy is (1,) torch.float64 instead of (1, 1) torch.float64"),
        ("forces", lambda value: value / 0.0, "forces is not finite"),
        ("stress", torch.nan_to_num, "stress is not NaN without a cell"),
    ],
)
def test_field_shapes(key, change, message):
    class Changed(Potential):
        def forward(self, graph):
            prediction = super().forward(graph)
            return {**prediction, key: change(prediction[key])}

    symmetry.check_field_shapes(build(), molecule())
    with pytest.raises(AssertionError) as raised:
        symmetry.check_field_shapes(Changed(build().energy_model, TYPE_NAMES, CUTOFF, {}).eval(), molecule())
    assert str(raised.value) == message


def test_missing_fields_are_noticed():
    potential = Potential(build().energy_model, TYPE_NAMES, CUTOFF, {}, do_derivatives=False).eval()
    with pytest.raises(AssertionError, match=r"predicted fields are \['atomic_energy', 'total_energy'\] instead of"):
        symmetry.check_field_shapes(potential, molecule())


def test_checks_refuse_to_test_nothing():
    potential = build()
    with torch.no_grad():
        potential.energy_model.strength.zero_()
    for check in ("forces", "stress", "cutoff", "across"):
        with pytest.raises(AssertionError, match="nothing was tested"):
            CHECKS[check](potential)


def test_wrapping_is_noticed():
    class Wrong(PairEnergy):
        def forward(self, graph, vectors):
            return super().forward(graph, vectors) + 1e-9 * graph[fields.POSITIONS][:, 0]

    potential = Potential(Wrong(TYPE_NAMES, CUTOFF, ISOLATED_ENERGIES), TYPE_NAMES, CUTOFF, {}).eval()
    symmetry.check_wrapping(build(), crystal(), ROUNDING)
    with pytest.raises(AssertionError, match="energy"):
        symmetry.check_wrapping(potential, crystal(), ROUNDING)


def test_missing_and_bad_weight_gradients_are_noticed():
    potential = build()
    potential.energy_model.register_parameter("idle", torch.nn.Parameter(torch.ones(2)))
    with pytest.raises(AssertionError, match=r"no gradient to 'energy_model\.idle'"):
        derivatives.check_finite_gradients(potential, [molecule()])
    # sqrt of a negative number in the branch that `where` does not take
    with pytest.raises(AssertionError, match="not finite"):
        derivatives.check_finite_gradients(build("nan"), [molecule()])


def test_modes():
    derivatives.check_modes_agree(build(), crystal(), 0.0)

    class Noisy(PairEnergy):
        def forward(self, graph, vectors):
            return super().forward(graph, vectors) + (1e-6 if self.training else 0.0)

    with pytest.raises(AssertionError, match="total_energy"):
        derivatives.check_modes_agree(
            Potential(Noisy(TYPE_NAMES, CUTOFF, ISOLATED_ENERGIES), TYPE_NAMES, CUTOFF, {}), crystal(), ROUNDING
        )


def test_net_force():
    prediction = predict(build(), crystal())
    symmetry.check_net_force(prediction, ROUNDING)
    with pytest.raises(AssertionError, match="net force"):
        symmetry.check_net_force({**prediction, fields.FORCES: prediction[fields.FORCES] + 1e-6}, ROUNDING)
    with pytest.raises(AssertionError, match="transposed stress"):
        symmetry.check_net_force({**prediction, fields.STRESS: prediction[fields.STRESS].triu()}, ROUNDING)


def test_check_close():
    nan = float("nan")
    check_close(torch.tensor([1.0, nan]), torch.tensor([1.0, nan]), 0.0, "x")
    check_close(torch.tensor([99.0]), torch.tensor([100.0]), 0.0100001, "x")
    check_close(torch.tensor([0.1]), torch.tensor([0.0]), 0.11, "x")
    check_close(torch.zeros(0, 3), torch.zeros(0, 3), 0.0, "x")
    for actual, expected in (([98.8], [100.0]), ([0.12], [0.0]), ([nan], [1.0]), ([1.0], [nan]), ([1.0], [1.0, 1.0])):
        with pytest.raises(AssertionError, match="x: "):
            check_close(torch.tensor(actual), torch.tensor(expected), 0.0111 if expected[0] else 0.11, "x")
    with pytest.raises(AssertionError):
        check_close(torch.tensor([float("inf")]), torch.tensor([1.0]), 1.0, "x")


def test_structures_are_what_the_tests_need():
    potential = build()
    graph = graph_of(crystal(), potential)
    centre, neighbour = graph[fields.EDGE_INDEX]
    assert bool((centre == neighbour).any()), "an atom sees its own images"
    for atoms in (molecule(), crystal()):
        distances = atoms.get_all_distances(mic=True)[np.triu_indices(len(atoms), 1)]
        assert distances.min() > 0.9
        assert set(atoms.get_chemical_symbols()) == set(TYPE_NAMES)
    single = graph_of(Atoms("C"), potential)
    assert single[fields.EDGE_INDEX].shape == (2, 0)
    assert single[fields.EDGE_CELL_SHIFT].shape == (0, 3)


def test_build_has_to_be_overridden():
    with pytest.raises(NotImplementedError, match="override build"):
        PotentialContract().build()
