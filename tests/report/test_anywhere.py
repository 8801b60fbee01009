"""A report says the same in every folder: it reads what the study has stored of its objective."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
from conftest import Orch

from orchestrator.doctor import examine_study
from orchestrator.storage.database import Database, script
from orchestrator.storage.studies import open_study

_MODULE = """\
import keras
from optuna.distributions import FloatDistribution
from orchestrator.objective import KerasObjective

def f(trial):
    x = trial.suggest_float('x', 0, 1)
    for step in (1, 2, 3):
        trial.report(x, step)
    return x

class Net(KerasObjective):
    default_data = 'digits'

    def space(self):
        return {'rate': FloatDistribution(0.001, 0.01)}

    def build(self, trial):
        return _model(trial.params['rate'])

def build_model(hp):
    return _model(hp.Float('rate', 0.001, 0.01))

def _model(rate):
    model = keras.Sequential([keras.Input((8, 8)), keras.layers.Flatten(),
                              keras.layers.Dense(10, activation='softmax')])
    model.compile(keras.optimizers.SGD(rate), 'sparse_categorical_crossentropy', metrics=['accuracy'])
    return model
"""
_FEW = ("report {0}", "report {0} --format json", "space {0}")
_VERBS = (
    *_FEW,
    "report {0} --format html",
    "best {0}",
    "show {0}",
    "watch {0}",
    "compare {0} {0}-b",
    "tensorboard {0} --no-serve --logdir logs",
)


class User(Orch):
    """The command as a user gives it in a folder of theirs."""

    @property
    def environment(self) -> dict[str, str]:
        environment = super().environment
        environment.pop("PYTHONPATH")
        return environment


@pytest.fixture
def user(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> User:
    monkeypatch.chdir(tmp_path)
    return User(home)


def pages(user: User, name: str, verbs: Sequence[str]) -> dict[str, str]:
    """What every reading verb prints about a study."""
    return {line: _without_ages(user.ok(*line.format(name).split())) for line in verbs}


def pages_and_imports(
    user: User, name: str, verbs: Sequence[str]
) -> tuple[dict[str, str], dict[str, set[str]]]:
    """The same, and the packages that each verb imports."""
    code = "import sys; sys.argv[0] = 'orch'; from orchestrator.cli.main import main; main()"
    found, packages = {}, {}
    for line in verbs:
        done = subprocess.run(
            [sys.executable, "-P", "-X", "importtime", "-c", code, *line.format(name).split()],
            env=user.environment, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr[-2000:]
        found[line] = _without_ages(done.stdout)
        packages[line] = {
            each.rpartition("|")[2].strip().partition(".")[0]
            for each in done.stderr.splitlines()
            if each.startswith("import time:")
        }
    return found, packages


def _without_ages(page: str) -> str:
    """A page without what depends on the moment: when a worker came, and was last seen."""
    page = re.sub(r'"(last_seen|joined)_seconds": [\d.]+', "", page)
    page = re.sub(r"[\d.]+ (s|min|h)( \d\d (s|min))? ago", "ago", page)
    return re.sub(" +", " ", page)


@pytest.mark.parametrize(
    ("objective", "options", "unit"),
    [
        ("mine_anywhere:f", ["--set", "pruner.max_resource=3"], "step"),
        ("mine_anywhere:Net", ["--epochs", "2", "--repeats", "2"], "epoch"),
        ("kt:mine_anywhere:build_model", ["--data", "digits", "--epochs", "2"], "epoch"),
    ],
)
def test_every_page_is_the_same_without_the_users_module(
    user: User, name: str, tmp_path: Path, objective: str, options: list[str], unit: str
) -> None:
    Path("mine_anywhere.py").write_text(_MODULE)
    user.ok("run", objective, "--study", name, "--trials", "2", "--workers", "1", *options)
    user.ok("create", f"{name}-b", "--objective", objective, "--trials", "2", *options)
    verbs = _VERBS if objective.endswith("Net") else _FEW
    here = pages(user, name, verbs)
    os.mkdir("empty")
    os.chdir("empty")
    (tmp_path / "mine_anywhere.py").unlink()
    there, packages = pages_and_imports(user, name, verbs)
    for line, page in here.items():
        assert there[line] == page, line
        assert not packages[line] & {"tensorflow", "keras", "mine_anywhere"}, line
    assert (
        f'"has_epochs": {"true" if unit == "epoch" else "false"}'
        in there["report {0} --format json"]
    )
    assert f"{unit}s" in there["report {0}"]
    assert ("rate" if unit == "epoch" else "x") in there["space {0}"]


def test_doctor_needs_no_objective_for_a_study_without_data(
    user: User, name: str, url: str
) -> None:
    Path("mine_anywhere.py").write_text(_MODULE)
    user.ok("create", name, "--objective", "mine_anywhere:f")
    Path("mine_anywhere.py").unlink()
    versions, data = examine_study(url, name)
    assert not versions.ok and "source is not to be found here" in versions.text
    assert data.ok and data.text == "none is needed"


@pytest.mark.parametrize(
    ("arguments", "steps", "has_epochs"),
    [
        (["quadratic"], 5, False),
        (["quadratic", "--set", "objective.steps=7"], 7, False),
        (["digits", "--epochs", "6"], 6, True),
        (["digits", "--epochs", "6", "--folds", "3", "--repeats", "2"], 6, True),
        (["digits", "--param", "epochs={int=[1,8],step=3}"], 7, True),
        (["digits", "--param", "epochs={choice=[2,9,4]}"], 9, True),
        (["digits", "--param", "epochs=3"], 3, True),
        (["kt:hypermodels:build_model", "--data", "digits", "--epochs", "4"], 4, True),
    ],
)
def test_the_upgrade_fills_in_what_follows_from_the_spec(
    orch: Orch, database: Database, name: str, arguments: list[str], steps: int, has_epochs: bool
) -> None:
    orch.ok("create", name, "--objective", *arguments)
    made = open_study(database, name)
    assert (made.facts.steps, made.facts.has_epochs) == (steps, has_epochs)
    _of_schema_6(database, name)
    database.execute(script("migrations/6_to_7.after_data.sql"))
    upgraded = open_study(database, name)
    assert (upgraded.facts.steps, upgraded.facts.has_epochs) == (steps, has_epochs)
    assert upgraded.facts.model_suffix == made.facts.model_suffix
    assert upgraded.facts.space is None


def test_a_worker_and_resume_complete_the_facts_of_an_older_study(
    user: User, database: Database, name: str
) -> None:
    Path("mine_anywhere.py").write_text(_MODULE)
    for study, verb in ((f"{name}-a", "worker"), (f"{name}-b", "resume")):
        user.ok(
            "create", study, "--objective", "mine_anywhere:Net", "--trials", "1", "--epochs", "2"
        )
        made = open_study(database, study).facts
        _of_schema_6(database, study)
        database.execute(script("migrations/6_to_7.after_data.sql"))
        before = open_study(database, study).facts
        assert before.space is None and not before.has_epochs
        # Its space is asked of the objective meanwhile.
        assert "rate" in user.ok("space", study)
        user.ok(verb, study)
        assert open_study(database, study).facts == made


def _of_schema_6(database: Database, name: str) -> None:
    database.execute(
        "UPDATE orch.study o SET objective = NULL FROM studies s "
        "WHERE s.study_id = o.study_id AND s.study_name = %(name)s",
        {"name": name},
    )
