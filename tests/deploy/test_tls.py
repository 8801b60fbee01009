"""sslmode=verify-full against a PostgreSQL whose TLS is its own, over TCP."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import Orch, open_folder
from e2e.test_server_faults import free_port

from orchestrator.serve.tls_proxy import Certificate, certificate_for


class TlsServer:
    """A server of the system's PostgreSQL that takes TLS only. The embedded one has none."""

    def __init__(self, folder: Path, binaries: Path) -> None:
        self._binaries = binaries
        self._user = "postgres" if os.geteuid() == 0 else None
        self.port = free_port()
        self.data = folder / "data"
        self.certificate = certificate_for(folder / "tls", ["localhost"])
        # Who comes as orch_worker shows this one, which is of a client named "orch".
        self.client = certificate_for(folder / "client", ["laptop"])
        self._run("initdb", "--auth=trust", "--username=postgres", "-D", str(self.data), at=folder)
        (self.data / "pg_hba.conf").write_text(
            "local all postgres trust\n"
            "hostssl all orch_worker 127.0.0.1/32 cert map=lab\n"
            "hostssl all all 127.0.0.1/32 scram-sha-256\n"
        )
        (self.data / "pg_ident.conf").write_text("lab orch orch_worker\n")
        shutil.copy(self.client.public, self.data / "clients.crt")
        for name in ("server.crt", "server.key"):
            shutil.copy(folder / "tls" / name, self.data / name)
            shutil.chown(self.data / name, self.data.owner())
        (self.data / "server.key").chmod(0o600)
        options = (
            f"-k {self.data} -p {self.port} -c ssl=on -c listen_addresses=127.0.0.1 "
            "-c ssl_ca_file=clients.crt"
        )
        self._run("pg_ctl", "-w", "-D", str(self.data), "-l", str(self.data / "log"),
                  "-o", options, "start")  # fmt: skip

    @property
    def admin(self) -> str:
        return f"postgresql://postgres@/postgres?host={self.data}&port={self.port}"

    def url(self, host: str, root: Path, role: str = "orch_owner") -> str:
        tls = f"sslmode=verify-full&sslrootcert={root}"
        return f"postgresql://{role}@{host}:{self.port}/postgres?{tls}"

    def stop(self) -> None:
        self._run("pg_ctl", "-w", "-D", str(self.data), "-m", "fast", "stop")

    def _run(self, command: str, *arguments: str, at: Path | None = None) -> None:
        if self._user and at is not None:
            shutil.chown(at, self._user)
        subprocess.run(
            [str(self._binaries / command), *arguments],
            user=self._user,
            cwd="/",
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            check=True,
        )


@pytest.fixture(scope="module")
def server() -> Iterator[TlsServer]:
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/pg_ctl"))
    if not found:
        pytest.skip("needs a PostgreSQL with TLS (Debian's package postgresql)")
    with open_folder() as folder:
        made = TlsServer(folder, found[-1].parent)
        yield made
        made.stop()


def test_verify_full_works_and_a_wrong_certificate_is_refused(
    server: TlsServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    passfile = tmp_path / "pgpass"
    Orch(tmp_path, storage=server.admin).ok("db", "roles", "--passfile", str(passfile))
    line = next(each for each in passfile.read_text().splitlines() if ":orch_owner:" in each)
    passfile.write_text(f"*:*:*:orch_owner:{line.rpartition(':')[2]}\n")
    monkeypatch.setenv("PGPASSFILE", str(passfile))

    right = server.certificate.public
    orch = Orch(tmp_path, storage=server.url("localhost", right))
    orch.ok("run", "quadratic", "--trials", "2", "--workers", "1")

    wrong = certificate_for(tmp_path / "wrong", ["localhost"]).public
    for url, mend in (
        (server.url("localhost", wrong), "sslrootcert must name"),
        (server.url("127.0.0.1", right), "as its certificate does"),
        (server.url("localhost", tmp_path / "none.crt"), "copy the server's root certificate"),
        (
            server.url("localhost", right).replace("verify-full", "disable"),
            "add sslmode=verify-full",
        ),
    ):
        assert mend in Orch(tmp_path, storage=url).refused(3, "list")


def test_a_client_certificate_replaces_a_password(
    server: TlsServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    admin = Orch(tmp_path, storage=server.admin)
    admin.ok("db", "roles", "--passfile", str(tmp_path / "pgpass"))
    admin.ok("create", "s", "--objective", "quadratic", "--trials", "2")
    asked = server.url("localhost", server.certificate.public, "orch_worker")

    def named(client: Certificate) -> Orch:
        return Orch(tmp_path, f"{asked}&sslcert={client.public}&sslkey={client.private}")

    other = certificate_for(tmp_path / "other", ["laptop"])
    for orch, mend in (
        (Orch(tmp_path, asked), "name yours in sslcert and sslkey"),
        (named(other), "ssl_ca_file must name who signed"),
        (named(Certificate(server.client.public, other.private)), "sslkey must name the key"),
    ):
        assert mend in orch.refused(3, "list")

    named(server.client).ok("worker", "s")
    monkeypatch.setenv("PGSSLCERT", str(server.client.public))
    monkeypatch.setenv("PGSSLKEY", str(server.client.private))
    states = Orch(tmp_path, asked).report("s")["states"]
    assert states["complete"] + states["pruned"] == 2
