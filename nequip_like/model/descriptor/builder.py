"""Builder of the descriptor family: from plain arguments, as a config holds them, to a potential."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

import torch

from nequip_like.arguments import FromZero, NotNegative, Positive, Range, checked
from nequip_like.errors import ConfigError
from nequip_like.model.builders import check_type_names, convert_arguments
from nequip_like.model.descriptor.arguments import ANGULAR_ORDER, RADIAL_ORDER, build_descriptor, read_feature_stats
from nequip_like.model.descriptor.energy import DescriptorEnergy, IsolatedAtoms
from nequip_like.model.descriptor.statistics import measure_statistics
from nequip_like.model.measured import measured_by
from nequip_like.model.potential import Potential
from nequip_like.nn.atomic_networks import read_hidden_layers
from nequip_like.nn.chebyshev.descriptor import LARGEST_ANGULAR_ORDER
from nequip_like.nn.scale_shift import PerType, per_type_values

FAMILY = "descriptor_ann"
_AngularOrder = Annotated[int, Range(low=0, high=LARGEST_ANGULAR_ORDER)]


@measured_by(measure_statistics)
@checked
def DescriptorANNModel(  # noqa: N802 (the name that configs use)
    *,
    type_names: Sequence[str],
    r_max: Positive,
    radial_order: NotNegative = RADIAL_ORDER,
    angular_order: _AngularOrder = ANGULAR_ORDER,
    radial_cutoff: Positive | None = None,
    angular_cutoff: Positive | None = None,
    min_cutoff: FromZero = 0.0,
    networks: Mapping[str, Any] | Sequence[Any] = ((15, "tanh"), (15, "tanh")),
    seed: int = 0,
    model_dtype: Literal["float32", "float64"] = "float32",
    normalize_features: bool = True,
    feature_stats: Mapping[str, Any] | None = None,
    normalize_energy: bool = True,
    E_shift: PerType = None,
    E_scaling: PerType = None,
    per_type_energy_shifts: PerType = None,
    isolated_atoms: IsolatedAtoms = "learnt",
    do_derivatives: bool = True,
    frame_memory: FromZero = 2.0,
    kernel: Literal["auto", "reference"] = "auto",
) -> Potential:
    """One network for each species, from Chebyshev descriptors of an atom's environment to its energy (aenet).

    ``E_i = net(x_i) / E_scaling + E_shift + per_type_energy_shifts``, with ``x = (G - mean) / std`` of descriptors G.
    In a training the statistics of features and energies that are not given are found in its data
    (:func:`~nequip_like.model.descriptor.statistics.measure_statistics`); without data they are what changes nothing.

    Args:
        type_names: Species, in the order of ``atom_types``. **The order is part of the descriptor**: it decides the
            spins by which neighbours are weighted.
        r_max: Cutoff radius of the potential, Angstrom.
        radial_order: Highest order of the radial polynomials.
        angular_order: Highest order of the angular polynomials.
        radial_cutoff: Cutoff radius of the radial features, Angstrom; None takes ``r_max``.
        angular_cutoff: Cutoff radius of the angular features, Angstrom; None takes ``r_max``.
        min_cutoff: Neighbours that are not farther than this are left out, Angstrom. 0 leaves nobody out, as aenet's
            Fortran code; aenet-python leaves out up to 0.55. The energy jumps there.
        networks: Width and activation (linear, tanh, sigmoid, mtanh, twist) of each hidden layer: one list for all
            species, or one for each.
        seed: Seed of the initial weights; the global random state is left as it was.
        model_dtype: "float32" or "float64", of the networks. Descriptors and energies are float64 in any case.
        normalize_features: Whether features are normalised; without, ``feature_stats`` is not measured.
        feature_stats: ``mean`` and ``std`` of each feature, for all species, or under the name of each species.
        normalize_energy: Whether energies are normalised; without, ``E_shift`` and ``E_scaling`` are not measured.
        E_shift: Middle of the energies per atom above ``per_type_energy_shifts``, eV; a number, or one by species.
        E_scaling: 2 over the range of these energies, 1/eV.
        per_type_energy_shifts: Energies of the isolated atoms, eV: a number, or one for each species.
        isolated_atoms: "learnt": an atom without neighbours has the energy that its network gives to zero features, as
            in aenet. "exact": it has exactly its ``per_type_energy_shifts``; ``E_shift`` is then not used.
        do_derivatives: Whether forces, stress and virial are computed; without, a training on energies is faster.
        frame_memory: Memory for the features (and their derivatives) of training and validation frames, GB.
        kernel: "auto" makes descriptors by compiled code on a CPU with a C compiler, "reference" by torch operations.

    Raises:
        ConfigError: If an argument is out of range.

    Example:
        >>> DescriptorANNModel(type_names=["Ti", "O"], r_max=6.5, angular_cutoff=5.0, networks=[[10, "tanh"]])
        Potential(family=descriptor_ann, species=Ti O, cutoff=6.5 Å, parameters=1162, dtype=float32)
    """
    arguments = convert_arguments({key: value for key, value in locals().items()})
    names = check_type_names(type_names)
    descriptor = build_descriptor(arguments)
    hidden = read_hidden_layers(arguments["networks"], names)
    means, spreads = read_feature_stats(arguments["feature_stats"], names, descriptor.size)
    scalings = per_type_values("E_scaling", arguments["E_scaling"], names, 1.0)
    if not (scalings > 0).all():
        raise ConfigError(f"E_scaling is {scalings.tolist()}", "it must be above 0")
    shifts = per_type_values("per_type_energy_shifts", arguments["per_type_energy_shifts"], names, 0.0)
    if isolated_atoms == "learnt":
        shifts = shifts + per_type_values("E_shift", arguments["E_shift"], names, 0.0)
    # The weights are a function of the seed alone, and nobody else's random numbers are touched.
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        energy_model = DescriptorEnergy(
            descriptor=descriptor,
            type_names=names,
            hidden=hidden,
            means=means,
            spreads=spreads,
            scales=dict(zip(names, scalings.reciprocal().tolist(), strict=True)),
            shifts=dict(zip(names, shifts.tolist(), strict=True)),
            isolated_atoms=isolated_atoms,
            frame_memory=frame_memory * 1e9,
            dtype=getattr(torch, model_dtype),
        )
    return Potential(energy_model, names, r_max, {"family": FAMILY, "arguments": arguments}, do_derivatives)
