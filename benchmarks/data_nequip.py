"""NequIP's side of data.py: FILE CUTOFF BATCH EPOCHS FOLDER; prints one line of JSON."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import torch
from ase.io import iread
from nequip.data import from_ase
from nequip.data.datamodule import ASEDataModule, NequIPDataModule
from nequip.data.dataset import NequIPLMDBDataset
from nequip.data.transforms import ChemicalSpeciesToAtomTypeMapper, NeighborListTransform


def measure(module: NequIPDataModule, epochs: int) -> dict[str, float]:
    """Seconds before the first batch and of an epoch, and the number of frames."""
    begin = time.perf_counter()
    module.prepare_data()
    module.setup("fit")
    loader = module.train_dataloader()
    loader = loader[0] if isinstance(loader, list) else loader
    next(iter(loader))
    start = time.perf_counter() - begin
    for _ in loader:
        pass
    begin = time.perf_counter()
    for _ in range(epochs):
        for _ in loader:
            pass
    return {"start": start, "epoch": (time.perf_counter() - begin) / epochs, "frames": len(loader.dataset)}


def main() -> None:
    """Measure the ASE data set, and the LMDB one without and with neighbour lists."""
    file, cutoff, batch, epochs, folder = (
        sys.argv[1],
        float(sys.argv[2]),
        int(sys.argv[3]),
        int(sys.argv[4]),
        sys.argv[5],
    )
    torch.set_num_threads(1)
    types = sorted({symbol for atoms in iread(file, ":") for symbol in atoms.get_chemical_symbols()})
    mapper = ChemicalSpeciesToAtomTypeMapper(model_type_names=types)
    transforms = [mapper, NeighborListTransform(r_max=cutoff, type_names=types)]
    loader = {"_target_": "torch.utils.data.DataLoader", "batch_size": batch, "shuffle": True}
    rows = {
        "ASE": measure(
            ASEDataModule(
                seed=0,
                train_file_path=file,
                val_file_path=file,
                transforms=transforms,
                train_dataloader=loader,
                val_dataloader=loader,
            ),
            epochs,
        )
    }
    for name, before, after in (("LMDB", [], transforms), ("LMDB with neighbours", transforms, [])):
        path = Path(folder) / f"{name.replace(' ', '_')}.lmdb"
        if not path.exists():

            def convert(chosen: list[torch.nn.Module] = before) -> object:
                for atoms in iread(file, ":"):
                    frame = from_ase(atoms)
                    for transform in chosen:
                        frame = transform(frame)
                    yield frame

            NequIPLMDBDataset.save_from_iterator(file_path=str(path), iterator=convert(), map_size=4 * 1024**3)
        entry = {"_target_": "nequip.data.dataset.NequIPLMDBDataset", "file_path": str(path), "transforms": after}
        module = NequIPDataModule(
            seed=0, train_dataset=entry, val_dataset=entry, train_dataloader=loader, val_dataloader=loader
        )
        rows[name] = measure(module, epochs)
    print(json.dumps(rows))


if __name__ == "__main__":
    main()
