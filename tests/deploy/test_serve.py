"""orch db serve: the embedded server for a lab network, by TLS, with the line that others paste."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import psycopg2
import pytest
from conftest import Orch, open_folder
from deploy.hosts import Host, Lab, need_namespaces
from e2e.test_server_faults import free_port
from fault_site import wait_until

from orchestrator.doctor import examine_storage
from orchestrator.serve.tls_proxy import certificate_for
from orchestrator.storage.embedded import EmbeddedServer


class Serving:
    """``orch db serve`` at work, and another user's home where its line was pasted."""

    def __init__(self, folder: Path, listen: str, port: int, before: Sequence[str] = ()) -> None:
        self.orch = Orch(folder / "home")
        self.user = folder / "user"
        self.user.mkdir()
        command = self.orch.command("db", "serve", "--listen", listen, "--port", str(port))
        self.process = subprocess.Popen(
            [*before, *command],
            env=self.orch.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout is not None
        self.line = self.process.stdout.readline()
        assert self.line, self.process.communicate()[1]
        self.storage = self.pasted("echo $ORCH_STORAGE").strip()

    def pasted(self, then: str, before: Sequence[str] = ()) -> str:
        """What a command prints in a shell where the line was pasted."""
        done = subprocess.run(
            [*before, "sh", "-c", f"{self.line.strip()}\n{then}"],
            env={**self.orch.environment, "HOME": str(self.user), "ORCH_HOME": str(self.user)},
            capture_output=True,
            text=True,
            timeout=200,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def close(self) -> str:
        self.process.send_signal(signal.SIGTERM)
        _, errors = self.process.communicate(timeout=60)
        EmbeddedServer(self.orch.home).stop()
        assert self.process.returncode == 0, errors
        return errors


@pytest.fixture(scope="module")
def serving() -> Iterator[Serving]:
    with open_folder() as folder:
        made = Serving(folder, "127.0.0.1", free_port())
        yield made
        errors = made.close()
        assert "SHA-256" in errors and "until Ctrl-C" in errors


def _problem(url: str) -> str:
    finding = next(iter(examine_storage(url)))
    assert not finding.ok
    return finding.text


def test_another_machine_joins_with_the_pasted_line_alone(serving: Serving) -> None:
    orch = Path(sys.executable).parent / "orch"
    shown = serving.pasted(f"{orch} db status; {orch} list")
    assert "schema in place" in shown and "no studies yet" in shown
    kept = list((serving.user / ".postgresql").iterdir())
    assert len(kept) == 2 and all(each.stat().st_mode & 0o077 == 0 for each in kept)
    password = next(each for each in kept if each.suffix == ".pgpass").read_text()
    assert password.strip().rpartition(":")[2] not in shown + serving.storage


def test_large_answers_and_many_connections_pass_the_tls_proxy(serving: Serving) -> None:
    connections = [psycopg2.connect(serving.storage) for _ in range(10)]
    for connection in connections:
        with connection.cursor() as cursor:
            cursor.execute("SELECT repeat('x', 3000000), %s", ("y" * 3_000_000,))
            row = cursor.fetchone()
            assert row is not None and len(row[0]) == len(row[1]) == 3_000_000
        connection.close()


def test_doctor_says_why_the_server_cannot_be_reached(
    serving: Serving, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = serving.storage
    port = url.partition("127.0.0.1:")[2].partition("/")[0]
    assert "check the host name" in _problem(url.replace("127.0.0.1", "no-such-host.invalid"))
    assert "is the server running" in _problem(url.replace(f":{port}/", ":1/"))
    assert "does not exist" in _problem(url.replace("/postgres?", "/nowhere?"))
    assert "by TLS only" in _problem(url.replace("verify-full", "disable"))
    other = url.replace("orch_worker@", "postgres@")
    assert "only orch_owner, orch_reader, orch_worker may log in" in _problem(other)
    monkeypatch.setenv("PGPASSWORD", "wrong")
    assert "check the user and the password" in _problem(url.partition("&passfile")[0])


def test_another_servers_certificate_is_refused(serving: Serving, tmp_path: Path) -> None:
    wrong = certificate_for(tmp_path, ["127.0.0.1"])
    right = serving.storage.partition("sslrootcert=")[2].partition("&")[0]
    assert "sslrootcert must name" in _problem(serving.storage.replace(right, str(wrong.public)))
    # The right certificate, under a name that it is not for.
    assert "as its certificate does" in _problem(
        serving.storage.replace("127.0.0.1:", "localhost:")
    )
    assert "root certificate file" in _problem(serving.storage.replace(right, "/nowhere.crt"))


def test_workers_of_three_hosts_keep_the_budget_when_one_is_cut_off() -> None:
    need_namespaces()
    lab = Lab()
    try:
        with open_folder() as folder:
            _study_over_hosts(folder, lab.hosts)
    finally:
        lab.close()


def _study_over_hosts(folder: Path, hosts: Sequence[Host]) -> None:
    server, *others = hosts
    serving = Serving(folder, "0.0.0.0", 5432, server.command())
    steps = folder / "steps.log"
    workers = []
    try:
        assert f"@{server.address}:5432/" in serving.storage
        serving.orch.ok(
            "create", "s", "--objective", "user_objectives:Steps", "--trials", "12",
            "--set=worker.heartbeat_seconds=0.5", "--set=worker.grace_seconds=2",
            "--set=pruner.name=none", "--set=objective.sleep=0.15",
        )  # fmt: skip
        for host in others:
            home = folder / host.namespace
            home.mkdir()
            environment = {
                **serving.orch.environment, "HOME": str(serving.user), "ORCH_HOME": str(home),
                "ORCH_STORAGE": serving.storage, "STEPS_LOG": str(steps),
                "PGCONNECT_TIMEOUT": "2",
            }  # fmt: skip
            workers.append(
                subprocess.Popen(
                    host.command(*serving.orch.command("worker", "s")),
                    env=environment,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.PIPE,
                    text=True,
                )
            )
        wait_until(lambda: len(_pids(steps)) == len(others), 90)
        others[0].cut()
        wait_until(lambda: _retries(serving.orch) > 0, 90)
        others[0].mend()
        for worker in workers:
            _, errors = worker.communicate(timeout=120)
            assert worker.returncode == 0, errors
        report = serving.orch.report("s")
        assert report["states"]["complete"] == 12
        assert report["states"]["running"] == report["states"]["waiting"] == 0
        assert all(
            list(trial["intermediate"]) == [str(step) for step in range(1, 11)]
            for trial in report["trials"]
            if trial["state"] == "COMPLETE"
        )
    finally:
        for worker in workers:
            worker.kill()
            worker.wait()
        serving.close()


def _pids(steps: Path) -> set[str]:
    try:
        return {line.split()[2] for line in steps.read_text().splitlines()}
    except FileNotFoundError:
        return set()


def _retries(orch: Orch) -> int:
    url = EmbeddedServer(orch.home).url()
    assert url is not None
    connection = psycopg2.connect(url)
    with connection, connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM trial_user_attributes WHERE key = 'orch:retried_as'")
        row = cursor.fetchone()
    connection.close()
    return int(row[0]) if row else 0
