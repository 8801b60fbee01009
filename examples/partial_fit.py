"""scikit-learn's partial_fit that goes on where a lost worker stopped.

orch run examples.partial_fit:objective --direction maximize --set pruner.max_resource=10
"""

import numpy as np
import optuna
from sklearn.datasets import load_digits
from sklearn.linear_model import SGDClassifier
from sklearn.model_selection import train_test_split

import orchestrator as orch

EPOCHS = 10
LEARNT = ("coef_", "intercept_", "t_")  # what partial_fit changes

X, Y = load_digits(return_X_y=True)
TRAIN_X, TEST_X, TRAIN_Y, TEST_Y = train_test_split(X / 16, Y, random_state=0)


def objective(trial: optuna.Trial) -> float:
    """A linear classifier of digits, an epoch at a time."""
    alpha = trial.suggest_float("alpha", 1e-6, 1e-1, log=True)
    model = SGDClassifier(alpha=alpha, random_state=0)
    done, state = orch.restore(trial) or (0, None)
    if state is not None:
        model.partial_fit(TRAIN_X[:1], TRAIN_Y[:1], np.unique(Y))  # makes its attributes
        vars(model).update(state)
    accuracy = 0.0
    for epoch in range(done + 1, EPOCHS + 1):
        model.partial_fit(TRAIN_X, TRAIN_Y, np.unique(Y))
        accuracy = float(model.score(TEST_X, TEST_Y))
        trial.report(accuracy, epoch)
        orch.checkpoint(trial, epoch, {name: getattr(model, name) for name in LEARNT})
        if trial.should_prune():
            raise optuna.TrialPruned
    return accuracy
