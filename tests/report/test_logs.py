"""What trials log, in every form of the report: all of it as data, some of it drawn."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from browser import Page
from report.studies import Made, store

import orchestrator as orch
from orchestrator.report import reader
from orchestrator.report.cv_results import render_logs
from orchestrator.report.reader import summarise
from orchestrator.report.render import render, write
from orchestrator.storage.database import Database
from orchestrator.storage.studies import StoredStudy, delete

SCHEMA = Path(__file__).parents[2] / "docs" / "report.schema.json"
HOSTILE = "</script><img src=http://evil.example/x>"
PARAMS = {"learning_rate": 0.01, "units": 64, "activation": "relu"}


def made(number: int, steps: int = 4, **logs: Any) -> Made:
    curve = [0.5 + number / 1000 + step / 100 for step in range(1, steps + 1)]
    state = "PRUNED" if number % 2 else "COMPLETE"
    logged = {
        "loss": [1 / step for step in range(1, steps + 1)],
        "val_accuracy": curve,
        "learning_rate": [10.0**-step for step in range(1, steps + 1)],
        **logs,
    }
    return Made(state, PARAMS, curve[-1:], curve, logs=logged)


@pytest.fixture
def study(database: Database, name: str) -> Iterator[StoredStudy]:
    """Six trials; one has logged odd names and numbers, one nothing."""
    odd: dict[str, Any] = {
        "=1+1": [1, math.nan, math.inf, 2],
        HOSTILE: [1, 2, 3, 4],
        "step": [4, 3, 2, 1],
    }
    trials = [*(made(number) for number in range(4)), made(4, **odd)]
    trials.append(Made("COMPLETE", PARAMS, [0.4], [0.3, 0.4]))
    stored = store(database, name, trials, metric="val_accuracy")
    yield stored
    delete(database, stored)


def loaded(database: Database, study: StoredStudy) -> orch.Study:
    return orch.load_study(study.name, storage=database.url)


def test_the_json_has_every_value_of_every_step(database: Database, study: StoredStudy) -> None:
    report = json.loads(loaded(database, study).report(format="json"))
    jsonschema.validate(report, json.loads(SCHEMA.read_text()))
    first, odd, bare = (report["trials"][number]["logs"] for number in (0, 4, 5))
    assert list(first) == ["loss", "val_accuracy", "learning_rate"]
    assert first["loss"] == {"1": 1.0, "2": 0.5, "3": 1 / 3, "4": 0.25}
    assert odd["=1+1"] == {"1": 1, "2": None, "3": None, "4": 2}, "no JSON has a NaN"
    assert bare == {}
    assert loaded(database, study).summary().trials[0].logs == first


def test_the_csv_has_the_last_values_and_all_of_them_in_a_file_beside_it(
    database: Database, study: StoredStudy, tmp_path: Path
) -> None:
    summary = loaded(database, study).summary(format="csv")
    assert write(summary, "csv", tmp_path / "trials.csv") == [tmp_path / "trials-logs.csv"]
    rows = list(csv.DictReader(io.StringIO((tmp_path / "trials.csv").read_text())))
    assert [row["last_loss"] for row in rows] == ["0.25"] * 5 + [""]
    assert rows[4]["last_=1+1"] == "2.0" and rows[0]["last_=1+1"] == ""
    header, *lines = csv.reader(io.StringIO((tmp_path / "trials-logs.csv").read_text()))
    assert header[:3] == ["number", "step", "log_loss"] and len(header) == 8
    assert not [name for name in header if name[0] in "=+-@"], "a spreadsheet calculates nothing"
    assert [line[:3] for line in lines[:2]] == [["0", "1", "1.0"], ["0", "2", "0.5"]]
    assert len(lines) == 5 * 4
    again = dict(zip(header, lines[17], strict=True))
    assert (again["number"], again["step"], again["log_step"], again["log_=1+1"]) == (
        "4", "2", "3.0", ""
    )  # fmt: skip


def test_a_study_that_logs_nothing_has_no_such_column_or_file(
    database: Database, name: str, tmp_path: Path
) -> None:
    stored = store(database, name, [Made("COMPLETE", PARAMS, [0.4], [0.3, 0.4])])
    summary = summarise(database, stored, logs="all")
    assert "last_" not in render(summary, "csv") and len(render_logs(summary).splitlines()) == 1
    assert write(summary, "csv", tmp_path / "trials.csv") == []
    curves = render(summary, "html").split('id="curves"')[1].split("</figure>")[0]
    assert "Learning curves" in curves and "<select" not in curves
    delete(database, stored)


@pytest.mark.parametrize("format", ["text", None])
def test_what_shows_no_logs_reads_none(
    database: Database, study: StoredStudy, format: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*arguments: Any) -> Any:
        raise AssertionError("logs are read")

    monkeypatch.setattr(reader, "read_logs", refuse)
    found = loaded(database, study)
    assert "val_accuracy" in found.report(format=format)
    assert found.best_trials(2) and found._repr_html_() and orch.list_studies(storage=database.url)
    assert summarise(database, study).missing == {}


def test_the_rows_of_a_dataframe_are_steps(database: Database, study: StoredStudy) -> None:
    pytest.importorskip("pandas", reason="pandas is not installed")
    frame = loaded(database, study).to_dataframe(logs=True)
    assert frame.index.names == ["number", "step"] and len(frame) == 5 * 4
    assert list(frame.columns[:3]) == ["loss", "val_accuracy", "learning_rate"]
    assert frame.loc[0]["loss"].tolist() == [1, 0.5, 1 / 3, 0.25]
    assert math.isinf(frame.loc[4, 3]["=1+1"]) and frame.loc[4, 2]["step"] == 3


def test_parquet_has_a_row_for_each_trial_with_its_logs(
    database: Database, study: StoredStudy, tmp_path: Path
) -> None:
    parquet = pytest.importorskip("pyarrow.parquet", reason="pyarrow is not installed")
    loaded(database, study).report(tmp_path / "trials.parquet")
    rows = parquet.read_table(tmp_path / "trials.parquet").to_pylist()
    assert [row["number"] for row in rows] == [0, 1, 2, 3, 4, 5]
    assert rows[0]["param_units"] == 64 and rows[0]["param_activation"] == "relu"
    assert rows[5]["intermediate"] == [{"step": 1, "value": 0.3}, {"step": 2, "value": 0.4}]
    assert rows[5]["logs"] == []
    odd = [each for each in rows[4]["logs"] if each["name"] == "=1+1"]
    assert [(each["step"], each["value"]) for each in odd] == [(1, 1), (2, None), (3, None), (4, 2)]


def test_parameters_of_mixed_types_are_json_in_parquet(
    database: Database, study: StoredStudy, tmp_path: Path
) -> None:
    parquet = pytest.importorskip("pyarrow.parquet", reason="pyarrow is not installed")
    summary = summarise(database, study, logs="all")
    summary.trials[0].params = {"units": "many", "huge": 10**30}
    write(summary, "parquet", tmp_path / "trials.parquet")
    rows = parquet.read_table(tmp_path / "trials.parquet").to_pylist()
    assert [row["param_units"] for row in rows[:2]] == ['"many"', "64"]
    assert rows[0]["param_huge"] == str(10**30) and rows[1]["param_huge"] is None


# The page

_SHOWN = """
return [...document.querySelectorAll("#curves .view")].filter((view) => !view.hidden).map((view) =>
    [view.querySelector("p").innerText, view.querySelector("svg").getBoundingClientRect().width > 100]);
