"""Networks of atoms: activations, their gradient, and its own gradient."""

import copy
import pickle

import pytest
import torch

from nequip_like.errors import ConfigError
from nequip_like.nn.atomic_networks import FUNCTIONS, AtomicNetwork, AtomicNetworks, read_hidden_layers


def test_activations_by_hand():
    x = torch.tensor([-2.0, 0.0, 0.7], dtype=torch.float64)
    tanh = 1.7159 * torch.tanh(0.666666666666667 * x)
    expected = {
        "linear": x,
        "tanh": torch.tanh(x),
        "sigmoid": 1 / (1 + torch.exp(-x)),
        "mtanh": tanh,
        "twist": tanh + 0.1 * x,
    }
    assert expected.keys() == FUNCTIONS.keys()
    for name, value in expected.items():
        torch.testing.assert_close(FUNCTIONS[name].value(x), value)
        leaf = x.clone().requires_grad_(True)
        (slope,) = torch.autograd.grad(FUNCTIONS[name].value(leaf).sum(), leaf)
        torch.testing.assert_close(FUNCTIONS[name].slope(x, value), slope)


HIDDEN = {"H": [(4, "tanh"), (3, "twist")], "C": [], "O": [(2, "sigmoid"), (5, "mtanh"), (2, "linear")]}


def test_gradient_is_what_autograd_gives_and_can_be_differentiated():
    torch.manual_seed(0)
    networks = AtomicNetworks(6, HIDDEN, torch.float64)
    features = torch.randn(7, 6, dtype=torch.float64, requires_grad=True)
    types = torch.tensor([0, 2, 1, 2, 0, 0, 1])
    energies, gradient = networks.differentiate(features, types)
    torch.testing.assert_close(energies, networks(features, types), rtol=0, atol=1e-15)
    (expected,) = torch.autograd.grad(networks(features, types).sum(), features, create_graph=True)
    torch.testing.assert_close(gradient, expected, rtol=1e-12, atol=1e-14)
    weights = list(networks.parameters())
    ours, theirs = (torch.autograd.grad(g.square().sum(), weights, allow_unused=True) for g in (gradient, expected))
    for mine, other in zip(ours, theirs, strict=True):
        other = torch.zeros(()) if other is None else other
        torch.testing.assert_close(mine if mine is not None else torch.zeros(()), other, rtol=1e-10, atol=1e-12)


def test_network_is_affine_where_all_is_linear():
    network = AtomicNetwork(2, [], torch.float64)
    network.weights[0].data = torch.tensor([[2.0], [-1.0]], dtype=torch.float64)
    network.biases[0].data = torch.tensor([0.5], dtype=torch.float64)
    energies, gradient = network.differentiate(torch.tensor([[1.0, 3.0]], dtype=torch.float64))
    assert energies.tolist() == [-0.5]
    assert gradient.tolist() == [[2.0, -1.0]]


def test_copies_and_pickles():
    network = AtomicNetwork(3, [(2, "twist")], torch.float64)
    x = torch.ones(1, 3, dtype=torch.float64)
    for copied in (copy.deepcopy(network), pickle.loads(pickle.dumps(network))):
        assert torch.equal(copied(x), network(x))


@pytest.mark.parametrize(
    ("networks", "message"),
    [
        ({"H": []}, "differ in O"),
        ([[0, "tanh"]], "layer \\[0, 'tanh'\\]"),
        ([["tanh", 4]], "layer \\['tanh', 4\\]"),
        ([[4]], "layer \\[4\\]"),
        (4, "is 4"),
    ],
    ids=["species", "width", "order", "length", "number"],
)
def test_layers_that_cannot_be(networks, message):
    with pytest.raises(ConfigError, match=message):
        read_hidden_layers(networks, ["H", "O"])
