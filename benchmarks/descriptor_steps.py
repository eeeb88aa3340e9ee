"""Seconds of the processor that an epoch of a descriptor network takes, with frames that are kept and without.

    python benchmarks/descriptor_steps.py tio2.xyz --batch-size 32

Three trainings of the same network: on energies and forces with features and derivatives made once for each frame (the
default on CPUs), the same by autograd through the descriptors at each step, and on energies alone. The first epoch of
the kept ones makes what is kept, and stands by itself. One thread; Adam; no Lightning, no validation.
"""

from __future__ import annotations

import argparse
import time

import torch

from nequip_like.data.datamodule import DataModule
from nequip_like.data.graph import collate
from nequip_like.model import DescriptorANNModel, Potential
from nequip_like.model.descriptor.statistics import measure_statistics


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", help="labelled frames")
    parser.add_argument("--cutoff", type=float, default=6.5)
    parser.add_argument("--angular-cutoff", type=float, default=5.0)
    parser.add_argument("--radial-order", type=int, default=20)
    parser.add_argument("--angular-order", type=int, default=6)
    parser.add_argument("--width", type=int, default=15, help="of both hidden layers")
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--epochs", type=int, default=5, help="after the first; the least time counts")
    parser.add_argument("--dtype", choices=("float32", "float64"), default="float32")
    options = parser.parse_args()
    torch.set_num_threads(1)
    data = DataModule(options.data, cutoff_radius=options.cutoff).prepare()
    arguments = {
        "type_names": data.type_names,
        "r_max": options.cutoff,
        "angular_cutoff": options.angular_cutoff,
        "radial_order": options.radial_order,
        "angular_order": options.angular_order,
        "networks": [[options.width, "tanh"]] * 2,
        "model_dtype": options.dtype,
        "per_type_energy_shifts": data.statistics["reference_energies"],
    }
    start = time.process_time()
    arguments |= measure_statistics(arguments, data.train_set)
    print(f"{len(data.train_set)} frames; statistics of features: {time.process_time() - start:.3f} s")
    print(f"{'':24}{'first epoch, s':>16}{'epoch, s':>12}{'kept, MB':>12}")
    for name, changes in (
        ("forces, kept", {}),
        ("forces, autograd", {"kept": False}),
        ("energies, kept", {"do_derivatives": False}),
        ("energies, made anew", {"do_derivatives": False, "kept": False}),
    ):
        kept = changes.pop("kept", True)
        potential = DescriptorANNModel(**arguments, **changes).train()
        if not kept:
            potential.cache_parameters()  # as a potential that serves: nothing is kept of frames
        epochs = 1 + (options.epochs if kept else 1)
        times = [train_epoch(potential, data, options.batch_size) for _ in range(epochs)]
        megabytes = potential.energy_model.summary_of_store()["bytes"] / 1e6
        print(f"{name:24}{times[0]:16.3f}{min(times[1:]):12.4f}{megabytes:12.1f}")


def train_epoch(potential: Potential, data: DataModule, batch_size: int) -> float:
    """Seconds of an epoch: batches are joined, predicted, and followed by a step of Adam."""
    optimizer = torch.optim.Adam(potential.parameters(), lr=1e-3)
    frames = data.train_set.frames
    start = time.process_time()
    for first in range(0, len(frames), batch_size):
        batch = collate([dict(frames[i]) for i in range(first, min(first + batch_size, len(frames)))])
        prediction = potential(batch)
        errors = (prediction["total_energy"] - batch["total_energy"]) / batch["num_atoms"].unsqueeze(1)
        loss = errors.square().mean()
        if potential.do_derivatives:
            loss = loss + (prediction["forces"] - batch["forces"]).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return time.process_time() - start


if __name__ == "__main__":
    main()
