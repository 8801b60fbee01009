"""Studies side by side: what is one group, what is more than noise, what each form says."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from browser import Page
from conftest import Orch
from report.studies import searched, store

from orchestrator.errors import UsageError
from orchestrator.report.compare import Comparison, compare, group_name, holm, permutation_p
from orchestrator.report.reader import summarise
from orchestrator.report.render import render_comparison
from orchestrator.report.summary import Summary
from orchestrator.storage.database import Database

TPE = [f"cmp-tpe-seed{seed}" for seed in range(4)]
RANDOM = [f"cmp-random-seed{seed}" for seed in range(4)]


@pytest.fixture(scope="session")
def summaries(stored: Database) -> dict[str, Summary]:
    """Four seeds of two strategies; the first is better by far."""
    for seed in range(4):
        better = searched(30, seed=seed, lift=0.1)
        store(stored, TPE[seed], better, metric="val_accuracy", seed=seed)
        worse = searched(30, seed=9 + seed)
        store(stored, RANDOM[seed], worse, metric="val_accuracy", seed=seed, sampler="random")
    return {name: summarise(stored, _study(stored, name)) for name in [*TPE, *RANDOM]}


def _study(database: Database, name: str):  # type: ignore[no-untyped-def]
    from orchestrator.storage.studies import open_study

    return open_study(database, name)


@pytest.fixture(scope="session")
def comparison(summaries: dict[str, Summary]) -> Comparison:
    return compare(list(summaries.values()))


def test_the_seeds_of_one_strategy_are_one_group(comparison: Comparison) -> None:
    assert [(g.name, g.seeds) for g in comparison.groups] == [
        ("cmp-tpe", [0, 1, 2, 3]),
        ("cmp-random", [0, 1, 2, 3]),
    ]


def test_a_clear_lead_with_four_seeds_is_more_than_noise(comparison: Comparison) -> None:
    (difference,) = comparison.differences
    assert difference.p == pytest.approx(2 / 70), "all of one group above all of the other"
    assert "cmp-tpe is better than cmp-random" in comparison.verdict[0]


def test_too_few_seeds_are_reported(summaries: dict[str, Summary]) -> None:
    few = compare([summaries[name] for name in [*TPE[:3], *RANDOM[:3]]])
    assert few.differences[0].p is None
    assert "3 and 3 seeds are too few" in few.verdict[0]
    one = compare([summaries[TPE[0]], summaries[RANDOM[0]]])
    assert "one seed each tells nothing" in one.verdict[0]


def test_equal_studies_are_told_equal(summaries: dict[str, Summary]) -> None:
    first = summaries[TPE[0]]
    other = first.model_copy(update={"study": "twin", "spec": summaries[RANDOM[0]].spec})
    assert first.best is not None
    told = compare([first, other]).verdict[0]
    assert told == f"cmp-tpe-seed0 and twin are equal: {first.best.value:.5g}."


def test_repeating_a_seed_adds_no_sample(stored: Database, summaries: dict[str, Summary]) -> None:
    store(stored, "cmp-tpe-seed0-again", searched(5), metric="val_accuracy", seed=0)
    again = summarise(stored, _study(stored, "cmp-tpe-seed0-again"))
    # Another budget is another strategy: what was spent is part of the comparison.
    assert len(compare([summaries[TPE[0]], again]).groups) == 2
    twice = compare([summaries[TPE[0]], summaries[TPE[0]], summaries[RANDOM[0]]])
    assert "A seed occurs twice in cmp-tpe" in twice.verdict[-1]


def test_curves_end_where_the_studies_ended_and_reach_the_best(comparison: Comparison) -> None:
    for group in comparison.groups:
        assert [curve.unit for curve in group.curves] == ["trials", "epochs", "seconds"]
        for curve in group.curves:
            known = [value for value in curve.high if value is not None]
            assert known == sorted(known) and known[-1] == max(group.values)


def test_comparing_different_problems_is_refused(
    summaries: dict[str, Summary], summary_of: Callable[[str], Summary]
) -> None:
    one = summaries[TPE[0]]
    with pytest.raises(UsageError, match="two studies or more"):
        compare([one])
    with pytest.raises(UsageError, match="several metrics"):
        compare([one, summary_of("report-pareto")])
    with pytest.raises(UsageError, match="like with like"):
        compare([one, summary_of("report-hostile")])


def test_a_study_without_a_complete_trial_is_shown_and_not_tested(
    summaries: dict[str, Summary], stored: Database
) -> None:
    store(stored, "cmp-empty", [], metric="val_accuracy")
    found = compare([*summaries.values(), summarise(stored, _study(stored, "cmp-empty"))])
    assert found.groups[-1].name == "cmp-empty" and found.groups[-1].mean is None
    assert len(found.differences) == 1
    for form in ("text", "html", "json"):
        assert "cmp-empty" in render_comparison(found, form)


def test_compare_prints_each_format(
    orch: Orch, comparison: Comparison, page: Page, as_file: Path
) -> None:
    text = render_comparison(comparison, "text")
    assert text.splitlines()[0].startswith("cmp-tpe is better") and "best after" in text
    assert re.search(r"^best after .* \d+ steps", text, re.M) and "epoch" not in text
    assert max(map(len, text.splitlines())) <= 80
    assert json.loads(render_comparison(comparison, "json"))["groups"][0]["seeds"] == [0, 1, 2, 3]
    orch.ok("compare", *TPE, *RANDOM, "--format", "html", "--out", str(as_file))
    page.open(as_file.as_uri())
    shown = page.script("return document.body.innerText")
    assert all(sentence in shown for sentence in comparison.verdict)
    assert page.script("return document.querySelectorAll('figure svg path.series').length") >= 8
    assert page.complaints() == []
    assert "no study" in orch.refused(1, "compare", TPE[0], "nowhere")


@pytest.mark.parametrize(
    ("names", "shared"),
    [
        (["tpe-0", "tpe-1"], "tpe"),
        (["a_seed1", "a_seed2"], "a"),
        (["x", "y"], "x and 1 more"),
        (["alone-3"], "alone-3"),
    ],
)
def test_a_group_is_named_after_what_its_studies_share(names: list[str], shared: str) -> None:
    assert group_name(names) == shared


def test_the_p_values_match_published_ones() -> None:
    assert permutation_p([1, 2, 3, 4], [5, 6, 7, 8]) == pytest.approx(2 / 70)
    mixed = permutation_p([1, 5, 3, 7], [2, 6, 4, 8])
    assert mixed is not None and mixed > 0.5
    assert permutation_p([1, 2, 3], [4, 5, 6]) is None
    assert holm([0.01, None, 0.04, 0.03]) == pytest.approx([0.03, None, 0.06, 0.06])
