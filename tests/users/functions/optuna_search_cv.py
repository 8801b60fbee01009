"""scikit-learn by OptunaSearchCV of optuna-integration, which has a study of its own."""

import optuna
from optuna.distributions import FloatDistribution
from optuna_integration import OptunaSearchCV
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA
from sklearn.pipeline import make_pipeline
from sklearn.svm import SVC

optuna.logging.set_verbosity(optuna.logging.WARNING)


def objective(trial):
    x, y = load_digits(return_X_y=True)
    best = 0.0
    for step, kernel in enumerate(["linear", "poly", "rbf"]):
        components = trial.suggest_int("components", 4, 16)
        pipeline = make_pipeline(PCA(components, random_state=0), SVC(kernel=kernel))
        search = OptunaSearchCV(
            pipeline,
            {"svc__C": FloatDistribution(1e-2, 1e2, log=True)},
            cv=2,
            n_trials=3,
            random_state=0,
        )
        search.fit(x[:400], y[:400])
        best = max(best, float(search.best_score_))
        trial.report(best, step)
    return best
