"""Training curves out of the files that Lightning writes."""

import matplotlib.image
import pytest

from nequip_like.errors import DataError
from nequip_like.report import curves as curves_module
from nequip_like.report.curves import plot_curves
from nequip_like.report.history import read_curves

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


def test_two_rows(table, tmp_path):
    """Loss with the monitored value, and forces: two panels, one above the other, of 3.5 times 2.7 inches."""
    path = tmp_path / "new" / "training.png"
    assert plot_curves(table, path) == [path]
    height, width, _ = matplotlib.image.imread(path).shape
    assert (width, height) == pytest.approx((3.5 * 150, 2 * 2.7 * 150), abs=1)


def test_formats(table, tmp_path):
    files = plot_curves(table, tmp_path / "training.png", formats=["png", "pdf", "svg"])
    assert [file.name for file in files] == ["training.png", "training.pdf", "training.svg"]
    assert [file.read_bytes()[:4] for file in files] == [b"\x89PNG", b"%PDF", b"<?xm"]


# Five epochs of two steps; rates are logged without an epoch, as Lightning does it.
LONG = "epoch,step,learning_rate/main,learning_rate/readout,train_loss_epoch/forces_mse,train_loss_epoch/weighted_sum,"
LONG += "val0_epoch/forces_rmse,val1_epoch/forces_rmse,val0_epoch/per_atom_energy_rmse,val0_epoch/stress_rmse\n"
for number in range(5):
    LONG += f",{2 * number},{0.01 / 2**number},0.001,,,,,,\n"
    LONG += f"{number},{2 * number + 1},,,,,{0.3 / 2**number},{0.5 / 2**number},0.01,0.002\n"
    LONG += f"{number},{2 * number + 1},,,{0.04 / 4**number},{1 / 10**number},,,,\n"


def test_rates_belong_to_the_epoch_that_they_begin(tmp_path):
    (tmp_path / "metrics.csv").write_text(LONG + ",10,0.5,0.5,,,,,,\n")  # an epoch that was not finished
    curves = read_curves(tmp_path / "metrics.csv")
    assert curves["learning_rate/main"] == [(0, 0.01), (1, 0.005), (2, 0.0025), (3, 0.00125), (4, 0.000625)]


@pytest.fixture
def drawn(tmp_path, monkeypatch):
    """Panels of the long run, by the label of their vertical axis, and the names of the legend."""
    figures = []
    monkeypatch.setattr(curves_module, "save_figure", lambda figure, *_: figures.append(figure) or [])
    (tmp_path / "metrics.csv").write_text(LONG)
    plot_curves(
        tmp_path / "metrics.csv", tmp_path / "training.png", best_epoch=3, before={"val0_epoch/forces_rmse": 0.9}
    )
    (figure,) = figures
    panels = {axes.get_ylabel(): axes for axes in figure.axes if axes.get_ylabel()}
    return panels, [text.get_text() for text in figure.legends[0].get_texts()], figure


def test_each_axis_has_its_unit(drawn):
    panels, _, figure = drawn
    assert list(panels) == [
        "weighted sum (arb. units)", "force RMSE (meV/Å)", "energy RMSE (meV/atom)", "stress RMSE (meV/Å³)",
        "learning rate",
    ]  # fmt: skip
    assert {axes.get_xlabel() for axes in panels.values()} == {"epoch"}
    assert len({round(axes.get_subplotspec().get_position(figure).y0, 3) for axes in panels.values()}) == 2


def test_training_and_validation_stand_together(drawn):
    """The training error is the root of what the loss logs; in milli-units."""
    panels, legend, _ = drawn
    lines = {line.get_label(): list(line.get_ydata()) for line in panels["force RMSE (meV/Å)"].get_lines()}
    assert lines["training"] == pytest.approx([200, 100, 50, 25, 12.5])
    assert lines["validation 0"] == pytest.approx([300, 150, 75, 37.5, 18.75])
    assert lines["validation 1"] == pytest.approx([500, 250, 125, 62.5, 31.25])
    assert lines["before the first step"] == pytest.approx([900, 900])
    assert legend == ["training", "best: epoch 3", "validation 0", "validation 1", "before the first step"]
    assert panels["force RMSE (meV/Å)"].get_yscale() == "log"
    assert panels["energy RMSE (meV/atom)"].get_yscale() == "linear"


def test_the_best_epoch_is_marked_in_each_panel(drawn):
    for axes in drawn[0].values():
        marks = [line for line in axes.get_lines() if line.get_label() == "best: epoch 3"]
        assert [list(line.get_xdata()) for line in marks] == [[3, 3]]


def test_no_text_lies_on_other_text(drawn):
    """Labels of axes, ticks and legend keep apart, and within the picture."""
    figure = drawn[2]
    figure.draw_without_rendering()
    boxes = [axes.yaxis.label.get_window_extent() for axes in figure.axes if axes.get_ylabel()]
    boxes += [axes.xaxis.label.get_window_extent() for axes in figure.axes if axes.get_xlabel()]
    boxes += [text.get_window_extent() for text in figure.legends[0].get_texts()]
    for i, one in enumerate(boxes):
        assert one.x0 >= 0
        assert one.y0 >= 0
        assert one.x1 <= figure.bbox.x1
        assert one.y1 <= figure.bbox.y1
        assert not any(one.overlaps(two) for two in boxes[i + 1 :])


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
