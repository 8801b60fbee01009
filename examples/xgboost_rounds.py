"""XGBoost that goes on where a lost worker stopped, from the bytes of its booster.

pip install xgboost
orch run examples.xgboost_rounds:objective --trials 10 --set pruner.max_resource=10
"""

import optuna
import xgboost
from sklearn.datasets import load_diabetes
from sklearn.model_selection import train_test_split

import orchestrator as orch

ROUNDS, TREES = 10, 5  # a report after every 5 trees

X, Y = load_diabetes(return_X_y=True)
TRAIN_X, TEST_X, TRAIN_Y, TEST_Y = train_test_split(X, Y, random_state=0)


def objective(trial: optuna.Trial) -> float:
    """The root mean squared error of a boosted regression."""
    params = {
        "eta": trial.suggest_float("eta", 1e-3, 0.5, log=True),
        "max_depth": trial.suggest_int("max_depth", 2, 6),
        "nthread": 1,
    }
    train, test = xgboost.DMatrix(TRAIN_X, TRAIN_Y), xgboost.DMatrix(TEST_X, TEST_Y)
    booster = None
    done, state = orch.restore(trial) or (0, None)
    if state is not None:
        booster = xgboost.Booster(params)
        booster.load_model(state["booster"])
    error = float("inf")
    for step in range(done + 1, ROUNDS + 1):
        booster = xgboost.train(params, train, TREES, xgb_model=booster)
        error = float(booster.eval(test).rpartition(":")[2])
        trial.report(error, step)
        orch.checkpoint(trial, step, {"booster": booster.save_raw()})
        if trial.should_prune():
            raise optuna.TrialPruned
    return error
