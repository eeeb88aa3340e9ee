"""Fine-tuning of descriptor networks: it begins as its source, measures nothing anew, and trains what is asked."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from omegaconf import OmegaConf

from nequip_like.cli.train import main
from nequip_like.data import fields
from nequip_like.data.graph import collate
from nequip_like.errors import ConfigError
from nequip_like.inference import load, load_any, model_file, read_card
from nequip_like.model import DescriptorANNModel, Potential
from nequip_like.model.families import build
from nequip_like.workflow.config.check import check_config
from nequip_like.workflow.finetune import run as finetune
from nequip_like.workflow.finetune.agreement import compare_with_source
from nequip_like.workflow.train import train
from tests.workflow.test_resume import differences, last
from tests.workflow.tuning import MOVED, as_source, begun, plain, shaken, source_potential, write

SIZE = 10
NETWORKS = {"O": [[3, "tanh"]], "H": [[2, "twist"], [2, "tanh"]], "C": [], "N": [[3, "tanh"]]}
SHIFTS = {"O": -3.0, "H": -1.0, "C": -2.0, "N": -4.0}


def descriptor_potential(**changes: Any) -> Potential:
    """A model like no other: species in an order of its own, statistics that no data here have."""
    arguments = {
        "seed": 11, "model_dtype": "float64", "type_names": ["O", "H", "C", "N"], "r_max": 4.0, "angular_cutoff": 3.0,
        "radial_order": 2, "angular_order": 1, "networks": NETWORKS, "E_shift": -1.5, "E_scaling": 0.5,
        "feature_stats": {"mean": [0.1 * i for i in range(SIZE)], "std": [1.0 + 0.1 * i for i in range(SIZE)]},
        "per_type_energy_shifts": SHIFTS,
    }  # fmt: skip
    return DescriptorANNModel(**{**arguments, **changes}).eval()


@pytest.fixture
def networks(tmp_path: Path) -> Path:
    path = tmp_path / "networks.safetensors"
    model_file.save(descriptor_potential(), path)
    return path


@pytest.fixture
def tune(compose: Callable[..., Any], networks: Path) -> Callable[..., Any]:
    def tune(*overrides: str) -> Any:
        return compose("model=descriptor_ann", f"finetune.source={networks}", *overrides)

    return tune


@pytest.mark.parametrize("way", ["finetune.lora=null", "finetune.lora={rank:2}"])
def test_step_0_is_the_source_to_the_last_bit(way: str, tune: Any, tmp_path: Path) -> None:
    """On data with other statistics and another order of species; raw and averaged weights."""
    tuning, data, training = begun(tune("training_module=ema", way))
    assert data.type_names == ["O", "H", "C", "N"]  # the data, by itself: H, C, O
    batch = collate(list(data.val_sets["val"]))
    expected = tuning.source(batch)
    for model in (training.model, training.evaluation_model):
        found = model.eval()(batch)
        for name in (fields.TOTAL_ENERGY, fields.FORCES):
            assert torch.equal(found[name], expected[name]), name
    assert training.model.config == tuning.source.config
    agreement = compare_with_source(tuning, training.model, data)
    assert (agreement.energy, agreement.forces) == (0.0, 0.0)


def test_the_model_need_not_be_repeated(networks: Path, molecule_file: Path, tmp_path: Path) -> None:
    """A config with nothing but data and source, which has NequIP's section of the defaults."""
    config = plain(f"data.train={molecule_file}", f"finetune.source={networks}", f"output_dir={tmp_path}")
    tuning, data, module = begun(config)
    assert module.model.config == tuning.source.config
    assert config.cutoff_radius == data.cutoff_radius == 4.0
    assert config.training_module.model._target_ == "nequip_like.model.DescriptorANNModel"
    assert config.training_module.model.E_scaling == 0.5
    assert list(config.chemical_species) == ["O", "H", "C", "N"]
    # The section that was written says the same as the source.
    assert finetune.begin(config, None) is not None


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("model.radial_order=5", "model.radial_order is 5, but the model of .*networks.safetensors has 2"),
        ("model.angular_cutoff=3.5", "model.angular_cutoff is 3.5, but .* has 3.0"),
        ("model.min_cutoff=0.5", "model.min_cutoff is 0.5, but .* has 0.0"),
        ("model.networks=[[3,tanh]]", r"model.networks is \[\[3, 'tanh'\]\], but .* has \{'O': \[\[3, 'tanh'\]\]"),
        ("model.E_shift=0.0", "model.E_shift is 0.0, but .* has -1.5"),
        ("model.E_scaling={O:0.5,H:0.5,C:0.4,N:0.5}", "model.E_scaling is .*, but .* has 0.5"),
        ("model.isolated_atoms=exact", "model.isolated_atoms is exact, but .* has learnt"),
        ("model.model_dtype=float64 cutoff_radius=3.5", "cutoff_radius is 3.5, but .* has 4.0"),
        ("finetune.new_species=mean", "finetune.new_species is given, but .* takes no new species: the number and"),
    ],
)
def test_what_the_config_says_otherwise_is_refused(override: str, message: str, tune: Any) -> None:
    with pytest.raises(ConfigError, match=message):
        check_config(tune(*override.split()))


