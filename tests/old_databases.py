"""Databases of older versions, restored from the dumps in ``storage/fixtures``."""

from __future__ import annotations

import json
import lzma
import re
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg2
from conftest import Orch, open_folder

from orchestrator.storage.database import Database
from orchestrator.storage.embedded import EmbeddedServer

FIXTURES = Path(__file__).parent / "storage" / "fixtures"
VERSIONS = (6, 7, 8, 9)


class OldOrch(Orch):
    """The command of this version, for which the objectives of the dumps are importable."""

    @property
    def environment(self) -> dict[str, str]:
        return {**super().environment, "PYTHONPATH": str(FIXTURES)}


@dataclass
class OldServer:
    """A server of its own: the dumps know the roles of ``orch db roles``, which a server shares."""

    home: Path
    url: str

    def new(self) -> str:
        """An empty database."""
        name = f"db_{uuid.uuid4().hex[:8]}"
        self._execute(self.url, f"CREATE DATABASE {name}")
        return self.url.replace("/postgres?", f"/{name}?")

    def restored(self, version: int) -> str:
        """A database as workers of that version have left it."""
        url = self.new()
        self.restore(url, version)
        return url

    def restore(self, url: str, version: int) -> None:
        """Fill an empty database."""
        self._execute(url, lzma.decompress((FIXTURES / f"version-{version}.sql.xz").read_bytes()))

    def orch(self, url: str) -> OldOrch:
        return OldOrch(self.home, url)

    @staticmethod
    def _execute(url: str, script: str | bytes) -> None:
        connection = psycopg2.connect(url)
        connection.autocommit = True
        with connection.cursor() as cursor:
            cursor.execute(script)
        connection.close()


@contextmanager
def old_server() -> Iterator[OldServer]:
    with open_folder() as folder:
        server = EmbeddedServer(folder)
        url = server.ensure_running()
        # Databases are made for single tests; what a crash would lose is not missed.
        OldServer._execute(url, "ALTER SYSTEM SET fsync = off")
        OldServer._execute(url, "SELECT pg_reload_conf()")
        for role in ("orch_owner", "orch_worker", "orch_reader"):
            OldServer._execute(url, f"CREATE ROLE {role} LOGIN")
        yield OldServer(folder, url)
        server.stop()


class RecordedWorker:
    """A worker of version 6: it asks the server what such a worker has asked it, word for word.

    Attributes:
        during: what it asks between the claim and the end of a trial.
        trial: the id of the trial that it has claimed.
        waits: how many seconds each answer took.
    """

    def __init__(self, url: str) -> None:
        self.id = str(uuid.uuid4())
        self.trial = 0
        self.waits: list[float] = []
        self._connection = psycopg2.connect(url)
        self._connection.autocommit = True
        recorded = json.loads((FIXTURES / "worker-6.json").read_text())
        first = next(n for n, text in enumerate(recorded) if "orch.write_trial" in text)
        last = next(n for n, text in enumerate(recorded) if "orch.finish_and_claim" in text)
        self._start, self.during = recorded[:first], recorded[first:last]
        self._finish, self._leave = recorded[last], recorded[last + 1 :]

    def start(self) -> None:
        """Join the study and claim a trial."""
        for statement in self._start:
            answer = self.ask(statement)
        assert answer["outcome"] == "trial"
        self.trial = answer["trial_id"]

    def finish(self) -> dict[str, Any]:
        """End the trial as COMPLETE and claim the next one, or leave; returns the answer."""
        answer = self.ask(self._finish)
        if answer["outcome"] == "trial":
            self.trial = answer["trial_id"]
            return answer
        for statement in self._leave:
            self.ask(statement)
        self._connection.close()
        return answer

    def ask(self, statement: str) -> dict[str, Any]:
        """The first row of the answer."""
        for placeholder, value in (
            ("<artifact ", f"of trial {self.trial}: "),
            ("<worker>", self.id),
            ("<trial>", str(self.trial)),
        ):
            statement = statement.replace(placeholder, value)
        started = time.monotonic()
        with self._connection.cursor() as cursor:
            cursor.execute(statement)
            row = cursor.fetchone() if cursor.description else None
            names = [column.name for column in cursor.description or ()]
        self.waits.append(time.monotonic() - started)
        return dict(zip(names, row, strict=True)) if row else {}


def objects(database: Database) -> dict[tuple[str, str], str]:
    """Everything that is made in a database, with its definition and who may use it."""
    rows = database.execute((FIXTURES / "objects.sql").read_text())
    return {(row["kind"], row["name"]): re.sub(r"\s+", " ", row["definition"]) for row in rows}
