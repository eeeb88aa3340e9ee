"""The report of a run: its numbers are those of the files, every text is escaped, and it is the same made anew."""

import json
import re
from html.parser import HTMLParser

import numpy as np
import pytest
import yaml

from nequip_like.errors import DataError
from nequip_like.report.files import write_metrics, write_predictions
from nequip_like.report.page.compared_set import compare_evaluation, read_compared_sets
from nequip_like.report.page.report_file import compare_runs, write_report
from nequip_like.report.tables import format_number

HOSTILE = "<script>alert('x')</script>&\"quoted\""
EXACT = 1e-12


class Page(HTMLParser):
    """Cells of tables, names of elements, addresses, and the text of a page."""

    def __init__(self, text):
        super().__init__()
        self.rows, self.elements, self.attributes, self.words = [], [], [], []
        self.open = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.elements.append(tag)
        self.attributes += attrs
        if tag not in ("meta", "rect", "circle", "path"):
            self.open.append(tag)
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append(["", dict(attrs).get("title", "")])

    def handle_endtag(self, tag):
        if tag in self.open:
            assert self.open.pop() == tag

    def handle_data(self, data):
        self.words.append(data)
        if self.open and self.open[-1] in ("td", "th"):
            self.rows[-1][-1][0] += data

    def row(self, *begin):
        return next(row for row in self.rows if [cell for cell, _ in row][: len(begin)] == list(begin))


@pytest.fixture
def run_folder(tmp_path, evaluations):
    """What a run of two test sets leaves, with hostile names and texts in it."""
    folder = tmp_path / "a <b> & run"
    folder.mkdir()
    write_metrics(evaluations, folder / "metrics.json")
    write_predictions(evaluations, folder / "predictions.extxyz")
    config = {"seed": 3, "data": {"train": HOSTILE, "split_seed": 5, "seed": 7}, "output_dir": str(folder)}
    head = f"# python 3.11\n# overrides: run_name={HOSTILE}\n"
    (folder / "config.yaml").write_text(head + yaml.safe_dump(config))
    (folder / "metrics.csv").write_text(
        "epoch,step,train_loss_epoch/weighted_sum,val0_epoch/weighted_sum,val0_epoch/forces_rmse\n"
        "0,9,1.0,0.5,0.4\n1,19,0.1,nan,0.3\n2,29,0.01,0.2,0.25\n"
    )
    session = {"command": f"nequip-train {HOSTILE}", "begun": "2026-01-31 12:00:00", "seconds": 75.0, "steps": 30}
    session |= {"training_seconds": 60.0, "validation_seconds": 3.0, "epochs": 3.0, "frames": 240}
    record = {
        "sessions": [{**session, "commit": "commit abc", "versions": {"torch": HOSTILE}, "machine": {"cores": "2"}}],
        "plan": {"model": HOSTILE},
        "model": {"parameters": 1234, "kernel": "batched"},
        "data": [
            {"name": "train", "facts": [["frames", "20"], ["labels", HOSTILE]], "warnings": [HOSTILE],
             "described": {"level_of_theory": "PBE/def2-SVP"}},
        ],
        "reference_energies": "H -13.6",
        "best": {"monitored": "val0_epoch/weighted_sum", "value": 0.2, "epoch": 2, "step": 30, "weights": "ema",
                 "metrics": {"val0_epoch/forces_rmse": 0.25}},
        "ends": [HOSTILE],
    }  # fmt: skip
    (folder / "run.json").write_text(json.dumps(record))
    return folder


