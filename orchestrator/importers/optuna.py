"""An existing Optuna study, from any storage that Optuna has."""

from __future__ import annotations

import logging
import os
import re
import sqlite3
import tempfile
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import optuna
import sqlalchemy
from optuna.storages import BaseStorage, JournalStorage, RDBStorage
from optuna.storages.journal import BaseJournalBackend, JournalFileBackend, JournalRedisBackend
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from orchestrator.base import facts
from orchestrator.base.optuna_internals import FrozenStudy, copy_trial, study_id_of
from orchestrator.errors import OrchError, StorageError, UsageError, nearest
from orchestrator.importers.imported import STILL_RUNNING, ImportedStudy
from orchestrator.storage.rdb_storage import make_engine, make_rdb_storage
from orchestrator.storage.studies import OPTUNA, Origin
from orchestrator.storage.url import hide, mask, normalise

_POSTGRESQL = re.compile(r"postgres(ql)?(\+psycopg2)?://", re.IGNORECASE)

_NOTE = "dashboard:note_"
_METRIC_NAMES = "study:metric_names"


@dataclass(frozen=True)
class _Opened:
    """A storage, and the version of Optuna that made it; None: it does not say."""

    storage: BaseStorage
    version: str | None = None


def read_optuna(source: str, study: str | None) -> ImportedStudy:
    """Read a study; its storage is not changed, and nothing in it is unpickled.

    Args:
        source: a storage's URL, e.g. ``sqlite:///old.db``, or the file of a journal storage.
        study: its name; None: the only one there.

    Raises:
        OrchError: the storage cannot be read.
        UsageError: there are several studies, or none of that name.
    """
    where = source if os.path.isfile(source) else mask(source)
    try:
        with _without_warnings(), _open(source) as opened:
            studies = {each.study_name: each for each in opened.storage.get_all_studies()}
            chosen = studies[_choose(list(studies), study, where)]
            trials = opened.storage.get_all_trials(study_id_of(chosen), deepcopy=False)
    except Exception as error:  # each driver and backend raises its own
        if isinstance(error, OrchError) and not isinstance(error, StorageError):
            raise
        # Optuna's own words say less than the driver's, without its copy of the statement.
        words = " ".join(str(error.__cause__ or error).split()).partition(" [SQL")[0]
        reason = hide(words, source)[:200] or type(error).__name__
        raise OrchError(f"cannot read an Optuna storage at {where}: {reason}") from None
    return _imported(chosen, trials, where, opened.version)


def _imported(
    study: FrozenStudy, trials: Sequence[FrozenTrial], where: str, version: str | None
) -> ImportedStudy:
    directions = [
        "maximize" if direction == StudyDirection.MAXIMIZE else "minimize"
        for direction in study.directions
    ]
    attributes = study.system_attrs
    ordered = sorted(trials, key=lambda trial: (trial.number, trial._trial_id))
    return ImportedStudy(
        metrics=attributes.get(_METRIC_NAMES) or _metric_names(len(directions)),
        directions=directions,
        trials=_without_running(ordered),
        origin=Origin(
            tool=OPTUNA,
            version=version,
            source=where,
            study=study.study_name,
            trials=len(ordered),
            has_times=True,
        ),
        note=_note(attributes),
        attributes=study.user_attrs,
        system_attributes={
            key: value
            for key, value in attributes.items()
            if key != _METRIC_NAMES and not key.startswith(_NOTE)
        },
        warnings=_warnings(ordered),
    )


def _metric_names(count: int) -> list[str]:
    return ["value"] if count == 1 else [f"value_{index}" for index in range(count)]


def _note(attributes: dict[str, Any]) -> str:
    """The study's note in optuna-dashboard, which keeps it in pieces."""
    start = f"{_NOTE}str:"
    pieces = {
        int(key.removeprefix(start)): str(text)
        for key, text in attributes.items()
        if key.startswith(start) and key.removeprefix(start).isdigit()
    }
    return "".join(text for _, text in sorted(pieces.items()))


