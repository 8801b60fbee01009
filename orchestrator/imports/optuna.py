"""An existing Optuna study, from any storage that Optuna has."""

from __future__ import annotations

import os
import re
from pathlib import Path

import optuna
from optuna.storages import BaseStorage, JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend

from orchestrator.errors import OrchError, UsageError, nearest
from orchestrator.imports.imported import ImportedStudy
from orchestrator.storage.optuna_storage import make_rdb_storage
from orchestrator.storage.url import hide, mask, normalise

_POSTGRESQL = re.compile(r"postgres(ql)?(\+psycopg2)?://", re.IGNORECASE)


def read_optuna(source: str, study: str | None) -> ImportedStudy:
    """Read a study.

    Args:
        source: a storage's URL, as ``sqlite:///old.db``, or the file of a journal storage.
        study: its name; None: the only one there.

    Raises:
        OrchError: the storage cannot be read.
        UsageError: there are several studies, or none of that name.
    """
    where = source if os.path.isfile(source) else mask(source)
    try:
        storage = _open(source)
        names = optuna.get_all_study_names(storage)
    except UsageError:
        raise
    except Exception as error:  # each driver and backend raises its own
        # Optuna's own words say less than the driver's, without its copy of the statement.
        words = " ".join(str(error.__cause__ or error).split()).partition(" [SQL")[0]
        reason = hide(words, source)[:200]
        raise OrchError(f"cannot read an Optuna storage at {where}: {reason}") from None
    name = _choose(names, study, where)
    loaded = optuna.load_study(study_name=name, storage=storage)
    trials = [trial for trial in loaded.get_trials(deepcopy=False) if trial.state.is_finished()]
    directions = [direction.name.lower() for direction in loaded.directions]
    metrics = loaded.metric_names or (
        ["value"] if len(directions) == 1 else [f"value_{n}" for n in range(len(directions))]
    )
    return ImportedStudy(
        metrics=metrics,
        directions=directions,
        trials=trials,
        note=f"Imported from the Optuna study {name} at {where}.",
        attributes=loaded.user_attrs,
    )


def _open(source: str) -> BaseStorage:
    if "://" in source:
        if source.startswith("sqlite:///"):
            _check_file(Path(source.removeprefix("sqlite:///")))
        if _POSTGRESQL.match(source):  # on a connection of ours, so that no wait lasts for ever
            return make_rdb_storage(normalise(source), create=True, may_write=False)
        # Optuna would make its tables in a database that has none.
        return RDBStorage(source, skip_table_creation=True)
    _check_file(Path(source))
    return JournalStorage(JournalFileBackend(source))


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
