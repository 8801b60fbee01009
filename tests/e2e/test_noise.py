"""Folds, repeats and fresh seeds: a mean with its spread, held against scikit-learn."""

from __future__ import annotations

import csv
import io
import json
import math
from typing import Any

import numpy as np
import pytest
from conftest import Orch

SMALL = (
    "--pruner", "none", "--param", "layers=1", "--param", "dropout=0.0",
    "--param", "units_2=8", "--param", "units_3=8", "--param", "units_4=8",
    "--param", 'activation="relu"', "--param", "learning_rate=0.005",
)  # fmt: skip


def rows(orch: Orch, name: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(orch.ok("report", name, "--format", "csv"))))


def test_a_grid_over_an_estimator_equals_grid_search_cv_to_the_last_digit(
    orch: Orch, name: str
) -> None:
    from estimators import Svm
    from sklearn.model_selection import GridSearchCV

    from orchestrator.training.base import Settings

    orch.ok(
        "run", "estimators:Svm", "--study", name, "--sampler", "grid", "--pruner", "none",
        "--folds", "4", "--workers", "2", "--param", "svc__C={choice=[0.01,1.0,10.0]}",
    )  # fmt: skip
    ours = rows(orch, name)
    svm = Svm(Settings())
    theirs = GridSearchCV(
        svm.estimator(), {"svc__C": [0.01, 1.0, 10.0], "svc__kernel": ["linear", "rbf"]}, cv=4
    ).fit(*svm.data()[:2])
    assert len(ours) == 6
    for index, params in enumerate(theirs.cv_results_["params"]):
        (mine,) = (row for row in ours if json.loads(row["params"]) == params)
        for column in ("mean_test_score", "std_test_score", "rank_test_score",
                       *(f"split{fold}_test_score" for fold in range(4))):  # fmt: skip
            assert float(mine[column]) == pytest.approx(theirs.cv_results_[column][index]), column


def test_a_grid_over_a_keras_network_ranks_as_grid_search_cv_does(orch: Orch, name: str) -> None:
    import keras
    from keras.wrappers import SKLearnClassifier
    from sklearn.model_selection import GridSearchCV

    from orchestrator.training.data import load

    orch.ok(
        "run", "digits", "--study", name, "--sampler", "grid", "--folds", "3", "--workers", "2",
        *SMALL, "--param", "units={choice=[2,8,64]}", "--param", "batch_size=64",
        "--epochs", "4",
    )  # fmt: skip
    data = load("digits")

    def build(X: Any, y: Any, units: int) -> keras.Model:
        model = keras.Sequential(
            [
                keras.Input((64,)),
                keras.layers.Dense(units, activation="relu"),
                keras.layers.Dense(10, activation="softmax"),
            ]
        )
        model.compile(keras.optimizers.Adam(0.005), "categorical_crossentropy")
        return model

    keras.utils.set_random_seed(0)
    classifier = SKLearnClassifier(build, model_kwargs={"units": 8})
    theirs = GridSearchCV(
        classifier, {"model_kwargs": [{"units": units} for units in (2, 8, 64)]}, cv=3
    )
    # Cloning the classifier loses its fit_kwargs (Keras 3.15).
    x = data.x_train.reshape(-1, 64)
    theirs.fit(x, data.y_train, epochs=4, batch_size=64, verbose=0)
    rank = {
        params["model_kwargs"]["units"]: place
        for params, place in zip(
            theirs.cv_results_["params"], theirs.cv_results_["rank_test_score"], strict=True
        )
    }
    ours = {int(row["param_units"]): int(row["rank_test_score"]) for row in rows(orch, name)}
    assert ours == rank == {2: 3, 8: 2, 64: 1}


def test_the_report_gives_the_mean_of_the_folds_with_its_standard_error(
    orch: Orch, name: str
) -> None:
    orch.ok("run", "estimators:Svm", "--study", name, "--folds", "4", "--repeats", "2",
            "--trials", "3", "--workers", "2", "--pruner", "none")  # fmt: skip
    whole = orch.report(name)
    assert whole["rounds"] == 8
    for trial in whole["trials"]:
        values = list(trial["intermediate"].values())
        assert len(values) == 8 and trial["value"] == pytest.approx(np.mean(values))
        assert trial["std"] == pytest.approx(np.std(values, ddof=1))
        assert trial["standard_error"] == pytest.approx(trial["std"] / math.sqrt(8))
    assert whole["best"]["std"] is not None and whole["best"]["trainings"] == 8
    assert "standard error" in orch.ok("report", name)


def test_the_wilcoxon_pruner_stops_a_clearly_worse_trial_between_folds(
    orch: Orch, name: str
) -> None:
    orch.ok(
        "run", "estimators:Svm", "--study", name, "--sampler", "grid", "--pruner", "wilcoxon",
        "--folds", "10", "--workers", "1", "--param", 'svc__kernel="rbf"',
        "--param", "svc__C={choice=[10.0,0.01]}",
    )  # fmt: skip
    good, bad = orch.report(name)["trials"]
    assert good["state"] == "COMPLETE" and bad["state"] == "PRUNED"
    assert len(bad["intermediate"]) < 10


def test_a_killed_trial_resumes_within_its_fold(orch: Orch, name: str) -> None:
    orch.ok(
        "run", "user_objectives:DiesInFold", "--study", name, "--trials", "1", "--workers", "1",
        "--folds", "3", "--epochs", "4", "--data", "digits", *SMALL[:2],
        "--set", "worker.heartbeat_seconds=0.4", "--set", "worker.grace_seconds=1.5",
    )  # fmt: skip
    whole = orch.report(name)
    (ended,) = (trial for trial in whole["trials"] if trial["state"] == "COMPLETE")
    assert ended["retry_of"] == 0 and whole["retries"] == 1
    assert list(ended["intermediate"]) == ["1", "2", "3"]
    assert ended["value"] == pytest.approx(np.mean(list(ended["intermediate"].values())))
    assert "identical: 3 of 3 values" in orch.ok("replay", name, str(ended["number"]))


def test_confirm_retrains_the_best_with_new_seeds_and_reports_confidence(
    orch: Orch, name: str
) -> None:
    orch.ok("run", "digits", "--study", name, "--trials", "3", "--epochs", "1", "--workers", "2",
            *SMALL, "--param", "units={choice=[2,64]}", "--param", "batch_size=32",
            "--sampler", "grid")  # fmt: skip
    command = ["confirm", name, "--top", "2", "--seeds", "3", "--workers", "2"]
    found = json.loads(orch.ok(*command, "--format", "json"))
    assert [len(each["values"]) for each in found] == [3, 3]
    assert found[0]["low"] < found[0]["mean"] < found[0]["high"]
    assert found[0]["probability_best"] > 0.9
    assert sum(each["probability_best"] for each in found) == pytest.approx(1)
    assert len(set(found[0]["values"])) > 1, "the seeds are fresh"
    again = json.loads(orch.ok(*command, "--format", "json"))
    assert again == found, "nothing is trained twice"
    assert "probability" in orch.ok(*command)
    assert "2 complete, feasible trials" in orch.refused(1, "confirm", name, "--top", "9")
