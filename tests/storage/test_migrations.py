"""Upgrades of real databases of older versions: see fixtures/make.py."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator

import optuna
import psycopg2
import pytest
from old_databases import VERSIONS, OldOrch, OldServer, RecordedWorker, objects, old_server
from optuna.artifacts import get_all_artifact_meta

from orchestrator.doctor import examine_storage
from orchestrator.errors import StorageError
from orchestrator.storage import schema
from orchestrator.storage.database import Database, describe, script
from orchestrator.storage.roles import make_roles
from orchestrator.storage.schema import ORCH_VERSION, prepare


@pytest.fixture(scope="module")
def server() -> Iterator[OldServer]:
    with old_server() as made:
        yield made


@pytest.fixture(scope="module")
def fresh(server: OldServer) -> dict[tuple[str, str], str]:
    """The objects of a database that this version has made."""
    database = Database(server.new())
    prepare(database)
    make_roles(database, server.home / "roles.pgpass")
    found = objects(database)
    database.close()
    return found


def _kept_functions() -> set[str]:
    return set(re.findall(r"FUNCTION orch\.(\w+)\(", script("kept_functions.sql")))


@pytest.mark.parametrize("version", VERSIONS)
def test_an_upgraded_schema_equals_a_new_one_except_for_kept_functions(
    server: OldServer, fresh: dict[tuple[str, str], str], version: int
) -> None:
    database = Database(server.restored(version))
    prepare(database)
    upgraded = objects(database)
    more = {key: upgraded.pop(key) for key in upgraded.keys() - fresh.keys()}
    assert upgraded == fresh
    assert {kind for kind, _ in more} == {"function"}
    assert {name.partition("(")[0] for _, name in more} == {f"orch.{n}" for n in _kept_functions()}
    database.close()


def _applied(url: str) -> set[str]:
    """The migrations that a database names; before version 8 it names none."""
    database = Database(url)
    [row] = database.execute("SELECT to_regclass('orch.migration') IS NOT NULL AS exists")
    if not row["exists"]:
        return set()
    return {row["name"] for row in database.execute("SELECT name FROM orch.migration")}


@pytest.mark.parametrize("version", VERSIONS)
def test_the_upgrade_prints_what_it_ran_and_a_second_one_runs_nothing(
    server: OldServer, version: int
) -> None:
    url = server.restored(version)
    before = _applied(url)
    orch = server.orch(url)
    ran = orch.ok("db", "upgrade").split()
    assert sorted(ran) == sorted(set(schema.migrations_from(version)) - before)
    assert orch.ok("db", "upgrade") == "" == orch.ok("db", "init")
    [row] = Database(url).execute("SELECT version FROM orch.schema_version")
    assert row["version"] == ORCH_VERSION
    assert _applied(url) == {*ran, *schema.migrations_from(None)}


def test_a_new_database_has_all_numbered_migrations(server: OldServer) -> None:
    database = Database(server.new())
    assert prepare(database) == []
    applied = [row["name"] for row in database.execute("SELECT name FROM orch.migration")]
    assert sorted(applied) == schema.migrations_from(None)
    database.close()


def test_on_an_older_shared_schema_each_command_says_who_must_run_the_upgrade(
    server: OldServer,
) -> None:
    url = server.restored(7)
    before = objects(Database(url))
    for verb in (
        ["list"], ["report", "bowl"], ["resume", "bowl", "--add", "1"], ["db", "roles"],
        ["db", "init"],
    ):  # fmt: skip
        line = server.orch(url).refused(3, *verb)
        assert "is of an older orch (version 7" in line and "run: orch db upgrade" in line
    [finding] = examine_storage(url)
    assert not finding.ok and "run: orch db upgrade" in finding.text
    assert objects(Database(url)) == before
    assert "schema in place (version 7)" in describe(url)


def test_the_embedded_server_is_upgraded_by_the_first_command_that_writes() -> None:
    with old_server() as server:
        server.restore(server.url, 6)
        orch = OldOrch(server.home)
        for verb in (["list"], ["show", "bowl"]):
            assert "run: orch db upgrade" in orch.refused(3, *verb)
        assert _version(server.url) == 6
        orch.ok("stop", "paused")
        assert _version(server.url) == ORCH_VERSION
        assert "paused" in orch.ok("list")


def test_only_the_schemas_owner_can_upgrade_it_and_others_are_told_who_that_is(
    server: OldServer,
) -> None:
    url = server.restored(6)
    before = objects(Database(url))
    reader = server.orch(f"{url}&options=-crole%3Dorch_reader")
    assert "run as its owner, orch_owner: orch db upgrade" in reader.refused(3, "list")
    assert "this role may not do that; use the owner's" in reader.refused(1, "db", "upgrade")
    assert objects(Database(url)) == before


def test_a_reading_command_creates_nothing_on_a_shared_server(server: OldServer) -> None:
    url = server.new()
    before = objects_of_public(url)
    line = server.orch(url).refused(3, "list")
    assert "there are no tables of orch" in line and "orch db init" in line
    assert objects_of_public(url) == before
    server.orch(url).ok("create", "first", "--objective", "quadratic")
    assert "first" in server.orch(url).ok("list")


def objects_of_public(url: str) -> list[str]:
    rows = Database(url).execute(
        "SELECT oid::regclass::text AS name FROM pg_class WHERE oid > 16383"
    )
    return sorted(row["name"] for row in rows)


def test_workers_can_work_right_after_the_owner_upgrades(server: OldServer) -> None:
    url = server.restored(6)
    server.orch(f"{url}&options=-crole%3Dorch_owner").ok("db", "upgrade")
    worker = server.orch(f"{url}&options=-crole%3Dorch_worker")
    worker.ok("worker", "recorded", "--allow-mismatch")
    assert worker.report("recorded")["states"]["complete"] > 0


def test_a_version_6_worker_finishes_its_trial_after_the_upgrade_and_is_told_to_stop(
    server: OldServer,
) -> None:
    url = server.restored(6)
    worker = RecordedWorker(url)
    worker.start()
    middle = len(worker.during) // 2
    for statement in worker.during[:middle]:
        worker.ask(statement)
    prepare(Database(url))
    for statement in worker.during[middle:]:
        assert worker.ask(statement).get("held", True), statement
    answer = worker.finish()
    # What its orch made of this answer is the line "the schema is of another orch version".
    assert (answer["ended"], answer["outcome"]) == ("ended", "schema")
    [trial] = _trials(url, "recorded")
    assert trial.state is optuna.trial.TrialState.COMPLETE and trial.value == 182.92581586728593
    assert sorted(trial.intermediate_values) == [1, 2, 3, 4]
    [row] = Database(url).execute(
        "SELECT left_at FROM orch.worker ORDER BY started_at DESC LIMIT 1"
    )
    assert row["left_at"] is not None


def test_a_version_6_worker_can_fail_an_attempt_after_the_upgrade(server: OldServer) -> None:
    url = server.restored(6)
    worker = RecordedWorker(url)
    worker.start()
    prepare(Database(url))
    failed = "SELECT orch.fail_trial(<trial>, '<worker>'::uuid, 'no such layer', '{}') AS held"
    assert worker.ask(failed)["held"]
    first, retry = _trials(url, "recorded")
    assert first.state is optuna.trial.TrialState.FAIL
    assert retry.user_attrs == {"orch:retry_of": 0, "orch:attempt": 2}


@pytest.mark.parametrize("version", VERSIONS)
def test_optuna_reads_old_trials_after_the_upgrade(server: OldServer, version: int) -> None:
    url = server.restored(version)
    prepare(Database(url))
    models = [trial for trial in _trials(url, "models") if _models_of(url, trial)]
    assert len(models) == 2
    assert all(_models_of(url, trial) == ["model.keras"] for trial in models)
    unbounded = _trials(url, "unbounded")
    reported = str([list(trial.intermediate_values.values()) for trial in unbounded])
    assert "nan" in reported and "inf" in reported and "-inf" in reported
    assert any(trial.value == float("inf") for trial in unbounded)
    limited = [trial for trial in _trials(url, "limited") if trial.state.is_finished()]
    for trial in limited:
        told = trial.user_attrs.get("too_big", 1e9)
        assert trial.constraints == {"too_big": told}
    assert all(len(trial.values) == 2 for trial in _trials(url, "metrics") if trial.values)
    [row] = Database(url).execute("SELECT count(*) AS specs FROM orch.study WHERE spec ? 'storage'")
    assert row["specs"] == 0


def _trials(url: str, study: str) -> list[optuna.trial.FrozenTrial]:
    return optuna.load_study(study_name=study, storage=_plain(url)).trials


def _models_of(url: str, trial: optuna.trial.FrozenTrial) -> list[str]:
    storage = optuna.storages.RDBStorage(_plain(url))
    return [artifact.filename for artifact in get_all_artifact_meta(trial, storage=storage)]


def _plain(url: str) -> str:
    return url.replace("postgresql://", "postgresql+psycopg2://")


# Beside others


def test_an_upgrade_retries_after_its_lock_timeout(
    server: OldServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = server.restored(6)
    blocker = psycopg2.connect(url)
    with blocker.cursor() as cursor:
        cursor.execute("SELECT 1 FROM orch.study")  # its lock stays until the transaction ends
    monkeypatch.setattr(schema, "_PAUSE_SECONDS", 0.01)
    monkeypatch.setattr(schema, "_TRIES", 2)
    with pytest.raises(StorageError, match=r"lock timeout.*then run: orch db upgrade"):
        prepare(Database(url))
    monkeypatch.setattr(schema, "_TRIES", 1000)
    upgrade = threading.Thread(target=lambda: prepare(Database(url)))
    upgrade.start()
    # While it waits, a reader that comes later gets through between its tries.
    for _ in range(3):
        assert Database(url).execute("SELECT count(*) AS studies FROM orch.study")
    blocker.rollback()
    upgrade.join()
    [row] = Database(url).execute("SELECT version FROM orch.schema_version")
    assert row["version"] == ORCH_VERSION
    blocker.close()


def test_two_concurrent_upgrades_run_each_migration_once(server: OldServer) -> None:
    url = server.restored(6)
    ran: list[str] = []
    both = [threading.Thread(target=lambda: ran.extend(prepare(Database(url)))) for _ in range(2)]
    for upgrade in both:
        upgrade.start()
    for upgrade in both:
        upgrade.join()
    assert sorted(ran) == sorted(schema.migrations_from(6))


def test_an_interrupted_upgrade_is_continued(
    server: OldServer, fresh: dict[tuple[str, str], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    url = server.restored(6)
    with monkeypatch.context() as patched:
        patched.setattr(schema, "_wait_for_calls", _cut_off)
        with pytest.raises(KeyboardInterrupt):
            prepare(Database(url))
    assert "is of an older orch (version 6" in server.orch(url).refused(3, "list")
    assert prepare(Database(url)) == ["6_to_7.after", "6_to_7.after_data", "7_to_8.after"]
    found = objects(Database(url))
    assert {key: found[key] for key in fresh} == fresh


def _cut_off(database: Database) -> None:
    raise KeyboardInterrupt


def test_a_call_started_before_the_new_functions_finishes(server: OldServer) -> None:
    """What nobody calls any more is dropped after the last transaction that may still call it."""
    url = server.restored(6)
    old = psycopg2.connect(url)
    with old.cursor() as cursor:
        slow = "SELECT pg_sleep(3); SELECT orch.cursor_now(), touched FROM orch.change"
        call = threading.Thread(target=lambda: cursor.execute(slow))
        call.start()
        active = f"SELECT 1 FROM pg_stat_activity WHERE pid = {old.info.backend_pid} AND state = 'active'"
        while not Database(url).execute(active):
            pass
        upgrade = threading.Thread(target=lambda: prepare(Database(url)))
        upgrade.start()
        call.join()
        cursor.fetchall()  # raises where the call failed
    old.rollback()
    upgrade.join()
    assert _version(url) == ORCH_VERSION
    with pytest.raises(StorageError, match="does not exist"):
        Database(url).execute("SELECT orch.cursor_now()")
    old.close()


def _version(url: str) -> int:
    [row] = Database(url).execute("SELECT version FROM orch.schema_version")
    return int(row["version"])
