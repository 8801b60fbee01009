"""orch import optuna: an existing study becomes one of ours, whole."""

from __future__ import annotations

from pathlib import Path

import optuna
import pytest
from conftest import Orch
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend


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


def test_an_imported_study_has_every_trial_with_all_its_facts(
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


def test_with_an_objective_the_study_goes_on(orch: Orch, name: str, old: str) -> None:
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


def test_what_cannot_be_read_is_one_line(orch: Orch, name: str, old: str, tmp_path: Path) -> None:
    missing = tmp_path / "missing.db"
    assert "no file" in orch.refused(2, "import", "optuna", f"sqlite:///{missing}", name)
    assert not missing.exists()
    assert "did you mean 'old'" in orch.refused(2, "import", "optuna", old, name, "--study", "odl")
    message = orch.refused(1, "import", "optuna", "postgresql://a:secret@127.0.0.1:1/b", name)
    assert "secret" not in message and "***" in message
    orch.ok("import", "optuna", old, name)
    assert "exists already" in orch.refused(2, "import", "optuna", old, name)
