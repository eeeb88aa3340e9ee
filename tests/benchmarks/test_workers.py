"""Worker processes of the benchmarks, with workers that tick an exact clock instead of working."""

import json
import sys
from pathlib import Path
from statistics import fmean, median

import pytest

needs_proc = pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory of other processes is in /proc")

FAKE = """
import json, sys, time
sys.path.insert(0, {folder!r})
import workers

spec = json.loads(sys.argv[1])
ticks = iter(spec["ticks"])  # seconds that each step is said to take
now = [0.0]
workers.time.perf_counter = lambda: now[0]
held = []

def step():
    if spec.get("fail") == len(held):
        sys.exit(3)
    if spec.get("grow"):
        held.append(b"x" * int(spec["grow"]))
    else:
        held.append(None)
    if len(held) > 4:
        now[0] += next(ticks)
        with open(spec["log"], "a") as log:
            log.write(spec["code"] + " ")
    print("noise of a library", flush=True)
    if spec.get("sleep"):
        time.sleep(spec["sleep"])
    return float(len(held))

workers.serve(step, {{"start_mb": workers.forget_peak()}})
"""


@pytest.fixture
def workers(load):
    return load("workers")


@pytest.fixture
def fake(tmp_path, workers):
    script = tmp_path / "fake.py"
    script.write_text(FAKE.format(folder=str(Path(workers.__file__).parent)))
    return str(script)


def spec(tmp_path, ticks, **rest):
    return {"threads": 1, "log": str(tmp_path / "log"), "ticks": ticks, **rest}


def turns(workers, fake, tmp_path, specs, rounds=3, steps=1, summary=median, **limits):
    specs = {code: {**spec(tmp_path, [1.0] * 9), "code": code, **own} for code, own in specs.items()}
    pythons = dict.fromkeys(specs, sys.executable)
    return workers.run_in_turn(pythons, fake, specs.get, workers.Limits(**limits), rounds, steps, summary)


def test_codes_run_round_by_round_and_ratios_are_of_the_same_round(workers, fake, tmp_path):
    crew = turns(workers, fake, tmp_path, {"ours": {"ticks": [1.0, 1.0, 2.0]}, "peer": {"ticks": [3.0, 2.0, 8.0]}})
    assert (tmp_path / "log").read_text().split() == ["ours", "peer"] * 3
    row = workers.comparison(crew, "peer")
    assert (row["ours_ms"], row["peer_ms"]) == (1000.0, 3000.0)
    assert (row["ratio"], row["ratio_min"], row["ratio_max"]) == (3.0, 2.0, 4.0)
    assert workers.peers_of(crew) == ["peer"]
    assert crew.workers["ours"].info["value"] == 1.0
    assert crew.workers["peer"].info["warmup"] == [2.0, 3.0, 4.0]
    assert all(worker.process.returncode == 0 for worker in crew.workers.values())


@pytest.mark.parametrize(("summary", "seconds"), [(median, 2.0), (fmean, 3.0)])
def test_a_round_is_one_figure_of_its_steps(workers, fake, tmp_path, summary, seconds):
    ticks = {"ours": {"ticks": [6.0, 1.0, 2.0]}}
    crew = turns(workers, fake, tmp_path, ticks, rounds=1, steps=3, summary=summary)
    assert crew.seconds == {"ours": [seconds]}
    assert workers.peers_of(crew) == [None]
    assert workers.comparison(crew, None)["ours_ms"] == 1e3 * seconds


@pytest.mark.parametrize("fail", [0, 2, 5], ids=["first step", "warm-up", "a round"])
def test_a_peer_that_ends_is_left_out(workers, fake, tmp_path, capfd, fail):
    crew = turns(workers, fake, tmp_path, {"ours": {}, "peer": {"fail": fail}})
    assert crew.left_out == {"peer": "ended with status 3; its messages are above"}
    assert "peer is left out: ended with status 3" in capfd.readouterr().out
    assert len(crew.seconds["ours"]) == 3
    assert list(crew.workers) == ["ours"]


def test_without_us_there_is_no_comparison(workers, fake, tmp_path):
    with pytest.raises(RuntimeError, match="our own worker: ended with status 3"):
        turns(workers, fake, tmp_path, {"peer": {}, "ours": {"fail": 0}})


def test_time_limit(workers, fake, tmp_path):
    with pytest.raises(workers.LeftOut, match=r"no answer within 0\.3 s"):
        workers.Worker(
            sys.executable, fake, spec(tmp_path, [], code="slow", sleep=60), workers.Limits(seconds=0.3)
        )  # fmt: skip


@needs_proc
def test_memory_limit(workers, fake, tmp_path):
    with pytest.raises(workers.LeftOut, match=r"more than 0\.1 GB of memory"):
        workers.Worker(
            sys.executable, fake, spec(tmp_path, [], code="big", grow=2e8, sleep=60), workers.Limits(gigabytes=0.1)
        )


@needs_proc
def test_peak_memory_is_that_of_the_steps(workers, fake, tmp_path):
    crew = turns(workers, fake, tmp_path, {"ours": {"grow": 2e7}}, rounds=1)  # 5 steps
    worker = crew.workers["ours"]
    assert 100 <= worker.peak_mb - worker.info["start_mb"] < 110
    assert workers.resident_megabytes(worker.process.pid) == 0.0


def test_command_line_names_peer_and_interpreter(load):
    import argparse

    command = load("command")
    parser = argparse.ArgumentParser()
    command.add_options(parser, ("nequip", "mlip"), rounds=7, steps=5)
    options = parser.parse_args(["--peer", f"mlip={sys.executable}"])
    assert command.pythons_of(parser, options, ("nequip", "mlip")) == {"ours": sys.executable, "mlip": sys.executable}
    assert (options.rounds, options.steps, options.kernel) == (7, 5, "auto")
    assert options.threads == command.processors()
    for wrong in ("other=" + sys.executable, "mlip=/nowhere/python", "mlip"):
        with pytest.raises(SystemExit):
            command.pythons_of(parser, parser.parse_args(["--peer", wrong]), ("nequip", "mlip"))


def test_table_is_written_as_it_comes(load, workers, tmp_path, capsys):
    file = tmp_path / "table.json"
    table = load("command").Table(file, {"cpu": "a"}, ("case", "ratio"))
    table.add([{"case": "l1", "batch": 5, "ratio": 2.34567}], workers.Crew({}, {"slow": "why"}, {}))
    assert capsys.readouterr().out == "case=l1 ratio=2.346\n"
    assert json.loads(file.read_text()) == {
        "cases": [{"case": "l1", "batch": 5, "ratio": 2.34567}],
        "left_out": [{"case": "l1", "batch": 5, "peer": "slow", "why": "why"}],
        "machine": {"cpu": "a"},
    }
