"""The image and the words of a schedule."""

from __future__ import annotations

import matplotlib.image
import pytest

from nequip_like.errors import OutputError
from nequip_like.report.schedule_plot import SchedulePreview, plot_schedule

PREVIEW = SchedulePreview(
    steps=[0, 1, 2, 3],
    steps_per_epoch=2,
    rates={"head": [0.1, 0.2, 0.15, 0.1], "rest": [0.01, 0.01, 0.01, 0.01]},
    weights={"forces_mse": [1.0, 1.0, 25.0, 25.0]},
    notes=["the learning rate is lowered as a$b_c tells"],
)


def test_words():
    assert PREVIEW.describe() == [
        "4 optimizer steps, 2 in an epoch",
        "learning rate head: 0.1 at step 1, at most 0.2 (step 2), 0.1 at step 4",
        "learning rate rest: 0.01 throughout",
        "loss weight forces_mse: 1 at step 1, at most 25 (step 3), 25 at step 4",
        "the learning rate is lowered as a$b_c tells",
    ]


@pytest.mark.parametrize("weights", [PREVIEW.weights, {}], ids=["both", "without weights"])
def test_image(weights, tmp_path):
    """One panel for each; the curves are there in their colours."""
    plot_schedule(SchedulePreview(PREVIEW.steps, 2, PREVIEW.rates, weights, PREVIEW.notes), tmp_path / "s.png")
    image = matplotlib.image.imread(tmp_path / "s.png")
    assert image.shape[1] == (1620 if weights else 810)
    blue = (abs(image[..., 0]) < 0.1) & (abs(image[..., 2] - 0.698) < 0.1)
    assert blue.sum() > 100


def test_a_single_step(tmp_path):
    plot_schedule(SchedulePreview([0], 1, {"": [0.1]}), tmp_path / "s.png")
    assert SchedulePreview([0], 1, {"": [0.1]}).describe()[1] == "learning rate: 0.1 throughout"


def test_a_file_that_cannot_be_written(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(OutputError):
        plot_schedule(PREVIEW, tmp_path / "file" / "s.png")
