"""A model that NequIP trained, trained on here: it begins with NequIP's numbers, and ends with others."""

from __future__ import annotations

from pathlib import Path

import ase.io
import numpy as np
import pytest

from nequip_like import compose
from nequip_like.compat.conversion import convert_model
from nequip_like.compat.nequip_models import import_nequip_model
from nequip_like.inference import load
from nequip_like.integrations.ase import NequIPCalculator
from nequip_like.workflow.train import train
from tests.compat.nequip_models.tiny_training import REFERENCE, write_frames


@pytest.mark.parametrize("file", ["tiny.ckpt", "tiny.nequip.zip"])
def test_begins_with_the_numbers_of_nequip(file: str, tmp_path: Path) -> None:
    """With ZBL, cutoffs of pairs and trained shifts; a rate of almost zero leaves the first step's model as it is."""
    convert_model(REFERENCE / file, tmp_path / "converted.safetensors")
    write_frames(tmp_path / "train.xyz")
    settings = [
        *(f"data.train={tmp_path / 'train.xyz'}", "data.val=2", "data.batch_size=2", "run=[train]", "optimizer=adam"),
        *(f"finetune.source={tmp_path / 'converted.safetensors'}", "targets=energy_force_stress", "uncertainty=none"),
        *("trainer.max_epochs=1", "trainer.accelerator=cpu", "training_module.lr_scheduler=null"),
        *("report.format=[]", "report.html=false"),
    ]
    config = compose("train", settings)
    untouched, trained = config.copy(), config.copy()
    untouched.output_dir, trained.output_dir = str(tmp_path / "untouched"), str(tmp_path / "trained")
    untouched.training_module.optimizer.lr = 1e-30
    results = [train(each) for each in (untouched, trained)]
    atoms = ase.io.read(tmp_path / "train.xyz")
    predicted = []
    for potential in (import_nequip_model(REFERENCE / file)[0], *(load(result.model_file) for result in results)):
        atoms.calc = NequIPCalculator(potential)
        predicted.append((atoms.get_potential_energy(), atoms.get_forces(), atoms.get_stress()))
    source, first, last = predicted
    for expected, found in zip(source, first, strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-12)
    assert np.abs(last[1] - source[1]).max() > 1e-4
