import copy
import json

import pytest
import torch
from ase.data import chemical_symbols
from e3nn.o3 import Irreps

from nequip_like.errors import ConfigError, ModelFileError
from nequip_like.model import FullNequIPGNNModel, NequIPGNNModel, PresetNequIPGNNModel, families
from nequip_like.nn.elements import correlate_rows

BASE = {"type_names": ["H", "C"], "r_max": 4.0, "avg_num_neighbors": 5.0}
SMALL = {**BASE, "num_layers": 2, "num_features": 3, "radial_mlp_width": 4, "num_bessels": 4}
FULL = {
    **BASE,
    "feature_irreps_hidden": ["4x0e + 2x1o", "4x0e"],
    "radial_mlp_depth": [1, 2],
    "radial_mlp_width": [8, 6],
    "irreps_edge_sh": 1,
    "type_embed_num_features": 5,
}


def count(potential):
    return sum(parameter.numel() for parameter in potential.parameters() if parameter.requires_grad)


def shapes(potential):
    return {key: (tuple(value.shape), value.dtype) for key, value in potential.state_dict().items()}


def test_parameter_count_by_hand():
    """One layer of scalars: embedding, first linear, radial network, second linear, readout."""
    potential = NequIPGNNModel(
        **BASE, num_layers=1, l_max=0, parity=False, num_features=7, radial_mlp_width=11, num_bessels=6
    )
    assert count(potential) == 2 * 7 + 7 * 7 + (6 * 11 + 11 * 7) + 7 * 7 + 7 * 1


def test_second_layer_by_hand():
    potential = NequIPGNNModel(
        **BASE, num_layers=2, l_max=1, parity=False, num_features=[5, 3], radial_mlp_width=11, num_bessels=6
    )
    first = 5 * 5 + (6 * 11 + 11 * (5 + 5)) + (5 * (5 + 3) + 5 * 3)  # gates: 3 more scalars out
    second = (5 * 5 + 3 * 3) + (6 * 11 + 11 * (5 + 3)) + (5 + 3) * 5 + 5 * 5 * 5  # only scalars out, self-connection
    assert count(potential) == 2 * 5 + first + second + 5


@pytest.mark.parametrize(
    ("preset", "layers", "l_max", "channels"),
    [
        ("S", 2, 1, [128, 64]),
        ("M", 4, 2, [128, 64, 32]),
        ("L", 6, 3, [128, 64, 32, 32]),
        ("XL", 6, 4, [320, 96, 64, 32, 32]),
    ],
)
def test_presets(preset, layers, l_max, channels):
    potential = PresetNequIPGNNModel(preset, **BASE)
    model = potential.energy_model
    hidden = Irreps([(channels[degree], (degree, (-1) ** degree)) for degree in range(l_max + 1)])
    assert [layer.irreps_out for layer in model.layers] == [hidden] * (layers - 1) + [Irreps([(channels[0], "0e")])]
    assert model.type_embedding.shape == (2, 32)
    assert model.harmonics.l_max == l_max
    assert {tuple(layer.radial_mlp.weights[0].shape) for layer in model.layers} == {(8, 128)}
    assert potential.config["arguments"]["r_max"] == 4.0


def test_preset_arguments_win_and_names_are_checked():
    potential = PresetNequIPGNNModel("s", **BASE, num_features=[4, 2], radial_mlp_width=6)
    assert potential.energy_model.layers[0].irreps_out == Irreps("4x0e + 2x1o")
    with pytest.raises(ConfigError, match="preset is 'XXL'") as error:
        PresetNequIPGNNModel("XXL", **BASE)
    assert error.value.advice == "give S, M, L or XL"


