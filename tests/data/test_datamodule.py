import lightning
import pytest
import torch
from ase import Atoms
from omegaconf import OmegaConf

from nequip_like.data.datamodule import DataModule
from nequip_like.errors import ConfigError, DataError


@pytest.fixture
def atoms_file(write, labelled):
    return write("atoms.xyz", [labelled(Atoms("H"), energy=-13.0), labelled(Atoms("O"), energy=-2000.0)])


def keys(dataset):
    return {round(float(frame["total_energy"])) for frame in dataset.frames}


def test_parts_of_one_file(write, molecules):
    file = write("m.xyz", molecules(20))
    data = DataModule(str(file), val=0.1, test=3, cutoff_radius=2.0, split_seed=7).prepare()
    assert (len(data.train_set), len(data.val_sets["val"]), len(data.test_sets["test"])) == (15, 2, 3)
    parts = [keys(data.train_set), keys(data.val_sets["val"]), keys(data.test_sets["test"])]
    assert set.union(*parts) == set(range(-19, 1))
    again = DataModule(str(file), val=0.1, test=3, cutoff_radius=2.0, split_seed=7)
    assert keys(again.val_sets["val"]) == parts[1]
    other = DataModule(str(file), val=0.1, test=3, cutoff_radius=2.0, split_seed=8)
    assert keys(other.test_sets["test"]) != parts[2]
    frame = data.val_sets["val"].frames[0]
    assert data.val_sets["val"].origin(0) == f"{file} frame {-int(frame['total_energy'])}"


def test_batches_move_only_if_they_have_to(write, molecules):
    data = DataModule(write("m.xyz", molecules(6)), val=2, cutoff_radius=2.0).prepare()
    batch = next(iter(data.train_dataloader()))
    assert data.transfer_batch_to_device(batch, torch.device("cpu"), 0) is batch
    moved = data.transfer_batch_to_device(batch, torch.device("meta"), 0)
    assert moved.keys() == batch.keys()
    assert {tensor.device.type for tensor in moved.values()} == {"meta"}


def test_several_test_sets_and_inspections(write, molecules):
    train, hot = write("t.xyz", molecules(5)), write("hot.xyz", molecules(5, seed=1))
    (hot.parent / "more").mkdir()
    cold = write("more/hot.xyz", molecules(5, seed=2))
    data = DataModule(train, val=str(hot), test=[hot, cold], cutoff_radius=2.0, allow_overlap=True)
    assert list(data.val_sets) == ["hot"]
    assert list(data.test_sets) == ["hot", "hot_2"]
    assert [inspection.name for inspection in data.inspections] == ["train", "val hot", "test hot", "test hot_2"]
    assert [len(loader) for loader in data.test_dataloader()] == [1, 1]


def test_overlap_is_refused(write, molecules):
    train, test = write("t.xyz", molecules(5)), write("u.xyz", molecules(6)[3:])
    with pytest.raises(DataError, match=r"train \(.*t.xyz frame 3\) and in test \(.*u.xyz frame 0\)"):
        DataModule(train, test=test, cutoff_radius=2.0).prepare()
    DataModule(train, test=test, cutoff_radius=2.0, allow_overlap=True).prepare()


def test_repeated_frames_stay_in_train(write, molecules):
    frames = molecules(4)
    file = write("m.xyz", frames + frames[:2])
    for seed in range(5):
        data = DataModule(file, val=2, cutoff_radius=2.0, split_seed=seed).prepare()
        assert keys(data.val_sets["val"]) == {-2, -3}


def test_isolated_atoms_become_references_and_are_not_trained_on(write, molecules, atoms_file):
    file = write("m.xyz", molecules(6))
    data = DataModule([file, atoms_file], val=2, cutoff_radius=2.0)
    assert data.reference.rule == "isolated_atoms"
    assert data.statistics["reference_energies"] == {"H": -13.0, "O": -2000.0}
    assert data.statistics["isolated_atom_energies"] == {"H": -13.0, "O": -2000.0}
    assert len(data.train_set) == 4
    assert all(int(frame["num_atoms"]) == 3 for frame in data.train_set.frames)
    assert data.reference.residual_rms > 600
    by_file = DataModule(file, cutoff_radius=2.0, reference_energies=str(atoms_file))
    assert by_file.reference.energies == {"H": -13.0, "O": -2000.0}


def test_isolated_atoms_are_trained_on_under_other_rules(write, molecules, atoms_file):
    data = DataModule([write("m.xyz", molecules(6)), atoms_file], cutoff_radius=2.0, reference_energies=None)
    assert len(data.train_set) == 8
    assert data.reference is None
    assert "reference_energies" not in data.statistics


