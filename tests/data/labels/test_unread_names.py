import numpy as np
import pytest

from nequip_like.data.labels.names import FrameNames
from nequip_like.data.labels.unread_names import add_kinds, find_unread_names


def names(graph=(), node=()):
    return [FrameNames(frozenset(graph), frozenset(node))]


def notes(graph, node, read=None):
    """Notes on a frame with these values."""
    kinds = {}
    add_kinds(kinds, graph, node)
    return find_unread_names(names(graph, node), read or {}, kinds)


@pytest.mark.parametrize(
    ("graph", "node", "read", "expected"),
    [
        (["mace_energy"], [], {}, ["'mace_energy' is not read; if it is the label 'total_energy', write "
                                   "'data.key_mapping={mace_energy: total_energy}'"]),
        (["enrgy"], ["frces"], {"total_energy": ["enrgy"]}, ["'frces' is not read; if it is the label 'forces', "
                                                             "write 'data.key_mapping={frces: forces}'"]),
        ([], ["total_energy"], {}, ["'total_energy' is not read: it is a value per atom, but the label 'total_energy' "
                                    "is one per structure"]),
        (["forces"], [], {}, ["'forces' is not read: it is a value per structure, but the label 'forces' is one per "
                              "atom"]),
        (["energy", "mace_energy", "free_energy"], [], {"total_energy": ["energy"]}, []),
        (["energy", "virials"], [], {"total_energy": ["energy"], "stress": ["stress"]}, []),
        (["energy_unit", "stress_units", "force_unit"], [], {}, []),
        (["dipole", "config_type", "weight"], ["tags", "momenta"], {}, []),
    ],
)  # fmt: skip
def test_names_that_look_like_a_label_are_told(graph, node, read, expected):
    assert find_unread_names(names(graph, node), read) == expected


VECTORS = np.zeros((2, 3))
TENSOR = np.zeros(9)


@pytest.mark.parametrize(
    ("graph", "node", "read", "expected"),
    [
        (
            {"e_pbe": -1.0, "s_pbe": TENSOR}, {"f_pbe": VECTORS, "f_hf": VECTORS}, {},
            "not read, though they could be labels: 'e_pbe' (as total_energy), 'f_hf' (as forces), 'f_pbe' (as "
            "forces), 's_pbe' (as stress); if they are, write 'data.key_mapping={e_pbe: total_energy, f_hf: forces, "
            "s_pbe: stress}'",
        ),
        (  # one name tells what it is, the others only by their form
            {"B3LYP_energy": -1.0}, {"ftot": VECTORS}, {},
            "not read, though they could be labels: 'B3LYP_energy' (as total_energy), 'ftot' (as forces); if they are, "
            "write 'data.key_mapping={B3LYP_energy: total_energy, ftot: forces}'",
        ),
        (
            {"U0": -1.0, "temperature": 300.0}, {"DFT-D3 F": VECTORS, "momenta": VECTORS}, {},
            "not read, though they could be labels: 'U0' (as total_energy), 'DFT-D3 F' (as forces); if they are, "
            "write 'data.key_mapping={U0: total_energy, DFT-D3 F: forces}'",
        ),
        (
            {"energy": -1.0, "polarizability": TENSOR}, {"F": VECTORS}, {"total_energy": ["energy"]},
            "'F' is not read; if it is the label 'forces', write 'data.key_mapping={F: forces}'",
        ),
    ],
)  # fmt: skip
def test_all_that_could_be_labels_are_named(graph, node, read, expected):
    assert notes(graph, node, read) == [expected]


@pytest.mark.parametrize("name", ["grad", "DFT-D3 grad", "grad_dft", "dft_total_gradient", "egrads"])
def test_gradients_are_not_proposed_as_forces(name):
    assert notes({"e_pbe": -1.0}, {name: VECTORS}) == [
        "'e_pbe' is not read; if it is the label 'total_energy', write 'data.key_mapping={e_pbe: total_energy}'",
        f"'{name}' is not read: if it is the gradient of the energy, write its negative into the file as 'forces'",
    ]
    assert notes({"energy": -1.0}, {name: VECTORS}, {"total_energy": ["energy"], "forces": [name]}) == [
        f"'{name}' is read as forces, as declared; if it is a gradient, its sign is the opposite one"
    ]


def test_forces_in_one_row_are_not_taken_for_a_stress():
    assert notes({"energy": -1.0, "pbe_forces": np.zeros(9)}, {}, {"total_energy": ["energy"]}) == [
        "'pbe_forces' is not read: it is one row of numbers; write 'forces' of shape (atoms, 3)"
    ]


def test_other_values_of_the_same_form_are_not_named():
    read = {"total_energy": ["energy"], "forces": ["forces"]}
    assert notes({"energy": -1.0, "x": 2.0, "hessian": TENSOR}, {"forces": VECTORS, "spin": VECTORS}, read) == []
    assert notes({"temperature": 300.0, "id": 7, "name": "a"}, {"momenta": VECTORS, "magmoms": VECTORS}) == []


@pytest.mark.parametrize(
    ("graph", "node", "note"),
    [
        (
            ["energy_sigma"], [], "'energy_sigma' is not read: all frames count alike; to weigh them by it, write "
            "'total_energy_weight' into the file (for a sigma its inverse square, 0 to leave a label out)",
        ),
        (
            ["virial_sigma"], [], "'virial_sigma' is not read: all frames count alike; to weigh them by it, write "
            "'virial_weight' into the file (for a sigma its inverse square, 0 to leave a label out)",
        ),
        (
            ["fweight"], [], "'fweight' is not read: all frames count alike; if it is a weight, write "
            "'data.key_mapping={fweight: forces_weight}'",
        ),
        (
            ["w_energy"], [], "'w_energy' is not read: all frames count alike; if it is a weight, write "
            "'data.key_mapping={w_energy: total_energy_weight}'",
        ),
        (
            ["sample_weight"], [], "'sample_weight' is not read: all frames count alike; if it is a weight, write "
            "'data.key_mapping={sample_weight: frame_weight}'",
        ),
        (
            [], ["forces_weight"], "'forces_weight' is not read: all frames count alike; if it is a weight, write "
            "'data.key_mapping={forces_weight: atom_weight}'",
        ),
    ],
)  # fmt: skip
def test_weights_that_are_not_read_are_told(graph, node, note):
    read = {"total_energy": ["energy"], "forces": ["forces"]}
    assert find_unread_names(names(["energy", *graph], ["forces", *node]), read) == [note]


@pytest.mark.parametrize("name", ["molecular_weight", "atomic_weight", "mol_weight", "sigma", "mask", "wave"])
def test_what_only_sounds_like_a_weight(name):
    read = {"total_energy": ["energy"], "forces": ["forces"]}
    assert find_unread_names(names(["energy", name], ["forces", "move_mask"]), read) == []
