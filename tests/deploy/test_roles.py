"""The roles owner, worker and reader: what each can do on a real server, and what it cannot."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import psycopg2
import pytest
from conftest import Orch, open_folder

from orchestrator.storage.database import Database
from orchestrator.storage.embedded import EmbeddedServer


class Lab:
    """A server where an administrator who is no superuser has made the roles."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.server = EmbeddedServer(folder / "home")
        self.admin_url = self.server.ensure_running()
        self.passfile = folder / "roles.pgpass"
        database = Database(self.admin_url)
        # As a managed service gives its customers.
        database.execute("CREATE ROLE customer LOGIN CREATEROLE")
        database.execute("CREATE DATABASE lab OWNER customer")
        database.close()
        hba = self.server.data / "pg_hba.conf"
        hba.write_text(
            "local all postgres peer map=orch\nlocal all customer trust\n"
            "local all all scram-sha-256\n"
        )
        database = Database(self.admin_url)
        database.execute("SELECT pg_reload_conf()")
        database.close()
        self.orch("customer").ok("db", "init")
        self.orch("customer").ok("db", "roles", "--passfile", str(self.passfile))

    def url(self, role: str) -> str:
        return self.admin_url.replace("postgres@/postgres", f"{role}@/lab")

    def orch(self, role: str) -> Orch:
        return Orch(self.folder / "home", storage=self.url(role))

    def sql(self, role: str, statement: str) -> None:
        connection = psycopg2.connect(self.url(role), passfile=str(self.passfile))
        try:
            with connection, connection.cursor() as cursor:
                cursor.execute(statement)
                connection.rollback()
        finally:
            connection.close()


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with open_folder() as folder:
        made = Lab(folder)
        yield made
        made.server.stop()


@pytest.fixture(autouse=True)
def passwords(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PGPASSFILE", str(lab.passfile))


@pytest.fixture(scope="module")
def study(lab: Lab) -> str:
    """A study with a failure, a retry from a checkpoint and pruning; a plan behind it."""
    os.environ |= {"PGPASSFILE": str(lab.passfile), "STEPS_LOG": str(lab.folder / "steps")}
    try:
        owner, worker = lab.orch("orch_owner"), lab.orch("orch_worker")
        owner.ok("create", "s", "--objective", "user_objectives:Steps", "--trials", "6",
                 "--sampler", "nsga2", "--set", "objective.fault=segfault",
                 "--set", "objective.sleep=0.01")  # fmt: skip
        owner.ok("create", "grid", "--objective", "quadratic", "--sampler", "grid",
                 "--param", "x={choice=[1.0,2.0]}", "--param", "y=0.5")  # fmt: skip
        for name in ("s", "grid"):
            worker.ok("worker", name)
    finally:
        del os.environ["PGPASSFILE"], os.environ["STEPS_LOG"]
    return "s"


def test_the_worker_role_works_on_studies_and_the_reader_reports_them(lab: Lab, study: str) -> None:
    reader = lab.orch("orch_reader")
    report = reader.report(study)
    assert report["states"]["complete"] + report["states"]["pruned"] == 6
    assert report["retries"] == 1
    assert "Trials 2 of 2" in reader.ok("report", "grid")
    [crashed] = [each for each in report["trials"] if each["state"] == "FAIL"]
    assert "Fatal Python error" in reader.ok("logs", study, str(crashed["number"]))
    assert "SIGSEGV" in reader.ok("show", study, "--trial", str(crashed["number"]))


@pytest.mark.parametrize(
    "statement",
    [
        "DROP TABLE trials",
        "DROP SCHEMA orch CASCADE",
        "ALTER TABLE trials ADD COLUMN more integer",
        "CREATE TABLE public.mine (a integer)",
        "CREATE SCHEMA mine",
        "TRUNCATE trials",
        "DELETE FROM trials",
        "DELETE FROM studies",
        "UPDATE trials SET state = 'COMPLETE'",
        "INSERT INTO trial_values (trial_id, objective, value_type) VALUES (1, 0, 'FINITE')",
        "DELETE FROM orch.lease",
        "DELETE FROM orch.output",
        "UPDATE orch.lease SET worker_id = gen_random_uuid()",
        "SELECT orch.delete_study(1)",
        "SELECT orch.raise_budget(1, 1000)",
        "SELECT orch.create_study('mine', '{MINIMIZE}', '{x}', '{}', false, NULL, NULL, NULL, '{}')",
        "SELECT orch.enqueue_trials(1, NULL, '[]', '[]')",
        "SELECT orch.lock_study(1)",
        "SELECT orch.end_attempt(1, 'mine', 'failed')",
        "INSERT INTO studies (study_name) VALUES ('mine')",
        "UPDATE studies SET study_name = 'mine'",
        "UPDATE studies SET study_id = study_id + 1000",
        "UPDATE orch.study SET spec = '{}'",
        "DELETE FROM orch.study",
        "UPDATE orch.schema_version SET version = 1",
        "UPDATE alembic_version SET version_num = 'x'",
        "ALTER ROLE orch_owner PASSWORD 'x'",
        "SET ROLE orch_owner",
        "CREATE OR REPLACE FUNCTION orch.utc_now() RETURNS timestamp LANGUAGE sql AS 'SELECT now()'",
    ],
)
def test_the_worker_role_is_denied_everything_else(lab: Lab, study: str, statement: str) -> None:
    with pytest.raises(psycopg2.Error, match=r"permission denied|must be owner|foreign key"):
        lab.sql("orch_worker", statement)


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE trials SET state = 'FAIL'",
        "DELETE FROM trial_values",
        "INSERT INTO orch.worker (worker_id, study_id, name) VALUES (gen_random_uuid(), 1, 'x')",
        "SELECT orch.lock_study(1)",
        "SELECT orch.claim(1, gen_random_uuid(), 7, NULL, NULL, NULL)",
        "SELECT orch.add_trial(1, 'RUNNING', NULL, NULL, '{}', '{}', '{}')",
        "SELECT orch.store_output(1, gen_random_uuid(), 1, 1, true, '')",
        "UPDATE orch.study SET state = 'failed'",
        "CREATE TABLE public.mine (a integer)",
    ],
)
def test_the_reader_role_is_denied_everything_else(lab: Lab, study: str, statement: str) -> None:
    with pytest.raises(psycopg2.Error, match="permission denied"):
        lab.sql("orch_reader", statement)