def test_isolated_atoms_that_do_not_cover_all_species_stay(write, molecules, labelled):
    extra = write("x.xyz", [labelled(Atoms("H"), energy=-13.0), labelled(Atoms("N"), energy=-1.0)])
    data = DataModule([write("m.xyz", molecules(6)), extra], cutoff_radius=2.0)
    assert data.type_names == ["H", "N", "O"]
    assert len(data.train_set) == 8
    assert data.reference.rule == "least_squares"


def test_species_that_only_references_have_are_left_out(write, molecules, labelled, atoms_file):
    extra = write("n.xyz", [labelled(Atoms("N"), energy=-1.0)])
    data = DataModule([write("m.xyz", molecules(6)), atoms_file, extra], cutoff_radius=2.0)
    assert data.type_names == ["H", "O"]
    assert data.reference.energies == {"H": -13.0, "O": -2000.0}


def test_single_composition_falls_back_to_the_mean(write, molecules):
    data = DataModule(write("m.xyz", molecules(4)), cutoff_radius=2.0)
    assert data.reference.rule == "per_atom_energy_mean"
    assert data.statistics["reference_energies"]["H"] == pytest.approx(-0.5)
    with pytest.raises(DataError, match="cannot be told apart"):
        DataModule(write("m.xyz", molecules(4)), cutoff_radius=2.0, reference_energies="least_squares").prepare()


def test_declared_species_keep_their_order(write, molecules):
    data = DataModule(write("m.xyz", molecules(2)), cutoff_radius=2.0, species=["O", "H"])
    assert data.type_names == ["O", "H"]
    assert data.train_set[0]["atom_types"].tolist() == [0, 1, 1]


def test_species_of_a_test_set_must_be_known(write, molecules, labelled):
    train = write("m.xyz", molecules(2))
    test = write("c.xyz", [labelled(Atoms("CO", [[0, 0, 0], [0, 0, 1.1]]), energy=0.0)])
    with pytest.raises(DataError, match=r"c.xyz frame 0 has C, which is not among the species H, O"):
        DataModule(train, test=test, cutoff_radius=2.0).prepare()


def test_units_and_names_of_one_entry(write_text):
    train = write_text("a.xyz", "2\nenergy=1\nH 0 0 0\nH 0 0 1\n")
    test = write_text("b.xyz", "2\nE=1000\nH 0 0 0\nH 0 0 1.1\n")
    data = DataModule(
        train,
        test={"file": str(test), "key_mapping": {"E": "total_energy"}, "units": {"energy": "meV"}},
        cutoff_radius=2.0,
    )
    assert data.test_sets["b"][0]["total_energy"].item() == pytest.approx(1.0)


def test_paths_are_relative_to_the_current_folder(write, molecules, tmp_path, monkeypatch):
    write("m.xyz", molecules(2))
    monkeypatch.chdir(tmp_path)
    assert DataModule("m.xyz", cutoff_radius=2.0).train_set.origin(1) == "m.xyz frame 1"
    with pytest.raises(DataError, match=str(tmp_path / "n.xyz")):
        DataModule("n.xyz", cutoff_radius=2.0).prepare()


def test_preparing_twice_reads_once(write, molecules):
    data = DataModule(write("m.xyz", molecules(2)), cutoff_radius=2.0).prepare()
    first = data.train_set
    data.setup("fit")
    assert data.prepare().train_set is first


def test_batches(write, molecules):
    data = DataModule(write("m.xyz", molecules(7)), val=2, cutoff_radius=2.0, batch_size=3, val_batch_size=1)
    batches = list(data.train_dataloader())
    assert [int(batch["batch"].max()) + 1 for batch in batches] == [3, 2]
    assert batches[0]["pos"].dtype == torch.float64
    assert [len(loader) for loader in data.val_dataloader()] == [2]
    assert data.test_dataloader() == []


def test_processes_of_the_trainer_share_the_frames(write, molecules):
    class Fake:
        def __init__(self, rank):
            self.global_rank, self.world_size = rank, 2
            self.strategy = lightning.Trainer(accelerator="cpu", logger=False).strategy

    data = DataModule(write("m.xyz", molecules(9)), val=3, cutoff_radius=2.0, batch_size=2)
    train, val = [], []
    for rank in range(2):
        data.trainer = Fake(rank)
        train.append([batch["frame_index"].tolist() for batch in data.train_dataloader()])
        val.append([batch["frame_index"].tolist() for batch in data.val_dataloader()[0]])
    assert [len(batches) for batches in train] == [2, 2]
    assert sorted(i for batches in train for batch in batches for i in batch) == list(range(6))
    assert val == [[[0, 2]], [[1]]]


