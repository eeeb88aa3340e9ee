"""Damaged and hostile configs, given to the command itself: exit status 2 and one line, and nothing is run."""

import contextlib
import io
import sys
from unittest import mock

import pytest

from nequip_like.cli.train import main
from tests.hostile.mutations import damaged, retold, share, time_limit

CONFIG = """\
defaults: [train, _self_]
data: {train: none.xyz, val: 5, test: 0.1, key_mapping: {dft: total_energy}}
cutoff_radius: 4.0
chemical_species: [H, O]
model:
  num_layers: 2
  num_features: 4
  per_type_energy_shifts: {H: -13.6, O: -2041.0}
training_module:
  loss: {coeffs: {total_energy: 1.0, forces: 1.0}}
  optimizer: {lr: 0.01}
trainer: {max_epochs: 1, accelerator: cpu}
"""
WORDS = (
    "nan", "-1", "1e400", "null", "true", "[]", "{}", "[[[[", "*anchor", "&anchor", "!!python/name:os.system", "!!set",
    "${", "${nothing}", "${oc.env:NOWHERE}", "${data}", "${training_data_stats:x}", "<<: *a", "|", ">", "---", "\t",
    "é", "'", '"', "os.system", "_target_:", "defaults:", "0o17", "9" * 300, "2026-01-01", "@package", "override", "/",
    "???",
)  # fmt: skip
BATCHES = 8


@pytest.fixture
def status(tmp_path, monkeypatch):
    """Exit status and error stream of the command for a config."""
    monkeypatch.chdir(tmp_path)

    def status(config):
        (tmp_path / "config.yaml").write_bytes(config if isinstance(config, bytes) else config.encode())
        stream = io.StringIO()
        arguments = ["nequip-train", "config.yaml", "run=[train]"]
        with (
            mock.patch.object(sys, "argv", arguments),
            contextlib.redirect_stderr(stream),
            contextlib.redirect_stdout(io.StringIO()),
            time_limit(20.0),
        ):
            try:
                main()
            except SystemExit as end:
                return end.code, stream.getvalue()
        return 0, stream.getvalue()

    return status


def check(outcome):
    code, stream = outcome
    assert "Traceback" not in stream
    assert code == 2, stream
    assert stream.startswith("error: ")
    assert len(stream.splitlines()) <= 2


def test_the_config_itself_fails_for_its_data_only(status):
    assert status(CONFIG)[1].startswith("error: no such file: ")


@pytest.mark.parametrize("batch", [0, *(pytest.param(i, marks=pytest.mark.slow) for i in range(1, BATCHES))])
def test_damaged_configs(status, batch):
    for seed in share("configs", batch, BATCHES):
        check(status(damaged(CONFIG.encode(), seed) if seed % 4 == 0 else retold(CONFIG, seed, WORDS)))


ATTACKS = {
    "tag of Python": "evil: !!python/object/apply:os.system ['touch {canary}']\n",
    "tag that makes an object": "evil: !!python/object/new:subprocess.Popen [['touch', '{canary}']]\n",
    "target": "training_module: {{optimizer: {{_target_: os.system, command: 'touch {canary}'}}}}\n",
    "target of the model": "model: {{_target_: builtins.eval, _args_: [\"open('{canary}', 'w')\"]}}\n",
    "callback": "callbacks: {{evil: {{_target_: subprocess.run, args: [touch, '{canary}']}}}}\n",
    "partial": "callbacks: {{evil: {{_target_: os.system, _partial_: true, command: 'touch {canary}'}}}}\n",
    "by way of this package": "callbacks: {{evil: {{_target_: nequip_like.cli.errors.sys.exit}}}}\n",
    "by way of torch": "model: {{_target_: torch.hub.load, repo_or_dir: x/y, model: z}}\n",
    "hydra's callbacks": "hydra: {{callbacks: {{evil: {{_target_: os.system, command: 'touch {canary}'}}}}}}\n",
    "resolver": "seed: ${{eval:open('{canary}','w')}}\n",
}


@pytest.mark.parametrize("name", list(ATTACKS))
def test_code_in_a_config_is_not_run(status, canary, name):
    check(
        status(
            "defaults: [train, _self_]\ndata: {train: none.xyz}\ncutoff_radius: 4.0\n"
            + ATTACKS[name].format(canary=canary)
        )
    )


LAUGHS = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 10)
)
BOMBS = {
    "a billion laughs": CONFIG + LAUGHS,
    "brackets": "a: " + "[" * 5000,
    "nested": "a: " + "{a: " * 5000 + "1" + "}" * 5000,
    "a reference to itself": CONFIG + "a: ${a}\n",
    "nested references": CONFIG + "a: " + "${b." * 500 + "}" * 500 + "\n",
}


@pytest.mark.parametrize("name", list(BOMBS))
def test_bombs(status, name):
    check(status(BOMBS[name]))
