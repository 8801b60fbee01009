"""orch import optuna: an existing study becomes one of ours, whole."""

from __future__ import annotations

import hashlib
import importlib.util
import logging
import os
import re
import sqlite3
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Any

import optuna
import pytest
from conftest import Orch
from optuna.distributions import FloatDistribution, IntDistribution
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState
from optuna_dashboard import get_note, save_note
from optuna_two import PARAMS, make_storage

from orchestrator.importers.imported import GoingOn, store
from orchestrator.importers.optuna import read_optuna
from orchestrator.storage.database import Database


@pytest.fixture
def old(tmp_path: Path) -> str:
    """A SQLite storage with a study of nine trials, of every ended state."""
    url = f"sqlite:///{tmp_path / 'old.db'}"
    study = optuna.create_study(storage=url, study_name="old", direction="maximize")
    study.set_user_attr("owner", "me")

    def objective(trial: optuna.Trial) -> float:
        x = trial.suggest_float("x", 0, 1)
        trial.suggest_categorical("kind", ["a", "b"])
        trial.report(x, 1)
        trial.set_user_attr("square", x * x)
        if trial.number == 3:
            raise optuna.TrialPruned
        if trial.number == 4:
            raise ValueError
        return x

    study.optimize(objective, n_trials=9, catch=(ValueError,))
    return url


def test_an_imported_study_has_every_trial_in_full(
    orch: Orch, name: str, url: str, old: str
) -> None:
    orch.ok("import", "optuna", old, name)
    source = optuna.load_study(study_name="old", storage=old)
    copy = optuna.load_study(study_name=name, storage=url.replace("://", "+psycopg2://", 1))
    taken_over = {k: v for k, v in copy.user_attrs.items() if not k.startswith("orch:")}
    assert copy.direction == source.direction and taken_over == source.user_attrs
    for mine, theirs in zip(copy.trials, source.trials, strict=True):
        assert (mine.state, mine.values, mine.params) == (
            theirs.state,
            theirs.values,
            theirs.params,
        )
        assert mine.intermediate_values == theirs.intermediate_values
        assert mine.user_attrs == theirs.user_attrs
        assert mine.datetime_start == theirs.datetime_start
    whole = orch.report(name)
    assert whole["best"]["value"] == source.best_value and whole["budget"] == 8
    assert "imported without an objective" in orch.refused(2, "resume", name, "--add", "1")


def test_a_study_imported_with_an_objective_continues(orch: Orch, name: str, old: str) -> None:
    orch.ok("import", "optuna", old, name, "--objective", "user_objectives:not_a_number")
    orch.ok("resume", name, "--add", "1", "--workers", "1")
    whole = orch.report(name)
    assert whole["states"]["complete"] + whole["states"]["pruned"] == 9


def test_a_journal_file_is_read_too(orch: Orch, name: str, tmp_path: Path) -> None:
    path = tmp_path / "journal.log"
    storage = JournalStorage(JournalFileBackend(str(path)))
    optuna.create_study(storage=storage, study_name="j").optimize(
        lambda trial: trial.suggest_int("n", 0, 9), n_trials=3
    )
    orch.ok("import", "optuna", str(path), name)
    assert len(orch.report(name)["trials"]) == 3


def test_an_unreadable_source_is_refused_in_one_line(
    orch: Orch, name: str, old: str, tmp_path: Path
) -> None:
    missing = tmp_path / "missing.db"
    assert "no file" in orch.refused(2, "import", "optuna", f"sqlite:///{missing}", name)
    assert not missing.exists()
    assert "did you mean 'old'" in orch.refused(2, "import", "optuna", old, name, "--study", "odl")
    message = orch.refused(1, "import", "optuna", "postgresql://a:secret@127.0.0.1:1/b", name)
    assert "secret" not in message and "***" in message
    orch.ok("import", "optuna", old, name)
    assert "exists already" in orch.refused(2, "import", "optuna", old, name)