def test_wrong_arguments(write, molecules):
    file = write("m.xyz", molecules(3))
    with pytest.raises(ConfigError, match="cutoff_radius is -1"):
        DataModule(file, cutoff_radius=-1.0).prepare()
    with pytest.raises(ConfigError, match="unknown unit 'cal' of energy"):
        DataModule(file, cutoff_radius=1.0, units={"energy": "cal"}).prepare()
    with pytest.raises(ConfigError, match="no fraction"):
        DataModule(file, val=1.0, cutoff_radius=1.0).prepare()


def test_configuration_of_omegaconf(write, molecules, tmp_path):
    train, hot = write("t.xyz", molecules(5)), write("hot.xyz", molecules(5, seed=1))
    config = OmegaConf.create(
        {
            "train": {"file": [str(train)], "index": ":4", "units": {"energy": "meV"}},
            "test": [str(hot)],
            "species": ["H", "O"],
            "reference_energies": {"H": 1.0, "O": 2},
        }
    )
    data = DataModule(**{key: config[key] for key in config}, cutoff_radius=2.0)
    assert len(data.train_set) == 4
    assert list(data.test_sets) == ["hot"]
    assert data.statistics["reference_energies"] == {"H": 1.0, "O": 2.0}


def test_number_of_training_frames(write, molecules):
    file = write("m.xyz", molecules(20))
    data = DataModule(file, val=4, cutoff_radius=2.0, train_size=6).prepare()
    assert (len(data.train_set), len(data.val_sets["val"])) == (6, 4)
    assert keys(data.train_set) != set(range(-5, 1))  # drawn at random
    assert len(DataModule(file, cutoff_radius=2.0, train_size=6).prepare().train_set) == 6


def test_order_of_the_training_frames(write, molecules):
    data = DataModule(write("m.xyz", molecules(5)), cutoff_radius=2.0, batch_size=2, shuffle=False)
    for epoch in range(2):
        loader = data.train_dataloader()
        loader.batch_sampler.sampler.set_epoch(epoch)
        assert [batch["frame_index"].tolist() for batch in loader] == [[0, 1], [2, 3], [4]]
    data = DataModule(write("m.xyz", molecules(5)), cutoff_radius=2.0, batch_size=2, drop_last=True)
    assert [len(batch["num_atoms"]) for batch in data.train_dataloader()] == [2, 2]


def test_further_statistics(write, molecules):
    entry = {"name": "largest_force", "field": "forces", "metric": "absmax"}
    data = DataModule(write("m.xyz", molecules(5)), cutoff_radius=2.0, statistics=[entry])
    assert data.statistics["largest_force"] == pytest.approx(0.4)
    assert "forces_rms" in data.statistics


def test_stress_of_the_other_sign(write, labelled):
    stress = [0.01, 0.02, 0.03, 0.004, 0.005, 0.006]
    crystal = Atoms("Cu", cell=[2.5, 2.5, 2.5], pbc=True)
    file = write("c.xyz", [labelled(crystal, energy=-1.0, stress=stress)])
    one, other = (
        DataModule(file, cutoff_radius=3.0, units=units).prepare().train_set.frames[0]["stress"]
        for units in (None, {"stress_sign": "compression"})
    )
    assert one[0, 0, 0] == 0.01
    assert torch.equal(other, -one)


def test_species_that_are_never_seen_and_references_of_another_unit_are_told(write, molecules):
    file = write("m.xyz", molecules(5))
    data = DataModule(
        file, cutoff_radius=2.0, species=["H", "O", "N"], reference_energies={"H": -13.6, "O": -2000.0, "N": 0.0}
    )
    warnings = data.prepare().inspections[0].warnings
    assert "no training frame has the species N; nothing is learned for it" in warnings
    (told,) = [warning for warning in warnings if "from the reference energies" in warning]
    assert told.startswith("the energies lie 675.1 eV/atom (rms) from the reference energies by rule 'user'; are both")


def test_isolated_atoms_that_differ_are_named_by_file_and_frame(write, labelled, molecules):
    lone = [labelled(Atoms("H"), energy=energy) for energy in (-13.0, -13.5)]
    file = write("m.xyz", [*molecules(4), *lone])
    with pytest.raises(DataError, match=r"eV \(\S+/m\.xyz frame 4\) and -13.500000 eV \(\S+/m\.xyz frame 5\)"):
        DataModule(file, cutoff_radius=2.0, reference_energies="isolated_atoms").prepare()


def test_structures_are_hashed_once(write, molecules, monkeypatch):
    from nequip_like.data.prepared import frames

    counted = []
    original = frames.frame_key
    monkeypatch.setattr(frames, "frame_key", lambda frame: counted.append(1) or original(frame))
    data = DataModule(write("m.xyz", molecules(12)), val=3, test=2, cutoff_radius=2.0).prepare()
    assert [inspection.duplicates for inspection in data.inspections] == [0, 0, 0]
    assert len(counted) == 12
