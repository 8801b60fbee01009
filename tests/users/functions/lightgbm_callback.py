"""Pruning of LightGBM by the callback of optuna-integration, after Optuna's examples."""

import lightgbm as lgb
import numpy as np
import optuna
import sklearn.datasets
import sklearn.metrics
from optuna_integration import LightGBMPruningCallback
from sklearn.model_selection import train_test_split


def objective(trial):
    data, target = sklearn.datasets.load_breast_cancer(return_X_y=True)
    train_x, valid_x, train_y, valid_y = train_test_split(
        data, target, test_size=0.25, random_state=0
    )
    dtrain = lgb.Dataset(train_x, label=train_y)
    dvalid = lgb.Dataset(valid_x, label=valid_y)
    param = {
        "objective": "binary",
        "metric": "auc",
        "verbosity": -1,
        "num_threads": 1,
        "deterministic": True,
        "lambda_l1": trial.suggest_float("lambda_l1", 1e-8, 10.0, log=True),
        "num_leaves": trial.suggest_int("num_leaves", 2, 64),
        "feature_fraction": trial.suggest_float("feature_fraction", 0.4, 1.0),
    }
    pruning_callback = LightGBMPruningCallback(trial, "auc")
    gbm = lgb.train(
        param, dtrain, num_boost_round=20, valid_sets=[dvalid], callbacks=[pruning_callback]
    )
    pred_labels = np.rint(gbm.predict(valid_x))
    return sklearn.metrics.accuracy_score(valid_y, pred_labels)


if __name__ == "__main__":
    study = optuna.create_study(
        pruner=optuna.pruners.MedianPruner(n_warmup_steps=10), direction="maximize"
    )
    study.optimize(objective, n_trials=20)
    print(study.best_trial)