def test_parity_keeps_both_kinds():
    layers = NequIPGNNModel(**SMALL, l_max=1, parity=True).energy_model.layers
    # 0o and 1e cannot be reached from scalars and Y_1 in one layer
    assert layers[0].irreps_out == Irreps("3x0e + 3x1o")
    layers = NequIPGNNModel(**{**SMALL, "num_layers": 3}, l_max=1, parity=True).energy_model.layers
    assert layers[1].irreps_out.sort().irreps == Irreps("3x0e + 3x1o + 3x1e").sort().irreps
    layers = NequIPGNNModel(**{**SMALL, "num_layers": 4}, l_max=1, parity=True).energy_model.layers
    assert {str(kind) for _, kind in layers[2].irreps_out} == {"0e", "0o", "1e", "1o"}


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"model_dtype": "float64", "l_max": 2, "parity": False, "num_features": [4, 3, 2]},
        {"pair_potential": {"name": "zbl", "units": "metal"}, "per_edge_type_cutoff": {"H": {"C": 2.0}}},
        {
            "per_type_energy_scales": {"H": 1.0, "C": 2.0},
            "per_type_energy_shifts": -3.0,
            "per_type_energy_scales_trainable": True,
            "per_type_energy_shifts_trainable": True,
            "bessel_trainable": True,
        },
        {"readout_mlp_hidden_layers_depth": 2, "radial_mlp_depth": 2, "convnet_resnet": True, "learnable_shift": True},
        {"do_derivatives": False, "kernel": "reference", "convnet_sc": False, "type_embed_num_features": 2},
    ],
)
def test_config_round_trip(changes):
    original = NequIPGNNModel(**{**SMALL, **changes})
    text = json.dumps(original.config)
    again = families.build(json.loads(text))
    assert json.dumps(again.config) == text
    assert shapes(again) == shapes(original)
    assert all(torch.equal(value, again.state_dict()[key]) for key, value in original.state_dict().items())
    assert (again.type_names, again.cutoff, again.do_derivatives) == (["H", "C"], 4.0, original.do_derivatives)


def test_config_does_not_share_the_callers_objects():
    arguments = {**FULL, "pair_potential": {"name": "zbl"}}
    before = copy.deepcopy(arguments)
    potential = FullNequIPGNNModel(**arguments)
    assert arguments == before
    arguments["radial_mlp_width"][0] = 1000
    assert potential.config["arguments"]["radial_mlp_width"] == [8, 6]


def test_unknown_family():
    with pytest.raises(ModelFileError, match="family 'mace'"):
        families.build({"family": "mace", "arguments": {}})


def test_full_model():
    model = FullNequIPGNNModel(**FULL).energy_model
    assert [len(layer.radial_mlp.weights) for layer in model.layers] == [2, 3]
    assert model.layers[1].radial_mlp.weights[1].shape == (6, 6)
    as_irreps = FullNequIPGNNModel(**{**FULL, "irreps_edge_sh": "0e + 1o"})
    assert shapes(as_irreps) == shapes(FullNequIPGNNModel(**FULL))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_dtype(dtype):
    potential = NequIPGNNModel(**SMALL, model_dtype=dtype)
    assert {p.dtype for p in potential.parameters()} == {getattr(torch, dtype)}
    assert potential.energy_model.scale_shift.shifts.dtype == torch.float64