def test_numbers_are_those_of_metrics_json(run_folder, evaluations):
    text = write_report(run_folder).read_text()
    # The tables of the first test set; those of the validation come before.
    page, whole = Page(text[text.index('id="test0"') :]), Page(text)
    metrics = json.loads((run_folder / "metrics.json").read_text())
    values = metrics["mixed [set]"]
    for label, unit, name, own, factor in (
        ("energy per atom", "meV/atom", "per_atom_energy", "eV/atom", 1e3),
        ("forces", "meV/Å", "forces", "eV/Å", 1e3),
        ("stress", "meV/Å³", "stress", "eV/Å³", 1e3),
    ):
        cells = page.row(label, unit)[2:]
        exact = [values[f"{name}_{kind}"] for kind in ("mae", "rmse", "maxabserr")]
        assert [title for _, title in cells] == [f"{value!r} {own}" for value in exact]
        assert [text for text, _ in cells] == [format_number(value * factor) for value in exact]
    for symbol in ("H", "C", "O"):
        cells = page.row(symbol)
        assert cells[2][1] == f"{values[f'forces_mae_{symbol}']!r} eV/Å"
    first = whole.row("mixed [set]")
    assert [title for _, title in first[1:3]] == [
        f"{values[f'per_atom_energy_{kind}']!r} eV/atom" for kind in ("mae", "rmse")
    ]
    worst = evaluations["mixed [set]"].worst[0]
    cells = page.row(str(worst.index))
    assert format_number(worst.error * 1e3) in [text for text, _ in cells]


def test_what_a_supplement_states_is_there(run_folder):
    text = write_report(run_folder).read_text()
    page = Page(text)
    assert page.row("level_of_theory")[1][0] == "PBE/def2-SVP"
    assert page.row("seed of the split")[1][0] == "5"
    assert page.row("weights")[1][0] == "of epoch 2, step 30 (ema)"
    assert page.row("parameters")[1][0] == "1,234 trained"
    assert page.row("code")[1][0] == "commit abc"
    times = [cell for cell, _ in page.row("2026-01-31 12:00:00")]
    assert times == ["2026-01-31 12:00:00", "1 min 15 s", "1 min 0 s", "3 s", "30", "2e+03 ms", "3", "20 s", "4"]
    assert "Energies are in eV" in text


def test_hostile_texts_are_text(run_folder):
    """No element, no script and no address comes out of names, configs, warnings or commands."""
    text = write_report(run_folder).read_text()
    page = Page(text)
    assert "<script" not in text
    assert "script" not in page.elements
    assert "".join(page.words).count(HOSTILE) >= 7
    assert {element for element in page.elements if element in ("b", "img", "link", "iframe", "object")} == set()
    addresses = [value for name, value in page.attributes if name in ("href", "src", "action")]
    assert all(address.startswith("#") for address in addresses)
    assert not re.search(r"https?://", text)
    assert page.open == []


def test_the_report_is_the_same_made_anew(run_folder, evaluations):
    """What is at hand when a run ends, and what is read from its files later, are one."""
    at_the_end = write_report(run_folder, evaluations).read_bytes()
    assert write_report(run_folder).read_bytes() == at_the_end


def test_sets_are_read_as_they_were_written(run_folder, evaluations):
    for (name, evaluation), read in zip(
        evaluations.items(), read_compared_sets(run_folder / "predictions.extxyz"), strict=True
    ):
        made = compare_evaluation(name, evaluation)
        assert (read.name, list(read.origins), list(read.symbols)) == (name, list(made.origins), list(made.symbols))
        for quantity in ("energies", "forces", "stress"):
            for ours, theirs in zip(getattr(made, quantity), getattr(read, quantity), strict=True):
                np.testing.assert_array_equal(ours, theirs)


def test_errors_of_a_set_are_those_of_its_evaluation(evaluations):
    evaluation = evaluations["mixed [set]"]
    compared = compare_evaluation("set", evaluation)
    pairs = compared.select_forces()
    for symbol, pair in pairs.items():
        mae = np.abs(pair.predictions - pair.labels).mean()
        assert mae == pytest.approx(evaluation.metrics[f"forces_mae_{symbol}"], rel=EXACT)
    ranges = compared.list_force_ranges()
    assert sum(entry.atoms for entry in ranges) * 3 == sum(len(pair.labels) for pair in pairs.values())
    squares = sum(entry.atoms * entry.rmse**2 for entry in ranges) / sum(entry.atoms for entry in ranges)
    assert np.sqrt(squares) == pytest.approx(evaluation.metrics["forces_rmse"], rel=EXACT)
    assert [(frame.index, frame.forces) for frame in compared.list_worst()] == [
        (frame.index, pytest.approx(frame.error, rel=EXACT)) for frame in evaluation.worst
    ]


