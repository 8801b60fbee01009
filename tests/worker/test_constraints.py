"""A study with constraints: who cannot win wins nowhere, and no model of such a trial is kept."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import optuna
from optuna.trial import TrialState

from orchestrator.report.epochs import EpochCounter
from orchestrator.report.progress import ProgressReader
from orchestrator.report.summary import summarise
from orchestrator.report.trials import ranking
from orchestrator.winner.models import kept_models

UNSET = object()
PRUNED = -1.0


def test_a_trial_that_breaks_a_constraint_wins_nowhere_and_its_model_is_not_kept(
    place: Any, function: Any
) -> None:
    # Each trial's loss, and its constraint's attribute before and after the model is offered.
    trials = [
        (3.0, 0, UNSET),
        (0.9, UNSET, 1.0),
        (0.8, -math.nan, UNSET),
        (0.7, UNSET, UNSET),
        (0.6, True, UNSET),
        (0.5, "-1", UNSET),
        (0.4, UNSET, None),
        (2.5, UNSET, False),
        (2.0, -math.inf, UNSET),
        (0.3, UNSET, math.inf),
        (0.2, -1.0, 0.5),
        (0.1, UNSET, [-1]),
        (9.0, -1.0, UNSET),
        (PRUNED, -1.0, UNSET),
        (PRUNED, UNSET, UNSET),
    ]
    saved = []

    def run(trial: Any) -> float:
        loss, before, after = trials[trial.number]
        if before is not UNSET:
            trial.set_user_attr("too_big", before)
        if loss == PRUNED:
            trial.report(0.0, 1)
            raise optuna.TrialPruned

        def save(path: Path) -> None:
            saved.append(trial.number)
            path.write_bytes(b"model")

        trial.offer_model(-loss, save)
        if after is not UNSET:
            trial.set_user_attr("too_big", after)
        return -loss

    function(run)
    # TPE asks for the constraints at each trial's end.
    place.create(
        "hooked:plain", trials=len(trials), sampler={"name": "tpe"}, worker={"keep_models": 2},
        study={"direction": "maximize", "constraints": ["too_big"]},
    )  # fmt: skip
    place.worker().run()
    states = [trial.state for trial in place.trials()]
    assert states == [TrialState.COMPLETE] * 13 + [TrialState.PRUNED] * 2
    told = [trial.system_attrs["constraints"][0] for trial in place.trials()]
    assert all(map(math.isfinite, told)), "optuna-dashboard's page reads no other"
    assert told[2] > 0, "whatever the sign of what is no number"
    database, study = place.site.database, place.study
    assert [model.number for model in kept_models(database, study, 9)] == [8, 7]
    assert place.execute("SELECT count(*) AS n FROM orch.artifact") == [{"n": 2}]
    assert saved == [0, 1, 3, 6, 7, 8, 9, 10, 11], "what is known to break it is not even written"
    assert [trial.number for trial in ranking(place.trials(), study.spec)] == [8, 7, 0, 12]
    assert ProgressReader(database, study, EpochCounter(study)).read().best_number == 8
    [metrics] = database.rows("metrics_of_studies", name=study.name)
    assert metrics["best"] == -2.0


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
    another = type(place)(place.site, f"{place.name}-another")
    for each in (another, place):
        each.create(
            "hooked:plain", trials=len(results), worker={"keep_models": 2},
            study={
                "metric": ["loss", "size"], "direction": ["minimize", "minimize"],
                "constraints": ["too_big"],
            },
        )  # fmt: skip
        each.worker().run()
    database, study = place.site.database, place.study
    assert [model.number for model in kept_models(database, study, 9)] == [0]
    assert [model.number for model in kept_models(database, another.study, 9)] == [0]
    assert ProgressReader(database, study, EpochCounter(study)).read().best_number == 0
    assert summarise(database, study).pareto == [0]
