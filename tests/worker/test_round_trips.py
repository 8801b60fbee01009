"""How often a worker asks the database for one trial, counted at its connections."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import psycopg2.extensions
import pytest

from orchestrator.resolve.resolve import create
from orchestrator.spec.model import StudySpec
from orchestrator.storage import database as database_module
from orchestrator.storage.connection import connect
from orchestrator.storage.database import Database, statements
from orchestrator.storage.studies import StoredStudy, delete
from orchestrator.worker.worker import Worker, WorkerOptions

TRIALS = 12
ONCE = {"read_study", "join_study", "remove_orphans", "plain_studies", "leave_study"}


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> Iterator[Counter[str]]:
    """The statements that this process sends, by name; a call by its function's."""
    names = {text: name for name, text in statements().items()}

    def name_of(query: str) -> str:
        called = re.match(r"SELECT \* FROM orch\.(\w+)\(", query)
        return called.group(1) if called else names.get(query, query)

    counts: Counter[str] = Counter()

    class CountingCursor(psycopg2.extensions.cursor):
        def execute(self, query: Any, parameters: Any = None) -> None:
            asks = isinstance(parameters, dict) and parameters.get("since") is not None
            name = name_of(query)
            counts[f"{name} with changes" if asks and name == "write" else name] += 1
            super().execute(query, parameters)

    def connect_counted(url: str) -> psycopg2.extensions.connection:
        connection = connect(url)
        connection.cursor_factory = CountingCursor
        return connection

    monkeypatch.setattr(database_module, "connect", connect_counted)
    yield counts


def rows_of(database: Database, study: StoredStudy, table: str, key: str = "") -> int:
    query = (
        f"SELECT count(*) AS n FROM {table} JOIN trials USING (trial_id) WHERE study_id = %(id)s"
    )
    query += " AND starts_with(key, %(key)s)" if key else ""
    return int(database.execute(query, {"id": study.study_id, "key": key})[0]["n"])


def seven_params(name: str, pruner: str) -> StudySpec:
    document = {
        "study": {"name": name, "objective": "user_objectives:seven_params", "trials": TRIALS},
        "sampler": {"name": "random"},
        "pruner": {"name": pruner},
        "worker": {"heartbeat_seconds": 100, "grace_seconds": 1000},
    }
    return StudySpec.parse(document)


@pytest.mark.parametrize("pruner", ["none", "hyperband"])
def test_a_decision_and_an_end_with_the_next_claim_are_one_round_trip_each(
    database: Database, name: str, sent: Counter[str], pruner: str
) -> None:
    study = create(database, seven_params(name, pruner))
    sent.clear()
    Worker(database.url, name, WorkerOptions(uuid4())).run()
    counts = dict(sent)
    assert rows_of(database, study, "trial_params") == 7 * TRIALS
    decisions = rows_of(database, study, "trial_system_attributes", "completed_rung_")
    if pruner == "none":
        assert rows_of(database, study, "trial_intermediate_values") == 8 * TRIALS
        assert decisions == 0
    else:
        assert decisions >= TRIALS
    # What nobody decides about is sent beside the training, in as many statements as it happens.
    assert {query: count for query, count in counts.items() if query not in {*ONCE, "write"}} == {
        "claim": 1,  # the first one only
        **({"write with changes": decisions} if decisions else {}),
        "finish": TRIALS,
    }
    delete(database, study)


def test_a_new_trial_is_not_queried(database: Database, name: str, sent: Counter[str]) -> None:
    """Nobody can have left a checkpoint of it."""
    document = {
        "study": {"name": name, "objective": "hooked:Hooked", "trials": 2},
        "sampler": {"name": "random"},
        "worker": {"heartbeat_seconds": 100, "grace_seconds": 1000},
    }
    study = create(database, StudySpec.parse(document))
    sent.clear()
    Worker(database.url, name, WorkerOptions(uuid4())).run()
    assert sent["resume"] == 0
    assert sent["checkpoints_of_trial"] == 2, "at the ends, to remove what is needless"
    delete(database, study)
