"""Several sets in one training: shares, draws, weights of frames within each set, parts that are held out of one."""

from collections import Counter

import numpy as np
import pytest

from nequip_like.data import fields
from nequip_like.data.datamodule import DataModule
from nequip_like.data.sampling.mixtures import MixedFrames, Mixture
from nequip_like.data.sampling.samplers import ErrorWeightedSampler, MixtureSampler
from nequip_like.errors import ConfigError, DataError


@pytest.fixture
def made(write, molecules):
    """A data module of 24 waters and 6 others: ``made({"ice": {"weight": 2.0}}, sampling=...)``; batches of 5."""

    def made(changes=None, **arguments):
        files = {"water": write("water.xyz", molecules(24)), "ice": write("ice.xyz", molecules(6, seed=1))}
        train = {name: {"file": str(file), **(changes or {}).get(name, {})} for name, file in files.items()}
        return DataModule(train, **{"cutoff_radius": 2.0, "batch_size": 5, **arguments})

    return made


def count_epochs(data, epochs):
    """How often each frame was drawn."""
    loader = data.train_dataloader()
    counts = np.zeros(len(data.train_set))
    for epoch in range(epochs):
        loader.frame_order.set_epoch(epoch)
        counts += np.bincount(loader.frame_order.order(), minlength=len(counts))
    return counts


def compute_chi_square(counts, probabilities):
    expected = counts.sum() * probabilities
    return float(((counts - expected) ** 2 / expected).sum())


# --- shares


@pytest.mark.parametrize(
    ("weights", "temperature", "shares"),
    [
        ((1.0, 1.0), 1.0, [0.8, 0.2]),
        ((1.0, 1.0), 2.0, [2 / 3, 1 / 3]),  # sqrt(16) and sqrt(4)
        ((1.0, 1.0), 1e9, [0.5, 0.5]),
        ((1.0, 4.0), 1.0, [0.5, 0.5]),
        ((1.0, 4.0), 2.0, [1 / 3, 2 / 3]),
    ],
)
def test_shares(weights, temperature, shares):
    sets = MixedFrames(("a", "b"), weights, np.repeat([0, 1], [16, 4]))
    assert sets.compute_shares(temperature).tolist() == pytest.approx(shares, rel=1e-8)
    balanced = sets.balance(np.random.default_rng(0).random(20), temperature)
    assert [balanced[:16].sum() / 20, balanced[16:].sum() / 20] == pytest.approx(shares, rel=1e-8)


def test_draws_add_up():
    sets = MixedFrames(("a", "b", "c"), (1.0, 1.0, 1.0), np.repeat([0, 1, 2], [1, 1, 1]))
    assert sets.count_draws(10) == [4, 3, 3]
    assert sum(sets.count_draws(1000, 3.0)) == 1000
    large = MixedFrames(("a", "b"), (1.0, 1.0), np.repeat([0, 1], [999, 1]))
    assert large.count_draws(1000) == [999, 1]
    with pytest.raises(ConfigError, match=r"an epoch of 100 frames has 0.1 of data.train.b\n.*larger weight"):
        large.count_draws(100)
    with pytest.raises(DataError, match=r"no frame of data.train.b is left"):
        large.select(range(10)).count_frames()


# --- orders


def test_with_the_same_weights_each_frame_is_seen_once(made):
    data = made().prepare()
    assert data.num_drawn == {"water": 24, "ice": 6}
    assert count_epochs(data, 2).tolist() == [2.0] * 30
    orders = []
    for epoch in range(2):
        order = data.train_dataloader().frame_order
        order.set_epoch(epoch)
        orders.append(order.order())
    assert orders[0] != orders[1]
    assert orders[0] != sorted(orders[0])


def test_shares_of_an_epoch(made):
    """Half of 30 draws each: 15 of 24 waters, and 15 of 6, two or three times; over 8 epochs all alike."""
    data = made({"ice": {"weight": 4.0}}).prepare()
    assert data.num_drawn == {"water": 15, "ice": 15}
    first = count_epochs(data, 1)
    assert first[:24].sum() == first[24:].sum() == 15
    assert set(first[:24]) == {0.0, 1.0}
    assert set(first[24:]) == {2.0, 3.0}
    counts = count_epochs(data, 8)
    assert counts[:24].tolist() == [5.0] * 24
    assert counts[24:].tolist() == [20.0] * 6


