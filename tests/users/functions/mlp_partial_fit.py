"""A network of scikit-learn, a batch of epochs at a time, whose pickle is its checkpoint."""

import pickle

import numpy as np
import optuna
from sklearn.datasets import load_digits
from sklearn.neural_network import MLPClassifier

import orchestrator as orch

X, Y = load_digits(return_X_y=True)
X = X / 16


def objective(trial):
    clf = MLPClassifier(
        hidden_layer_sizes=(trial.suggest_int("units", 8, 64),),
        learning_rate_init=trial.suggest_float("learning_rate", 1e-4, 1e-1, log=True),
        random_state=0,
    )
    first = 0
    if (saved := orch.restore(trial)) is not None:
        first = saved[0] + 1
        clf = pickle.loads(saved[1]["model"])
    for epoch in range(first, 8):
        clf.partial_fit(X[:1400], Y[:1400], classes=np.unique(Y))
        accuracy = clf.score(X[1400:], Y[1400:])
        trial.report(accuracy, epoch)
        orch.checkpoint(trial, epoch, {"model": pickle.dumps(clf)})
        if trial.should_prune():
            raise optuna.TrialPruned
    return clf.score(X[1400:], Y[1400:])
