"""The report's other forms: text, Markdown, CSV, and JSON with its published schema."""

from __future__ import annotations

import csv
import io
import json
import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable
from pathlib import Path

import jsonschema
import pytest
from conftest import Orch

from orchestrator.report.figures.effort import _trained, timeline
from orchestrator.report.listing import best_page
from orchestrator.report.pruning import Epochs
from orchestrator.report.render import render, schema, write
from orchestrator.report.summary import Summary, WorkerSummary, took_part
from orchestrator.report.verdict import verdict

pytestmark = pytest.mark.usefixtures("stored")

STUDIES = ["empty", "one", "pruned", "failed", "hostile", "pareto", "many", "infinite", "auto"]
SCHEMA = Path(__file__).parents[2] / "docs" / "report.schema.json"


@pytest.mark.parametrize("name", STUDIES)
def test_the_json_report_matches_the_published_schema(
    summary_of: Callable[[str], Summary], name: str
) -> None:
    published = json.loads(SCHEMA.read_text())
    jsonschema.Draft202012Validator.check_schema(published)
    jsonschema.validate(json.loads(render(summary_of(f"report-{name}"), "json")), published)


def test_the_published_schema_is_what_orch_prints() -> None:
    assert schema() == SCHEMA.read_text()


@pytest.mark.parametrize("name", STUDIES)
def test_the_text_fits_eighty_columns(summary_of: Callable[[str], Summary], name: str) -> None:
    lines = render(summary_of(f"report-{name}"), "text").splitlines()
    assert [line for line in lines if len(line) > 80] == []


def test_the_text_draws_the_history_and_the_curves(
    summary_of: Callable[[str], Summary],
) -> None:
    text = render(summary_of("report-many"), "text")
    plot = text.partition("the line is the best\n")[2].partition("\n\n")[0].splitlines()
    assert len(plot) == 8 and any("\u2801" <= each <= "\u28ff" for each in plot[0])
    assert re.search(r"^ +\d+  [▁▂▃▄▅▆▇█]{9}$", text, re.M)


def test_a_markdown_report_writes_its_figures_beside_it(
    summary_of: Callable[[str], Summary], tmp_path: Path
) -> None:
    path = tmp_path / "report.md"
    write(summary_of("report-many"), "markdown", path)
    pictures = re.findall(r"!\[[^]]*\]\(([^)]+)\)", path.read_text())
    assert len(pictures) >= 10 and sorted(pictures) == sorted(
        each.name for each in tmp_path.glob("*.svg")
    )
    for picture in pictures:
        root = ElementTree.parse(tmp_path / picture).getroot()
        assert root.tag == "{http://www.w3.org/2000/svg}svg" and len(root) > 4
    printed = render(summary_of("report-many"), "markdown")
    assert "![" not in printed and printed.startswith("# report-many\n\nSo far, trial ")


def test_user_supplied_names_are_escaped_in_every_format(
    summary_of: Callable[[str], Summary],
) -> None:
    hostile = summary_of("report-hostile")
    printed = render(hostile, "markdown")
    assert "\\<b>score" in printed and "</script>" not in printed
    assert "</script><img" not in render(hostile, "html")


def test_csv_has_a_line_for_each_configuration(
    summary_of: Callable[[str], Summary],
) -> None:
    rows = list(csv.DictReader(io.StringIO(render(summary_of("report-many"), "csv"))))
    assert len(rows) == 79, "a retried attempt has no line of its own"
    first = min(
        (row for row in rows if row["rank_test_score"]), key=lambda r: int(r["rank_test_score"])
    )
    report = json.loads(render(summary_of("report-many"), "json"))
    assert int(first["number"]) == report["best"]["number"]
    assert float(first["mean_test_score"]) == report["best"]["value"]


def test_an_infinite_value_is_best_in_no_format(summary_of: Callable[[str], Summary]) -> None:
    none = summary_of("report-infinite")
    assert none.best is None and none.ranked() == []
    assert none.verdict[0] == "None of the 3 complete trials has a finite value."
    one = summary_of("report-one-finite")
    assert one.best is not None and one.best.number == one.ranked()[0].number == 1


def test_rungs_that_depend_on_each_process_are_omitted(
    summary_of: Callable[[str], Summary],
) -> None:
    summary = summary_of("report-auto")
    assert summary.rungs == [] and summary.trials[0].bracket == 0


