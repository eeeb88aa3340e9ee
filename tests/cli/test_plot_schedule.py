"""``nequip-train config.yaml --plot-schedule``."""

from __future__ import annotations

from pathlib import Path

import pytest

from nequip_like.cli.train import _plot_option
from tests.processes import run_python

CONFIG = """\
defaults: [train, override lr_scheduler: warmup_cosine, _self_]
data: {{train: {file}, val: 5, test: 5}}
cutoff_radius: 4.0
model: {{num_layers: 2, num_features: 4, radial_mlp_depth: 1, radial_mlp_width: 8}}
trainer: {{max_epochs: 100, accelerator: cpu}}
"""


@pytest.mark.parametrize(
    ("arguments", "rest", "image"),
    [
        (["c.yaml", "a=1"], ["c.yaml", "a=1"], None),
        (["c.yaml", "--plot-schedule"], ["c.yaml"], "schedule.png"),
        (["--plot-schedule", "c.yaml"], ["c.yaml"], "schedule.png"),
        (["c.yaml", "--plot-schedule", "a=1"], ["c.yaml", "a=1"], "schedule.png"),
        (["c.yaml", "--plot-schedule", "x/y.png", "a=1"], ["c.yaml", "a=1"], "x/y.png"),
        (["c.yaml", "--plot-schedule=y.png"], ["c.yaml"], "y.png"),
    ],
)
def test_option(arguments, rest, image):
    assert _plot_option(arguments) == (rest, None if image is None else Path(image))


def test_command(tmp_path, molecule_file):
    """It writes the image, says what it shows, and leaves no folder of a run."""
    (tmp_path / "config.yaml").write_text(CONFIG.format(file=molecule_file))
    command = ("-m", "nequip_like.cli.train", "config.yaml", "--plot-schedule", "lr.png", "seed=1")
    done = run_python(*command, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "lr.png: 300 optimizer steps, 3 in an epoch" in done.stdout
    assert "learning rate: 0.001 at step 1, at most 0.02931 (step 30)" in done.stdout
    assert {path.name for path in tmp_path.iterdir()} == {"config.yaml", "lr.png"}