def copy_of(name: str, url: str) -> optuna.Study:
    """The imported study as Optuna reads it."""
    return optuna.load_study(study_name=name, storage=url.replace("://", "+psycopg2://", 1))


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_every_trial_keeps_its_number_and_its_times(
    orch: Orch, name: str, url: str, tmp_path: Path
) -> None:
    source = f"sqlite:///{tmp_path / 'open.db'}"
    study = optuna.create_study(storage=source)
    study.enqueue_trial({"x": 0.5})
    study.ask({"x": FloatDistribution(0, 1)})  # runs for ever
    study.optimize(lambda trial: trial.suggest_float("x", 0, 1), n_trials=2)
    study.enqueue_trial({"x": 0.25})
    study.optimize(lambda trial: trial.suggest_float("y", 0, 1), n_trials=2)
    study.enqueue_trial({"x": 0.75})
    orch.ok("import", "optuna", source, name)
    copy = copy_of(name, url).trials
    for mine, theirs in zip(copy, study.trials, strict=True):
        assert (mine.number, mine.params) == (theirs.number, theirs.params)
        assert mine.datetime_start == theirs.datetime_start
        if theirs.state != TrialState.RUNNING:
            assert (mine.state, mine.values) == (theirs.state, theirs.values)
            assert mine.datetime_complete == theirs.datetime_complete
            assert mine.system_attrs == theirs.system_attrs
    assert [trial.state.name for trial in copy] == [
        "FAIL", "COMPLETE", "COMPLETE", "COMPLETE", "COMPLETE", "WAITING",
    ]  # fmt: skip
    whole = orch.report(name)
    assert whole["trials"][0]["reason"] == "end unknown: it was running when the study was imported"
    assert whole["trials"][0]["seconds"] is None
    duration = study.trials[1].duration
    assert duration is not None
    assert whole["trials"][1]["seconds"] == pytest.approx(duration.total_seconds(), abs=0.002)


def test_waiting_trials_of_a_study_imported_with_an_objective_run(
    orch: Orch, name: str, tmp_path: Path
) -> None:
    source = f"sqlite:///{tmp_path / 'waiting.db'}"
    study = optuna.create_study(storage=source, direction="maximize")
    study.optimize(lambda trial: trial.suggest_float("x", 0, 1), n_trials=1)
    study.enqueue_trial({"x": 0.25})
    orch.ok("import", "optuna", source, name, "--objective", "user_objectives:flat")
    orch.ok("resume", name, "--workers", "1")
    second = orch.report(name)["trials"][1]
    assert (second["state"], second["params"]) == ("COMPLETE", {"x": 0.25})


def test_a_storage_of_optuna_2_is_read_from_an_upgraded_copy(
    orch: Orch, name: str, url: str, tmp_path: Path
) -> None:
    source = make_storage(tmp_path / "two.db")
    before = digest(tmp_path / "two.db")
    done = orch("import", "optuna", source, name)
    assert done.returncode == 0 and len(done.stderr.splitlines()) == 1, done.stderr
    assert digest(tmp_path / "two.db") == before
    assert os.listdir(tmp_path) == ["two.db"]
    copy = copy_of(name, url)
    trials = copy.trials
    assert [trial.state.name for trial in trials] == [
        "COMPLETE", "FAIL", "PRUNED", "WAITING", "FAIL",
    ]  # fmt: skip
    assert trials[0].params == PARAMS and list(trials[0].params) == list(PARAMS)
    assert trials[0].distributions["rate"] == FloatDistribution(1e-5, 1.0, log=True)
    assert trials[0].distributions["n"] == IntDistribution(1, 9, step=2)
    assert trials[0].intermediate_values == {0: 0.5, 1: 1.5}
    assert trials[0].user_attrs == {"note": {"a": [1, 2]}}
    assert trials[0].duration == timedelta(seconds=2.5)
    assert trials[3].system_attrs == {"fixed_params": {"x": 1.0}}
    assert copy.user_attrs["who"] == "me" and copy.direction.name == "MAXIMIZE"
    assert orch.report(name)["imported"]["version"] == "2.10.1"


def test_importing_leaves_the_processs_loggers_unchanged(tmp_path: Path) -> None:
    source = make_storage(tmp_path / "two.db")
    mine, root = logging.getLogger("of.somebody"), logging.getLogger()

    def state() -> tuple[object, ...]:
        loggers = [(each.level, each.disabled, each.handlers[:]) for each in (mine, root)]
        return (*loggers, root.manager.disable, optuna.logging.get_verbosity())

    before = state()
    read_optuna(source, None)
    assert state() == before


def test_notes_metric_names_and_constraints_are_imported(
    orch: Orch, name: str, url: str, tmp_path: Path
) -> None:
    source = f"sqlite:///{tmp_path / 'facts.db'}"
    sampler = optuna.samplers.TPESampler(constraints_func=lambda trial: (trial.number - 1.0,))
    study = optuna.create_study(storage=source, study_name="facts", sampler=sampler)
    study.set_metric_names(["loss"])
    for _ in range(2):  # so that ids differ from numbers
        optuna.create_study(storage=source).optimize(lambda trial: 1.0, n_trials=1)

    def objective(trial: optuna.Trial) -> float:
        save_note(trial, f"trial *{trial.number}*")
        return trial.suggest_float("x", 0, 1)

    study.optimize(objective, n_trials=3)
    save_note(study, "mine " + "long " * 1000)
    orch.ok("import", "optuna", source, name, "--study", "facts")
    copy = copy_of(name, url)
    assert copy.metric_names == ["loss"]
    assert get_note(copy).startswith("mine long") and "Imported from Optuna" in get_note(copy)
    for mine, theirs in zip(copy.trials, study.trials, strict=True):
        assert mine.constraints == theirs.constraints and len(mine.constraints) == 1
        on_page = optuna.Trial(copy, mine._trial_id)
        assert get_note(on_page) == f"trial *{mine.number}*"


