import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk, molecule

from nequip_like.data.dataset import GraphDataset
from nequip_like.data.graph import edge_vectors, fill_missing_labels, has_label
from nequip_like.data.io.structures import graph_from_atoms
from nequip_like.data.tables import frame_table
from nequip_like.data.tables.frame_table import FrameTable, tabulate


@pytest.fixture
def frames() -> list[dict[str, torch.Tensor]]:
    """A molecule, a crystal, an isolated atom, and a slab, with labels that not all of them have."""
    generator = torch.Generator().manual_seed(0)
    slab = Atoms("OTi", [[0, 0, 0], [0, 0, 1.9]], cell=[3, 3, 20], pbc=[True, True, False])
    graphs = [graph_from_atoms(atoms) for atoms in (molecule("CH3OH"), bulk("Mo", cubic=True), Atoms("O"), slab)]
    for i, graph in enumerate(graphs):
        graph["total_energy"] = torch.tensor([[-3.0 * i]], dtype=torch.float64)
        if i != 2:
            graph["forces"] = torch.randn(len(graph["pos"]), 3, generator=generator, dtype=torch.float64)
    graphs[0]["forces"][0] = torch.nan
    graphs[1]["stress"] = torch.eye(3, dtype=torch.float64)[None]
    return list(GraphDataset(fill_missing_labels(graphs), 4.0, ["H", "C", "O", "Ti", "Mo"]).frames)


def test_values_are_those_of_the_frames(frames):
    table = tabulate(frames)
    assert table.atoms.tolist() == [6, 2, 1, 2]
    assert table.periodic.tolist() == [0, 3, 0, 2]
    assert table.isolated.tolist() == [False, False, True, False]
    assert table.number.tolist() == [1, 6, 8, 42, 8, 8, 22]
    assert table.count.tolist() == [4, 1, 1, 2, 1, 1, 1]
    assert table.energy.tolist() == [0.0, -3.0, -6.0, -9.0]
    assert table.volume == pytest.approx([0.0, 3.15**3, 0.0, 180.0])
    assert table.count_labels() == {"total_energy": 4, "forces": 3, "stress": 1}
    assert table.find_labelled("forces", partly=True).tolist() == [True, False, False, False]
    assert table.count_species() == {"H": 4, "C": 1, "O": 3, "Ti": 1, "Mo": 2}
    assert table.count_species(~table.isolated) == {"H": 4, "C": 1, "O": 2, "Ti": 1, "Mo": 2}
    for i, frame in enumerate(frames):
        degrees = torch.bincount(frame["edge_index"][0], minlength=len(frame["pos"]))
        assert (table.fewest_neighbors[i], table.most_neighbors[i]) == (int(degrees.min()), int(degrees.max()))
        lengths = edge_vectors(frame).norm(dim=1)
        assert table.shortest[i] == (float(lengths.min()) if len(lengths) else np.inf)
        groups = slice(table.first_groups[i], table.first_groups[i] + table.species[i])
        of_group = [frame["atomic_numbers"] == int(number) for number in table.number[groups]]
        assert table.neighbors[groups].tolist() == [int(degrees[mask].sum()) for mask in of_group]
        if has_label(frame, "forces"):
            squares = [float(frame["forces"][mask].square().nansum()) for mask in of_group]
            assert table.force_squares[groups] == pytest.approx(squares, rel=1e-14)
            assert table.force_counts[groups].sum() == int((~frame["forces"].isnan()).sum())
            assert table.largest_force[i] == pytest.approx(np.nanmax(frame["forces"].norm(dim=1).numpy()))


def test_part_of_a_table_is_the_table_of_the_part(frames):
    indices = [3, 0, 0, 2]
    part, direct = tabulate(frames).select(indices), tabulate([frames[i] for i in indices])
    for name in frame_table.COLUMNS:
        np.testing.assert_array_equal(getattr(part, name), getattr(direct, name))


def test_chunks_join_to_the_same_table(frames, monkeypatch):
    whole = tabulate(frames)
    monkeypatch.setattr(frame_table, "_CHUNK", 1)
    pieces = tabulate(frames)
    for name in frame_table.COLUMNS:
        np.testing.assert_array_equal(getattr(pieces, name), getattr(whole, name))
    halves = FrameTable.join([whole.select([0, 1]), whole.select([2, 3])])
    assert halves.count.tolist() == whole.count.tolist()


def test_fractions(frames):
    fractions = tabulate(frames).compute_fractions([8, 1], np.array([0, 3]))
    assert fractions.tolist() == [[1 / 6, 4 / 6], [0.5, 0.0]]


def test_narrow_columns_do_not_overflow():
    """Prepared sets keep small numbers as bytes; sums of them are larger."""
    table = tabulate([graph_from_atoms(bulk("Cu", cubic=True))] * 300)
    narrow = FrameTable(
        *(
            getattr(table, name).astype(np.uint8) if name in ("atoms", "count", "species") else getattr(table, name)
            for name in frame_table.COLUMNS
        )
    )
    assert narrow.summary() == table.summary() == {"frames": 300, "atoms": 1200, "species": "Cu"}
    assert narrow.select(np.arange(299, -1, -1)).count_species() == {"Cu": 1200}


def test_no_frames():
    assert tabulate([]).count_species() == {}
    assert tabulate([]).count_labels() == {}


def test_frames_with_different_labels():
    """What a frame lacks need not be there as NaN."""
    water, hydrogen = graph_from_atoms(molecule("H2O")), graph_from_atoms(molecule("H2"))
    table = tabulate([water | {"total_energy": torch.tensor([[-14.5]])}, hydrogen])
    assert table.count_labels() == {"total_energy": 1}
    assert table.compute_energies({"H": -1.0, "O": -3.5})[0] == -3.0
    assert np.isnan(table.compute_energies({})[1])
