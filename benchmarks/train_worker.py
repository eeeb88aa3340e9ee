"""The worker of train_step.py: one training step of one code, in an environment that may lack nequip_like.

The only argument is JSON: code, case, kernel, threads, data, batch, and the file of the weights, which our own worker
writes and nequip's reads. ``device`` is cpu (default) or cuda, ``precision`` float32 (default), tf32 or bf16.
"""

from __future__ import annotations

import json
import sys
import warnings
from collections.abc import Callable, Mapping

import accelerator
from cases import ARCHITECTURE, CASES, features
from workers import serve, use_threads

Step = tuple[Callable[[], float], dict]


def read_batch(data: str, batch: int) -> list[dict]:
    """Frames as plain arrays, with a neighbour list: the same input for every code.

    Energies count from their mean, so that the loss of a model that was never trained is not all reference energy. A
    batch that is larger than the file begins again at its first frame.
    """
    import numpy as np
    from ase.io import read
    from ase.neighborlist import neighbor_list

    frames = []
    structures = read(data, index=f":{batch}")
    mean = np.mean([atoms.get_potential_energy() for atoms in structures])
    for i in range(batch):
        atoms = structures[i % len(structures)]
        centre, neighbour = neighbor_list("ij", atoms, ARCHITECTURE["r_max"])
        frames.append(
            {
                "pos": atoms.positions,
                "types": np.array([ARCHITECTURE["type_names"].index(s) for s in atoms.get_chemical_symbols()]),
                "edges": np.stack([centre, neighbour]),
                "energy": atoms.get_potential_energy() - mean,
                "forces": atoms.get_forces(),
            }
        )
    return frames


def joined(frames: list[dict]) -> dict:
    """One batch of arrays under the names that ours and nequip use."""
    import numpy as np

    counts = [len(frame["pos"]) for frame in frames]
    offsets = np.cumsum([0, *counts[:-1]])
    return {
        "pos": np.concatenate([frame["pos"] for frame in frames]),
        "atom_types": np.concatenate([frame["types"] for frame in frames]),
        "edge_index": np.concatenate([f["edges"] + o for f, o in zip(frames, offsets, strict=True)], axis=1),
        "batch": np.repeat(np.arange(len(counts)), counts),
        "num_atoms": np.array(counts),
        "total_energy": np.array([[frame["energy"]] for frame in frames]),
        "forces": np.concatenate([frame["forces"] for frame in frames]),
    }


def _tensors(spec: Mapping) -> dict:
    import torch

    torch.set_num_threads(spec["threads"])
    arrays = joined(read_batch(spec["data"], spec["batch"]))
    return {key: torch.from_numpy(value).to(accelerator.device(spec)) for key, value in arrays.items()}


def ours(spec: Mapping) -> Step:
    """Our model; writes its weights for nequip's."""
    import numpy as np
    import torch

    from nequip_like.compat.nequip_weights import to_nequip_weights
    from nequip_like.metrics import EnergyForceLoss
    from nequip_like.model import NequIPGNNModel

    target = _tensors(spec)
    accelerator.use_tf32(spec)
    model = NequIPGNNModel(**ARCHITECTURE, **CASES[spec["case"]], kernel=spec["kernel"])
    np.savez(spec["weights"], **{key: value.numpy() for key, value in to_nequip_weights(model).items()})
    model.to(accelerator.device(spec))
    loss = EnergyForceLoss(type_names=ARCHITECTURE["type_names"]).to(accelerator.device(spec))
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)

    def step() -> float:
        optimizer.zero_grad()
        with accelerator.autocast(spec):
            value = loss.step(model(target), target)["weighted_sum"]
        value.backward()
        optimizer.step()
        return float(value.detach())

    edges = target["edge_index"].shape[1]
    return step, {**_parameters(model), "atoms": len(target["pos"]), "edges": edges}


def nequip(spec: Mapping, mode: str = "eager", modifier: str | None = None) -> Step:
    """The model of nequip with our weights, and with one of its faster kernels if a modifier is named."""
    import numpy as np
    import torch
    from nequip.model import NequIPGNNModel, modify
    from nequip.train import EnergyForceLoss
    from nequip.utils.global_state import set_global_state
    from nequip_parity_peer import load

    set_global_state(allow_tf32=spec.get("precision") == "tf32")
    target = _tensors(spec)
    model = NequIPGNNModel(**ARCHITECTURE, **CASES[spec["case"]], compile_mode=mode)
    load(model, dict(np.load(spec["weights"])))
    if modifier:
        model = modify(model, [{"modifier": modifier}])
    model.to(accelerator.device(spec)).train()
    loss = EnergyForceLoss(coeffs={"total_energy": 1.0, "forces": 1.0}).to(accelerator.device(spec))
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)

    def step() -> float:
        optimizer.zero_grad()
        with accelerator.autocast(spec):
            values = loss(model(dict(target)), target, prefix="", suffix="")
        value = values["weighted_sum"]
        value.backward()
        optimizer.step()
        return float(value.detach())

    return step, {**_parameters(model), "our_weights": True}


