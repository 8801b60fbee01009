"""What the tests of reports stand on: one browser for a module, studies that are just stored."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import pytest
from browser import Page, opened
from report.studies import Made, searched, store

from orchestrator.report.reader import summarise
from orchestrator.report.summary import Summary
from orchestrator.storage.database import Database
from orchestrator.storage.schema import prepare
from orchestrator.storage.studies import open_study


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    with opened(tmp_path_factory.mktemp("profile")) as made:
        yield made


@pytest.fixture(scope="session")
def stored(url: str) -> Database:
    """The session's server, with a study for each case that a report must bear.

    ``report-many`` is the usual one; ``report-hostile`` has names and reasons that try to be markup.
    """
    database = Database(url)
    prepare(database)
    params = {"learning_rate": 0.01, "units": 64, "activation": "relu"}
    hostile = "</script><img src=http://evil.example/x>|*x*"
    store(database, "report-empty", [])
    store(database, "report-one", [Made("COMPLETE", params, [0.9], [0.8, 0.9])])
    store(database, "report-pruned", [Made("PRUNED", params, [0.5], [0.5])] * 4)
    infinite = Made("COMPLETE", params, [math.inf])
    store(database, "report-infinite", [infinite] * 3)
    store(
        database, "report-one-finite", [infinite, Made("COMPLETE", params, [0.5])],
        direction="maximize",
    )  # fmt: skip
    store(
        database, "report-auto", [Made("PRUNED", params, [0.5], [0.5])],
        pruner={"name": "asha", "min_resource": "auto"},
    )  # fmt: skip
    failed = Made("FAIL", params, attributes={"orch:reason": "ValueError: no"})
    store(database, "report-failed", [failed] * 3)
    attributes = {"orch:reason": hostile, "orch:worker": hostile}
    store(
        database, "report-hostile",
        [Made("PRUNED", params, [0.5], [0.5], attributes), *searched(8)],
        metric="<b>score", direction="maximize",
    )  # fmt: skip
    both = [Made("COMPLETE", t.params, [t.values[0], t.params["units"]]) for t in searched(40)]
    store(
        database, "report-pareto", both,
        metric=["val_accuracy", "size"], direction=["maximize", "minimize"],
    )  # fmt: skip
    many = searched(80)
    many[7] = Made("FAIL", many[7].params, attributes={"orch:reason": "lost", "orch:retried_as": 8})
    many[8] = Made(
        "COMPLETE", many[7].params, [0.9], [0.8, 0.9], {"orch:retry_of": 7, "orch:attempt": 2}
    )
    store(database, "report-many", many, metric="val_accuracy")
    store(database, "report-huge", searched(10_000), metric="val_accuracy")
    return database


@pytest.fixture(scope="session")
def summary_of(stored: Database) -> Callable[[str], Summary]:
    """The thorough summary of a stored study."""

    @cache
    def read(name: str) -> Summary:
        return summarise(stored, open_study(stored, name), thorough=True)

    return read


@pytest.fixture
def as_file(tmp_path: Path) -> Path:
    return tmp_path / "report.html"
