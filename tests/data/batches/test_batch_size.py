import pytest

from nequip_like.data.batches.batch_size import BatchSize, list_costs
from nequip_like.data.datamodule import DataModule
from nequip_like.data.prepared.preparing import PreparationRequest, prepare_set
from nequip_like.data.tables.frame_table import tabulate
from nequip_like.errors import ConfigError


@pytest.fixture
def frames(make_graph):
    """Chains of 2, 4 and 1 atoms with 2, 6 and 0 edges."""
    from nequip_like.data.dataset import GraphDataset

    graphs = [make_graph("H" * n, [[0, 0, float(i)] for i in range(n)]) for n in (2, 4, 1)]
    return GraphDataset(graphs, 1.5, ["H"])


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (0, r"data\.batch_size is 0\n.*a whole number, 1 or more"),
        ("many", r"data\.batch_size is 'many'"),
        ({}, r"data\.batch_size has no measure\n.*\{atoms: 512\}"),
        ({"atoms": 5, "edges": 9}, r"data\.batch_size has atoms and edges\n"),
        ({"atom": 5}, r"data\.batch_size has the unknown key 'atom'\n.*did you mean 'atoms'"),
        ({"atoms": 0}, r"data\.batch_size\.atoms is 0"),
        ({"edges": 2.5}, r"data\.batch_size\.edges is 2\.5"),
    ],
)
def test_mistakes(value, message):
    with pytest.raises(ConfigError, match=message):
        BatchSize.read("data.batch_size", value)


def test_sizes(frames):
    by_frames, by_atoms, by_edges = (
        BatchSize.read("size", size) for size in ({"frames": 2}, {"atoms": 3}, {"edges": 7})
    )
    assert (str(BatchSize.read("size", 1)), str(by_frames), str(by_edges)) == ("1 frame", "2 frames", "7 edges")
    assert frames.table.edges.tolist() == [2, 6, 0]
    costs = [size.measure_frames(frames.table).tolist() for size in (by_frames, by_atoms, by_edges)]
    assert costs == [[1, 1, 1], [2, 4, 1], [2, 6, 1]]
    cuts = [[[0, 1], [2]], [[0], [1], [2]], [[0], [1, 2]]]
    assert [size.cut(frames) for size in (by_frames, by_atoms, by_edges)] == cuts
    assert [size.cut(list(frames.frames)) for size in (by_frames, by_atoms, by_edges)] == cuts
    assert [size.count_frames(frames.table) for size in (by_frames, by_atoms, by_edges)] == [2.0, 1.5, 7 / 3]


def test_larger_frames_are_told_of(frames):
    with pytest.warns(UserWarning, match=r"^train: a frame has more than 3 atoms and is .* own; the largest has 4$"):
        arguments = list_costs(BatchSize(3, "atoms"), {"train": frames.table})
    assert arguments["measure"] == "atoms"
    assert list_costs(BatchSize(3), {"train": frames.table}) == {}
    two = BatchSize(1, "edges").describe_larger(frames.table, "val")
    assert two == "val: 2 frames have more than 1 edge, each a batch of its own; the largest has 6"


def test_of_the_data_module(tmp_path, write_labelled):
    """Ethanol has 9 atoms, the crystals 4: batches of training, validation and test have 20 at most."""
    file = write_labelled(tmp_path / "d.xyz", frames=31)
    options = {"cutoff_radius": 3.0, "val": 7, "test": 4, "batch_size": {"atoms": 20}, "reference_energies": None}
    data = DataModule(str(file), **options).prepare()
    loader = data.train_dataloader()
    batches = list(loader)
    assert len(batches) == len(loader) == len(data.list_training_batches())
    assert sorted(i for batch in batches for i in batch["frame_index"].tolist()) == list(range(20))
    assert max(int(batch["num_atoms"].sum()) for batch in batches) <= 20
    for loader, count in ((data.val_dataloader()[0], 7), (data.test_dataloader()[0], 4)):
        assert [i for batch in loader for i in batch["frame_index"].tolist()] == list(range(count))
        assert max(int(batch["num_atoms"].sum()) for batch in loader) <= 20
    # Edges of a prepared set are known without reading its frames, and give the same batches.
    by_edges = options | {"batch_size": {"edges": 200}, "val_batch_size": 5}
    fresh = DataModule(str(file), **by_edges).prepare()
    prepared = prepare_set(PreparationRequest([str(file)], 3.0), tmp_path / "set.frames").path
    from_set = DataModule(str(prepared), **by_edges).prepare()
    assert from_set.list_training_batches() == fresh.list_training_batches()
    assert tabulate(from_set.train_set).edges.tolist() == fresh.train_set.table.edges.tolist()
    with pytest.raises(ConfigError, match=r"drop_last is true, but batch_size is \{atoms: 20\}"):
        DataModule(str(file), **options, drop_last=True)


def test_replay_is_packed_with_the_training_frames(tmp_path, write_labelled):
    file, old = write_labelled(tmp_path / "d.xyz", frames=12), write_labelled(tmp_path / "old.xyz", frames=9, seed=1)
    replay = {"file": str(old), "fraction": 0.25}
    data = DataModule(
        str(file), cutoff_radius=3.0, batch_size={"atoms": 18}, replay=replay, reference_energies=None
    ).prepare()
    batches = list(data.train_dataloader())
    assert max(int(batch["num_atoms"].sum()) for batch in batches) <= 18
    taken = [i for batch in batches for i in batch["frame_index"].tolist()]
    assert sorted(i for i in taken if i < 12) == list(range(12))
    assert len(taken) == 16