def test_temperature_and_samples(made):
    data = made(sampling={"temperature": 2.0, "samples_per_epoch": 60}).prepare()
    assert data.num_drawn == {"water": 40, "ice": 20}
    assert sum(len(batch["num_atoms"]) for batch in data.train_dataloader()) == 60


def test_draws_by_energies_have_the_shares(made):
    """Energies of set k are 0 to -(n - 1): weights within each from 1/2 to 1, and half of the draws are ice."""
    data = made({"ice": {"weight": 4.0}}, sampling={"policy": "energy_weighted", "samples_per_epoch": 3000}).prepare()
    counts = count_epochs(data, 20)
    probabilities = np.concatenate([1 / (1 + np.arange(n)[::-1] / (n - 1)) for n in (24, 6)])
    probabilities[:24] *= 0.5 / probabilities[:24].sum()
    probabilities[24:] *= 0.5 / probabilities[24:].sum()
    assert counts.sum() == 60_000
    assert compute_chi_square(counts, probabilities) < 58.3  # of 29 degrees of freedom, once in a thousand times above
    assert compute_chi_square(counts, np.full(30, 1 / 30)) > 1000


def test_draws_by_errors_have_the_shares():
    sets = MixedFrames(("a", "b"), (1.0, 1.0), np.repeat([0, 1], [4, 2]))
    sampler = ErrorWeightedSampler(6, 6, 2, shuffle=True, seed=0, balance=lambda w: sets.balance(w, 1e9))
    assert sampler.weights == pytest.approx([0.75] * 4 + [1.5] * 2, rel=1e-8)
    sampler.update(np.array([1.0, 1.0, 2.0, 4.0, 30.0, 10.0]), np.ones(6))
    expected = np.array([1 / 8, 1 / 8, 2 / 8, 4 / 8, 3 / 4, 1 / 4]) * 3
    assert sampler.weights == pytest.approx(expected, rel=1e-8)


def test_order_is_the_same_on_all_processes_and_in_resumed_runs():
    parts, drawn = [list(range(9)), list(range(9, 16)), list(range(16, 30))], [6, 9, 5]
    whole = MixtureSampler(parts, drawn, 4, shuffle=True, seed=5)
    ranks = [MixtureSampler(parts, drawn, 2, shuffle=True, seed=5, rank=rank, world_size=2) for rank in (0, 1)]
    for epoch in (4, 0):
        for sampler in (whole, *ranks):
            sampler.set_epoch(epoch)
        assert [one + two for one, two in zip(*ranks, strict=True)] == list(whole)
    other = MixtureSampler(parts, drawn, 4, shuffle=True, seed=6)
    assert other.order() != whole.order()
    # Parts of the same size do not go in step.
    twins = MixtureSampler([range(50), range(50, 100)], [25, 25], 4, shuffle=True, seed=5)
    first = sorted(frame for frame in twins.order() if frame < 50)
    common = len({*first} & {frame - 50 for frame in twins.order() if frame >= 50})
    assert 5 < common < 20


def test_without_shuffling_sets_are_spread(made):
    data = made(shuffle=False).prepare()
    order = data.train_dataloader().frame_order.order()
    assert [frame for frame in order if frame < 24] == list(range(24))
    assert [place for place, frame in enumerate(order) if frame >= 24] == [4, 9, 14, 19, 24, 29]


def test_replay_beside_several_sets(made, write, molecules):
    old = write("old.xyz", molecules(8, seed=2))
    data = made({"ice": {"weight": 4.0}}, replay={"file": str(old), "fraction": 0.25}).prepare()
    order = data.train_dataloader().frame_order
    assert order.drawn == [15, 15, 10]
    counts = Counter("replay" if i >= 30 else "ice" if i >= 24 else "water" for i in order.order())
    assert counts == {"water": 15, "ice": 15, "replay": 10}


# --- data


def test_each_set_is_read_in_its_own_way(write, write_text, molecules):
    water = write("water.xyz", molecules(3))
    other = write_text("other.xyz", "1\nE0=-2\nH 0 0 0\n2\nE0=-4\nO 0 0 0\nH 0 0 1\n")
    own = {"file": str(other), "key_mapping": {"E0": "total_energy"}, "units": {"energy": "Hartree"}, "index": "1:"}
    data = DataModule(
        {"water": str(water), "other": own}, cutoff_radius=2.0, reference_energies=None, allow_overlap=True
    ).prepare()
    frames = data.train_set.frames
    energies = [float(frame[fields.TOTAL_ENERGY]) for frame in frames]
    assert energies == pytest.approx([0, -1, -2, -4 * 27.211386], rel=1e-6)
    assert np.isnan(frames[3][fields.FORCES].numpy()).all()
    assert data.train_set.origin(3).endswith("other.xyz frame 1")
    assert any("units of their own: water: " in note for note in data.train_set.notes)
    assert data.mixed.members.tolist() == [0, 0, 0, 1]


