"""LightGBM with a callback of one's own, which keeps the booster as text in each round."""

import lightgbm as lgb
import optuna
from sklearn.datasets import load_wine
from sklearn.model_selection import train_test_split

import orchestrator as orch

ROUNDS = 15


def objective(trial):
    train_x, valid_x, train_y, valid_y = train_test_split(
        *load_wine(return_X_y=True), random_state=0
    )
    dtrain = lgb.Dataset(train_x, train_y, free_raw_data=False)
    dvalid = lgb.Dataset(valid_x, valid_y, reference=dtrain, free_raw_data=False)
    param = {
        "objective": "multiclass",
        "num_class": 3,
        "metric": "multi_logloss",
        "verbosity": -1,
        "num_threads": 1,
        "deterministic": True,
        "learning_rate": trial.suggest_float("learning_rate", 0.01, 0.5, log=True),
        "min_data_in_leaf": trial.suggest_int("min_data_in_leaf", 2, 30),
    }
    done, booster = 0, None
    if restored := orch.restore(trial):
        done, booster = restored[0], lgb.Booster(model_str=restored[1]["booster"])

    def keep(env):
        rounds = env.iteration + 1
        trial.report(env.evaluation_result_list[0][2], rounds)
        orch.checkpoint(trial, rounds, {"booster": env.model.model_to_string()})
        if trial.should_prune():
            raise optuna.TrialPruned

    gbm = lgb.train(
        param, dtrain, ROUNDS - done, valid_sets=[dvalid], init_model=booster, callbacks=[keep]
    )
    return gbm.best_score["valid_0"]["multi_logloss"]