def test_all_plots_are_there(run_folder):
    text = write_report(run_folder).read_text()
    labels = re.findall(r'<svg [^>]*aria-label="([^"]*)"', text)
    assert labels[:2] == ["weighted sum (arb. units)", "force RMSE (meV/Å)"]
    assert labels.count("predicted against labelled energy per atom") == 2
    assert labels.count("predicted against labelled force component") == 2
    assert "predicted against labelled stress component" in labels
    assert "distribution of the errors of the energies" in labels
    assert "nan" not in "".join(re.findall(r"<svg.*?</svg>", text, re.DOTALL))


def test_a_run_without_tests(run_folder):
    for name in ("metrics.json", "predictions.extxyz"):
        (run_folder / name).unlink()
    text = write_report(run_folder).read_text()
    assert "Training" in text
    assert "Test set" not in text


def test_a_test_of_nequip_test(run_folder):
    for name in ("config.yaml", "metrics.csv", "run.json"):
        (run_folder / name).unlink()
    text = write_report(run_folder).read_text()
    assert "Test set mixed [set]: 7 frames" in text
    assert "Configuration" not in text


def test_folders_and_files_that_are_none(tmp_path, run_folder):
    with pytest.raises(DataError, match=r"has none of config\.yaml, metrics\.csv and metrics\.json"):
        write_report(tmp_path)
    with pytest.raises(DataError, match="is no folder"):
        write_report(tmp_path / "nothing")
    (run_folder / "run.json").write_text("{")
    with pytest.raises(DataError, match=r"cannot read .*run\.json"):
        write_report(run_folder)
    (run_folder / "run.json").write_text("[]")
    with pytest.raises(DataError, match=r"run\.json holds no mapping"):
        write_report(run_folder)
    (run_folder / "run.json").unlink()
    (run_folder / "predictions.extxyz").write_text("2\nProperties=species:S:1:pos:R:3\nH 0 0\n")
    with pytest.raises(DataError, match=r"cannot read .*predictions\.extxyz"):
        write_report(run_folder)


# --- several runs


def make_run(folder, rmse, layers):
    folder.mkdir(parents=True)
    (folder / "metrics.json").write_text(json.dumps({"test": {"forces_rmse": rmse, "forces_mae": rmse / 2}}))
    (folder / "config.yaml").write_text(yaml.safe_dump({"model": {"num_layers": layers}, "output_dir": str(folder)}))
    (folder / "metrics.csv").write_text(f"epoch,step,val0_epoch/forces_rmse\n0,9,{2 * rmse}\n1,19,{rmse}\n")
    return folder


def test_runs_are_sorted_by_an_error(tmp_path):
    settings = (("x", 0.3, 2), ("y", 0.1, 3), ("z", 0.2, 4))
    runs = [make_run(tmp_path / f"{name}/run", rmse, layers) for name, rmse, layers in settings]
    page = Page(compare_runs(runs, tmp_path / "all.html").read_text())
    order = [row[0][0] for row in page.rows if row[0][0].endswith("/run") and len(row) > 4]
    assert order == ["y/run", "z/run", "x/run"]
    assert page.row("y/run")[2] == ["100.0", "0.1 eV/Å"]
    assert [cell for cell, _ in page.row("model.num_layers")[1:]] == ["3", "4", "2"]
    assert not any(row[0][0] == "output_dir" for row in page.rows)
    assert "polyline" in page.elements


def test_an_error_that_no_run_has(tmp_path):
    runs = [make_run(tmp_path / name, 0.1, 2) for name in "ab"]
    with pytest.raises(DataError, match=r"no run has the error 'test/force_rmse'\n.*did you mean 'test/forces_rmse'"):
        compare_runs(runs, tmp_path / "all.html", "test/force_rmse")
