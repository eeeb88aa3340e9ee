"""A queue does what is left to do: nothing twice, nothing that changed is taken for done, nothing is lost."""

import dataclasses
import io
import json
import os
import signal
import time

import pytest
import yaml
from rich.console import Console

from nequip_like.errors import ConfigError, OutputError, TrainingError
from nequip_like.workflow.run_folder.processes import Process
from nequip_like.workflow.runner import queue
from nequip_like.workflow.runner.backend import PlannedRun, RunOutcome
from nequip_like.workflow.runner.queue import run_queue


class Recorder:
    """A backend that writes a file, and notes what it was asked for; runs of some names end otherwise."""

    def __init__(self):
        self.begun, self.ends = [], {}

    def __call__(self, request):
        return self

    def plan(self, request, awaited=()):
        return PlannedRun(request, (f"{request.task} {request.name}",))

    def run(self, plan, report, goes_on=False):
        name = plan.request.name
        self.begun.append((name, goes_on))
        report(f"working on {name}")
        if isinstance(end := self.ends.get(name), BaseException):
            raise end
        file = plan.request.run_dir / "model.safetensors"
        file.write_text(name)
        return RunOutcome({"model": file}, {"error": 0.5}, end)


@pytest.fixture
def backend():
    return Recorder()


def make_run(name, **changes):
    return {"name": name, "backend": "nequip", "run_dir": f"models/{name}", "data": {"train": "t.xyz"}, **changes}


RUNS = [make_run("a"), make_run("b"), make_run("c")]


def read_journal(tmp_path):
    return [json.loads(line) for line in (tmp_path / "run.journal.jsonl").read_text().splitlines()]


def test_a_second_time_nothing_is_done(do, backend, tmp_path):
    result, printed = do(RUNS, backend)
    assert list(result.done) == ["a", "b", "c"]
    assert "3 runs of run.yaml: 3 done" in printed
    result, printed = do(None, backend)
    assert (result.done_before, len(backend.begun)) == (["a", "b", "c"], 3)
    assert "run 2 of 3, 'b': done before, on 20" in printed
    assert [(line["name"], line["state"]) for line in read_journal(tmp_path)] == [
        (name, state) for name in "abc" for state in ("begun", "done")
    ]
    assert (tmp_path / "models/a/logs/a.log").exists()


def test_a_run_whose_section_changed_is_done_again(do, backend, tmp_path):
    do(RUNS, backend)
    _, printed = do([make_run("a"), make_run("b", train={"epochs": 3}), make_run("c")], backend)
    assert backend.begun[3:] == [("b", False)]
    assert "done again: its section of the file has changed since it was done on 20" in printed
    assert (tmp_path / "models/b/earlier-run/model.safetensors").read_text() == "b"


def test_a_run_that_another_command_did_meanwhile_is_not_done_twice(do, backend, tmp_path):
    class Double(Recorder):
        """While it does its first run, another command does the second one."""

        def run(self, plan, report, goes_on=False):
            if plan.request.name == "a":
                do(None, backend, names=["b"])
            return super().run(plan, report, goes_on)

    first = Double()
    result, printed = do(RUNS, first)
    assert (first.begun, backend.begun) == ([("a", False), ("c", False)], [("b", False)])
    assert result.done_before == ["b"]
    assert "'b' was done by another command meanwhile" in printed
    assert [line["name"] for line in read_journal(tmp_path)] == ["a", "b", "b", "a", "c", "c"]


@pytest.mark.parametrize("end", [KeyboardInterrupt(), SystemExit(1)], ids=["interrupt", "exit"])
def test_a_queue_that_was_killed_goes_on(do, backend, end):
    backend.ends["b"] = end
    with pytest.raises(type(end)):
        do(RUNS, backend)
    backend.ends.clear()
    _, printed = do(None, backend)
    assert backend.begun == [("a", False), ("b", False), ("b", True), ("c", False)]
    assert "run 1 of 3, 'a': done before" in printed
    assert "goes on: it was begun on 20" in printed


def test_a_signal_ends_the_queue(do, backend, tmp_path):
    backend.ends["b"] = signal.SIGTERM
    result, printed = do(RUNS, backend)
    assert (result.stopped_by, list(result.done)) == (signal.SIGTERM, ["a"])
    assert read_journal(tmp_path)[-1] | {"time": "", "seconds": 0, "section": ""} == {
        "name": "b", "task": "train", "state": "stopped", "section": "", "time": "", "seconds": 0, "why": "SIGTERM"
    }  # fmt: skip
    assert "1 done, 2 not begun" in printed


def test_others_are_done_when_one_fails(do, backend, tmp_path):
    backend.ends["a"] = TrainingError("the loss is nan", "lower the rate")
    result, printed = do(RUNS, backend)
    assert (result.failed, list(result.done), result.is_complete) == ({"a": "the loss is nan"}, ["b", "c"], False)
    assert printed.count("the loss is nan") == 1
    assert "-> lower the rate" in printed
    assert read_journal(tmp_path)[1]["why"] == "the loss is nan"
    backend.ends.clear()
    do(None, backend)
    assert backend.begun[3:] == [("a", True)]


