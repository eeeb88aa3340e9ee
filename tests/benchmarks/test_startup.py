"""The benchmark of start-up: its rows, and a whole run without peers (slow)."""

import json
import sys

import pytest


def test_rows(load):
    startup = load("startup")
    times = {
        "ours": [{"wall": 1.0, "cpu": 0.5}, {"wall": 2.0, "cpu": 1.0}, {"wall": 4.0, "cpu": 0.75}],
        "nequip": [{"wall": 3.0, "cpu": 2.0}, {"wall": 4.0, "cpu": 2.5}, {"wall": 20.0, "cpu": 3.0}],
    }
    assert startup.row_of("help", times) == {
        "case": "help",
        **{"ours_wall_s": 2.0, "ours_wall_min_s": 1.0, "ours_cpu_s": 0.75, "ours_cpu_min_s": 0.5},
        **{"nequip_wall_s": 4.0, "nequip_wall_min_s": 3.0, "nequip_cpu_s": 2.5, "nequip_cpu_min_s": 2.0},
        **{"peer": "nequip", "ratio": 3.0, "ratio_min": 2.0, "ratio_max": 5.0},
    }
    assert list(startup.row_of("help", {"ours": times["ours"]}))[-1] == "ours_cpu_min_s"


def test_a_process_is_timed(load):
    startup = load("startup")
    times = startup.timed([sys.executable, "-c", "import time; time.sleep(0.2)"])
    assert times["wall"] > 0.2
    assert times["cpu"] > 0
    with pytest.raises(RuntimeError, match=r"ended with status 3:\nno good"):
        startup.timed([sys.executable, "-c", "import sys; print('no good', file=sys.stderr); sys.exit(3)"])
    with pytest.raises(RuntimeError, match="ended with status 0"):
        startup.timed([sys.executable, "-c", ""], until_first_step=True)


@pytest.mark.slow
def test_startup(run, tmp_path):
    cases = ["import_package", "import_torch", "help", "first_step"]
    run("startup.py", "--rounds", 1, "--json", "out.json", "--cases", *cases)
    rows = {row["case"]: row for row in json.loads((tmp_path / "out.json").read_text())["cases"]}
    assert list(rows) == cases
    assert rows["import_package"]["ours_cpu_s"] < rows["import_torch"]["ours_cpu_s"] < rows["first_step"]["ours_cpu_s"]
    assert rows["help"]["ours_cpu_s"] < rows["import_torch"]["ours_cpu_s"]
