"""``nequip-committee`` as a user types it."""

import pytest

from nequip_like.cli.committee import main
from nequip_like.workflow.uncertainty.outcome import Outcome
from nequip_like.workflow.uncertainty.plan import CommitteeMember
from nequip_like.workflow.uncertainty.run import CommitteeResult


@pytest.fixture
def calls(monkeypatch, tmp_path, molecule_file):
    """What the command asks for; ``calls.outcomes`` is what comes back."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "config.yaml").write_text(f"defaults: [train, _self_]\ndata: {{train: {molecule_file}}}\n")

    class Calls(list):
        outcomes = (Outcome("done"), Outcome("done"))

    made = Calls()

    def train_committee(config, *arguments, **options):
        made.append((config, arguments, options))
        members = tuple(CommitteeMember(i, i, "cpu", tmp_path) for i in range(2))
        return CommitteeResult(tmp_path, tmp_path, members, made.outcomes)

    monkeypatch.setattr("nequip_like.workflow.uncertainty.run.train_committee", train_committee)
    return made


def test_arguments(calls):
    line = "config.yaml --members 8 --base-seed 11 trainer.max_epochs=3 --parallel 2 --output out seed=4 --bootstrap"
    assert main(line.split()) == 0
    ((config, arguments, options),) = calls
    assert (config.trainer.max_epochs, config.seed, arguments) == (3, 4, (8,))
    assert options == {
        "base_seed": 11,
        "seeds": None,
        "parallel": 2,
        "devices": None,
        "bootstrap": True,
        "output": "out",
        "resume": False,
        "member": None,
    }


def test_a_failed_member_is_said(calls, capsys):
    calls.outcomes = (Outcome("done"), Outcome("failed", error="loss is NaN"))
    assert main(["config.yaml", "--members", "2"]) == 3
    assert "error: 1 of 2 members failed: 1 (loss is NaN)\n" in capsys.readouterr().err
    assert main(["config.yaml", "--member", "0"]) == 0  # the task of another member


def test_a_mistake_is_said_in_a_line(calls, capsys):
    assert main(["config.yaml", "trainer.max_epoch=3"]) == 2
    assert "error: there is no 'trainer.max_epoch'" in capsys.readouterr().err
