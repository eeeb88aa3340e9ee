"""The worker of inference.py and scaling.py: energies and forces through one code's ASE calculator, as dynamics asks.

The only argument is JSON: code, case, kernel, skin, threads, species, system (a file of systems.py), and the files of
weights (ours writes, nequip's reads), of the compiled model, and of the first forces. With ``prepare`` it compiles and
ends. ``device`` is cpu (default) or cuda, ``precision`` float32 (default) or tf32; mace and sevenn run on a CPU in
float32 only.
"""

from __future__ import annotations

import json
import os
import sys
import time
import warnings
from collections.abc import Mapping
from typing import TYPE_CHECKING

import accelerator
from cases import ARCHITECTURE, CASES
from systems import Walk
from workers import forget_peak, serve, tell, use_threads

if TYPE_CHECKING:
    from ase import Atoms

MODIFIERS = {  # nequip's name of each of its faster kernels
    "nequip_oeq_compiled": "enable_OpenEquivariance",
    "nequip_cueq_compiled": "enable_CuEquivariance",
}


def architecture(spec: Mapping) -> dict:
    """Arguments of the NequIP builders."""
    return {**ARCHITECTURE, **CASES[spec["case"]], "type_names": spec["species"]}


def ours(spec: Mapping):
    """Our calculator; writes the weights for nequip's."""
    import numpy as np

    from nequip_like.compat.nequip_weights import to_nequip_weights
    from nequip_like.integrations.ase import NequIPCalculator
    from nequip_like.model import NequIPGNNModel

    accelerator.use_tf32(spec)
    model = NequIPGNNModel(**architecture(spec), kernel=spec["kernel"])
    np.savez(spec["weights"], **{key: value.numpy() for key, value in to_nequip_weights(model).items()})
    return NequIPCalculator(model, accelerator.device(spec), skin=spec["skin"])


def _nequip_model(spec: Mapping):
    import numpy as np
    from nequip.model import NequIPGNNModel
    from nequip.utils.global_state import set_global_state
    from nequip_parity_peer import load

    set_global_state(allow_tf32=spec.get("precision") == "tf32")
    model = NequIPGNNModel(**architecture(spec))
    load(model, dict(np.load(spec["weights"])))
    return model.eval()


def _nequip_calculator(spec: Mapping, model):
    from nequip.integrations.ase import NequIPCalculator
    from nequip.integrations.utils import basic_transforms

    species = {name: name for name in spec["species"]}
    transforms = basic_transforms(model.metadata, ARCHITECTURE["r_max"], spec["species"], species)
    return NequIPCalculator(model, device=accelerator.device(spec), transforms=transforms)


def nequip(spec: Mapping):
    """nequip's calculator with its eager model and our weights."""
    return _nequip_calculator(spec, _nequip_model(spec))


def nequip_compiled(spec: Mapping):
    """nequip's calculator with the AOTInductor package that :func:`prepare` made."""
    from nequip.integrations.ase import NequIPCalculator

    return NequIPCalculator.from_compiled_model(
        spec["compiled"],
        device=accelerator.device(spec),
        chemical_species_to_atom_type_map={name: name for name in spec["species"]},
    )


def prepare(spec: Mapping) -> None:
    """What ``nequip-compile --mode aotinductor --target ase`` does, on a model that was never saved."""
    import torch
    from nequip.data import AtomicDataDict
    from nequip.model import modify
    from nequip.scripts._compile_utils import COMPILE_TARGET_DICT
    from nequip.utils.aot import aot_export_model
    from nequip.utils.aoti_metadata import (
        NEQUIP_AOTI_INPUTS_KEY,
        NEQUIP_AOTI_OUTPUTS_KEY,
        NEQUIP_CUSTOM_OPS_LIBS_KEY,
        embed_custom_ops_libs,
        serialize_aoti_keys,
    )
    from nequip.utils.global_state import get_latest_global_state

    torch.set_num_threads(spec["threads"])
    start = time.perf_counter()
    model, target = _nequip_model(spec), COMPILE_TARGET_DICT["ase"]
    data = _nequip_calculator(spec, model).atoms_to_data(Walk(spec["system"]).atoms)
    device = torch.device(accelerator.device(spec))
    data = target["data_settings"](AtomicDataDict.to_(data, device))
    if spec["code"] in MODIFIERS:
        model = modify(model, [{"modifier": MODIFIERS[spec["code"]]}])
    dims = {key: torch.export.Dim(f"num_{key}s", min=2, max=torch.inf) for key in ("graph", "node", "edge")}
    metadata = {**model.metadata, **get_latest_global_state(only_metadata_related=True)}
    metadata = {key: str(int(value)) if isinstance(value, bool) else str(value) for key, value in metadata.items()}
    metadata[NEQUIP_AOTI_INPUTS_KEY] = serialize_aoti_keys(target["input"])
    metadata[NEQUIP_AOTI_OUTPUTS_KEY] = serialize_aoti_keys(target["output"])
    aot_export_model(
        model=model,
        device=device,
        input_fields=target["input"],
        output_fields=target["output"],
        data=data,
        batch_map=target["batch_map_settings"](dims),
        output_path=spec["compiled"],
        inductor_configs={"aot_inductor.metadata": metadata},
    )
    if NEQUIP_CUSTOM_OPS_LIBS_KEY in metadata:  # what whoever loads it has to import first
        embed_custom_ops_libs(spec["compiled"], set(metadata[NEQUIP_CUSTOM_OPS_LIBS_KEY].split()))
    tell({"compile_s": time.perf_counter() - start})