def _without_running(trials: Sequence[FrozenTrial]) -> list[FrozenTrial]:
    """The trials; of those that were running, nobody will say more."""
    times = [
        time
        for trial in trials
        for time in (trial.datetime_start, trial.datetime_complete)
        if time is not None
    ]
    last = max(times, default=datetime.now())
    return [
        _failed(trial, last) if trial.state == TrialState.RUNNING else trial for trial in trials
    ]


def _failed(trial: FrozenTrial, last: datetime) -> FrozenTrial:
    attributes = {**trial.user_attrs, facts.REASON: STILL_RUNNING, facts.SECONDS: None}
    failed = copy_trial(trial, attributes, trial.system_attrs)
    failed.state = TrialState.FAIL
    # Optuna wants both times of a trial that has ended. When this one did nobody knows: not after
    # the last moment that the source knows of.
    failed.datetime_start = trial.datetime_start or last
    failed.datetime_complete = last
    return failed


def _warnings(trials: Sequence[FrozenTrial]) -> list[str]:
    if [trial.number for trial in trials] == list(range(len(trials))):
        return []
    return ["the numbers of its trials have gaps or repeat; the trials are numbered anew"]


@contextmanager
def _without_warnings() -> Iterator[None]:
    """Old distributions are deprecated and journals experimental: not news for who leaves them."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@contextmanager
def _open(source: str) -> Iterator[_Opened]:
    if "://" not in source:
        path = Path(source)
        _check_file(path)
        if is_sqlite(path):
            with _open_sqlite(path, None) as opened:
                yield opened
        else:
            yield _Opened(JournalStorage(JournalFileBackend(source)))
    elif source.startswith("sqlite"):
        with _open_sqlite(*_sqlite_file(source)) as opened:
            yield opened
    elif source.startswith(("redis://", "rediss://")):
        yield _Opened(JournalStorage(_LogsOnly(_redis(source).read_logs)))
    else:
        with _open_server(source) as opened:
            yield opened


def _sqlite_file(source: str) -> tuple[Path, float | None]:
    """The file of a SQLite URL, and how long to wait for whoever holds it."""
    try:
        url = sqlalchemy.engine.make_url(source)
        wait = url.query.get("timeout")
        seconds = None if wait is None else float(str(wait))
    except (sqlalchemy.exc.ArgumentError, ValueError):
        raise UsageError(
            f"'{mask(source)}' is not a valid SQLite URL; write sqlite:///old.db"
        ) from None
    name = url.database or ""
    if name.startswith("file:"):
        name = name.removeprefix("file:").partition("?")[0]
    if name in ("", ":memory:"):
        raise UsageError(f"'{mask(source)}' names no file; write sqlite:///old.db")
    path = Path(name)
    _check_file(path)
    return path, seconds


@contextmanager
def _open_sqlite(path: Path, wait_seconds: float | None) -> Iterator[_Opened]:
    with tempfile.TemporaryDirectory(prefix="orch-import-") as folder:
        copied = Path(folder) / "copy.db"
        copy_sqlite(path, copied, wait_seconds)
        url = sqlalchemy.URL.create("sqlite", database=str(copied)).render_as_string()
        version = _version_in(sqlalchemy.create_engine(url), str(path))
        storage = RDBStorage(url, skip_compatibility_check=True)
        try:
            if storage.get_current_version() not in storage.get_all_versions():
                raise OrchError(_newer(str(path), version))
            if storage.get_current_version() != storage.get_head_version():
                _upgrade(storage)
            yield _Opened(storage, version)
        finally:
            storage.engine.dispose()


def _upgrade(storage: RDBStorage) -> None:
    """Bring the tables up to this Optuna's; its migrations set up logging of their own."""
    root, loggers = logging.getLogger(), list(_loggers())
    handlers, level, silenced = root.handlers[:], root.level, root.manager.disable
    states = [(logger, logger.disabled, logger.level) for logger in loggers]
    logging.disable()
    try:
        storage.upgrade()
    finally:
        logging.disable(silenced)
        root.handlers[:], root.level = handlers, level
        for logger, disabled, level in states:
            logger.disabled, logger.level = disabled, level