def nequip_compiled(spec: Mapping) -> Step:
    """The model of nequip in its compile mode for training (torch.compile)."""
    return nequip(spec, "compile")


def nequip_oeq(spec: Mapping) -> Step:
    """The model of nequip with the kernels of OpenEquivariance."""
    return nequip(spec, modifier="enable_OpenEquivariance")


def nequip_oeq_compiled(spec: Mapping) -> Step:
    """The model of nequip with the kernels of OpenEquivariance, in its compile mode."""
    return nequip(spec, "compile", "enable_OpenEquivariance")


def _parameters(model) -> dict:
    return {"parameters": sum(p.numel() for p in model.parameters())}


def mlip(spec: Mapping) -> Step:
    """mlip's NequIP (JAX): its own architecture and weights, of the same layers, features and radial network."""
    import jax
    import jraph
    import numpy as np
    import optax
    from mlip.data import DatasetInfo
    from mlip.models import ForceField, Nequip
    from mlip.models.loss import MSELoss
    from mlip.typing.graph_definition import GraphEdges, GraphGlobals, GraphNodes

    target = joined(read_batch(spec["data"], spec["batch"]))
    centre, neighbour = target["edge_index"]
    edges_of_frame = np.bincount(target["batch"][centre], minlength=spec["batch"])
    graph = jraph.GraphsTuple(
        nodes=GraphNodes(
            positions=target["pos"].astype(np.float32),
            forces=target["forces"].astype(np.float32),
            species=target["atom_types"],
        ),
        edges=GraphEdges(shifts=np.zeros((len(centre), 3), np.float32), displ_fun=None),
        globals=GraphGlobals(
            cell=np.zeros((spec["batch"], 3, 3), np.float32),
            energy=target["total_energy"][:, 0].astype(np.float32),
            stress=None,
            weight=np.ones(spec["batch"], np.float32),
        ),
        senders=neighbour,
        receivers=centre,
        n_node=target["num_atoms"],
        n_edge=edges_of_frame,
    )
    # The package wants one graph of padding; this is the smallest.
    graph = jraph.pad_with_graphs(graph, len(target["pos"]) + 1, len(centre) + 1, spec["batch"] + 1)
    numbers = {"H": 1, "C": 6, "N": 7, "O": 8}
    info = DatasetInfo(
        atomic_energies_map={numbers[name]: 0.0 for name in ARCHITECTURE["type_names"]},
        cutoff_distance_angstrom=ARCHITECTURE["r_max"],
        avg_num_neighbors=ARCHITECTURE["avg_num_neighbors"],
    )
    config = Nequip.Config(
        num_layers=ARCHITECTURE["num_layers"],
        node_irreps=features(spec["case"]),
        l_max=CASES[spec["case"]]["l_max"],
        radial_net_n_hidden=ARCHITECTURE["radial_mlp_width"],
        radial_net_n_layers=ARCHITECTURE["radial_mlp_depth"],
    )
    field = ForceField.from_mlip_network(Nequip(config, info), seed=ARCHITECTURE["seed"])
    loss = MSELoss(lambda _: 1.0, lambda _: 1.0)
    optimizer = optax.adam(1e-3)

    @jax.jit
    def update(parameters, state, graph):
        def objective(parameters):
            return loss(field.predictor.apply(parameters, graph), graph, 0)[0]

        value, gradients = jax.value_and_grad(objective)(parameters)
        changes, state = optimizer.update(gradients, state, parameters)
        return optax.apply_updates(parameters, changes), state, value

    held = (field.params, optimizer.init(field.params))
    graph = jax.device_put(graph)

    def step() -> float:
        nonlocal held
        parameters, state, value = jax.block_until_ready(update(*held, graph))
        held = (parameters, state)
        return float(value)

    return step, {"parameters": sum(leaf.size for leaf in jax.tree.leaves(field.params))}


CODES = {
    **{"ours": ours, "nequip": nequip, "nequip_compiled": nequip_compiled, "mlip": mlip},
    **{"nequip_oeq": nequip_oeq, "nequip_oeq_compiled": nequip_oeq_compiled},
}


def main() -> None:
    """Build, and serve."""
    spec = json.loads(sys.argv[1])
    use_threads(spec["threads"])
    warnings.filterwarnings("ignore")
    step, info = CODES[spec["code"]](spec)
    serve(step, info, peak=accelerator.peak(spec))


if __name__ == "__main__":
    main()
