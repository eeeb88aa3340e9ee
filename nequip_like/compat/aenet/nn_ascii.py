"""The network of one species as aenet writes it in text: ``Ti.nn.ascii``.

Numbers are list-directed, as Fortran calls it: each item begins on a new line and may be wrapped over several. Items:

1. layers (with input), most nodes of a layer, weights, values; nodes of each layer; activation of each layer but the
   first; where weights and values of each layer begin; the weights: for each layer a matrix (outputs, inputs + 1),
   column by column, whose last column are the biases;
2. description, up to ``$$``; species; number and names of the species around it; smallest and largest distance;
   ``Chebyshev``; number of features, number of their parameters; kind of each; parameters, of which the first four are
   radial cutoff, radial order, angular cutoff, angular order; species of each;
3. atoms that statistics were made of; smallest, largest and mean value and mean square of each feature;
4. training set: name; whether energies are normalised, their scaling and shift; number, names and energies of isolated
   atoms of its species; atoms, structures; lowest, highest and mean energy per atom.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np

from nequip_like.errors import ModelFileError
from nequip_like.whole_files import output_errors, path_of, written_whole

ACTIVATIONS = ("linear", "tanh", "sigmoid", "mtanh", "twist")  # by their number in files
_PARAMETERS = 4


@dataclass(frozen=True)
class AenetNetwork:
    """What a file holds.

    Attributes:
        species: Chemical symbol of the atoms that it is for.
        environment: Species around them, in the order that decides their spins.
        activations: Names of the activations of the hidden layers; the output is linear.
        weights: Matrices (inputs, outputs).
        biases: Of each layer (outputs,).
        min_distance: Smallest distance between atoms that was expected, Angstrom.
        radial: Cutoff, Angstrom, and order.
        angular: Cutoff, Angstrom, and order.
        evaluations: Number of atoms that the statistics are of.
        lowest: Smallest value of each feature.
        highest: Largest value.
        mean: Mean.
        mean_square: Mean of the square.
        energy_scaling: 1/eV; 1 if energies are not normalised.
        energy_shift: eV; 0 if energies are not normalised.
        atomic_energies: Energies of isolated atoms by species, eV.
        training_set: Name of the file that it was trained on.
        atoms: Number of atoms there.
        structures: Number of structures.
        energy_range: Lowest, highest and mean energy per atom there, eV.
        description: Free text.
    """

    species: str
    environment: list[str]
    activations: list[str]
    weights: list[np.ndarray]
    biases: list[np.ndarray]
    min_distance: float
    radial: tuple[float, int]
    angular: tuple[float, int]
    evaluations: int
    lowest: np.ndarray
    highest: np.ndarray
    mean: np.ndarray
    mean_square: np.ndarray
    energy_scaling: float
    energy_shift: float
    atomic_energies: dict[str, float]
    training_set: str = "unknown"
    atoms: int = 0
    structures: int = 0
    energy_range: tuple[float, float, float] = (0.0, 0.0, 0.0)
    description: str = ""


class _Items:
    """The items of a text, each of which begins on a new line."""

    def __init__(self, text: str, file: Path) -> None:
        self.lines: Iterator[str] = iter(text.splitlines())
        self.file = file

    def line(self, name: str) -> str:
        line = next(self.lines, None)
        if line is None:
            raise ModelFileError(f"{self.file} ends before {name}", "give a whole .nn.ascii file of aenet")
        return line.strip()

    def words(self, name: str, count: int) -> list[str]:
        words: list[str] = []
        while len(words) < count:
            words += self.line(name).split()
        return words[:count]

    def numbers(self, name: str, count: int = 1) -> np.ndarray:
        words = self.words(name, count)
        try:
            return np.array([float(word.replace("D", "E").replace("d", "e")) for word in words])
        except ValueError as error:
            raise ModelFileError(f"{self.file}: {name}: {error}", "give a .nn.ascii file of aenet") from None

    def number(self, name: str) -> float:
        return float(self.numbers(name)[0])

    def integer(self, name: str) -> int:
        return int(self.number(name))

    def refuse(self, message: str, advice: str = "give a .nn.ascii file of aenet") -> ModelFileError:
        return ModelFileError(f"{self.file}: {message}", advice)


def read_nn_ascii(path: str | Path) -> AenetNetwork:
    """Read a network.

    Args:
        path: A file of aenet's text form (binary ones are converted by its nnconvert).

    Raises:
        ModelFileError: If it cannot be read, is not of this form, or describes environments in another way.
    """
    file = path_of(path)
    try:
        text = file.read_text()
    except (OSError, UnicodeDecodeError) as error:
        advice = "give the text form: aenet's nnconvert makes it of a binary network"
        raise ModelFileError(f"{file} cannot be read as text: {error}", advice) from error
    items = _Items(text, file)
    weights, biases, activations = _read_layers(items)
    description = items.line("the description")
    while not description.endswith("$$"):
        description += "\n" + items.line("the end of the description, $$")
    species = items.line("the species")
    environment = items.words("the species around", items.integer("the number of species around"))
    min_distance, _ = items.number("the smallest distance"), items.number("the largest distance")
    if (kind := items.line("the kind of descriptor")).lower() != "chebyshev":
        raise items.refuse(f"its descriptor is {kind}", "only Chebyshev descriptors are known here")
    features, parameters = items.integer("the number of features"), items.integer("the number of parameters")
    items.numbers("the kinds of features", features)
    cutoffs = items.numbers("the parameters of features", parameters * features)
    items.numbers("the species of features", 2 * features)
    evaluations = items.integer("the number of evaluations")
    statistics = [items.numbers(f"the {name} of features", features) for name in ("min", "max", "mean", "mean square")]
    radial, angular = (float(cutoffs[0]), int(cutoffs[1])), (float(cutoffs[2]), int(cutoffs[3]))
    expected = (radial[1] + angular[1] + 2) * (2 if len(environment) > 1 else 1)
    if not features == len(weights[0]) == expected:
        raise items.refuse(f"{len(weights[0])} inputs and {features} features, where its orders make {expected}")

    training_set = items.line("the name of the training set")
    normalized = items.words("whether energies are normalised", 1)[0].strip(".").upper().startswith("T")
    scaling, shift = items.number("the energy scaling"), items.number("the energy shift")
    names = items.words("the names of species", items.integer("the number of species"))
    energies = items.numbers("the energies of atoms", len(names))
    atoms, structures = items.integer("the number of atoms"), items.integer("the number of structures")
    lowest, highest, mean = items.numbers("the range of energies", 3).tolist()
    return AenetNetwork(
        species=species,
        environment=environment,
        activations=activations,
        weights=weights,
        biases=biases,
        min_distance=min_distance,
        radial=radial,
        angular=angular,
        evaluations=evaluations,
        lowest=statistics[0],
        highest=statistics[1],
        mean=statistics[2],
        mean_square=statistics[3],
        energy_scaling=scaling if normalized else 1.0,
        energy_shift=shift if normalized else 0.0,
        atomic_energies=dict(zip(names, energies.tolist(), strict=True)),
        training_set=training_set,
        atoms=atoms,
        structures=structures,
        energy_range=(lowest, highest, mean),
        description=description.removesuffix("$$"),
    )


def _read_layers(items: _Items) -> tuple[list[np.ndarray], list[np.ndarray], list[str]]:
    """Weights and biases of each layer, and activations of the hidden ones."""
    layers, _, size, _ = (items.integer(f"the number of {name}") for name in ("layers", "nodes", "weights", "values"))
    if layers < 2:
        raise items.refuse(f"a network has at least 2 layers, not {layers}")
    nodes = items.numbers("the nodes of each layer", layers).astype(int)
    codes = items.numbers("the activations", layers - 1).astype(int)
    for name in ("weights", "values"):
        items.numbers(f"where {name} begin", layers)
    flat = items.numbers("the weights", size)
    weights, biases, start = [], [], 0
    for inputs, outputs in pairwise(nodes):
        block = flat[start : start + (inputs + 1) * outputs]
        if len(block) != (inputs + 1) * outputs:
            raise items.refuse(f"{size} weights are too few for layers of {nodes.tolist()} nodes")
        matrix = block.reshape(inputs + 1, outputs)  # column by column of (outputs, inputs + 1)
        weights.append(matrix[:-1].copy())
        biases.append(matrix[-1].copy())
        start += len(block)
    if nodes[-1] != 1 or codes[-1] != 0:
        raise items.refuse("the output is not one number of a linear layer", "only such networks give energies")
    if (codes < 0).any() or (codes >= len(ACTIVATIONS)).any():
        raise items.refuse(f"activations {codes.tolist()}: known are 0 to {len(ACTIVATIONS) - 1}")
    return weights, biases, [ACTIVATIONS[code] for code in codes[:-1]]


def write_nn_ascii(network: AenetNetwork, path: str | Path) -> None:
    """Write a network in aenet's text form; numbers keep all their digits.

    Args:
        network: The network.
        path: The file; one that is there is replaced.

    Raises:
        OutputError: If it cannot be written.
    """
    nodes = [len(network.weights[0]), *(len(bias) for bias in network.biases)]
    flat = np.concatenate(
        [np.vstack([weight, bias]).ravel() for weight, bias in zip(network.weights, network.biases, strict=True)]
    )
    sizes = [(inputs + 1) * outputs for inputs, outputs in pairwise(nodes)]
    values = [count + 1 for count in nodes[:-1]] + [1]
    features = nodes[0]
    parameters = np.zeros(_PARAMETERS * features)
    parameters[:_PARAMETERS] = [network.radial[0], network.radial[1], network.angular[0], network.angular[1]]
    names = list(network.atomic_energies)
    lines = [
        *(_format_integers([count]) for count in (len(nodes), max(nodes), len(flat), sum(values))),
        _format_integers(nodes),
        _format_integers([*(ACTIVATIONS.index(name) for name in network.activations), 0]),
        _format_integers([sum(sizes[:layer]) for layer in range(len(nodes))]),
        _format_integers([sum(values[:layer]) for layer in range(len(nodes))]),
        _real(flat),
        f"{network.description}$$",
        network.species,
        _format_integers([len(network.environment)]),
        " ".join(network.environment),
        _real([network.min_distance]),
        _real([max(network.radial[0], network.angular[0])]),
        "Chebyshev",
        _format_integers([features]),
        _format_integers([_PARAMETERS]),
        _format_integers([0] * features),
        _real(parameters),
        _format_integers([0] * (2 * features)),
        _format_integers([network.evaluations]),
        *(_real(values) for values in (network.lowest, network.highest, network.mean, network.mean_square)),
        network.training_set,
        "T",
        _real([network.energy_scaling]),
        _real([network.energy_shift]),
        _format_integers([len(names)]),
        " ".join(names),
        _real(list(network.atomic_energies.values())),
        _format_integers([network.atoms]),
        _format_integers([network.structures]),
        _real(network.energy_range),
    ]
    target = path_of(path)
    with output_errors(target), written_whole(target) as temporary:
        temporary.write_text("\n".join(lines) + "\n")


def _format_integers(numbers: Sequence[int]) -> str:
    return " ".join(f"{number:17d}" for number in numbers)


def _real(numbers: Sequence[float] | np.ndarray) -> str:
    return " ".join(f"{float(number):24.17g}" for number in numbers)
