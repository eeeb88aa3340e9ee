"""Lightning's remarks on itself are left out while a run lasts, and a user's own settings come back."""

import logging
import warnings

import pytest

from nequip_like.workflow.quiet import quiet_lightning
from tests.processes import run_python

LIGHTNING = logging.getLogger("lightning.pytorch")
REMARKS = [
    "Experiment logs directory /a/b exists and is not empty. Previous log files in this directory will be deleted",
    "`isinstance(treespec, LeafSpec)` is deprecated, use `isinstance(treespec, TreeSpec) and treespec.is_leaf()`",
    "GPU available but not used. You can set it by doing `Trainer(accelerator='gpu')`.",
    "The 'val_dataloader' does not have many workers which may be a bottleneck.",
]


@pytest.mark.parametrize(
    ("level", "meanwhile"), [(logging.INFO, logging.WARNING), (0, 30), (logging.DEBUG, logging.DEBUG), (40, 40)]
)
def test_levels_come_back(monkeypatch, level, meanwhile):
    monkeypatch.setattr(LIGHTNING, "level", LIGHTNING.level)
    LIGHTNING.setLevel(level)

    def fail():
        with quiet_lightning():
            found.append(LIGHTNING.level)
            raise KeyError

    found = []
    with pytest.raises(KeyError):
        fail()
    assert found == [meanwhile]
    assert LIGHTNING.level == level


def test_filters_come_back():
    before = list(warnings.filters)
    with quiet_lightning():
        for remark in REMARKS:
            warnings.warn(remark, UserWarning, stacklevel=1)  # an error, were it not left out
        with pytest.raises(UserWarning, match="something of the user"):
            warnings.warn("something of the user", UserWarning, stacklevel=1)
    assert warnings.filters == before


SCRIPT = """
import logging, sys, warnings
import lightning
from hydra import compose, initialize_config_module
from nequip_like.data.datamodule import DataModule
from nequip_like.inference.evaluation import evaluate
from nequip_like.workflow.evaluate import test_model
from nequip_like.workflow.train import train

file, *overrides = sys.argv[1:]
with initialize_config_module("nequip_like.conf", version_base="1.3"):
    config = compose("train", overrides)
levels = {name: logging.getLogger(name).level for name in ("lightning", "lightning.pytorch", "lightning.fabric")}
filters = list(warnings.filters)
result = train(config)
assert levels == {name: logging.getLogger(name).level for name in levels}
assert filters == warnings.filters
print("--- train")
test_model(result.model_file, file)
print("--- test_model")
evaluate(result.model_file, file)
DataModule(file, cutoff_radius=4.0).prepare()
"""


@pytest.mark.slow
def test_a_run_from_python_says_what_is_its_own(tmp_path, molecule_file, tiny):
    arguments = [
        *(f"data.train={molecule_file}", "data.val=5", "data.test=5", "cutoff_radius=4.0"),
        *(f"output_dir={tmp_path / 'run'}", *tiny),
    ]
    run = run_python("-c", SCRIPT, str(molecule_file), *arguments, cwd=tmp_path)
    assert (run.returncode, run.stderr) == (0, "")
    trained, tested, rest = run.stdout.replace("--- test_model", "--- train").split("--- train\n")
    for head in (
        "Training",
        "epoch    1 | step      6 |",
        f"model: {tmp_path}/run/model.safetensors",
        "test: 5 frames",
    ):
        assert any(line.startswith(head) for line in trained.splitlines()), head
    for foreign in ("GPU", "TPU", "Tip", "Lightning", "lightning", "Trainer", "deprecated", "Seed set"):
        assert foreign not in run.stdout, foreign
    assert tested.startswith("model: ")
    assert rest == ""