def _loggers() -> Iterator[logging.Logger]:
    for logger in logging.root.manager.loggerDict.values():
        if isinstance(logger, logging.Logger):
            yield logger


@contextmanager
def _open_server(source: str) -> Iterator[_Opened]:
    """A storage on a database server, which is not ours to upgrade."""
    where = mask(source)
    if _POSTGRESQL.match(source):  # on connections of ours, so that no wait lasts for ever
        url = normalise(source)
        version = _version_in(make_engine(url, may_write=False), where)
        storage = make_rdb_storage(url, may_write=False)
    else:
        version = _version_in(sqlalchemy.create_engine(source), where)
        storage = RDBStorage(source, skip_compatibility_check=True, skip_table_creation=True)
    try:
        current = storage.get_current_version()
        if current not in storage.get_all_versions():
            raise OrchError(_newer(where, version))
        if current != storage.get_head_version():
            raise OrchError(
                f"the storage at {where} is of Optuna {version}, and this is Optuna "
                f"{optuna.__version__}; copy that database, run 'optuna storage upgrade --storage "
                "URL' with the copy's URL, and import from the copy"
            )
        yield _Opened(storage, version)
    finally:
        storage.engine.dispose()


def _version_in(engine: sqlalchemy.Engine, where: str) -> str | None:
    """The version of Optuna that made the tables.

    Raises:
        UsageError: there are none; Optuna would make them.
    """
    try:
        with engine.connect() as connection:
            if not sqlalchemy.inspect(connection).has_table("version_info"):
                raise UsageError(f"there is no Optuna storage at {where}")
            found = connection.execute(
                sqlalchemy.text("SELECT library_version FROM version_info")
            ).scalar()
    finally:
        engine.dispose()
    return None if found is None else str(found)


def _newer(where: str, version: str | None) -> str:
    return (
        f"the storage at {where} is of Optuna {version}, which is newer than Optuna "
        f"{optuna.__version__} here; install that version: pip install -U optuna"
    )


class _LogsOnly(BaseJournalBackend):
    """A journal that is only read: without the snapshot, which Optuna would unpickle."""

    def __init__(self, read: Callable[[int], Iterable[dict[str, Any]]]) -> None:
        self._read = read

    def read_logs(self, log_number_from: int) -> Iterable[dict[str, Any]]:
        return self._read(log_number_from)

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        raise NotImplementedError


def _redis(source: str) -> JournalRedisBackend:
    try:
        return JournalRedisBackend(source)
    except ImportError:
        raise OrchError("a journal in Redis needs the package redis: pip install redis") from None


def _check_file(path: Path) -> None:
    # Opening would make an empty one.
    if not path.is_file():
        raise UsageError(f"no file {mask(str(path))}; correct the path, or write a storage's URL")


def _choose(names: list[str], study: str | None, where: str) -> str:
    if study is None and len(names) == 1:
        return names[0]
    if not names:
        raise UsageError(f"there is no study at {where}")
    if study is None:
        raise UsageError(f"there are several studies at {where}; choose with --study: {names}")
    if study not in names:
        raise UsageError(f"no study '{study}' at {where}; {nearest(study, names)}")
    return study


_HEADER = b"SQLite format 3\0"
_WAIT_SECONDS = 5.0
# What a check says of rows that Optuna reads nevertheless: older versions had other constraints.
_HARMLESS = ("NULL value in", "CHECK constraint failed", "TEXT value in", "NUMERIC value in")


def is_sqlite(path: Path) -> bool:
    """Whether the file is a SQLite database."""
    with path.open("rb") as file:
        return file.read(len(_HEADER)) == _HEADER