"""
_CHOOSE = """
const select = document.querySelector("#curves select");
select.selectedIndex = [...select.options].findIndex((option) => option.text === %s);
select.dispatchEvent(new Event("change", {bubbles: true}));
"""


def test_the_page_switches_between_the_metric_and_all_that_is_logged(
    database: Database, study: StoredStudy, page: Page, as_file: Path
) -> None:
    loaded(database, study).report(as_file)
    page.open(as_file.as_uri())
    assert page.complaints() == []
    assert [each for each in page.requests() if "evil" in each] == []
    options = page.script(
        "return [...document.querySelector('#curves select').options].map((o) => o.text)"
    )
    assert options == ["val_accuracy", "loss", "learning_rate", "=1+1", HOSTILE, "step"]
    [(caption, is_drawn)] = page.script(_SHOWN)
    assert caption.startswith("The val_accuracy by step") and is_drawn
    for name in ("loss", HOSTILE, "val_accuracy"):
        page.script(_CHOOSE % json.dumps(name))
        [(caption, is_drawn)] = page.script(_SHOWN)
        assert caption.startswith(f"The {name} by step") and is_drawn


def test_the_pointer_names_a_trial_in_what_is_logged(
    database: Database, study: StoredStudy, page: Page, as_file: Path
) -> None:
    loaded(database, study).report(as_file)
    page.open(as_file.as_uri())
    page.script(_CHOOSE % '"loss"')
    trial, named = page.script(
        """
        const drawing = document.querySelector("#curves-0 svg");
        drawing.scrollIntoView();
        const point = JSON.parse(document.getElementById("point-data").textContent)["curves-0"].at(-1);
        const box = drawing.getBoundingClientRect(), scale = box.width / drawing.viewBox.baseVal.width;
        const at = {clientX: box.left + point[0] * scale, clientY: box.top + point[1] * scale};
        drawing.dispatchEvent(new PointerEvent("pointermove", {...at, bubbles: true}));
        return new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(() => done(
            [point[2], document.getElementById("tip").innerText]))));
        """
    )
    assert named.startswith(f"trial {trial},")


def test_a_study_that_only_logs_has_its_curves_too(database: Database, name: str) -> None:
    """Also one of several metrics, of which none can be reported."""
    logs: dict[str, Sequence[float]] = {
        "loss": [3.0, 2.0, 1.0],
        "constant": [1.0] * 3,
        "none": [math.nan] * 3,
    }
    trials = [Made("COMPLETE", PARAMS, [0.5, 1.0], logs=logs)] * 3
    stored = store(
        database, name, trials, metric=["a", "b"], direction=["maximize", "minimize"]
    )  # fmt: skip
    page = render(summarise(database, stored, logs="drawn"), "html")
    assert "The loss by step" in page and "The constant by step" in page
    assert "The none by step" not in page
    delete(database, stored)


def test_a_large_study_has_a_small_page(database: Database, name: str) -> None:
    """Of forty trials of each kind fifty steps are read, and the same are drawn of all."""
    trials = [made(number, steps=120) for number in range(200)]
    for trial in trials:
        trial.logs = {**trial.logs, **{f"more {n}": trial.curve for n in range(30)}}
    stored = store(database, name, trials, metric="val_accuracy")
    drawn = summarise(database, stored, logs="drawn")
    with_logs = [trial for trial in drawn.trials if trial.logs]
    assert 80 <= len(with_logs) <= 81
    assert all(len(curve) <= 50 for trial in with_logs for curve in trial.logs.values())
    assert all(list(trial.logs["loss"])[-1] == "120" for trial in with_logs)
    page = render(drawn, "html")
    assert "40 of 100 pruned trials drawn" in page
    assert "8 further logs only in the JSON" in page
    assert len(page) < 3_000_000
    everything = render(summarise(database, stored, logs="all"), "html")
    assert abs(len(everything) - len(page)) < 0.02 * len(page)
    delete(database, stored)