def test_default_dtype_of_the_caller_is_not_used():
    before = torch.get_default_dtype()
    try:
        torch.set_default_dtype(torch.float64)
        potential = NequIPGNNModel(**SMALL)
    finally:
        torch.set_default_dtype(before)
    assert {p.dtype for p in potential.parameters()} == {torch.float32}
    assert shapes(potential) == shapes(NequIPGNNModel(**SMALL))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_layers": 0}, "num_layers is 0"),
        ({"l_max": -1}, "l_max is -1"),
        ({"l_max": 2, "num_features": [4, 3]}, r"num_features is \[4, 3\] with l_max 2"),
        ({"num_features": 0}, "num_features is 0"),
        ({"num_features": [4, 2.5]}, r"num_features is \[4, 2\.5\]"),
        ({"r_max": 0}, "r_max is 0"),
        ({"r_max": float("nan")}, "r_max is nan"),
        ({"type_names": []}, r"type_names are \[\]"),
        ({"type_names": ["H", "H"]}, "type_names are"),
        ({"type_names": ["H", "C_1"]}, "type_names are"),
        ({"model_dtype": "float16"}, "model_dtype is 'float16'"),
        ({"kernel": "fast"}, "kernel is 'fast'"),
        ({"avg_num_neighbors": None}, "avg_num_neighbors is not given"),
        ({"avg_num_neighbors": 0.0}, "above 0 for each species"),
        ({"avg_num_neighbors": {"H": 2.0}}, "avg_num_neighbors and the model's species differ in C"),
        ({"per_type_energy_shifts": {"H": 2.0}}, "per_type_energy_shifts and the model's species differ in C"),
        ({"per_edge_type_cutoff": {"H": 4.5}}, "per_edge_type_cutoff of H-H is 4.5"),
        ({"polynomial_cutoff_p": 1}, "polynomial_cutoff_p is 1"),
        ({"pair_potential": "lj"}, "unknown pair potential 'lj'"),
        ({"convnet_nonlinearity_scalars": {"e": "relu9"}}, "unknown activation 'relu9'"),
        ({"convnet_sc": False, "learnable_shift": True}, "learnable_shift needs a self-connection"),
        ({"readout_mlp_hidden_layers_depth": -1}, "readout_mlp_hidden_layers_depth is -1"),
    ],
)
def test_argument_errors(changes, message):
    with pytest.raises(ConfigError, match=message):
        NequIPGNNModel(**{**SMALL, **changes})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"radial_mlp_depth": [1]}, "2 feature_irreps_hidden, 1 radial_mlp_depth and 2 radial_mlp_width"),
        ({"feature_irreps_hidden": ["4x0e", "4x0e + 1x1o"]}, "the last layer's features are 4x0e"),
        ({"irreps_edge_sh": "0e + 1e"}, r"irreps_edge_sh is 0e \+ 1e"),
    ],
)
def test_full_argument_errors(changes, message):
    with pytest.raises(ConfigError, match=message):
        FullNequIPGNNModel(**{**FULL, **changes})


def test_unknown_argument():
    with pytest.raises(TypeError, match="num_feature"):
        NequIPGNNModel(**SMALL, num_feature=3)


def start(names, **changes):
    arguments = {**SMALL, "type_names": names, "type_embed_num_features": 64, **changes}
    return {key: value.clone() for key, value in NequIPGNNModel(**arguments).state_dict().items()}


def test_embeddings_start_independent_or_as_the_chemistry_has_it():
    """Of the same random numbers; all other weights are the same."""
    names = ["O", "S", "Se", "Te", "Na", "K", "Rb", "Cs", "La", "Ce"]
    plain, chemistry = start(names), start(names, type_embedding_start="chemistry")
    assert [key for key in plain if not torch.equal(plain[key], chemistry[key])] == ["energy_model.type_embedding"]
    same = correlate_rows(plain["energy_model.type_embedding"], names)
    assert torch.equal(chemistry["energy_model.type_embedding"], same)
    correlation = torch.corrcoef(same)
    assert correlation[8, 9] > 0.98  # La, Ce
    assert correlation[1, 2] > 0.8  # S, Se
    assert abs(correlation[0, 7]) < 0.4  # O, Cs


def test_embeddings_of_few_species_start_as_ever():
    many = chemical_symbols[1:21]
    for names, expected in ((many, "chemistry"), (many[:19], "random")):
        found, same = start(names, type_embedding_start="auto"), start(names, type_embedding_start=expected)
        assert all(torch.equal(found[key], same[key]) for key in same)
    with pytest.raises(ConfigError, match="type_embedding_start is 'groups'"):
        start(many, type_embedding_start="groups")