def copy_sqlite(source: Path, target: Path, wait_seconds: float | None = None) -> None:
    """Copy the database, also one that others write to, and check the copy.

    Args:
        source: the user's file.
        target: a file that does not exist yet.
        wait_seconds: how long to wait for a writer who holds the file; None: 5 s.

    Raises:
        UsageError: it is not a database of Optuna.
        OrchError: it cannot be read, is locked, or is damaged.
    """
    if source.stat().st_size == 0:
        raise UsageError(f"{source} is empty")
    if not is_sqlite(source):
        raise UsageError(
            f"{source} is not a SQLite database, or its first page is damaged; correct the path, "
            "or restore the file from a backup"
        )
    try:
        _back_up(source, target, _WAIT_SECONDS if wait_seconds is None else wait_seconds)
        with closing(sqlite3.connect(target)) as copied:
            damaged = _damaged_parts(copied)
            tables = {} if damaged else _root_pages(copied)
    except sqlite3.DatabaseError as error:
        raise OrchError(_why(error, source)) from None
    if damaged:
        raise OrchError(
            f"{source} is damaged in {', '.join(damaged)}; nothing was written. Restore it from a "
            f"backup, or save what is readable: sqlite3 {source} .recover | sqlite3 saved.db"
        )
    if not {"studies", "trials"} <= tables.keys():
        raise UsageError(f"there is no Optuna storage in {source}")


def _back_up(source: Path, target: Path, wait_seconds: float) -> None:
    deadline = time.monotonic() + wait_seconds

    def check(status: int, left: int, total: int) -> None:
        # A busy file is tried again for ever otherwise.
        if status in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED) and time.monotonic() > deadline:
            raise sqlite3.OperationalError("database is locked")

    *first, last = _addresses(source)
    for address in first:
        try:
            _back_up_from(address, target, check)
            return
        except sqlite3.OperationalError as error:
            if "unable to open" not in str(error) and "readonly" not in str(error):
                raise
    _back_up_from(last, target, check)


def _addresses(source: Path) -> Iterator[str]:
    address = source.absolute().as_uri()
    yield f"{address}?mode=ro"
    if not source.with_name(f"{source.name}-wal").exists():
        # In a read-only folder, a file in WAL mode opens only as one that never changes.
        yield f"{address}?mode=ro&immutable=1"


def _back_up_from(address: str, target: Path, check: object) -> None:
    with (
        closing(sqlite3.connect(address, uri=True, timeout=0.1)) as read,
        closing(sqlite3.connect(target)) as written,
    ):
        read.backup(written, progress=check, sleep=0.1)  # type: ignore[arg-type]


def _damaged_parts(database: sqlite3.Connection) -> list[str]:
    """The tables with damaged pages; empty: the database is whole."""
    try:
        lines = [str(row[0]) for row in database.execute("PRAGMA quick_check(20)")]
        if all(line == "ok" or line.startswith(_HARMLESS) for line in lines):
            return []
    except sqlite3.DatabaseError:
        pass
    damaged = []
    for table in _root_pages(database):
        try:
            database.execute(f'SELECT * FROM "{table}"').fetchall()
        except sqlite3.DatabaseError:
            damaged.append(f"table {table}")
    return damaged or ["its pages"]


def _root_pages(database: sqlite3.Connection) -> dict[str, int]:
    rows = database.execute("SELECT name, rootpage FROM sqlite_master WHERE type = 'table'")
    return {str(name): int(page) for name, page in rows}


def _why(error: sqlite3.DatabaseError, source: Path) -> str:
    reason = " ".join(str(error).split())
    if "locked" in reason:
        return f"{source} is locked by another program; try again when that has ended"
    if "malformed" in reason or "not a database" in reason:
        return (
            f"{source} is damaged in its list of tables; nothing was written. Restore it from a "
            "backup"
        )
    return f"cannot read {source}: {reason}"
