"""Storage that does not work: one line, the mend, exit code 3, no password."""

from __future__ import annotations

import re
import socket
import uuid
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote

import psycopg2
import pytest
from conftest import Orch, open_folder

from orchestrator.storage.database import Database
from orchestrator.storage.embedded import EmbeddedServer
from orchestrator.storage.url import mask, normalise


@pytest.fixture(scope="module")
def tcp_server() -> Iterator[tuple[int, EmbeddedServer]]:
    """A second server, which listens on TCP and asks for passwords."""
    with open_folder() as folder:
        server = EmbeddedServer(folder)
        url = server.ensure_running()
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        database = Database(url)
        database.execute("CREATE ROLE tuner LOGIN SUPERUSER PASSWORD 'se cret'")
        for setting in ("listen_addresses = '127.0.0.1'", f"port = {port}"):
            database.execute(f"ALTER SYSTEM SET {setting}")
        database.close()
        server.stop()
        hba = server.data / "pg_hba.conf"
        hba.write_text("local all all trust\nhost all all 127.0.0.1/32 scram-sha-256\n")
        # The library starts it with its own -h ""; start it as a system administrator would.
        _start_listening(server)
        yield port, server
        server.stop()


def _start_listening(server: EmbeddedServer) -> None:
    server._postgres(
        "pg_ctl", "-w", "-D", str(server.data), "-l", str(server.data / "log"),
        "-o", f"-k {server.data}", "start",
    )  # fmt: skip


def _storage(orch: Orch, url: str) -> Orch:
    return Orch(orch.home, storage=url)


def test_a_server_over_tcp_with_a_password_works(
    orch: Orch, tcp_server: tuple[int, object]
) -> None:
    url = f"postgresql://tuner:se%20cret@127.0.0.1:{tcp_server[0]}/postgres"
    remote = _storage(orch, url)
    remote.ok("run", "quadratic", "--study", "tcp", "--trials", "4", "--workers", "2")
    status = remote.ok("db", "status")
    assert "***" in status and "cret" not in status


def test_a_wrong_password_is_never_printed(orch: Orch, tcp_server: tuple[int, object]) -> None:
    url = f"postgresql://tuner:hunter2@127.0.0.1:{tcp_server[0]}/postgres"
    message = _storage(orch, url).refused(3, "list")
    assert "password authentication failed" in message
    assert "hunter2" not in message


@pytest.mark.parametrize("password", ["kl#ar", "kl?ar", "kl ar", "kl%40ar"])
def test_a_raw_password_works(orch: Orch, tcp_server: tuple[int, object], password: str) -> None:
    remote, role = _with_password(orch, tcp_server[0], password)
    status = remote.ok("db", "status")
    assert f"{role}:***@127.0.0.1" in status
    assert not re.search(r"kl|[^l]ar@", status.replace(role, "")), status


def test_a_raw_password_works_everywhere_and_is_printed_nowhere(
    orch: Orch, tcp_server: tuple[int, object]
) -> None:
    remote, role = _with_password(orch, tcp_server[0], "kl#?: ar")
    url, shown = str(remote.storage), []
    for command in (
        ["db", "init"],
        ["db", "status"],
        ["create", role, "--objective", "user_objectives:names_its_storage", "--trials", "2",
         "--set", "worker.max_failures=1", "--set", "worker.max_retries=0"],
        ["worker", role],
        ["report", role, "--format", "json"],
        ["import", "optuna", url, f"{role}-again", "--study", role],
        ["show", f"{role}-again"],
        ["import", "optuna", url, "more", "--study", "nowhere"],
        ["doctor", role],
        ["--debug", "show", "nowhere"],
        ["launch", "slurm", role, "--workers", "2", "--dry-run"],
    ):  # fmt: skip
        done = remote(*command)
        shown += [done.stdout, done.stderr]
    shown += [each.read_text() for each in (orch.home / "logs").rglob("*") if each.is_file()]
    whole = "".join(shown)
    assert "no way to postgresql://" in whole, "the objective's own error is seen"
    assert f"{role}:***@127.0.0.1" in whole
    assert not re.search(r"kl|[^l]ar@", whole.replace(role, "")), whole


def _with_password(orch: Orch, port: int, password: str) -> tuple[Orch, str]:
    """The command line of a new role of this password, and the role's name."""
    role = f"role_{uuid.uuid4().hex[:8]}"
    admin = Database(f"postgresql://tuner:se%20cret@127.0.0.1:{port}/postgres")
    admin.execute(f"CREATE ROLE {role} LOGIN SUPERUSER")
    admin.execute(f"ALTER ROLE {role} PASSWORD %(p)s", {"p": unquote(password)})
    admin.close()
    return _storage(orch, f"postgresql://{role}:{password}@127.0.0.1:{port}/postgres"), role


