"""What is asked of NequIP to write a model, without it."""

import pytest

from nequip_like.compat.nequip_models.exporting import describe_arguments, export_to_nequip
from nequip_like.errors import ConfigError


def test_arguments_are_nequips(make_potential):
    potential = make_potential(
        per_edge_type_cutoff={"H": 2, "C": {"O": 2.5}},
        per_type_energy_shifts={"H": -13, "C": -30.5, "O": -40},
        avg_num_neighbors=5,
        pair_potential={"name": "zbl", "units": "real"},
        convnet_nonlinearity_gates={"e": "abs"},
    )
    arguments = describe_arguments(potential)
    assert "kernel" not in arguments
    assert "type_embedding_start" not in arguments
    assert "convnet_nonlinearity_scalars" not in arguments
    assert arguments["convnet_nonlinearity_gates"] == {"e": "abs", "o": "tanh"}
    assert repr(arguments["per_edge_type_cutoff"]) == "{'H': 2.0, 'C': {'O': 2.5}}"
    assert repr(arguments["avg_num_neighbors"]) == "5.0"
    assert repr(arguments["polynomial_cutoff_p"]) == "6"
    assert repr(arguments["per_type_energy_shifts"]) == "{'H': -13.0, 'C': -30.5, 'O': -40.0}"
    assert arguments["per_type_energy_scales"] == {"H": 2.0, "C": 2.0, "O": 2.0}
    assert arguments["pair_potential"] == {
        "_target_": "nequip.nn.pair_potential.ZBL",
        "units": "real",
        "chemical_species": ["H", "C", "O"],
    }


def test_an_interpreter_is_needed(make_potential, tmp_path):
    with pytest.raises(ConfigError, match="written by NequIP"):
        export_to_nequip(make_potential(), tmp_path / "a.ckpt", None)
    assert list(tmp_path.iterdir()) == []
