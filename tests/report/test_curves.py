"""Training curves out of the files that Lightning writes."""

import matplotlib.image
import pytest

from nequip_like.errors import DataError
from nequip_like.report.curves import plot_curves, read_curves

METRICS = """\
epoch,step,train_loss_epoch/weighted_sum,train_loss_step/weighted_sum,val0_epoch/forces_rmse,val0_epoch/weighted_sum
0,9,,0.5,,
0,9,,,0.30,0.4
0,9,0.9,,,
1,19,,,0.20,0.3
1,19,0.6,,,
2,29,,,nan,0.2
2,29,0.4,,,
"""


@pytest.fixture
def table(tmp_path):
    path = tmp_path / "metrics.csv"
    path.write_text(METRICS)
    return path


def test_read(table):
    curves = read_curves(table)
    assert curves["train_loss_epoch/weighted_sum"] == [(0, 0.9), (1, 0.6), (2, 0.4)]
    assert curves["val0_epoch/forces_rmse"] == [(0, 0.3), (1, 0.2)]
    assert curves["train_loss_step/weighted_sum"] == [(0, 0.5)]


def test_plot(table, tmp_path):
    assert plot_curves(table, tmp_path / "new" / "training.png")
    height, width, _ = matplotlib.image.imread(tmp_path / "new" / "training.png").shape
    assert width / height == pytest.approx(3 * 4.2 / 3.4, abs=0.02)


@pytest.mark.parametrize("text", ["", "epoch,step\n0,1\n", "epoch,step,val0_epoch/forces_rmse\n0,1,nan\n"])
def test_nothing_to_plot(tmp_path, text):
    (tmp_path / "metrics.csv").write_text(text)
    assert not plot_curves(tmp_path / "metrics.csv", tmp_path / "training.png")
    assert not (tmp_path / "training.png").exists()


def test_zero_and_one_epoch(tmp_path):
    (tmp_path / "metrics.csv").write_text("epoch,train_loss_epoch/weighted_sum\n0,0.0\n")
    assert plot_curves(tmp_path / "metrics.csv", tmp_path / "training.png")


def test_unreadable(tmp_path):
    with pytest.raises(DataError, match="cannot read"):
        read_curves(tmp_path / "nothing.csv")
    (tmp_path / "a.csv").write_text("x,y\n1,2\n")
    with pytest.raises(DataError, match="no column 'epoch'"):
        read_curves(tmp_path / "a.csv")