def test_a_missing_database_is_named(orch: Orch, tcp_server: tuple[int, object]) -> None:
    url = f"postgresql://tuner:se%20cret@127.0.0.1:{tcp_server[0]}/nowhere"
    message = _storage(orch, url).refused(3, "list")
    assert '"nowhere" does not exist; create it' in message


def test_a_refused_connection_is_named(orch: Orch) -> None:
    message = _storage(orch, "postgresql://u@127.0.0.1:1/db").refused(3, "list")
    assert "is the server running" in message


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("sqlite:///x.db", "no row locks"),
        ("mysql://u@h/db", "MySQL is not supported"),
        ("nonsense", "not a storage URL"),
        ("postgresql://u:geheim@h:notaport/db", "port is not valid"),
        ("postgresql://u:ge@heim@h/db", "write an @ as %40"),
        ("postgresql://u:geheim%@h/db", "a % as %25"),
        ("host=h user=u password=geheim", "not a storage URL"),
    ],
)
def test_an_unsupported_url_is_refused_with_the_reason(orch: Orch, url: str, words: str) -> None:
    message = _storage(orch, url).refused(3, "list")
    assert words in message
    assert "heim" not in message


def _database_with(url: str, *statements: str) -> str:
    """A fresh database on the session's server, prepared by raw statements."""
    name = f"db_{uuid.uuid4().hex[:8]}"
    Database(url).execute(f"CREATE DATABASE {name}")
    fresh = url.replace("/postgres?", f"/{name}?")
    connection = psycopg2.connect(fresh)
    with connection, connection.cursor() as cursor:
        for statement in statements:
            cursor.execute(statement)
    connection.close()
    return fresh


def test_the_schema_of_another_optuna_version_is_refused(orch: Orch, url: str) -> None:
    fresh = _database_with(
        url,
        "CREATE TABLE alembic_version (version_num text)",
        "INSERT INTO alembic_version VALUES ('v2.6.0.a')",
    )
    message = _storage(orch, fresh).refused(3, "list")
    assert "another Optuna version (v2.6.0.a" in message


def test_the_schema_of_another_orch_version_is_refused(orch: Orch, url: str) -> None:
    fresh = _database_with(url)
    _storage(orch, fresh).ok("db", "init")
    Database(fresh).execute("UPDATE orch.schema_version SET version = 99")
    assert "another orch version (99" in _storage(orch, fresh).refused(3, "list")


def test_a_schema_too_old_to_be_upgraded_is_refused(orch: Orch, url: str) -> None:
    fresh = _database_with(url)
    old = _storage(orch, fresh)
    old.ok("db", "init")
    Database(fresh).execute("UPDATE orch.schema_version SET version = 1")
    for verb in (["list"], ["db", "upgrade"], ["run", "quadratic"]):
        assert "is of a very old orch (version 1)" in old.refused(3, *verb)


def test_a_too_old_postgresql_is_refused(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    # No server that old is at hand: the real one is measured against a later minimum.
    from orchestrator.errors import StorageError
    from orchestrator.storage import schema as setup

    monkeypatch.setattr(setup, "OLDEST_SERVER", 99)
    with pytest.raises(StorageError, match=r"is PostgreSQL \d+; orch needs 99 or newer"):
        setup.prepare(Database(url))


def test_our_optuna_revision_is_the_head_of_the_installed_optuna(url: str) -> None:
    from orchestrator.storage.rdb_storage import make_rdb_storage
    from orchestrator.storage.schema import OPTUNA_REVISION

    assert make_rdb_storage(url, create=True).get_head_version() == OPTUNA_REVISION


def test_a_plain_optuna_database_gets_our_tables_too(orch: Orch, url: str) -> None:
    import optuna

    fresh = _database_with(url)
    optuna.create_study(
        study_name="plain", storage=fresh.replace("postgresql://", "postgresql+psycopg2://")
    )
    _storage(orch, fresh).ok("db", "init")
    assert "plain" not in _storage(orch, fresh).ok("list")
    message = _storage(orch, fresh).refused(2, "show", "plain")
    assert "orch did not create" in message


def test_urls_lose_the_driver_and_show_no_password() -> None:
    assert normalise("postgresql+psycopg2://u@h/d") == "postgresql://u@h/d"
    assert normalise("postgres://u@h/d") == "postgresql://u@h/d"
    masked = mask("postgresql://u:p%40ss@h/d?sslpassword=other&password=third")
    assert not re.search("p%40ss|other|third", masked)
    assert masked.startswith("postgresql://u:***@h/d")


def test_home_is_the_default_storage(orch: Orch, home: Path) -> None:
    orch.ok("db", "start")
    assert str(home) in orch.ok("db", "status")
