"""What came after the search: the report, orch best and orch refit follow the winner."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from conftest import Orch

from orchestrator.report.reader import summarise
from orchestrator.report.render import render
from orchestrator.report.winner import read_confirmation, read_winner
from orchestrator.storage.database import Database, script
from orchestrator.storage.studies import open_study, raise_budget, read_trials
from orchestrator.winner.confirm import confirm_study

SCHEMA = Path(__file__).parents[2] / "docs" / "report.schema.json"
SPACE = 'kind={choice=["lucky","good","poor"]}'


def search(orch: Orch, name: str) -> None:
    orch.ok(
        "run", "lucky:value", "--study", name, "--sampler", "grid", "--param", SPACE,
        "--trials", "3", "--workers", "1", "--direction", "maximize", "--seed", "1",
    )  # fmt: skip


@pytest.fixture
def searched(orch: Orch, name: str) -> str:
    """A study whose best trial was lucky."""
    search(orch, name)
    return name


def confirm(orch: Orch, name: str) -> None:
    orch.ok("confirm", name, "--top", "3", "--seeds", "4", "--workers", "1")


def number_of(report: dict[str, Any], kind: str) -> int:
    found = next(each for each in report["trials"] if each["params"]["kind"] == kind)
    return int(found["number"])


def test_a_confirmation_names_the_winner_in_every_form(
    orch: Orch, searched: str, database: Database
) -> None:
    before = orch.report(searched)
    lucky, good = number_of(before, "lucky"), number_of(before, "good")
    assert before["confirmed"] is None and before["winner"]["number"] == lucky
    assert before["winner"]["chosen_by"] == "search"
    assert f"orch confirm {searched}" in " ".join(before["verdict"])
    confirm(orch, searched)
    after = orch.report(searched)
    jsonschema.validate(after, json.loads(SCHEMA.read_text()))
    assert after["best"]["number"] == lucky, "best stays the search's"
    winner, confirmed = after["winner"], after["confirmed"]
    assert (winner["number"], winner["chosen_by"], winner["seeds"]) == (good, "confirmation", 4)
    values = next(r["values"] for r in confirmed["results"] if r["number"] == good)
    assert winner["mean"] == pytest.approx(sum(values) / 4)
    assert winner["low"] < winner["mean"] < winner["high"] and winner["std"] > 0
    assert confirmed["finished"] and (confirmed["done"], confirmed["trials_since"]) == (12, 0)
    verdict = " ".join(after["verdict"])
    assert verdict.startswith(f"Trial {good} is the winner: mean value ")
    assert "over 4 fresh seeds (95 % interval" in verdict
    assert f"The best of the search is trial {lucky} with " in verdict
    assert "its mean over fresh seeds is 0.8" in verdict
    assert "The probability that it is the best of the 3 confirmed trials is 100 %." in verdict
    assert "orch confirm" not in verdict and "orch refit" not in verdict, "it trains no model"
    summary = summarise(database, open_study(database, searched))
    for form in ("text", "markdown", "html"):
        told = " ".join(render(summary, form).split())
        assert f"Trial {good} is the winner" in told and f"{searched}-confirm" in told
    rows = {int(r["number"]): r for r in csv.DictReader(io.StringIO(render(summary, "csv")))}
    assert float(rows[good]["confirmed_mean"]) == winner["mean"]
    assert rows[good]["confirmed_seeds"] == "4"
    best = orch.ok("best", searched).splitlines()[0]
    assert best.startswith(f"trial {good}: ") and "over 4 fresh seeds" in best
    trials = read_trials(database, open_study(database, searched))
    found = read_winner(database, open_study(database, searched), trials)
    assert found is not None and found.number == good, "orch refit takes it"


def test_a_confirmation_outlives_its_study_and_names_later_trials(
    orch: Orch, searched: str, database: Database
) -> None:
    confirm(orch, searched)
    orch.ok("delete", f"{searched}-confirm", "--yes")
    kept = orch.report(searched)
    assert kept["winner"]["chosen_by"] == "confirmation" and kept["confirmed"]["finished"]
    study = open_study(database, searched)
    raise_budget(database, study, 5)
    database.execute(
        "INSERT INTO trials (number, study_id, state) "
        "SELECT n, %(id)s, 'PRUNED' FROM generate_series(3, 4) AS n",
        {"id": study.study_id},
    )
    since = orch.report(searched)
    assert since["winner"] == kept["winner"] and since["confirmed"]["trials_since"] == 2
    assert "2 trials have ended since this confirmation began" in " ".join(since["verdict"])


def test_an_unfinished_confirmation_decides_nothing(
    orch: Orch, searched: str, database: Database
) -> None:
    study = open_study(database, searched)
    trials = read_trials(database, study)
    confirm_study(database, study, trials, 2, 3)
    report = orch.report(searched)
    assert report["winner"]["chosen_by"] == "search"
    assert report["winner"]["number"] == report["best"]["number"]
    assert not report["confirmed"]["finished"] and report["confirmed"]["planned"] == 6
    verdict = " ".join(report["verdict"])
    assert f"to continue it: orch confirm {searched} --top 2 --seeds 3" in verdict
    orch.ok("worker", f"{searched}-confirm")
    assert orch.report(searched)["winner"]["chosen_by"] == "confirmation", "whoever trained it"
    orch.ok("delete", f"{searched}-confirm", "--yes")
    assert orch.report(searched)["confirmed"]["finished"], "kept as it is removed"


def test_the_report_of_a_confirming_study_proposes_no_confirmation_of_it(
    orch: Orch, searched: str
) -> None:
    confirm(orch, searched)
    verdict = " ".join(orch.report(f"{searched}-confirm")["verdict"])
    assert f"of study {searched}, each with 4 fresh seeds." in verdict
    assert "orch confirm" not in verdict and "leads" not in verdict


def test_a_confirmation_of_other_trials_or_of_a_deleted_study_is_ignored(
    orch: Orch, searched: str
) -> None:
    confirm(orch, searched)
    line = orch.refused(2, "confirm", searched, "--top", "2", "--seeds", "4")
    assert f"orch delete {searched}-confirm --yes" in line
    orch.ok("delete", searched, "--yes")
    search(orch, searched)
    assert orch.report(searched)["confirmed"] is None
    line = orch.refused(2, "confirm", searched, "--top", "3", "--seeds", "4")
    assert f"orch delete {searched}-confirm --yes" in line


def test_a_confirmation_of_an_older_version_gets_its_link(
    orch: Orch, searched: str, database: Database
) -> None:
    confirm(orch, searched)
    study = open_study(database, searched)
    before = read_confirmation(database, study, read_trials(database, study))
    database.execute(
        "DELETE FROM study_user_attributes WHERE study_id = %(id)s AND key LIKE 'orch:confirm%%'",
        {"id": study.study_id},
    )
    assert read_confirmation(database, study, []) is None
    for _ in range(2):
        database.execute(script("migrations/6_to_7.after_data.sql"))
        assert read_confirmation(database, study, read_trials(database, study)) == before