@pytest.mark.filterwarnings("ignore:Choices for a categorical distribution")
def test_choices_keep_their_types(orch: Orch, name: str, url: str, tmp_path: Path) -> None:
    choices: list[Any] = [None, True, 1, 1.0, "1", False, 0, float("inf")]
    source = f"sqlite:///{tmp_path / 'choices.db'}"
    study = optuna.create_study(storage=source)
    for choice in range(len(choices)):
        trial = study.ask()
        storage = study._storage
        storage.set_trial_param(
            trial._trial_id, "c", choice, optuna.distributions.CategoricalDistribution(choices)
        )
        study.tell(trial, 1.0)
    orch.ok("import", "optuna", source, name)
    found = [trial.params["c"] for trial in copy_of(name, url).trials]
    assert [(type(each), each) for each in found] == [(type(each), each) for each in choices]
    orch.ok("report", name)


def test_domains_that_changed_between_trials_are_imported(
    orch: Orch, name: str, url: str, tmp_path: Path
) -> None:
    source = f"sqlite:///{tmp_path / 'changed.db'}"
    study = optuna.create_study(storage=source, directions=["minimize", "maximize"])

    def objective(trial: optuna.Trial) -> tuple[float, float]:
        x = trial.suggest_float("x", -trial.number - 1, 1)
        if trial.number % 2:
            trial.suggest_int(f"only_{trial.number}", 0, 3)
        return x, float("inf") if trial.number == 3 else x * x

    study.optimize(objective, n_trials=6)
    orch.ok("import", "optuna", source, name)
    copy = copy_of(name, url)
    assert copy.directions == study.directions
    for mine, theirs in zip(copy.trials, study.trials, strict=True):
        assert (mine.distributions, mine.values) == (theirs.distributions, theirs.values)
    assert "Pareto front" in orch.ok("report", name)


def test_a_file_in_use_is_read_without_changing_it(
    orch: Orch, name: str, tmp_path: Path, old: str
) -> None:
    path = tmp_path / "old.db"
    with closing(sqlite3.connect(path)) as database:
        database.execute("PRAGMA journal_mode = WAL")
        database.execute("PRAGMA wal_autocheckpoint = 0")
        database.execute("UPDATE study_user_attributes SET value_json = '\"you\"'")
        database.commit()  # in the log alone
        before = digest(path)
        database.execute("INSERT INTO studies (study_name) VALUES ('half done')")
        orch.ok("import", "optuna", f"{old}?timeout=30", name)
        assert digest(path) == before
    database = sqlite3.connect(path)
    database.execute("PRAGMA journal_mode = DELETE")
    database.execute("BEGIN EXCLUSIVE")
    message = orch.refused(1, "import", "optuna", f"{old}?timeout=0.2", f"{name}x")
    assert "locked by another program" in message
    database.close()


