"""The report of an imported study says what its source says, and nothing else."""

from __future__ import annotations

from pathlib import Path

import optuna
import pytest
from conftest import Orch

_INVENTED = (
    "orch confirm", "orch run", "orch worker", "To do it again", "tpe with", "with none",
    "Who trained what", "ended from outside", "paused, then pruned", "no worker", "training each",
    " 0.0 s",
)  # fmt: skip


@pytest.fixture
def source(tmp_path: Path) -> str:
    url = f"sqlite:///{tmp_path / 'old.db'}"
    study = optuna.create_study(
        storage=url, study_name="theirs", pruner=optuna.pruners.MedianPruner(n_startup_trials=2)
    )

    def objective(trial: optuna.Trial) -> float:
        x = trial.suggest_float("x", 0, 1)
        for step in range(3):
            trial.report(x + step, step)
            if trial.should_prune():
                raise optuna.TrialPruned
        return x

    study.enqueue_trial({"x": 0.5})
    study.enqueue_trial({"x": 0.4})
    study.enqueue_trial({"x": 0.9})
    study.optimize(objective, n_trials=9)
    return url


def forms(orch: Orch, name: str, folder: Path) -> dict[str, str]:
    page = folder / "report.html"
    orch.ok("report", name, "--format", "html", "--out", str(page))
    shown = {
        "text": orch.ok("report", name),
        "markdown": orch.ok("report", name, "--format", "markdown"),
        "html": page.read_text(),
    }
    return {form: " ".join(text.split()) for form, text in shown.items()}  # lines are wrapped


def test_a_read_only_study_says_where_it_comes_from(
    orch: Orch, name: str, source: str, tmp_path: Path
) -> None:
    orch.ok("import", "optuna", source, name)
    whole = orch.report(name)
    assert (whole["sampler"], whole["pruner"]) == ("unknown", "unknown")
    assert whole["imported"] == {
        "tool": "Optuna",
        "version": optuna.__version__,
        "source": source,
        "study": "theirs",
        "trials": 9,
        "has_times": True,
    }
    for form, shown in forms(orch, name, tmp_path).items():
        assert [words for words in _INVENTED if words in shown] == [], form
        assert f"imported from Optuna {optuna.__version__}" in shown, form
        assert "study'theirs'at" + source in shown.replace("&#39;", "'").replace(" ", ""), form
    assert "steps run" in orch.ok("report", name)


def test_a_study_imported_with_an_objective_has_a_full_report(
    orch: Orch, name: str, source: str, tmp_path: Path
) -> None:
    orch.ok("import", "optuna", source, name, "--objective", "user_objectives:not_a_number")
    orch.ok("resume", name, "--add", "1", "--workers", "1")
    for form, shown in forms(orch, name, tmp_path).items():
        assert "auto with none" in shown, form
        assert "9 trials imported from Optuna" in shown, form
        assert "ended from outside" not in shown and "paused, then pruned" not in shown, form
    whole = forms(orch, name, tmp_path)
    assert "To do it again" in whole["markdown"] and "Who trained what" in whole["html"]
    assert "orch confirm" in whole["text"]


def test_commands_that_need_an_objective_are_refused_and_change_nothing(
    orch: Orch, name: str, source: str
) -> None:
    orch.ok("import", "optuna", source, name)
    for command in (["resume", name, "--add", "2"], ["confirm", name]):
        message = orch.refused(2, *command)
        assert f"study '{name}' was imported without an objective" in message
    assert orch.report(name)["budget"] == 9


def test_the_report_of_an_imported_waiting_study_proposes_no_worker(
    orch: Orch, name: str, tmp_path: Path
) -> None:
    source = f"sqlite:///{tmp_path / 'waiting.db'}"
    optuna.create_study(storage=source).enqueue_trial({"x": 1})
    orch.ok("import", "optuna", source, name)
    text = orch.ok("report", name)
    assert "No trial has run yet." in text and "orch worker" not in text


def test_a_sources_own_attribute_is_not_taken_for_a_confirmation(
    orch: Orch, name: str, tmp_path: Path
) -> None:
    source = f"sqlite:///{tmp_path / 'confirms.db'}"

    def objective(trial: optuna.Trial) -> float:
        trial.set_user_attr("confirms", 1)  # what orch calls a trial that confirms another
        return trial.suggest_float("x", 0, 1)

    optuna.create_study(storage=source).optimize(objective, n_trials=3)
    orch.ok("import", "optuna", source, name)
    assert "is the best of 3" in orch.report(name)["verdict"][0]
