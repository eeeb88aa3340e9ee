import pytest
import torch

from nequip_like.data.dataset import load_dataset
from nequip_like.data.inspection.report import inspect
from nequip_like.data.io.readers import read

# As a script for MACE writes it: one weight for the frame, one for each label.
FRAME = (
    '2\nLattice="5 0 0 0 5 0 0 0 5" pbc="T T T" Properties=species:S:1:pos:R:3:REF_forces:R:3 REF_energy=-{0}.0 '
    'REF_stress="0.01 0 0 0 0.01 0 0 0 0.01" {1}\nNa 0 0 0 0.1 0 0\nCl 2.{0} 0 0 -0.1 0 0\n'
)


def frames(write_text, *weights):
    return write_text("mace.xyz", "".join(FRAME.format(i, text) for i, text in enumerate(weights)))


@pytest.mark.parametrize(
    ("name", "label", "told"),
    [
        ("config_energy_weight", "total_energy", "total_energy"),
        ("config_forces_weight", "forces", "forces"),
        ("config_stress_weight", "stress", "stress"),
        ("config_virials_weight", "stress", "stress"),
        ("forces_weight", "forces", "forces"),
        ("energy_weight", "total_energy", "total_energy"),
    ],
)
def test_a_label_of_no_weight_is_missing_in_its_frame(write_text, name, label, told):
    reading = read(frames(write_text, f"{name}=0.0", f"{name}=1.0"))
    first, second = reading.frames
    assert torch.isnan(first[label]).all()
    for other in {"total_energy", "forces", "stress"} - {label}:
        assert not torch.isnan(first[other]).any()
    assert not torch.isnan(second[label]).any()
    (note,) = reading.notes
    assert note.endswith(f"mace.xyz: {told} of 1 frames left out, their weight '{name}' is zero")
    dataset = load_dataset(reading.files[0], ["Na", "Cl"], 3.0)
    assert dataset.labels[label] == 1


def test_weights_become_fields(write_text):
    file = frames(write_text, "config_weight=2.0 config_forces_weight=10.0", "config_weight=0.5", "")
    reading = read(file)
    assert [frame["frame_weight"].item() for frame in reading.frames] == [2.0, 0.5, 1.0]
    assert [frame["forces_weight"].item() for frame in reading.frames] == [10.0, 1.0, 1.0]
    assert "total_energy_weight" not in reading.frames[0]
    assert reading.notes == []
    assert dict(inspect(load_dataset(file, ["Na", "Cl"], 3.0)).rows())["weights"] == "yes"


def test_a_weight_of_a_virial_is_one_of_its_stress(write_text):
    text = "".join(FRAME.format(i, f"config_virials_weight={i + 2}.0") for i in range(2))
    reading = read(write_text("a.xyz", text.replace("REF_stress", "REF_virials")))
    assert [frame["stress_weight"].item() for frame in reading.frames] == [2.0, 3.0]


def test_only_the_virial_of_no_weight_is_left_out_where_there_are_both(write_text):
    extra = 'REF_virials="9 0 0 0 9 0 0 0 9" config_virials_weight=0.0'
    (frame,) = read(frames(write_text, extra)).frames
    assert frame["stress"][0, 0, 0].item() == 0.01


def test_weights_under_names_of_their_own(write_text):
    file = frames(write_text, "w_f=0.0", "w_f=3.0")
    reading = read(file, key_mapping={"w_f": "forces_weight"})
    assert torch.isnan(reading.frames[0]["forces"]).all()
    assert reading.frames[1]["forces_weight"].item() == 3.0


def test_equal_weights_are_told(write_text):
    reading = read(frames(write_text, "config_energy_weight=10.0", "config_energy_weight=10.0"))
    (note,) = reading.notes
    assert "all weights 'config_energy_weight' are 10, which changes nothing" in note