@pytest.mark.parametrize(
    ("override", "message"),
    [
        (
            "model.num_layers=3",
            "model.num_layers is given, but .* is of the family descriptor_ann, which has no num_la",
        ),
        ("model.bessel_trainable=true", "which has no bessel_trainable"),
        ("model.kernel=fused", "model.kernel is 'fused'\n  -> give auto or reference"),
        (
            "model=nequip_S",
            r"model._target_ is .*PresetNequIPGNNModel, but .* is of the family descriptor_ann\n.*choose",
        ),
    ],
)
def test_what_is_said_of_nequip_is_refused(override: str, message: str, networks: Path) -> None:
    config = plain(f"finetune.source={networks}", "data.train=a.xyz", "output_dir=.", override)
    with pytest.raises(ConfigError, match=message):
        finetune.begin(config, None)


def test_networks_cannot_begin_as_nequip(tune: Any, tmp_path: Path) -> None:
    model_file.save(source_potential(), tmp_path / "other.safetensors")
    with pytest.raises(ConfigError, match=r"model._target_ is .*DescriptorANNModel, but .* is of the family nequip\n"):
        finetune.begin(tune(f"finetune.source={tmp_path / 'other.safetensors'}"), None)


def test_the_same_said_again_is_welcome(tune: Any) -> None:
    same = ("model.E_shift={O:-1.5,H:-1.5,C:-1.5,N:-1.5}", "model.radial_cutoff=4.0", "model.radial_order=2")
    config = tune(*same, "model.frame_memory=0.5")
    OmegaConf.update(config, "model.networks", NETWORKS, merge=False)
    *_, module = begun(config)
    assert module.model.energy_model.store.limit == 0.5e9


def test_a_new_species_in_the_data_is_refused(tune: Any, with_sulphur: Path) -> None:
    with pytest.raises(
        ConfigError, match=r"data have S, which the model of .* does not know and cannot be taught: the"
    ):
        begun(tune(f"data.train={with_sulphur}"))


@pytest.mark.parametrize("isolated", ["learnt", "exact"])
def test_refitted_shifts(isolated: str, tune: Any, networks: Path, tmp_path: Path) -> None:
    """Labels of the source at another level of theory: the refit finds the differences; N is not there and stays."""
    model_file.save(descriptor_potential(isolated_atoms=isolated), networks)
    frames = shaken(["H2O", "CH4", "CO2", "H2", "CO", "CH3OH"], 4)
    file = write(tmp_path / "moved.xyz", frames, as_source(networks, MOVED))
    tuning, data, module = begun(tune(f"data.train={file}", "finetune.shifts=refit"))
    # Files hold positions to eight digits.
    assert tuning.info["shift_changes"] == pytest.approx(MOVED, abs=1e-7)
    arguments = module.model.config["arguments"]
    assert arguments["per_type_energy_shifts"] == pytest.approx({"O": 0.0, "H": -0.5, "C": -22.0, "N": -4.0}, abs=1e-7)
    assert (arguments["per_type_energy_shifts"]["N"], arguments["E_shift"]) == (-4.0, -1.5)
    shifts = module.model.energy_model.scale_shift.shifts
    assert torch.equal(build(module.model.config).energy_model.scale_shift.shifts, shifts)
    found = compare_with_source(tuning, module.evaluation_model, data)
    assert found.energy < 1e-9
    assert found.forces == 0.0
    batch = collate(list(data.train_set))
    assert (module.model.eval()(batch)[fields.TOTAL_ENERGY] - batch[fields.TOTAL_ENERGY]).abs().max() < 1e-6


