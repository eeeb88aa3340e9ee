"""Builders of the NequIP family: from plain arguments, as a config holds them, to a potential."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

import torch
from e3nn.o3 import Irreps

from nequip_like.arguments import ArgumentsOf, Count, Form, NotNegative, Positive, Range, checked
from nequip_like.errors import ConfigError
from nequip_like.model.nequip import NequIPEnergy
from nequip_like.model.potential import Potential
from nequip_like.nn.elements import EmbeddingStart
from nequip_like.nn.radial import CutoffPower, PairCutoffs
from nequip_like.nn.scale_shift import PerType

_DTYPES = {"float32": torch.float32, "float64": torch.float64}
_Size = Annotated[str, Form("(?i)s|m|l|xl", "S, M, L or XL")]
# No model needs more; a mistyped 22 would only exhaust the memory.
_Degree = Annotated[int, Range(low=0, high=11)]
_ACTIVATIONS = {"e": "silu", "o": "tanh"}

_PRESETS: dict[str, dict[str, Any]] = {
    "S": {"num_layers": 2, "l_max": 1, "num_features": [128, 64]},
    "M": {"num_layers": 4, "l_max": 2, "num_features": [128, 64, 32]},
    "L": {"num_layers": 6, "l_max": 3, "num_features": [128, 64, 32, 32]},
    "XL": {"num_layers": 6, "l_max": 4, "num_features": [320, 96, 64, 32, 32]},
}
_PRESET_COMMON = {"parity": False, "type_embed_num_features": 32, "radial_mlp_depth": 1, "radial_mlp_width": 128}


@checked
def PresetNequIPGNNModel(  # noqa: N802 (the name that configs use)
    preset: _Size, **arguments: Annotated[Any, ArgumentsOf("NequIPGNNModel")]
) -> Potential:
    """NequIP of a named size.

    Args:
        preset: S (2 layers, l=1), M (4, l=2), L (6, l=3) or XL (6, l=4).
        **arguments: Arguments of :func:`NequIPGNNModel`; they win over the preset's.

    Raises:
        ConfigError: If there is no such preset.
    """
    return NequIPGNNModel(**{**preset_arguments(preset), **arguments})


@checked
def NequIPGNNModel(  # noqa: N802 (the name that configs use)
    *,
    num_layers: Count = 4,
    l_max: _Degree = 1,
    parity: bool = True,
    num_features: Count | Sequence[Count] = 32,
    type_embed_num_features: Count | None = None,
    radial_mlp_depth: NotNegative = 1,
    radial_mlp_width: Count = 128,
    **arguments: Annotated[Any, ArgumentsOf("FullNequIPGNNModel", but=("irreps_edge_sh", "feature_irreps_hidden"))],
) -> Potential:
    """NequIP with the same features in each layer.

    Args:
        num_layers: Number of interaction layers.
        l_max: Highest rotation order of features and edge harmonics.
        parity: Whether features of both parities are kept; without, degree l has parity (-1)^l only.
        num_features: Channels of each irrep: one number, or one for each l from 0 to l_max.
        type_embed_num_features: Width of the species embedding; None takes the channels of l = 0.
        radial_mlp_depth: Hidden layers of the radial network.
        radial_mlp_width: Width of these layers.
        **arguments: Arguments of :func:`FullNequIPGNNModel`.

    Raises:
        ConfigError: If an argument is out of range.

    Example:
        >>> NequIPGNNModel(type_names=["H", "O"], r_max=5.0, avg_num_neighbors=12.0, num_layers=2, num_features=8)
        Potential(family=nequip, species=H O, cutoff=5 Å, parameters=..., dtype=float32)
    """
    channels = feature_channels(num_features, l_max)
    hidden = Irreps(
        [
            (channels[degree], (degree, sign))
            for degree in range(l_max + 1)
            for sign in ((1, -1) if parity else ((-1) ** degree,))
        ]
    )
    return FullNequIPGNNModel(
        irreps_edge_sh=l_max,
        type_embed_num_features=type_embed_num_features or channels[0],
        feature_irreps_hidden=[str(hidden)] * (num_layers - 1) + [f"{channels[0]}x0e"],
        radial_mlp_depth=[radial_mlp_depth] * num_layers,
        radial_mlp_width=[radial_mlp_width] * num_layers,
        **arguments,
    )


def preset_arguments(preset: str) -> dict[str, Any]:
    """Arguments of :func:`NequIPGNNModel` that a named size stands for.

    Args:
        preset: S, M, L or XL.

    Example:
        >>> preset_arguments("s")["num_layers"], preset_arguments("S")["num_features"]
        (2, [128, 64])
    """
    return {**_PRESET_COMMON, **_PRESETS[preset.upper()]}


def feature_channels(num_features: int | Sequence[int], l_max: int) -> list[int]:
    """Channels of each l from 0 to l_max.

    Raises:
        ConfigError: If there is not one number for each.

    Example:
        >>> feature_channels(32, l_max=2), feature_channels([64, 32, 16], l_max=2)
        ([32, 32, 32], [64, 32, 16])
    """
    channels = [num_features] * (l_max + 1) if isinstance(num_features, int) else list(num_features)
    if len(channels) != l_max + 1:
        raise ConfigError(
            f"num_features is {num_features} with l_max {l_max}",
            f"give one number, or {l_max + 1} numbers of 1 or more: one for each l",
        )
    return channels


@checked
def FullNequIPGNNModel(  # noqa: N802 (the name that configs use)
    *,
    type_names: Sequence[str],
    r_max: Positive,
    feature_irreps_hidden: Sequence[str],
    radial_mlp_depth: Sequence[NotNegative],
    radial_mlp_width: Sequence[Count],
    irreps_edge_sh: _Degree | str,
    type_embed_num_features: Count,
    type_embedding_start: EmbeddingStart = "random",
    seed: int = 0,
    model_dtype: Literal["float32", "float64"] = "float32",
    readout_mlp_hidden_layers_depth: NotNegative = 0,
    readout_mlp_hidden_layers_width: Count | None = None,
    readout_mlp_nonlinearity: str | None = "silu",
    num_bessels: Count = 8,
    bessel_trainable: bool = False,
    polynomial_cutoff_p: CutoffPower = 6.0,
    per_edge_type_cutoff: PairCutoffs | None = None,
    avg_num_neighbors: PerType = None,
    per_type_energy_scales: PerType = None,
    per_type_energy_shifts: PerType = None,
    per_type_energy_scales_trainable: bool = False,
    per_type_energy_shifts_trainable: bool = False,
    pair_potential: str | Mapping[str, Any] | None = None,
    do_derivatives: bool = True,
    convnet_sc: bool = True,
    convnet_resnet: bool = False,
    learnable_shift: bool = False,
    convnet_nonlinearity_scalars: Mapping[str, str] | None = None,
    convnet_nonlinearity_gates: Mapping[str, str] | None = None,
    kernel: Literal["auto", "batched", "fused", "reference", "triton", "cuequivariance"] = "auto",
) -> Potential:
    """NequIP with each layer spelt out.

    Args:
        type_names: Species, in the order of ``atom_types``.
        r_max: Cutoff radius, Angstrom.
        feature_irreps_hidden: Irreps of each layer's output; the last holds scalars only.
        radial_mlp_depth: Hidden layers of each layer's radial network.
        radial_mlp_width: Width of each layer's radial network.
        irreps_edge_sh: Highest degree of the edge harmonics (an integer, or irreps 0e + 1o + 2e ...).
        type_embed_num_features: Width of the species embedding.
        type_embedding_start: "random" (as NequIP), "chemistry" (similar elements start with similar embeddings, see
            :func:`~nequip_like.nn.elements.compute_similarities`), or "auto": chemistry for twenty species or more.
        seed: Seed of the initial weights; the global random state is left as it was.
        model_dtype: "float32" or "float64". Edge vectors, energies and derivatives are float64 in any case.
        readout_mlp_hidden_layers_depth: Hidden layers of the readout; 0 is linear.
        readout_mlp_hidden_layers_width: Their width; None takes the number of scalars.
        readout_mlp_nonlinearity: Their activation.
        num_bessels: Number of radial basis functions.
        bessel_trainable: Whether the basis frequencies are trained.
        polynomial_cutoff_p: Exponent of the smooth cutoff.
        per_edge_type_cutoff: Smaller cutoffs by (centre, neighbour) species, Angstrom.
        avg_num_neighbors: Average number of neighbours: a number, or one for each species.
        per_type_energy_scales: Energy scale: a number, or one for each species; usually the RMS of the forces.
        per_type_energy_shifts: Energies of the isolated atoms, eV: a number, or one for each species.
        per_type_energy_scales_trainable: Whether scales are trained.
        per_type_energy_shifts_trainable: Whether shifts are trained.
        pair_potential: ``zbl``, or a mapping with its arguments.
        do_derivatives: Whether forces, stress and virial are computed.
        convnet_sc: Self-connections (from the second layer on).
        convnet_resnet: Residual updates (from the second layer on, where irreps allow).
        learnable_shift: Self-connection in the first layer too; then an isolated atom's energy is learnt.
        convnet_nonlinearity_scalars: Activation of even ("e") and odd ("o") scalars.
        convnet_nonlinearity_gates: Activation of even and odd gates.
        kernel: How the network is evaluated: "fused" (compiled C code, CPUs only), "batched" (torch, anywhere),
            "reference" (torch, plain), "triton" or "cuequivariance" (GPUs, with the extra ``gpu``; never yet run on
            one), or "auto": fused on a CPU if there is a C compiler, else batched.

    Raises:
        ConfigError: If an argument is out of range.
    """
    arguments = convert_arguments({key: value for key, value in locals().items()})
    names = check_type_names(type_names)
    dtype = _DTYPES[model_dtype]
    if not len(feature_irreps_hidden) == len(radial_mlp_depth) == len(radial_mlp_width) > 0:
        raise ConfigError(
            f"{len(feature_irreps_hidden)} feature_irreps_hidden, {len(radial_mlp_depth)} radial_mlp_depth and "
            f"{len(radial_mlp_width)} radial_mlp_width",
            "give one of each for each layer",
        )
    hidden = [Irreps(irreps) for irreps in feature_irreps_hidden]
    if hidden[-1].lmax > 0:
        raise ConfigError(f"the last layer's features are {hidden[-1]}", "the last layer may hold scalars only")
    if learnable_shift and not (convnet_sc or convnet_resnet):
        raise ConfigError("learnable_shift needs a self-connection", "set convnet_sc or convnet_resnet to true")

    # The weights are a function of the seed alone, and nobody else's random numbers are touched.
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        energy_model = NequIPEnergy(
            type_names=names,
            cutoff=float(r_max),
            l_max=_parse_harmonics(irreps_edge_sh),
            hidden=hidden,
            radial_mlps=list(zip(radial_mlp_depth, radial_mlp_width, strict=True)),
            type_embed_num_features=type_embed_num_features,
            type_embedding_start=type_embedding_start,
            readout=(
                readout_mlp_hidden_layers_depth,
                readout_mlp_hidden_layers_width,
                readout_mlp_nonlinearity,
            ),
            num_bessels=num_bessels,
            bessel_trainable=bessel_trainable,
            polynomial_cutoff_p=polynomial_cutoff_p,
            per_edge_type_cutoff=per_edge_type_cutoff,
            avg_num_neighbors=avg_num_neighbors,
            scales=per_type_energy_scales,
            shifts=per_type_energy_shifts,
            scales_trainable=per_type_energy_scales_trainable,
            shifts_trainable=per_type_energy_shifts_trainable,
            pair_potential=arguments["pair_potential"],
            convnet_sc=convnet_sc,
            convnet_resnet=convnet_resnet,
            learnable_shift=learnable_shift,
            activations=(
                {**_ACTIVATIONS, **(convnet_nonlinearity_scalars or {})},
                {**_ACTIVATIONS, **(convnet_nonlinearity_gates or {})},
            ),
            kernel=kernel,
            dtype=dtype,
        )
    return Potential(energy_model, names, r_max, {"family": "nequip", "arguments": arguments}, do_derivatives)


def check_type_names(type_names: Sequence[str]) -> list[str]:
    """The species of a model as a list.

    Raises:
        ConfigError: If there are none, a name occurs twice, or one is no word.
    """
    names = [str(name) for name in type_names]
    if not names or len(set(names)) != len(names) or not all(name.isalnum() for name in names):
        raise ConfigError(f"type_names are {names}", "give different names of letters and digits, such as [H, C, O]")
    return names


def _parse_harmonics(irreps: int | str) -> int:
    if isinstance(irreps, int):
        return irreps
    parsed = Irreps(irreps)
    if parsed != Irreps.spherical_harmonics(parsed.lmax):
        raise ConfigError(
            f"irreps_edge_sh is {irreps}", f"use {parsed.lmax} or {Irreps.spherical_harmonics(parsed.lmax)}"
        )
    return int(parsed.lmax)


def convert_arguments(value: Any) -> Any:
    """The same value out of dicts, lists, strings, numbers and None only, so that a file's header can hold it."""
    if isinstance(value, Mapping):
        return {str(key): convert_arguments(entry) for key, entry in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [convert_arguments(entry) for entry in value]
    return value