def test_security_definer_functions_fix_their_search_path(lab: Lab, study: str) -> None:
    """A caller's search_path, or a temporary table of its own, must not stand in for ours."""
    database = Database(lab.admin_url.replace("/postgres?", "/lab?"))
    rows = database.execute(
        "SELECT proname AS name, proconfig AS settings FROM pg_proc WHERE prosecdef "
        "AND pronamespace = 'orch'::regnamespace"
    )
    named = {row["name"]: row["settings"] for row in rows}
    assert {"claim", "write", "finish", "set_study_user_attribute"} < set(named)
    for name, settings in named.items():
        paths = [each for each in settings or () if each.startswith("search_path=")]
        assert paths[0].partition("=")[2] in (
            "public, pg_temp", "pg_catalog, pg_temp", "pg_catalog"
        ), name  # fmt: skip
    assert database.execute(
        "SELECT proname FROM pg_proc WHERE prosecdef AND pronamespace = 'orch'::regnamespace "
        "AND has_function_privilege('orch_reader', oid, 'EXECUTE') AND proname <> 'position_now' "
        "AND prorettype <> 'trigger'::regtype"
    ) == []  # fmt: skip
    database.close()
    lab.sql(
        "orch_worker",
        "CREATE TEMP TABLE studies AS SELECT * FROM studies; SET search_path = pg_temp, public; "
        "SELECT orch.join_study(1, gen_random_uuid(), 'x')",
    )


def test_a_denied_command_prints_one_line_with_the_fix(lab: Lab, study: str) -> None:
    for role, command in (
        ("orch_worker", ["create", "more", "--objective", "quadratic"]),
        ("orch_reader", ["stop", study]),
    ):
        assert "this role may not do that" in lab.orch(role).refused(1, *command), (role, command)


def test_the_owner_can_recreate_the_schema_and_delete_studies(lab: Lab) -> None:
    owner = lab.orch("orch_owner")
    owner.ok("create", "short", "--objective", "quadratic")
    owner.ok("delete", "short", "--yes")
    lab.sql("orch_owner", "ALTER TABLE orch.study ADD COLUMN later integer")


def test_passwords_are_private_and_stay_until_new_ones_are_requested(
    lab: Lab,
) -> None:
    assert stat.S_IMODE(lab.passfile.stat().st_mode) == 0o600
    before = lab.passfile.read_text()
    assert len(before.splitlines()) == 3
    again = lab.orch("customer")("db", "roles", "--passfile", str(lab.passfile))
    assert "as they were" in again.stderr and lab.passfile.read_text() == before
    renewed = lab.orch("customer")(
        "db", "roles", "--passfile", str(lab.passfile), "--new-passwords"
    )
    after = lab.passfile.read_text()
    assert len(after.splitlines()) == 3 and not set(after.splitlines()) & set(before.splitlines())
    passwords = [line.rpartition(":")[2] for line in after.splitlines()]
    assert not any(password in renewed.stderr + renewed.stdout for password in passwords)
    lab.orch("orch_reader").ok("list")


@pytest.mark.parametrize("way", ["PGPASSWORD", "ORCH_PASSWORD_FILE", "service"])
def test_a_password_is_read_from_the_environment_a_file_or_a_service(
    lab: Lab, way: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = lab.passfile.read_text().splitlines()
    password = next(line.rpartition(":")[2] for line in lines if "orch_worker" in line)
    monkeypatch.delenv("PGPASSFILE")
    monkeypatch.setenv("HOME", str(tmp_path))
    orch = lab.orch("orch_worker")
    assert "ORCH_PASSWORD_FILE" in orch.refused(3, "list")
    if way == "service":
        socket = lab.admin_url.rpartition("host=")[2].partition("&")[0]
        (tmp_path / ".pg_service.conf").write_text(
            f"[lab]\nhost={socket}\ndbname=lab\nuser=orch_worker\npassword={password}\n"
        )
        orch = Orch(orch.home, storage="postgresql://?service=lab")
    elif way == "ORCH_PASSWORD_FILE":
        (tmp_path / "secret").write_text(password + "\n")
        monkeypatch.setenv(way, str(tmp_path / "secret"))
    else:
        monkeypatch.setenv(way, password)
    shown = orch.ok("db", "status")
    assert "schema in place" in shown and password not in shown


def test_the_grants_cover_exactly_optunas_tables() -> None:
    from optuna.storages._rdb.models import BaseModel

    from orchestrator.storage.database import script

    text = script("roles.sql")
    for table in BaseModel.metadata.tables:
        assert f"'{table}'" in text, table
