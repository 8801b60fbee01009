"""A study with constraints: who cannot win wins nowhere, and no model of such a trial is kept."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from optuna.trial import TrialState

from orchestrator.report.epochs import EpochCounter
from orchestrator.report.progress import ProgressReader
from orchestrator.report.summary import summarise
from orchestrator.report.trials import ranking
from orchestrator.winner.models import kept_models

UNSET = object()


def test_a_trial_that_breaks_a_constraint_wins_nowhere_and_its_model_is_not_kept(
    place: Any, function: Any
) -> None:
    # Each trial's value, and its constraint's attribute before and after the model is offered.
    trials = [
        (3.0, -1.0, UNSET),
        (0.9, UNSET, 1.0),
        (0.8, math.nan, UNSET),
        (0.7, UNSET, UNSET),
        (0.6, True, UNSET),
        (0.5, "-1", UNSET),
        (0.4, UNSET, None),
        (9.0, UNSET, False),
        (2.0, -math.inf, UNSET),
        (0.3, UNSET, math.inf),
        (0.2, -1.0, 0.5),
        (0.1, UNSET, [-1]),
    ]
    saved = []

    def run(trial: Any) -> float:
        value, before, after = trials[trial.number]
        if before is not UNSET:
            trial.set_user_attr("too_big", before)

        def save(path: Path) -> None:
            saved.append(trial.number)
            path.write_bytes(b"model")

        trial.offer_model(value, save)
        if after is not UNSET:
            trial.set_user_attr("too_big", after)
        return value

    function(run)
    place.create(
        "hooked:plain", trials=len(trials), sampler={"name": "tpe"},
        study={"direction": "minimize", "constraints": ["too_big"]},
    )  # fmt: skip
    place.worker().run()
    assert [trial.user_attrs.get("orch:reason") for trial in place.trials()] == [None] * 12
    assert all(trial.state == TrialState.COMPLETE for trial in place.trials())
    database, study = place.site.database, place.study
    assert [model.number for model in kept_models(database, study, 9)] == [8]
    assert place.execute("SELECT count(*) AS n FROM orch.artifact") == [{"n": 1}]
    assert saved == [0, 1, 3, 6, 8, 9, 10, 11], "what is known to break it is not even written"
    assert [trial.number for trial in ranking(place.trials(), study.spec)] == [8, 0, 7]
    assert ProgressReader(database, study, EpochCounter(study.spec)).read().best_number == 8
    [metrics] = database.rows("metrics_of_studies", name=study.name)
    assert metrics["best"] == 2.0


def test_of_several_metrics_none_may_be_infinite_and_who_breaks_a_constraint_beats_nobody(
    place: Any, function: Any
) -> None:
    results = [
        ((1.0, 1.0), -1.0),
        ((0.5, math.inf), -1.0),
        ((0.4, 0.4), 0.1),
        ((-math.inf, 0.1), 0),
    ]

    def run(trial: Any) -> tuple[float, float]:
        values, too_big = results[trial.number]
        trial.set_user_attr("too_big", too_big)
        trial.offer_model(values[0], lambda path: path.write_bytes(b"model"))
        return values

    function(run)
    place.create(
        "hooked:plain", trials=len(results), worker={"keep_models": 2},
        study={
            "metric": ["loss", "size"], "direction": ["minimize", "minimize"],
            "constraints": ["too_big"],
        },
    )  # fmt: skip
    place.worker().run()
    database, study = place.site.database, place.study
    assert [model.number for model in kept_models(database, study, 9)] == [0]
    assert ProgressReader(database, study, EpochCounter(study.spec)).read().best_number == 0
    assert summarise(database, study).pareto == [0]
