"""Reports of studies whose choices are of every kind that Optuna stores."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import choice_objectives
import pytest
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution
from report.studies import Made, store

from orchestrator.report.compare import compare
from orchestrator.report.listing import best_page, space_of_study, space_page
from orchestrator.report.reader import summarise
from orchestrator.report.render import render, render_comparison, write
from orchestrator.serve.tensorboard import HParamsLogs
from orchestrator.spec.choices import distinct, place_of, read_domain
from orchestrator.storage.database import Database
from orchestrator.storage.studies import StoredStudy, read_trials

FORMS = ("text", "json", "csv", "markdown", "html")


def stored(database: Database, name: str, choices: list[Any], trials: int = 24) -> StoredStudy:
    """A study of random search whose value depends on the choice."""
    space: dict[str, BaseDistribution] = {
        "c": CategoricalDistribution(choices),
        "x": FloatDistribution(0, 1),
    }
    made = [
        Made("COMPLETE", {"c": choices[n % len(choices)], "x": n / trials}, [float(n % 7)])
        for n in range(trials)
    ]
    return store(database, name, made, space, sampler="random")


@pytest.mark.parametrize("kind", choice_objectives.RETURNED)
@pytest.mark.filterwarnings("ignore:Choices for a categorical distribution")
def test_every_report_format_shows_choices_of_every_type(
    database: Database, name: str, tmp_path: Path, kind: str
) -> None:
    study = stored(database, name, choice_objectives.RETURNED[kind])
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        summary = summarise(database, study, thorough=True)
        for form in FORMS:
            write(summary, form, tmp_path / form)
        assert summary.varied_params() == ["c", "x"] and summary.importances
        page = best_page(summary, 3) + space_page(study.spec, space_of_study(database, study))
        assert "\0" not in page
        comparison = compare([summary, summary])
        for form in ("text", "json", "html"):
            render_comparison(comparison, form)
        HParamsLogs(tmp_path / "logs", study.spec).write(read_trials(database, study))
    # Nothing that a browser does not read as JSON.
    json.loads((tmp_path / "json").read_text(), parse_constant=pytest.fail)
    rows = (tmp_path / "html").read_text().partition('type="application/json"')[2]
    json.loads(rows.partition(">")[2].partition("</script>")[0], parse_constant=pytest.fail)


@pytest.mark.filterwarnings("ignore:Choices for a categorical distribution")
def test_each_choice_has_its_own_band_in_the_figures(database: Database, name: str) -> None:
    choices = choice_objectives.RETURNED["not_finite"]
    page = render(summarise(database, stored(database, name, choices)), "html")
    assert all(f">{each}</text>" in page for each in ("nan", "inf", "-inf"))


def test_equal_choices_of_different_kinds_are_told_apart() -> None:
    choices = [True, 1, 1.0, "1", [1], [True], ["1"], {"1": 1}, None, "None", "true"]
    assert len(set(map(distinct, choices))) == len(choices)
    assert distinct({"a": 1, "b": 2}) == distinct({"b": 2, "a": 1})
    assert distinct(float("nan")) == distinct(float("nan"))
    domain = read_domain(
        json.dumps({"name": "CategoricalDistribution", "attributes": {"choices": choices}})
    )
    assert isinstance(domain, CategoricalDistribution)
    assert [place_of(domain, each) for each in choices] == list(range(len(choices)))