def test_an_error_of_the_package_is_told_with_its_traceback(do, backend, tmp_path):
    backend.ends["a"] = ZeroDivisionError("by zero")
    result, printed = do(RUNS, backend)
    assert result.failed == {"a": "ZeroDivisionError: by zero"}
    assert "its traceback is in" in printed
    assert "Traceback" in (tmp_path / "models/a/logs/a.log").read_text()
    assert list(result.done) == ["b", "c"]


def test_runs_wait_for_what_they_read(do, backend):
    runs = [make_run("a"), make_run("b", task="finetune", model_in="models/a"), make_run("c")]
    backend.ends["a"] = TrainingError("no")
    result, printed = do(runs, backend)
    assert (result.waiting, list(result.done)) == ({"b": "a"}, ["c"])
    assert "run 2 of 3, 'b': not begun, for it reads what 'a' did not leave" in printed


def test_what_reads_from_a_newer_run_is_done_again(do, backend):
    runs = [make_run("a"), make_run("b", task="finetune", model_in="models/a")]
    do(runs, backend)
    changed = [make_run("a", train={"epochs": 2}), runs[1]]
    do(changed, backend, names=["a"])  # and the other one not yet
    _, printed = do(None, backend)
    assert backend.begun[2:] == [("a", False), ("b", False)]
    assert "done again: 'a', which it reads from, is newer" in printed


def test_what_reads_from_a_newer_run_is_done_again_also_alone(do, backend):
    runs = [make_run("a"), make_run("b", task="finetune", model_in="models/a")]
    do(runs, backend)
    do(None, backend, names=["a"], again=True)
    _, printed = do(None, backend, names=["b"])
    assert backend.begun[2:] == [("a", False), ("b", False)]
    assert "done again: 'a', which it reads from, is newer" in printed


def test_what_was_stopped_begins_anew_when_what_it_reads_from_is_newer(do, backend):
    runs = [make_run("a"), make_run("b", task="finetune", model_in="models/a")]
    backend.ends["b"] = signal.SIGTERM
    do(runs, backend)
    do(None, backend, names=["a"], again=True)
    _, printed = do(None, backend)
    assert backend.begun[2:] == [("a", False), ("b", False)]
    assert "begun anew: 'a', which it reads from, is newer" in printed
    do(None, backend)
    assert backend.begun[4:] == [("b", True)]


def test_data_that_changed_since_are_said(do, backend, tmp_path):
    (tmp_path / "t.xyz").touch()
    runs = [make_run("a"), make_run("b", data={"train": "*.xyz"})]
    do(runs, backend)
    later = time.time() + 5
    _, printed = do(None, backend)
    assert "changed" not in printed
    os.utime(tmp_path / "t.xyz", (later, later))
    _, printed = do(None, backend)
    assert printed.count("t.xyz was changed after that run had begun: --again does it again") == 2
    assert len(backend.begun) == 2


def test_a_run_whose_files_are_gone_is_done_again(do, backend, tmp_path):
    do(RUNS, backend)
    (tmp_path / "models/c/model.safetensors").unlink()
    _, printed = do(None, backend)
    assert backend.begun[3:] == [("c", False)]
    assert "model.safetensors is not there any more" in printed


def test_again(do, backend):
    do(RUNS, backend)
    _, printed = do(None, backend, names=["b"], again=True)
    assert backend.begun[3:] == [("b", False)]
    assert "done again, as --again says" in printed


def test_again_waits_for_a_trainer_that_lives_on(do, backend, tmp_path):
    """Before anything is moved: it still writes there."""
    run = make_run("a", backend="external", backend_command=["train"])
    do([run], backend)
    logs = tmp_path / "models/a/logs"
    (logs / "process.json").write_text(json.dumps(dataclasses.asdict(Process.current())))
    result, _ = do([run], backend, again=True)
    assert result.failed["a"] == f"process {os.getpid()}, which an earlier nequip-run started for this run, still runs"
    assert (tmp_path / "models/a/model.safetensors").exists()
    assert not (tmp_path / "models/a/earlier-run").exists()


def test_a_resumption_from_elsewhere_moves_what_is_in_its_folder_and_goes_on_from_its_own(do, backend, tmp_path):
    """Killed before it has a checkpoint, it must not go on from one of the run that was there before."""
    do([make_run("a"), make_run("b")], backend)
    resumed = make_run("again", task="resume", run_dir="models/a", model_in="models/b/last.ckpt")
    backend.ends["again"] = KeyboardInterrupt()
    with pytest.raises(KeyboardInterrupt):
        do([resumed], backend)
    assert (tmp_path / "models/a/earlier-run/model.safetensors").read_text() == "a"
    do([{**resumed, "run_dir": "models/b"}], backend, again=True, dry_run=True)  # of its own folder nothing is moved
    backend.ends.clear()
    do([{**resumed, "run_dir": "models/b", "name": "own"}], backend)
    assert not (tmp_path / "models/b/earlier-run").exists()


