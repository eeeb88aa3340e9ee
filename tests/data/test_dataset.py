import pickle

import pytest
import torch

from nequip_like.data.dataset import GraphDataset, load_dataset
from nequip_like.data.graph import collate, fill_missing_labels
from nequip_like.data.io.readers import read, read_frames
from nequip_like.errors import ConfigError, DataError

WATER = [[0, 0, 0], [0.96, 0, 0], [-0.24, 0.93, 0]]


def test_types_follow_the_type_names(make_graph):
    dataset = GraphDataset([make_graph("OH2", WATER)], 2.0, ["H", "C", "O"])
    assert dataset[0]["atom_types"].tolist() == [2, 0, 0]
    assert dataset[0]["edge_index"].shape == (2, 6)


def test_unknown_species_names_file_and_frame(write, molecules):
    file = write("w.xyz", molecules(2))
    with pytest.raises(DataError, match="has O, which is not among the species H, C") as error:
        load_dataset(file, ["H", "C"], 2.0)
    assert "w.xyz frame 0" in error.value.message


@pytest.mark.parametrize(("names", "expected"), [(["h"], "did you mean 'H'"), (["H", "H"], "twice"), ([], "empty")])
def test_type_names_are_checked(make_graph, names, expected):
    with pytest.raises(ConfigError, match=expected):
        GraphDataset([make_graph("H", [[0, 0, 0]])], 2.0, names)


def test_labels_are_counted(make_graph):
    frames = [
        make_graph("H", [[0, 0, 0]], total_energy=[[1.0]]),
        make_graph("H2", [[0, 0, 0], [0, 0, 1]], total_energy=[[1.0]], forces=[[0, 0, 1], [0, 0, -1]]),
    ]
    dataset = GraphDataset(frames, 2.0, ["H"])
    assert dataset.labels == {"total_energy": 2, "forces": 1}
    batch = collate([dataset[0], dataset[1]])
    assert batch["forces"].shape == (3, 3)
    assert torch.isnan(batch["forces"][0]).all()
    assert batch["frame_index"].tolist() == [0, 1]


def test_filling_does_not_touch_what_is_there(make_graph):
    plain = make_graph("H", [[0, 0, 0]])
    full = make_graph("H", [[0, 0, 0]], stress=[[[1.0] * 3] * 3], frame_weight=[[3.0]])
    filled = fill_missing_labels([plain, full])
    assert "stress" not in plain
    assert filled[0]["stress"].shape == (1, 3, 3)
    assert filled[0]["frame_weight"].item() == 1.0
    assert filled[1]["frame_weight"].item() == 3.0
    assert fill_missing_labels([plain])[0].keys() == plain.keys()


def test_getting_a_frame_gives_a_new_dictionary(make_graph):
    dataset = GraphDataset([make_graph("H", [[0, 0, 0]])], 2.0, ["H"])
    dataset[0].clear()
    assert "pos" in dataset[0]


def test_it_travels_to_workers(write, molecules):
    dataset = load_dataset(write("w.xyz", molecules(3)), ["H", "O"], 2.0)
    copy = pickle.loads(pickle.dumps(dataset))
    assert copy.origin(2) == dataset.origin(2)
    assert all(torch.equal(copy[2][key], value) for key, value in dataset[2].items())


def test_origin_and_name(write, molecules):
    dataset = load_dataset(write("w.xyz", molecules(5)), ["H", "O"], 2.0, index="2:")
    assert dataset.origin(0).endswith("w.xyz frame 2")
    assert dataset[0]["frame_index"].item() == 0
    assert dataset.name == "w"


def test_part_of_a_reading(write, molecules):
    frames = molecules(5)
    for i, atoms in enumerate(frames):
        atoms.info["step"] = 10 * i
    reading = read(write("w.xyz", frames), units={"energy": "meV"})
    part = GraphDataset(reading.select([4, 1]), 2.0, ["H", "O"])
    assert [part.origin(i).split("w.xyz ")[1] for i in range(2)] == ["frame 4", "frame 1"]
    assert [annotations.info["step"] for annotations in part.annotations] == [40, 10]
    assert (part.units, part.read_from) == (reading.units, reading.read_from)
    assert part.keys.tolist() == reading.keys[[4, 1]].tolist()
    assert [annotations.info for annotations in reading.select([0], annotated=False).annotations] == [{}]


def test_collisions_name_the_file(make_graph):
    frames = [make_graph("H", [[0, 0, 0]]), make_graph("H2", [[0, 0, 0], [0, 0, 0]])]
    with pytest.raises(DataError, match=r"b\.xyz frame 9: atoms 0 and 1"):
        GraphDataset(frames, 2.0, ["H"], origins=["b.xyz frame 8", "b.xyz frame 9"])


def test_no_frames():
    with pytest.raises(DataError, match="'nothing' has no frames"):
        GraphDataset([], 2.0, ["H"], name="nothing")


def test_frames_of_several_files_have_the_same_labels(write, molecules):
    files = [write("a.xyz", molecules(1)), write("b.xyz", [atoms.copy() for atoms in molecules(1)])]
    frames = read_frames(files)
    assert frames[0].keys() == frames[1].keys()
