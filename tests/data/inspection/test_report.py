import math

import pytest
import rich.console

from nequip_like.data.dataset import GraphDataset, load_dataset
from nequip_like.data.graph import fill_missing_labels
from nequip_like.data.inspection.report import inspect, inspection_table
from nequip_like.data.io.readers import Reading
from nequip_like.data.labels.units import Units


def test_facts_by_hand(make_graph):
    frames = [
        make_graph(
            "H2", [[0, 0, 0], [0, 0, 0.7]], total_energy=[[-2.0]], forces=[[3, 0, 0], [0, 0, 0]], frame_weight=[[2.0]]
        ),
        make_graph("HC2", [[0, 0, 0], [0, 0, 1], [0, 9, 0]], cell=[20, 20, 20], pbc=True, total_energy=[[-9.0]]),
    ]
    reading = Reading(fill_missing_labels(frames), ["train frame 0", "train frame 1"], units=Units(energy="meV"))
    result = inspect(GraphDataset(reading, 1.5, ["H", "C"], name="train"))
    assert result.frames == 2
    assert result.atoms == (2, 3)
    assert result.species == {"H": 3, "C": 2}
    assert result.labels == {"total_energy": 2, "forces": 1}
    assert result.units == "total_energy: meV, x 0.001\nforces: meV/Angstrom, x 0.001"
    assert result.energy_per_atom == (-3.0, -1.0)
    assert result.largest_force == 3.0
    assert result.forces_rms == pytest.approx(math.sqrt(9 / 6))
    assert result.neighbors == (0, pytest.approx(4 / 5), 1)
    assert result.shortest_distance == pytest.approx(0.7)
    assert result.periodic == 1
    assert result.volume == pytest.approx((8000.0, 8000.0))
    assert result.duplicates == 0
    assert result.weights
    assert result.warnings == [
        "'forces' is missing in 1 of 2 frames, first: train frame 1",
        "forces do not add up to zero in 1 frames, at most by 1.5 eV/Angstrom per atom: train frame 0",
    ]


def test_table_has_a_column_per_data_set(make_graph):
    sets = [GraphDataset([make_graph("H", [[0, 0, 0]])], 1.5, ["H"], name=name) for name in ("train", "val hot")]
    console = rich.console.Console(width=120, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    console.print(inspection_table([inspect(dataset) for dataset in sets]))
    console.print(inspect(sets[0]).table())
    text = console.export_text()
    console.file.close()
    assert "val hot" in text
    assert "frames" in text
    assert "none" in text


def test_warnings(make_graph):
    frames = [
        make_graph("H2", [[0, 0, 0], [0, 0, 0.3]], forces=[[90, 0, 0], [math.nan] * 3]),
        make_graph("H2", [[0, 0, 0], [0, 0, 0.3]], forces=[[91, 0, 0], [0, 0, 0]]),
    ]
    warnings = "\n".join(inspect(GraphDataset(frames, 1.5, ["H"], name="a")).warnings)
    assert "1 frames repeat an earlier one, some with other labels; first: a frame 1 is a frame 0" in warnings
    assert "only 0.300 Angstrom apart: a frame 0" in warnings
    assert "a force of 91.0 eV/Angstrom: a frame 1" in warnings
    assert "'forces' is NaN for a part of 1 frames, first: a frame 0" in warnings
    assert "no frame has an energy" in warnings


def test_notes_of_the_reader_are_passed_on(write_text):
    text = '1\nLattice="5 0 0 0 5 0 0 0 5" pbc="F F F" energy=1 virial="1 0 0 0 1 0 0 0 1"\nH 0 0 0\n'
    dataset = load_dataset(write_text("h.xyz", text), ["H"], 2.0)
    assert "stress of 1 frames left out" in inspect(dataset).warnings[0]
