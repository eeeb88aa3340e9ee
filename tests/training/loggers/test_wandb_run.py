"""When a run of wandb is online, and by which name it is known."""

import pytest

from nequip_like.training.loggers.run_ids import keep_run_id, read_run_id
from nequip_like.training.loggers.wandb_run import choose_mode, has_login


@pytest.fixture
def logged_out(monkeypatch, tmp_path):
    for name in ("WANDB_MODE", "WANDB_API_KEY", "WANDB_IDENTITY_TOKEN_FILE", "WANDB_BASE_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    return tmp_path / "netrc"


def test_offline_where_nobody_is_logged_in(logged_out):
    assert not has_login()
    assert choose_mode("auto") == "offline"
    assert choose_mode("online") == "online"
    logged_out.write_text("machine example.org login me password none\n")
    assert choose_mode("auto") == "offline"
    logged_out.write_text("this is no such file\n")
    assert choose_mode("auto") == "offline"


def test_online_where_somebody_is(logged_out, monkeypatch):
    logged_out.write_text("machine api.wandb.ai login user password none\n")
    assert choose_mode("auto") == "online"
    monkeypatch.setenv("WANDB_BASE_URL", "https://wandb.example.org:8080")
    assert choose_mode("auto") == "offline"
    logged_out.write_text("machine wandb.example.org login user password none\n")
    assert choose_mode("auto") == "online"


def test_the_environment_decides(logged_out, monkeypatch):
    monkeypatch.setenv("WANDB_API_KEY", "x")
    assert choose_mode("auto") == "online"
    monkeypatch.setenv("WANDB_MODE", "disabled")
    assert choose_mode("auto") == "disabled"
    assert choose_mode("offline") == "offline"


def test_the_name_of_a_run_is_kept_in_its_folder(tmp_path):
    assert read_run_id(tmp_path, "wandb") is None
    keep_run_id(tmp_path, "wandb", "a1b2")
    assert (tmp_path / "wandb-run-id.txt").read_text() == "a1b2\n"
    assert (read_run_id(tmp_path, "wandb"), read_run_id(tmp_path, "mlflow")) == ("a1b2", None)
