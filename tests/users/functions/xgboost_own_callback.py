"""XGBoost with a callback of one's own, which keeps the bytes of the booster in each round."""

import optuna
import xgboost as xgb
from sklearn.datasets import load_diabetes
from sklearn.model_selection import train_test_split

import orchestrator as orch

ROUNDS = 20


class Keep(xgb.callback.TrainingCallback):
    def __init__(self, trial):
        self.trial = trial

    def after_iteration(self, model, epoch, evals_log):
        rounds = model.num_boosted_rounds()
        self.trial.report(evals_log["valid"]["rmse"][-1], rounds)
        orch.checkpoint(self.trial, rounds, {"booster": model.save_raw("json")})
        if self.trial.should_prune():
            raise optuna.TrialPruned
        return False


def objective(trial):
    train_x, valid_x, train_y, valid_y = train_test_split(
        *load_diabetes(return_X_y=True), random_state=0
    )
    dtrain, dvalid = xgb.DMatrix(train_x, train_y), xgb.DMatrix(valid_x, valid_y)
    param = {
        "nthread": 1,
        "eta": trial.suggest_float("eta", 0.01, 0.5, log=True),
        "lambda": trial.suggest_float("lambda", 1e-3, 10.0, log=True),
    }
    done, booster = 0, None
    if restored := orch.restore(trial):
        done, booster = restored[0], xgb.Booster(param)
        booster.load_model(bytearray(restored[1]["booster"]))
    result = {}
    xgb.train(
        param,
        dtrain,
        ROUNDS - done,
        evals=[(dvalid, "valid")],
        evals_result=result,
        xgb_model=booster,
        callbacks=[Keep(trial)],
        verbose_eval=False,
    )
    return result["valid"]["rmse"][-1]
