import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk, molecule

from nequip_like.data.dataset import GraphDataset
from nequip_like.data.graph import collate, fill_missing_labels
from nequip_like.data.io.structures import graph_from_atoms
from nequip_like.data.neighbors import add_neighbors
from nequip_like.data.prepared.records import estimate_bytes, is_intact, pack_frame, unpack_frames
from nequip_like.data.tables.frame_table import OPTIONAL_FIELDS

STRUCTURES = {
    "molecule": molecule("CH3OH"),
    "atom": Atoms("Og"),
    "crystal": bulk("Mo", cubic=True),
    "slab": Atoms("OTi", [[0, 0, 0], [0, 0, 1.9]], cell=[3, 3, 20], pbc=[True, True, False]),
    "box around a molecule": Atoms("H2", [[0, 0, 0], [0, 0, 0.74]], cell=[10, 10, 10]),
    "far outside its cell": Atoms("Po2", [[0, 0, 0], [900.5, 0, 0]], cell=[3, 3, 3], pbc=True),
    "more atoms than a byte counts": bulk("Cu", cubic=True) * (4, 4, 5),
}


@pytest.mark.parametrize("name", STRUCTURES)
def test_back_to_the_last_bit(name):
    frame = add_neighbors(graph_from_atoms(STRUCTURES[name]), 3.5)
    frame.pop("frame_index")
    generator = torch.Generator().manual_seed(0)
    frame["forces"] = torch.randn(len(frame["pos"]), 3, generator=generator, dtype=torch.float64)
    frame["forces"][0, 1] = torch.nan
    frame["frame_weight"] = torch.tensor([[1 / 3]], dtype=torch.float64)
    names = ("forces", "stress", "frame_weight", "atom_weight")
    back = unpack_frames([pack_frame(frame)], names)
    for key, value in frame.items():
        assert back[key].dtype == value.dtype
        assert back[key].shape == value.shape
        np.testing.assert_array_equal(back[key].numpy(), value.numpy())
    assert back["stress"].shape == (1, 3, 3)
    assert bool(back["stress"].isnan().all())
    assert torch.equal(back["atom_weight"], torch.ones(len(frame["pos"]), 1, dtype=torch.float64))
    assert set(back) == {*frame, "stress", "atom_weight", "batch"}


def test_tensors_are_its_own():
    """A record is bytes, which cannot be written; what is made of it can."""
    back = unpack_frames([pack_frame(add_neighbors(graph_from_atoms(molecule("H2O")), 3.0))], OPTIONAL_FIELDS)
    for value in back.values():
        value.add_(1) if value.dtype != torch.bool else value.logical_not_()


def test_each_changed_byte_is_noticed():
    record = pack_frame(add_neighbors(graph_from_atoms(molecule("H2O")), 3.0))
    assert is_intact(record)
    for position in range(len(record)):
        changed = bytearray(record)
        changed[position] ^= 0x10
        assert not is_intact(bytes(changed))
    assert not any(is_intact(record[:length]) for length in range(len(record)))


def test_integers_are_narrow():
    """27 neighbours of each atom in a byte each; in float64 and int64 they would take 40."""
    crystal = add_neighbors(graph_from_atoms(bulk("Mo", cubic=True) * (3, 3, 3)), 4.4)
    edges, atoms = crystal["edge_index"].shape[1], 54
    header, cell = 24, 72
    assert len(pack_frame(crystal)) == header + cell + atoms * (24 + 4 + 1) + edges * (1 + 3)


def test_estimated_memory():
    frames = [graph_from_atoms(bulk("Cu", cubic=True))] * 3
    table = GraphDataset(frames, 3.0, ["Cu"]).table
    assert estimate_bytes(table) == 3 * (3500 + 4 * 80 + 48 * 40)


def test_a_batch_is_what_joining_gives():
    """All kinds of structures together: wide and narrow integers, with and without cells and translations."""
    frames = []
    for i, atoms in enumerate(STRUCTURES.values()):
        frame = add_neighbors(graph_from_atoms(atoms), 3.5)
        frame.pop("frame_index")
        if i % 2:
            frame["total_energy"] = torch.tensor([[-1.0 * i]], dtype=torch.float64)
            frame["forces"] = torch.full((len(frame["pos"]), 3), 0.1 * i, dtype=torch.float64)
        frames.append(frame)
    joined = collate(fill_missing_labels(frames))
    batch = unpack_frames([pack_frame(frame) for frame in frames], ("total_energy", "forces"))
    assert batch.keys() == joined.keys()
    for key, value in joined.items():
        assert batch[key].dtype == value.dtype
        np.testing.assert_array_equal(batch[key].numpy(), value.numpy())
