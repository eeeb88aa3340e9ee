import shlex

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser

from nequip_like.data.labels.names import (
    FrameNames,
    check_declared_names,
    checked_mapping,
    format_mapping_line,
    resolve,
)
from nequip_like.errors import ConfigError, DataError


def names(graph=(), node=()):
    return [FrameNames(frozenset(graph), frozenset(node))]


@pytest.mark.parametrize(
    ("graph", "node", "expected"),
    [
        (["energy"], ["forces"], {"total_energy": "energy", "forces": "forces"}),
        (["dft_energy", "dft_virial"], [], {"total_energy": "dft_energy", "virial": "dft_virial"}),
        (["dft_stress"], ["dft_force"], {"stress": "dft_stress", "forces": "dft_force"}),
        (["DFT_energy"], ["DFT_forces"], {"total_energy": "DFT_energy", "forces": "DFT_forces"}),
        (["REF_energy"], ["REF_forces"], {"total_energy": "REF_energy", "forces": "REF_forces"}),
        (["gap_energy", "config_type"], ["gap_force"], {}),
        (["energy", "free_energy"], [], {"total_energy": "energy"}),
        (["free_energy"], [], {"total_energy": "free_energy"}),
        (["weight"], ["weight"], {"frame_weight": "weight", "atom_weight": "weight"}),
        ([], ["energies"], {"atomic_energy": "energies"}),
    ],
)  # fmt: skip
def test_well_known_names_are_found(graph, node, expected):
    assert resolve("f.xyz", names(graph, node), {}) == expected


def test_forces_per_structure_and_energy_per_atom_are_not_labels():
    assert resolve("f.xyz", names(["forces"], ["energy", "stress"]), {}) == {}


def test_two_names_for_one_label_need_a_declaration():
    with pytest.raises(DataError, match=r"dft_energy, energy") as error:
        resolve("f.xyz", names(["energy", "dft_energy"]), {})
    assert "f.xyz" in error.value.message
    assert error.value.advice == "declare which one: 'data.key_mapping={dft_energy: total_energy}'"
    assert resolve("f.xyz", names(["energy", "dft_energy"]), {"dft_energy": "total_energy"}) == {
        "total_energy": "dft_energy"
    }


def test_a_declared_label_is_read_under_no_other_name():
    assert resolve("f.xyz", names(["energy"]), {"E0": "total_energy"}) == {}
    assert resolve("f.xyz", names(["stress", "my_virial"]), {"my_virial": "virial"}) == {"virial": "my_virial"}


def test_declared_name_that_no_frame_has():
    with pytest.raises(DataError, match="no frame has 'dft_enrgy'") as error:
        check_declared_names("f.xyz", names(["dft_energy", "pbe"], ["force"]), {"dft_enrgy": "total_energy"})
    assert "did you mean 'dft_energy'" in error.value.advice
    assert "per atom: force" in error.value.advice


def test_declared_name_with_the_wrong_owner():
    with pytest.raises(DataError, match="is a value per atom"):
        check_declared_names("f.xyz", names([], ["energy"]), {"energy": "total_energy"})


@pytest.mark.parametrize(
    ("mapping", "expected"),
    [
        ({"e": "energy"}, "did you mean 'total_energy'"),
        ({"a": "forces", "b": "forces"}, "both 'a' and 'b'"),
        ({"a": "stress", "b": "virial"}, "both stress and virial"),
    ],
)
def test_mappings_that_cannot_be_meant(mapping, expected):
    with pytest.raises(ConfigError, match=expected):
        checked_mapping(mapping)


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("dft_energy", "'data.key_mapping={dft_energy: total_energy}'"),
        ("E (pbe)", r"'data.key_mapping={E \(pbe\): total_energy}'"),
        ("E'", """'data.key_mapping={E'"'"': total_energy}'"""),
    ],
)
def test_line_to_type(name, line):
    assert format_mapping_line({name: "total_energy"}) == line


def test_line_to_type_is_understood():
    (override,) = shlex.split(format_mapping_line({"E (pbe)": "total_energy", "f_pbe": "forces"}))
    parsed = OverridesParser.create().parse_override(override)
    assert {str(key): value for key, value in parsed.value().items()} == {
        "E (pbe)": "total_energy",
        "f_pbe": "forces",
    }


@pytest.mark.parametrize(
    ("name", "field"),
    [
        ("config_weight", "frame_weight"),
        ("config_energy_weight", "total_energy_weight"),
        ("config_forces_weight", "forces_weight"),
        ("config_stress_weight", "stress_weight"),
        ("config_virials_weight", "virial_weight"),
        ("Energy_Weight", "total_energy_weight"),
        ("force_weight", "forces_weight"),
    ],
)
def test_weights_of_other_programs(name, field):
    assert resolve("f.xyz", names([name]), {}) == {field: name}
