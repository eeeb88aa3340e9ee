"""Damaged tables of metrics, and servers that send something else than was asked for."""

import hashlib
import io
import urllib.error
import urllib.request
from email.message import Message

import pytest

from nequip_like.data.published import fetch
from nequip_like.errors import DataError
from nequip_like.report.curves import plot_curves
from nequip_like.report.history import read_curves
from tests.hostile.mutations import BUDGET, damaged, refused, retold

TABLE = "epoch,step,train_loss_epoch/weighted_sum,val0_epoch/forces_rmse,val0_epoch/weighted_sum\n" + "".join(
    f"{i},{10 * i + 9},{1 / (i + 1)},{0.3 / (i + 1)},{0.4 / (i + 1)}\n" for i in range(6)
)
CELLS = (
    "nan",
    "inf",
    "-inf",
    "1e400",
    "",
    '"',
    '""',
    ",",
    ",,,,,,,",
    "\x00",
    "é",
    "epoch",
    "9" * 500,
    "1e308",
    "-1",
    "'",
)


def test_damaged_metrics(tmp_path):
    path = tmp_path / "metrics.csv"
    outcomes = []
    for seed in range(BUDGET["metrics"]):
        if seed % 2:
            path.write_bytes(damaged(TABLE.encode(), seed))
        else:
            path.write_text(retold(TABLE.replace(",", " , "), seed, CELLS).replace(" , ", ","))
        outcomes.append(refused(lambda: read_curves(path)))
        if seed % 100 == 0:
            refused(lambda: plot_curves(path, tmp_path / "curves.png"))
    assert any(outcomes)
    assert not all(outcomes)


def test_a_cell_of_any_length(tmp_path):
    path = tmp_path / "metrics.csv"
    path.write_text("epoch,a\n0," + "1" * 2_000_000 + "\n")
    assert refused(lambda: read_curves(path))


class Reply(io.BytesIO):
    """What a server answers."""

    def __init__(self, content, status, headers):
        super().__init__(content)
        self.status = status
        self.headers = Message()
        for name, value in headers.items():
            self.headers[name] = value


def test_damaged_downloads(tmp_path, monkeypatch):
    content = bytes(range(256)) * 4
    right = hashlib.sha256(content).hexdigest()
    outside = tmp_path / "outside"
    outside.write_text("mine")
    for seed in range(BUDGET["downloads"]):
        sent = damaged(content, seed)
        length = str(len(sent)) if seed % 3 else "not a number" if seed % 2 else str(1 << 60)
        status = (200, 206)[seed % 2]
        headers = {"Content-Length": length, "Content-Disposition": f'attachment; filename="{outside}"'}
        monkeypatch.setattr(urllib.request, "urlopen", lambda *a, s=sent, c=status, h=headers, **k: Reply(s, c, h))
        path = tmp_path / "cache" / f"{seed}.xyz"
        was_refused = refused(lambda path=path: fetch("http://127.0.0.1/file", path, right))
        assert was_refused == (sent != content or length != str(len(sent)))
        assert path.exists() != was_refused
    assert outside.read_text() == "mine"
    assert {entry.name for entry in tmp_path.iterdir()} == {"outside", "cache"}


@pytest.mark.parametrize("error", [OSError("gone"), urllib.error.URLError("no"), TimeoutError(), ValueError("bad url")])
def test_a_server_that_fails(tmp_path, monkeypatch, error):
    def fail(*arguments, **options):
        raise error

    monkeypatch.setattr(urllib.request, "urlopen", fail)
    with pytest.raises(DataError, match="cannot download"):
        fetch("http://127.0.0.1/file", tmp_path / "a", "0" * 64)
