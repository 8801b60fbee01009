"""LightGBM that goes on where a lost worker stopped, from the text of its booster.

pip install lightgbm
orch run examples.lightgbm_rounds:objective --trials 10 --set pruner.max_resource=10
"""

import lightgbm
import numpy as np
import optuna
from sklearn.datasets import load_diabetes
from sklearn.model_selection import train_test_split

import orchestrator as orch

ROUNDS, TREES = 10, 5  # a report after every 5 trees

X, Y = load_diabetes(return_X_y=True)
TRAIN_X, TEST_X, TRAIN_Y, TEST_Y = train_test_split(X, Y, random_state=0)


def objective(trial: optuna.Trial) -> float:
    """The root mean squared error of a boosted regression."""
    params = {
        "objective": "regression",
        "learning_rate": trial.suggest_float("learning_rate", 1e-3, 0.5, log=True),
        "num_leaves": trial.suggest_int("num_leaves", 4, 32),
        "verbosity": -1,
        "num_threads": 1,
        "deterministic": True,
    }
    booster = None
    done, state = orch.restore(trial) or (0, None)
    if state is not None:
        booster = lightgbm.Booster(model_str=state["booster"])
    error = float("inf")
    for step in range(done + 1, ROUNDS + 1):
        data = lightgbm.Dataset(TRAIN_X, TRAIN_Y, free_raw_data=False)
        booster = lightgbm.train(params, data, TREES, init_model=booster)
        error = float(np.sqrt(np.mean((booster.predict(TEST_X) - TEST_Y) ** 2)))
        trial.report(error, step)
        orch.checkpoint(trial, step, {"booster": booster.model_to_string()})
        if trial.should_prune():
            raise optuna.TrialPruned
    return error