def test_savings_by_pruning_are_shown_once_and_in_steps_for_a_function(
    summary_of: Callable[[str], Summary],
) -> None:
    many = summary_of("report-many")
    text = render(many, "text")
    assert text.count("saved") == 1 and "epoch" not in text and "training" not in text
    assert " steps run instead of " in text and "with one run each" in text
    network = many.model_copy(update={"has_epochs": True})
    network.verdict = verdict(network)
    for form in ("text", "markdown"):
        told = render(network, form)
        assert told.count("saved") == 1 and " epochs trained instead of " in told
        assert "with one training each" in told
    silent = many.model_copy(
        update={"epochs": Epochs(trained=0, without_pruning=0, saved_ratio=None)}
    )
    assert verdict(silent)[-1].startswith("It took ")


def test_a_tie_for_the_best_value_reports_no_lead(
    summary_of: Callable[[str], Summary],
) -> None:
    many = summary_of("report-many").model_copy(deep=True)
    first, second = many.ranked()[:2]
    second.value = first.value
    best, other = sorted((first.number, second.number))
    assert f"Trial {other} has the same value." in verdict(many)
    assert many.ranked()[0].number == best


def test_consecutive_workers_are_not_reported_as_parallel(
    summary_of: Callable[[str], Summary],
) -> None:
    many = summary_of("report-many")

    def session(joined: float, seen: float) -> list[WorkerSummary]:
        times = {"joined_seconds": joined, "last_seen_seconds": seen}
        return [worker.model_copy(update=times) for worker in many.workers]

    again = many.model_copy(update={"workers": session(90, 60) + session(50, 2)})
    assert took_part(many.model_copy(update={"workers": session(90, 60)})) == "2 workers"
    assert took_part(again) == "4 workers, at most 2 at once"
    assert verdict(again)[-1].endswith(" on 4 workers, at most 2 at once.")
    assert took_part(summary_of("report-empty")) == ""


@pytest.mark.parametrize("form", ["text", "markdown", "html"])
def test_every_format_says_why_a_trial_failed_and_which_workers_had_different_software(
    summary_of: Callable[[str], Summary], form: str
) -> None:
    many = summary_of("report-many").model_copy(
        deep=True, update={"mismatches": ["north: x"], "retries": 0}
    )
    many.states.failed = 1
    told = render(many, form)
    assert re.search(r"(Failed|last failure|last failure:)( \|)? lost", told), "beside the winner"
    assert re.search(r"[Mm]ixed +software( on| \|) north: x", told)
    assert "0 retries" not in told
    one = render(summary_of("report-one"), form)
    assert "relu" in one.partition("activation")[2], "of a single trial, all parameters"


def test_orch_best_says_why_a_study_has_no_best_trial(
    summary_of: Callable[[str], Summary],
) -> None:
    failed = best_page(summary_of("report-failed"), 1)
    assert failed == "There is no winner: 3 configurations failed. The last reason: ValueError: no."
    assert best_page(summary_of("report-empty"), 1).startswith("No trial has run yet. Start ")
    assert best_page(summary_of("report-many"), 1).endswith(" % of the steps saved")
    for name in ("failed", "empty", "pruned"):
        assert "complete yet" not in render(summary_of(f"report-{name}"), "text")


def test_a_trial_pruned_by_its_bracket_is_not_reported_as_ended_externally(
    summary_of: Callable[[str], Summary],
) -> None:
    many = summary_of("report-many").model_copy(deep=True)
    next(trial for trial in many.trials if trial.state == "PRUNED").worker = ""
    drawn = timeline(many)
    assert drawn is not None and "paused, then pruned" in drawn.body
    assert "ended from outside" not in drawn.body


def test_the_verdict_counts_only_parameters_of_the_best_trial(
    summary_of: Callable[[str], Summary],
) -> None:
    many = summary_of("report-many").model_copy(deep=True)
    assert many.best is not None
    for trial in many.trials:
        if trial.number != many.best.number:
            trial.params["units_2"] = trial.number
    assert "further parameter" not in verdict(many)[0]


def test_orch_report_prints_what_the_test_helper_reads(orch: Orch) -> None:
    printed = json.loads(orch.ok("report", "report-many", "--format", "json"))
    asked = orch.report("report-many")
    for report in (printed, asked):
        assert len(report.pop("workers")) == 2  # how long ago each was seen differs
    assert printed == asked


def test_the_bar_of_a_trial_that_its_plan_pruned_is_where_it_trained(
    summary_of: Callable[[str], Summary],
) -> None:
    pruned = next(t for t in summary_of("report-many").trials if t.state == "PRUNED")
    times = {"started_seconds": 10.0, "ended_seconds": 90.0, "seconds": 5.0}
    assert _trained(pruned.model_copy(update={**times, "paused": True})) == (10.0, 15.0)
    assert _trained(pruned.model_copy(update=times)) == (85.0, 90.0)