def list_head(state: dict[str, Any]) -> set[str]:
    last_layers = {name: str(len(layers)) for name, layers in NETWORKS.items()}
    ends = [(f"energy_model.networks.{name}.", f".{number}") for name, number in last_layers.items()]
    return {name for name in state for begin, end in ends if name.startswith(begin) and name.endswith(end)}


def test_the_head_alone_is_trained_and_exported(tune: Any, tmp_path: Path) -> None:
    """All else stays bit for bit, in averaged weights as well; N, which the data lack, has nothing to learn from."""
    result = train(tune("run=[train]", "finetune.freeze=head_only", "trainer.max_epochs=1", "uncertainty=llpr"))
    state, before = last(result.folder)["state_dict"], descriptor_potential().state_dict()
    head = list_head(before)
    assert len(head) == 8
    for name, tensor in before.items():
        for prefix in ("model.", "ema.module."):
            same = torch.equal(state[prefix + name], tensor)
            assert same == (name not in head or ".N." in name), prefix + name
    exported, card = load_any(result.model_file)
    for name, tensor in exported.state_dict().items():
        assert torch.equal(tensor, state[f"ema.module.{name}"]), name
    assert exported.config == descriptor_potential().config
    assert card["provenance"]["finetune"]["source"].endswith("networks.safetensors")
    assert card["uncertainty"]["frames"] == 5
    assert "energy_uncertainty" in exported.predicted_fields


def test_a_species_by_name(tune: Any) -> None:
    *_, module = begun(tune("finetune.modules=[networks.H.]"))
    trained = [name for name, parameter in module.model.named_parameters() if parameter.requires_grad]
    assert trained == [f"energy_model.networks.H.{part}.{i}" for part in ("weights", "biases") for i in range(3)]


@pytest.mark.parametrize("way", ["finetune.lora={rank:2}", pytest.param("finetune.lora=null", marks=pytest.mark.slow)])
def test_goes_on_without_the_source(way: str, tune: Any, networks: Path, tmp_path: Path) -> None:
    """Two epochs straight, and one, then another after the source was deleted: the same bits, and products merged."""

    def run(name: str, epochs: int, *more: str) -> Path:
        options = ("run=[train]", way, "finetune.shifts=refit", f"output_dir={tmp_path / name}", *more)
        return train(tune(*options, f"trainer.max_epochs={epochs}")).folder

    whole = run("whole", 2)
    run("part", 1)
    networks.unlink()
    part = run("part", 2, "resume=auto")
    assert differences(last(whole), last(part)) == []
    one, two = (load(folder) for folder in (whole, part))
    assert one.config == two.config
    assert one.state_dict().keys() == descriptor_potential().state_dict().keys()
    assert differences(dict(one.state_dict()), dict(two.state_dict())) == []
    assert torch.equal(one.energy_model.scale_shift.shifts, build(one.config).energy_model.scale_shift.shifts)


def test_by_the_command(
    networks: Path, molecule_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    """As a user types it, with a config that says nothing of the model."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "c.yaml").write_text(f"defaults: [train, _self_]\ndata: {{train: {molecule_file}, val: 5}}\n")
    options = ["hydra.run.dir=out", "trainer.max_epochs=1", "report.format=[]", "report.html=false", "~logger"]
    typed = ["-cn", "c", f"finetune.source={networks}", *options, "~callbacks.learning_rate"]
    monkeypatch.setattr("sys.argv", ["nequip-train", *typed])
    main()
    said = " ".join(capsys.readouterr().out.replace("│", " ").split())
    assert "species O H C N" in said
    assert "energies to 0.0e+00 eV/atom, forces to 0.0e+00 eV/Angstrom" in said
    state = load(tmp_path / "out").state_dict()
    assert all(bool(tensor.isfinite().all()) for tensor in state.values())
    card = read_card(tmp_path / "out" / "model.safetensors")
    assert card["config"]["family"] == "descriptor_ann"
    assert card["config"]["arguments"]["feature_stats"]["mean"][3] == pytest.approx(0.3)
