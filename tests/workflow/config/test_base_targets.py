"""Delta learning in whole runs: the model's card, the labels that are kept, and the sum that a user of ASE makes."""

from __future__ import annotations

import ase.io
import pytest
from ase.calculators.mixing import SumCalculator
from ase.calculators.morse import MorsePotential

from nequip_like.errors import ConfigError
from nequip_like.inference.model_file import read_card
from nequip_like.integrations.ase import NequIPCalculator
from nequip_like.workflow.config.check import check_config
from nequip_like.workflow.train import train

MORSE = "{_target_: ase.calculators.morse.MorsePotential, epsilon: 0.9, r0: 1.2, rho0: 3.0, rcut1: 3.0, rcut2: 3.5}"
TRUSTED = "trusted_packages=[ase.calculators.morse]"
EPOCH = "trainer.max_epochs=1"


def test_differences_to_a_calculator(compose, molecule_file, tmp_path):
    """Labels of a Morse potential with a weaker one as the base: with the sum, errors are those of the differences."""
    base = f"data.base_targets={{calculator: {MORSE}}}"
    result = train(compose(base, TRUSTED, EPOCH, "run=[train,test]"))
    card = read_card(result.model_file)
    assert card["base"]["kind"] == "calculator"
    assert card["base"]["base"]["_target_"] == "ase.calculators.morse.MorsePotential"
    assert card["base"]["base"]["epsilon"] == 0.9
    cache = result.folder / "base_labels.npz"
    written = cache.stat().st_mtime_ns

    weaker = MorsePotential(epsilon=0.9, r0=1.2, rho0=3.0, rcut1=3.0, rcut2=3.5)
    total = SumCalculator([NequIPCalculator(result.model_file), weaker])
    squares = []
    for line in ase.io.read(result.folder / "predictions.extxyz", ":"):
        atoms = line.copy()
        atoms.calc = total
        (own,) = [
            frame for frame in ase.io.read(molecule_file, ":") if abs(frame.positions - atoms.positions).max() < 1e-6
        ]
        squares.append((atoms.get_forces() - own.get_forces()) ** 2)
    rmse = (sum(square.mean() for square in squares) / len(squares)) ** 0.5
    assert rmse == pytest.approx(result.metrics["test0_epoch/forces_rmse"], rel=1e-4)

    # A run that goes on takes the labels that are kept.
    train(compose(base, TRUSTED, "trainer.max_epochs=2", "run=[train]", "resume=auto"))
    assert cache.stat().st_mtime_ns == written


def test_differences_to_a_model(compose, tmp_path):
    """A model is the base of the next one; another base is no way to go on."""
    first = train(compose(EPOCH, "run=[train]", f"output_dir={tmp_path / 'first'}"))
    base = f"data.base_targets={{model: {first.model_file}}}"
    second = train(compose(base, EPOCH, "run=[train]", f"output_dir={tmp_path / 'second'}"))
    card = read_card(second.model_file)["base"]
    assert card["kind"] == "model"
    assert card["base"] == str(first.model_file)
    assert card["id"].startswith("model.safetensors ")
    assert "base" not in read_card(first.model_file)
    with pytest.raises(ConfigError, match="the training data is not that of the run"):
        train(compose("trainer.max_epochs=2", "run=[train]", f"output_dir={tmp_path / 'second'}", "resume=auto"))


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (
            ["data.base_targets={model: none.safetensors}"],
            r"base_targets.model: there is no file none.safetensors",
        ),
        (["data.base_targets={calculator: gfn3}"], r"data.base_targets.calculator is 'gfn3'\n.*did you mean"),
        ([f"data.base_targets={{calculator: {MORSE}}}"], r"ase.calculators.morse"),
        (["data.base_targets={calculator: emt, base: forces}"], r"base_targets has the keys calculator, base"),
        (["data.base_targets={E0: energy}"], r"'E0' is mapped to 'energy', which is no label"),
    ],
)
def test_mistakes_are_told_before_data_are_read(overrides, message, compose):
    with pytest.raises(ConfigError, match=message):
        check_config(compose(*overrides))
