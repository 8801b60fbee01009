"""The sampler of one trial after another."""

from __future__ import annotations

import optuna
import pytest

from orchestrator.search.samplers import build_sampler
from orchestrator.spec.model import StudySpec


@pytest.mark.parametrize("name", ["tpe", "nsga2"])
def test_a_draw_with_constraints_equals_plain_optunas(name: str) -> None:
    spec = StudySpec.parse(
        {
            "study": {"name": "s", "objective": "quadratic", "trials": 9, "constraints": ["n"]},
            "sampler": {"name": name, **({"population_size": 4} if name == "nsga2" else {})},
        }
    )
    made = {"tpe": optuna.samplers.TPESampler, "nsga2": optuna.samplers.NSGAIISampler}[name]
    options = {"constant_liar": True} if name == "tpe" else {"population_size": 4}
    ended = optuna.create_study()
    ended.optimize(_constrained, n_trials=20)
    drawn = []
    for sampler in (build_sampler(spec, 5), made(seed=5, **options)):
        study = optuna.create_study(sampler=sampler)
        study.add_trials(ended.trials)
        study.optimize(_constrained, n_trials=1)
        drawn.append(study.trials[-1].params)
    assert drawn[0] == drawn[1]


def _constrained(trial: optuna.Trial) -> float:
    value = _objective(trial)
    trial.set_constraint("n", trial.params["n"] - 50)
    return value


def _objective(trial: optuna.Trial) -> float:
    return float(trial.suggest_float("x", 0, 1) + trial.suggest_int("n", 0, 100))