def mace(spec: Mapping):
    """A MACE of comparable size that was never trained: 2 layers, 32 channels of each degree, correlation 3."""
    # Its e3nn 0.4 reads a file of constants that it ships in a way that torch no longer has as its default.
    os.environ["TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD"] = "1"
    import numpy as np
    import torch
    from ase.data import atomic_numbers
    from e3nn.o3 import Irreps
    from mace.calculators import MACECalculator
    from mace.modules import RealAgnosticInteractionBlock, RealAgnosticResidualInteractionBlock, ScaleShiftMACE

    torch.manual_seed(ARCHITECTURE["seed"])
    torch.set_default_dtype(torch.float32)
    l_max = CASES[spec["case"]]["l_max"]
    model = ScaleShiftMACE(
        r_max=ARCHITECTURE["r_max"],
        num_bessel=8,
        num_polynomial_cutoff=6,
        max_ell=l_max,
        interaction_cls=RealAgnosticResidualInteractionBlock,
        interaction_cls_first=RealAgnosticInteractionBlock,
        num_interactions=2,
        num_elements=len(spec["species"]),
        hidden_irreps=Irreps([(ARCHITECTURE["num_features"], (degree, (-1) ** degree)) for degree in range(l_max + 1)]),
        MLP_irreps=Irreps("16x0e"),
        atomic_energies=np.zeros(len(spec["species"])),
        avg_num_neighbors=ARCHITECTURE["avg_num_neighbors"],
        atomic_numbers=sorted(atomic_numbers[name] for name in spec["species"]),
        correlation=3,
        gate=torch.nn.functional.silu,
        atomic_inter_scale=1.0,
        atomic_inter_shift=0.0,
    )
    return MACECalculator(models=model, device="cpu", default_dtype="float32")


def sevenn(spec: Mapping):
    """SevenNet's NequIP of the same size, never trained. Without parity its harmonics are all even, as it has it."""
    import torch
    from ase.data import atomic_numbers
    from sevenn import _const
    from sevenn.calculator import SevenNetCalculator
    from sevenn.model_build import build_E3_equivariant_model

    torch.manual_seed(ARCHITECTURE["seed"])
    case, numbers = CASES[spec["case"]], sorted(atomic_numbers[name] for name in spec["species"])
    config = {
        **_const.DEFAULT_E3_EQUIVARIANT_MODEL_CONFIG,
        "cutoff": ARCHITECTURE["r_max"],
        "channel": ARCHITECTURE["num_features"],
        "lmax": case["l_max"],
        "is_parity": case["parity"],
        "num_convolution_layer": ARCHITECTURE["num_layers"],
        "weight_nn_hidden_neurons": [ARCHITECTURE["radial_mlp_width"]] * ARCHITECTURE["radial_mlp_depth"],
        "conv_denominator": ARCHITECTURE["avg_num_neighbors"] ** 0.5,
        "shift": 0.0,
        "scale": 1.0,
        "_number_of_species": len(numbers),
        "_type_map": {number: index for index, number in enumerate(numbers)},
    }
    return SevenNetCalculator(build_E3_equivariant_model(config), file_type="model_instance", device="cpu")


CODES = {
    **{"ours": ours, "nequip": nequip, "nequip_compiled": nequip_compiled, "mace": mace, "sevenn": sevenn},
    **dict.fromkeys(MODIFIERS, nequip_compiled),
}


def touch_libraries(atoms: Atoms) -> None:
    """Forces of two atoms, so that what comes with any first step is not counted as memory of the system.

    These are the libraries' pages of machine code (5 to 9 MB) and what is prepared once for the model.
    """
    pair = atoms[:2]
    pair.positions[1] = pair.positions[0] + [1.0, 0.0, 0.0]
    pair.calc = atoms.calc
    pair.get_forces()


def main() -> None:
    """Build, and serve."""
    spec = json.loads(sys.argv[1])
    use_threads(spec["threads"])
    warnings.filterwarnings("ignore")
    if spec.get("prepare"):
        return prepare(spec)
    import numpy as np
    import torch

    torch.set_num_threads(spec["threads"])
    walk = Walk(spec["system"])
    walk.atoms.calc = CODES[spec["code"]](spec)
    touch_libraries(walk.atoms)
    start = forget_peak()
    if "forces" in spec:
        np.savez(spec["forces"], forces=walk.atoms.get_forces(), energy=walk.atoms.get_potential_energy())

    def step() -> float:
        walk.advance()
        walk.atoms.get_forces()
        return float(walk.atoms.get_potential_energy())

    info = {"start_mb": start, "atoms": len(walk.atoms)}
    return serve(step, info, warmup=spec["warmup"], peak=accelerator.peak(spec))


if __name__ == "__main__":
    main()
