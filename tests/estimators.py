"""scikit-learn estimators as objectives."""

from __future__ import annotations

from typing import Any

from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution
from sklearn.datasets import load_digits
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

from orchestrator.objective import EstimatorObjective


class Svm(EstimatorObjective):
    def estimator(self) -> Any:
        return make_pipeline(StandardScaler(), SVC())

    def data(self) -> Any:
        x, y = load_digits(return_X_y=True)
        return x[:400], y[:400], x[400:600], y[400:600]

    def space(self) -> dict[str, BaseDistribution]:
        return {
            "svc__C": FloatDistribution(0.01, 100.0, log=True),
            "svc__kernel": CategoricalDistribution(("linear", "rbf")),
        }
