"""Whole numbers are exact wherever a study is printed."""

from __future__ import annotations

import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from report.studies import Made, store

from orchestrator.base.printed import rounded
from orchestrator.report.compare import compare
from orchestrator.report.figures.svg import Linear, short
from orchestrator.report.listing import best_page, space_of_study, space_page
from orchestrator.report.numbers import number, params_line
from orchestrator.report.progress import ProgressReader
from orchestrator.report.pruning import EpochCounter
from orchestrator.report.reader import summarise
from orchestrator.report.render import render, render_comparison
from orchestrator.search.space import describe
from orchestrator.storage.database import Database

PARAMETERS, VALUE = 497_970_123, 1_234_567.0


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (PARAMETERS, "497970123"),
        (-1_000_001, "-1000001"),
        (VALUE, "1234567"),
        (-0.0, "0"),
        (2.0**53, "9.0072e+15"),
        (True, "True"),
        (0.97531246, "0.97531"),
        (0.012345678, "0.01235"),
        (1234567.5, "1.2346e+06"),
        (float("inf"), "inf"),
        (float("nan"), "nan"),
    ],
)
def test_a_number_is_shown_with_significant_digits_and_an_integer_in_full(
    value: float, shown: str
) -> None:
    assert number(value) == shown


def test_text_with_several_lines_stays_in_one() -> None:
    assert params_line({"text": "x\ny", "rate": 0.5}) == "text=x\\ny rate=0.5"
    assert number("\x1b[31mü") == "\\x1b[31mü"
    assert describe(CategoricalDistribution(["x\ny", True])) == "x\\ny, true"


def test_a_difference_of_integers_is_an_integer() -> None:
    assert rounded(1_234_568.0 - VALUE, 2) == "1" and rounded(169_977.0, 2) == "169977"


def test_a_domain_shows_its_bounds_exactly() -> None:
    assert describe(IntDistribution(1_000_000, 900_000_001)) == "1000000 to 900000001"
    assert describe(IntDistribution(3_000_001, 3_000_001)) == "3000001 (fixed)"
    assert describe(FloatDistribution(1e-5, 2_000_001.0)) == "1e-05 to 2000001"


@pytest.mark.parametrize(
    ("value", "step", "shown"),
    [
        (5e8, 1e8, "5e8"),
        (1_000_200.0, 100.0, "1,000,200"),
        (2e-5, None, "2e-5"),
        (1e300, 1e299, "1e300"),
    ],
)
def test_adjacent_ticks_have_different_labels(value: float, step: float | None, shown: str) -> None:
    assert short(value, step) == shown
    words = [word for _, word in Linear(1_000_000, 1_000_400, 0, 100, whole=True).ticks()]
    assert len(set(words)) == len(words)


def test_every_format_shows_integers_exactly(database: Database, name: str) -> None:
    space = {"parameters": IntDistribution(1, 1_000_000_000)}
    studies = [
        store(
            database,
            each,
            [
                Made("COMPLETE", {"parameters": PARAMETERS + at}, [VALUE + step * at])
                for at in range(3)
            ],
            space,
        )
        for each, step in ((name, 1), (f"{name}-beside", 2))
    ]
    summaries = [summarise(database, study, thorough=True) for study in studies]
    printed = {
        **{
            form: render(summaries[0], form) for form in ("text", "markdown", "html", "csv", "json")
        },
        "best": best_page(summaries[0], 1),
        "progress": ProgressReader(database, studies[0], EpochCounter(studies[0])).best_line(
            ProgressReader(database, studies[0], EpochCounter(studies[0])).read()
        ),
    }
    for form, text in printed.items():
        assert "497970123" in text and "1234567" in text, form
        assert "4.9797e" not in text and "1.2346e" not in text, form
    assert "by 1 with" in printed["text"]
    assert "1234567" in render_comparison(compare(summaries), "text")
    page = space_page(studies[0].spec, space_of_study(database, studies[0]))
    assert "e+0" not in page