def test_a_damaged_file_is_refused_in_one_line(
    orch: Orch, name: str, tmp_path: Path, old: str
) -> None:
    path = tmp_path / "old.db"
    with closing(sqlite3.connect(path)) as database:
        (page,) = database.execute(
            "SELECT rootpage FROM sqlite_master WHERE name = 'trial_user_attributes'"
        ).fetchone()
        (size,) = database.execute("PRAGMA page_size").fetchone()
    whole = path.read_bytes()
    start = (page - 1) * size
    path.write_bytes(whole[:start] + b"\xff" * size + whole[start + size :])
    message = orch.refused(1, "import", "optuna", old, name)
    assert "is damaged in table trial_user_attributes; nothing was written" in message
    path.write_bytes(whole[:size] + b"\xff" * (len(whole) - size))
    assert "is damaged" in orch.refused(1, "import", "optuna", old, name)
    path.write_bytes(whole[: len(whole) // 2])
    assert "is damaged" in orch.refused(1, "import", "optuna", old, name)
    path.write_bytes(b"")
    assert "is empty" in orch.refused(2, "import", "optuna", old, name)
    path.write_bytes(b"text, no database")
    assert "is not a SQLite database" in orch.refused(2, "import", "optuna", old, name)
    assert name not in orch.ok("list")


def test_a_database_of_another_program_is_not_changed(
    orch: Orch, name: str, tmp_path: Path
) -> None:
    path = tmp_path / "mail.db"
    with closing(sqlite3.connect(path)) as database:
        database.execute("CREATE TABLE letters (text)")
        database.commit()
    before = digest(path)
    message = orch.refused(2, "import", "optuna", f"sqlite:///{path}", name)
    assert "no Optuna storage" in message and digest(path) == before


def test_a_server_of_an_older_optuna_is_not_upgraded(orch: Orch, name: str, url: str) -> None:
    other = f"older_{name.replace('-', '_')}"
    database = Database(url)
    database.execute(f"CREATE DATABASE {other}")
    source = re.sub(r"/postgres\?", f"/{other}?", url)
    try:
        empty = orch.refused(2, "import", "optuna", source, name)
        assert "no Optuna storage" in empty
        study = optuna.create_study(
            storage=source.replace("://", "+psycopg2://", 1), study_name="theirs"
        )
        study.optimize(lambda trial: trial.suggest_float("x", 0, 1), n_trials=3)
        orch.ok("import", "optuna", source, name)
        assert len(orch.report(name)["trials"]) == 3
        theirs = Database(source)
        theirs.execute("UPDATE alembic_version SET version_num = 'v2.6.0.a'")
        theirs.execute("UPDATE version_info SET library_version = '2.10.1'")
        message = orch.refused(1, "import", "optuna", source, f"{name}x")
        assert "is of Optuna 2.10.1" in message and "import from the copy" in message
        assert theirs.row("optuna_revision") == {"revision": "v2.6.0.a"}
        theirs.execute("UPDATE alembic_version SET version_num = 'v9.9.9'")
        assert "newer" in orch.refused(1, "import", "optuna", source, f"{name}x")
        theirs.close()
        study._storage.remove_session()
        study._storage._backend.engine.dispose()  # type: ignore[attr-defined]
    finally:
        database.execute(f"DROP DATABASE {other} WITH (FORCE)")
        database.close()


def test_an_interrupted_import_leaves_nothing(
    orch: Orch, name: str, url: str, database: Database, tmp_path: Path
) -> None:
    source = f"sqlite:///{tmp_path / 'many.db'}"
    study = optuna.create_study(storage=source)
    study.add_trials([optuna.create_trial(value=float(each)) for each in range(300)])
    imported = read_optuna(source, None)
    seen: list[int] = []

    def interrupt(written: int) -> None:
        seen.append(written)
        if len(seen) == 2:
            raise KeyboardInterrupt

    before = database.execute("SELECT count(*) FROM trials")
    with pytest.raises(KeyboardInterrupt):
        store(database, name, imported, GoingOn(), interrupt)
    assert seen == [250, 300]
    assert database.execute("SELECT count(*) FROM trials") == before
    assert name not in orch.ok("list")
    store(database, name, imported, GoingOn())
    assert [trial.value for trial in copy_of(name, url).trials] == list(range(300))


def test_values_that_postgresql_cannot_store_are_named(
    orch: Orch, name: str, tmp_path: Path
) -> None:
    source = f"sqlite:///{tmp_path / 'steps.db'}"
    study = optuna.create_study(storage=source)
    study.add_trial(optuna.create_trial(value=1.0, intermediate_values={1_700_000_000_000: 1.0}))
    message = orch.refused(1, "import", "optuna", source, name)
    assert "trial 0 reports a value at step 1700000000000" in message


def test_names_from_the_source_are_shown_as_text(
    orch: Orch, name: str, url: str, tmp_path: Path
) -> None:
    source, red = f"sqlite:///{tmp_path / 'red.db'}", "\x1b[31mred"
    for study_name in (red, "plain"):
        study = optuna.create_study(storage=source, study_name=study_name)
        study.set_metric_names([red])
        study.optimize(lambda trial: trial.suggest_float(red, 0, 1), n_trials=3)
    message = orch.refused(2, "import", "optuna", source, name)
    assert "several studies" in message and "\x1b" not in message
    orch.ok("import", "optuna", source, name, "--study", red)
    orch.ok("import", "optuna", source, f"{name}-two", "--study", "plain")
    assert list(copy_of(name, url).trials[0].params) == [red]
    commands = (
        ["report", name], ["best", name], ["show", name], ["list"], ["space", name],
        ["compare", name, f"{name}-two"],
    )  # fmt: skip
    for command in commands:
        shown = orch.ok(*command)
        assert "\x1b" not in shown, command


def test_redis_without_its_package_is_refused_in_one_line(orch: Orch, name: str) -> None:
    if importlib.util.find_spec("redis"):
        pytest.skip("the package redis is installed")
    message = orch.refused(1, "import", "optuna", "redis://127.0.0.1:1", name)
    assert "pip install redis" in message
