"""Small potentials for the checks: sound ones, and each with one planted fault, as families that a caller gives.

The Morse potential is that of copper (Girifalco and Weizer 1959), with a smooth end: a crystal that is right
in all that
is asked, in no time. A NequIP with random weights stands in where layers are the matter.
"""

import torch
from torch import nn

from nequip_like.data import fields
from nequip_like.model import NequIPGNNModel, Potential

CUTOFF = 5.5
DEPTH, DECAY, BOND = 0.3429, 1.3588, 2.866  # eV, 1/Angstrom, Angstrom


class MorseEnergy(nn.Module):
    def __init__(self, shifts, r_max, envelope, kind):
        super().__init__()
        self.register_buffer("shifts", torch.tensor(shifts, dtype=torch.float64))
        self.strength = nn.Parameter(torch.ones((), dtype=getattr(torch, kind)))
        self.r_max, self.envelope = r_max, envelope

    def forward(self, graph, vectors):
        centre = graph[fields.EDGE_INDEX][0]
        lengths = torch.linalg.vector_norm(vectors, dim=1)
        # In the element type of the weights, as networks do.
        x = torch.exp(-DECAY * (lengths - BOND)).to(self.strength.dtype)
        pairs = (0.5 * DEPTH * self.strength * (x * x - 2 * x)).to(torch.float64)
        if self.envelope:
            inner = 0.8 * self.r_max
            t = ((lengths - inner) / (self.r_max - inner)).clamp(0, 1)
            pairs = pairs * (1 - t**3 * (10 - 15 * t + 6 * t * t))
        return self.shifts[graph[fields.ATOM_TYPES]].index_add(0, centre, pairs)


class TurnedStress(Potential):
    def forward(self, graph):
        prediction = super().forward(graph)
        return {**prediction, fields.STRESS: -prediction[fields.STRESS]}


def build_morse(type_names=("Cu",), shifts=None, r_max=CUTOFF, envelope=True, turned_stress=False, dtype="float64"):
    shifts = list(shifts or [-1.0] * len(type_names))
    arguments = {"type_names": list(type_names), "shifts": shifts, "r_max": r_max, "envelope": envelope}
    arguments |= {"turned_stress": turned_stress, "dtype": dtype}
    kind = TurnedStress if turned_stress else Potential
    energy = MorseEnergy(shifts, r_max, envelope, dtype)
    return kind(energy, list(type_names), r_max, {"family": "morse", "arguments": arguments}).eval()


def build_signed(**arguments):
    """A NequIP of which one kernel gives each component of its vectors a sign of its own."""
    potential = NequIPGNNModel(**{**arguments, "kernel": "reference"})
    signs = torch.tensor([1.0, -1.0, 1.0], dtype=torch.float64).view(1, 3, 1)

    def turn(module, inputs, outputs):
        return [part * signs.to(part.dtype) if part.shape[1] == 3 else part for part in outputs]

    potential.energy_model.layers[0].convolution.register_forward_hook(turn)
    potential.config = {"family": "signed", "arguments": potential.config["arguments"]}
    return potential


def build_flickering(**arguments):
    """The same with signs that are drawn at each call."""
    potential = NequIPGNNModel(**{**arguments, "kernel": "reference"})

    def flicker(module, inputs, outputs):
        return [part * (torch.randint(0, 2, (1,)) * 2.0 - 1.0).to(part.dtype) for part in outputs]

    potential.energy_model.layers[0].convolution.register_forward_hook(flicker)
    return potential


class NoEnvelope(nn.Module):
    """Stands in for the smooth step of radial functions: 1 within the cutoff."""

    def forward(self, x):
        return (x < 1.0).to(x.dtype)

    def polynomial(self, x):
        return torch.ones_like(x)


def build_without_envelope(**arguments):
    potential = NequIPGNNModel(**{**arguments, "kernel": "reference"})
    for module in potential.modules():
        if hasattr(module, "envelope"):
            module.envelope = NoEnvelope()
    return potential


FAMILIES = {"morse": build_morse, "signed": build_signed}