def test_filters_and_splits_know_the_sets(made):
    """Frames of the first set with forces above 1.5 go (10 * 0.1 * sqrt(3) = 1.73), then two of ice are held out."""
    data = made(filters={"max_forces": 1.7}, val={"ice": {"part": 2, "of": "ice"}, "all": 3}).prepare()
    assert len(data.train_set) == 10 + 6 - 5
    assert all("ice.xyz" in data.val_sets["ice"].origin(i) for i in range(2))
    names = ["ice" if "ice.xyz" in data.train_set.origin(i) else "water" for i in range(len(data.train_set))]
    assert [data.mixed.names[k] for k in data.mixed.members] == names
    assert sum(data.num_drawn.values()) == 11


def test_a_fraction_of_one_set(made):
    data = made(val={"water": {"part": 0.25, "of": "water"}, "ice": {"part": 0.5, "of": "ice"}}).prepare()
    assert {name: len(part) for name, part in data.val_sets.items()} == {"water": 6, "ice": 3}
    assert data.num_drawn == {"water": 18, "ice": 3}


def test_prepared_sets_are_mixed_as_files_are(made, tmp_path):
    from nequip_like.data.prepared.preparing import PreparationRequest, prepare_set

    plain = made({"ice": {"weight": 4.0}}).prepare()
    train = {}
    for name, weight in (("water", 1.0), ("ice", 4.0)):
        prepare_set(PreparationRequest([str(tmp_path / f"{name}.xyz")], 2.0), tmp_path / f"{name}.frames")
        train[name] = {"file": str(tmp_path / f"{name}.frames"), "weight": weight}
    data = DataModule(train, cutoff_radius=2.0, batch_size=5).prepare()
    assert data.statistics == plain.statistics
    for one, two in zip(plain.train_dataloader(), data.train_dataloader(), strict=True):
        assert one.keys() == two.keys()
        assert all((one[key] == two[key]).all() for key in one)
    train["ice"]["file"] = str(tmp_path / "ice.xyz")
    with pytest.raises(ConfigError, match=r"some of the sets water, ice are prepared, but ice is not"):
        DataModule(train, cutoff_radius=2.0).prepare()


def test_mistakes(made, write, molecules):
    file = str(write("m.xyz", molecules(8)))
    with pytest.raises(ConfigError, match=r"sampling.temperature is 2, but data.train is one data set"):
        DataModule(file, cutoff_radius=2.0, sampling={"temperature": 2.0})
    for sets in ({"train": {"a": file, "b": file}}, {"train": file, "replay": {"file": file, "fraction": 0.1}}):
        with pytest.raises(ConfigError, match=r"sampling.bootstrap is given, with several data sets or a replay"):
            DataModule(**sets, cutoff_radius=2.0, sampling={"bootstrap": 1})
    with pytest.raises(ConfigError, match=r"val.hot is a part of 'hot', which is no set of data.train"):
        made(val={"hot": {"part": 2, "of": "hot"}}).prepare()
    with pytest.raises(ConfigError, match=r"val.a is a part of 'ice', .*\n.*leave 'of' out: data.train is one set"):
        DataModule(file, val={"a": {"part": 2, "of": "ice"}}, cutoff_radius=2.0).prepare()
    for entry, message in (
        ({"a": {"file": "a.xyz", "weight": 0}, "b": "b.xyz"}, r"train.a.weight is 0"),
        ({"a": {"file": "a.xyz", "wieght": 1.0}, "b": "b.xyz"}, r"train.a: unknown key 'wieght'"),
        ({"a": {"weight": 1.0}, "b": "b.xyz"}, r"train.a needs its file, once"),
        ({"a": "a.xyz", False: "b.xyz"}, r"train has a set named false"),
    ):
        with pytest.raises(ConfigError, match=message):
            Mixture.read(entry)
    assert Mixture.read({"fil": "a.xyz", "index": ":"}) is None
    assert Mixture.read("a.xyz") is None