def test_files_that_differ_in_their_suffix_are_two_queues(backend, tmp_path):
    for name in ("run.yaml", "run.yml"):
        (tmp_path / name).write_text(yaml.safe_dump(make_run("a", run_dir=f"models/{name}")))
        run_queue(tmp_path / name, choose_backend=backend, console=Console(file=io.StringIO()))
    assert len(backend.begun) == 2
    names = sorted(path.name for path in tmp_path.glob("*.jsonl"))
    assert names == ["run.journal.jsonl", "run.yml.journal.jsonl"]


def test_a_file_that_is_edited_meanwhile_is_read_once(do, backend, tmp_path, monkeypatch):
    read = queue.read_requests

    def read_and_edit(path):
        requests = read(path)
        path.write_text("nothing that could be read twice")
        return requests

    monkeypatch.setattr(queue, "read_requests", read_and_edit)
    result, _ = do(RUNS, backend, names=["b"])
    assert list(result.done) == ["b"]


def test_dry_run_writes_nothing(do, backend, tmp_path):
    _, printed = do(RUNS, backend, dry_run=True)
    assert [path.name for path in tmp_path.iterdir()] == ["run.yaml"]
    assert "2. b: to be done\n   train b\n" in printed


def test_a_line_that_was_cut_off(do, backend, tmp_path):
    do(RUNS, backend)
    journal = tmp_path / "run.journal.jsonl"
    journal.write_text(journal.read_text()[:-9])  # killed while it was written down that c is done
    do(None, backend)
    assert backend.begun[3:] == [("c", True)]
    assert [line["state"] for line in read_journal(tmp_path)] == ["begun", "done"] * 2 + ["begun", "begun", "done"]


@pytest.mark.parametrize(
    "text",
    ["[1]\n", '{"name": "a"}\n', "{\n", '{"name":"a","state":"x","section":"1"}\n', "\xff\n"],
    ids=["list", "keys", "json", "state", "letters"],
)
def test_a_damaged_journal(do, backend, tmp_path, text):
    (tmp_path / "run.journal.jsonl").write_bytes(text.encode("latin-1"))
    with pytest.raises(ConfigError, match=r"run\.journal\.jsonl is no journal of runs, or is damaged"):
        do(RUNS, backend)


def test_names(do, backend, tmp_path):
    one = [{k: v for k, v in make_run("a").items() if k != "name"}]
    one.append({"backend": "nequip", "task": "export", "run_dir": "models/a", "model_in": "models/a"})
    result, _ = do(one, backend)
    assert list(result.done) == ["a-train", "a-export"]
    with pytest.raises(ConfigError, match=r"has no run 'a-trian'\n  -> did you mean 'a-train'\? there are a-export"):
        do(None, backend, names=["a-trian"])


def test_two_runs_are_not_written_into_one_another(do, backend):
    with pytest.raises(ConfigError, match="the runs 'a' and 'b' both have run_dir"):
        do([make_run("a"), make_run("b", run_dir="models/a")], backend)
    test = {"backend": "nequip", "task": "evaluate", "run_dir": "models/a", "data": {"path": "t.xyz"}}
    with pytest.raises(ConfigError, match=r"the runs 'x' and 'y' both write .*evaluate/metrics\.json"):
        do([{**test, "name": "x"}, {**test, "name": "y"}], backend)


def test_files_of_others_are_not_written_over(do, backend, tmp_path):
    (tmp_path / "metrics.json").touch()
    test = {"name": "x", "backend": "nequip", "task": "evaluate", "run_dir": "m", "data": {"path": "t.xyz"}}
    with pytest.raises(OutputError, match=r"metrics\.json is there already"):
        do([{**test, "output": {"dir": "."}}], backend)


def test_a_mistake_in_the_last_run_is_said_before_the_first_begins(do, training, tmp_path):
    runs = [training(), training(name="b", run_dir="b", train={"epochs": 1, "optimizer": "adm"})]
    with pytest.raises(ConfigError, match=r"run\.yaml, run 'b': train\.optimizer is 'adm'\n  -> did you mean 'adam'"):
        do(runs)
    runs[1] = training(name="b", run_dir="b", data={"train": "none.xyz"})
    with pytest.raises(Exception, match=r"run 'b': data\.train: there is no .*none\.xyz"):
        do(runs)
    assert [path.name for path in tmp_path.iterdir()] == ["run.yaml"]


def test_a_training_that_was_killed_before_its_artifacts_goes_on(do, training, tmp_path, monkeypatch):
    """With the real library: all epochs are done, and what was left is written."""
    from nequip_like.workflow.runner.built_in import training as module

    def be_killed(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(module, "write_artifacts", be_killed)
        with pytest.raises(KeyboardInterrupt):
            do([training()])
    weights = (tmp_path / "models/fit/checkpoints/last.ckpt").stat().st_mtime_ns
    result, printed = do()
    assert (tmp_path / "models/fit/artifacts/manifest.json").is_file()
    assert list(result.done) == ["fit"]
    assert "goes on: it was begun" in printed
    assert not (tmp_path / "models/fit/earlier-run").exists()
    assert (tmp_path / "models/fit/checkpoints/last.ckpt").stat().st_mtime_ns == weights
