"""Pruning of XGBoost by the callback of optuna-integration, after Optuna's examples."""

import numpy as np
import optuna
import sklearn.datasets
import sklearn.metrics
import xgboost as xgb
from optuna_integration import XGBoostPruningCallback
from sklearn.model_selection import train_test_split


def objective(trial):
    data, target = sklearn.datasets.load_breast_cancer(return_X_y=True)
    train_x, valid_x, train_y, valid_y = train_test_split(
        data, target, test_size=0.25, random_state=0
    )
    dtrain = xgb.DMatrix(train_x, label=train_y)
    dvalid = xgb.DMatrix(valid_x, label=valid_y)
    param = {
        "verbosity": 0,
        "nthread": 1,
        "objective": "binary:logistic",
        "eval_metric": "auc",
        "booster": trial.suggest_categorical("booster", ["gbtree", "dart"]),
        "alpha": trial.suggest_float("alpha", 1e-8, 1.0, log=True),
    }
    if param["booster"] == "dart":
        param["rate_drop"] = trial.suggest_float("rate_drop", 1e-8, 1.0, log=True)
    param["max_depth"] = trial.suggest_int("max_depth", 1, 9)
    param["eta"] = trial.suggest_float("eta", 1e-3, 1.0, log=True)
    pruning_callback = XGBoostPruningCallback(trial, "validation-auc")
    bst = xgb.train(
        param,
        dtrain,
        num_boost_round=20,
        evals=[(dvalid, "validation")],
        verbose_eval=False,
        callbacks=[pruning_callback],
    )
    pred_labels = np.rint(bst.predict(dvalid))
    return sklearn.metrics.accuracy_score(valid_y, pred_labels)


if __name__ == "__main__":
    study = optuna.create_study(
        pruner=optuna.pruners.MedianPruner(n_warmup_steps=5), direction="maximize"
    )
    study.optimize(objective, n_trials=20)
    print(study.best_trial)
