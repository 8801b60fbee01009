"""One objective of each kind that Optuna's users write, for a comparison with plain Optuna.

``KINDS`` holds each with the parameters that are enqueued for it. ``objective`` runs the kind that a
trial's parameter ``kind`` names, so that one study has them all.
"""

from __future__ import annotations

import copy
import fractions
import subprocess
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import optuna
from optuna.artifacts import FileSystemArtifactStore, upload_artifact
from optuna.terminator import report_cross_validation_scores
from sklearn.datasets import load_iris
from sklearn.decomposition import PCA
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import SGDClassifier
from sklearn.model_selection import cross_val_score, train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler, StandardScaler
from sklearn.svm import SVC

Kind = Callable[[optuna.Trial], Any]
Function = TypeVar("Function", bound=Kind)
KINDS: dict[str, tuple[Kind, dict[str, Any]]] = {}


def kind(**enqueued: Any) -> Callable[[Function], Function]:
    """Note a kind of objective with the parameters that are enqueued for it."""

    def note(function: Function) -> Function:
        KINDS[function.__name__] = (function, enqueued)
        return function

    return note


class Objective:
    """An object with its data, as Optuna's tutorial advises where data are loaded once."""

    def __init__(self, features: Any, classes: Any) -> None:
        self.features, self.classes = features, classes

    def __call__(self, trial: optuna.Trial) -> Any:
        function, _ = KINDS[trial.suggest_categorical("kind", list(KINDS))]
        return function(trial)

    def split(self) -> Any:
        return train_test_split(self.features, self.classes, random_state=0)


objective = Objective(*load_iris(return_X_y=True))


# scikit-learn


@kind(classifier="SVC", svc_c=2.5)
def chooses_a_classifier(trial: optuna.Trial) -> float:
    if trial.suggest_categorical("classifier", ["SVC", "RandomForest"]) == "SVC":
        model = SVC(C=trial.suggest_float("svc_c", 1e-3, 1e3, log=True), gamma="auto")
    else:
        model = RandomForestClassifier(
            max_depth=trial.suggest_int("max_depth", 2, 32, log=True),
            n_estimators=5,
            random_state=0,
        )
    return float(cross_val_score(model, objective.features, objective.classes, cv=3).mean())


@kind(classifier="RandomForest", max_depth=4)
def chooses_the_other_classifier(trial: optuna.Trial) -> float:
    return chooses_a_classifier(trial)


def _fit_in_steps(trial: optuna.Trial, alpha: float) -> float:
    train_x, valid_x, train_y, valid_y = objective.split()
    model = SGDClassifier(alpha=alpha, random_state=0)
    for step in range(12):
        model.partial_fit(train_x, train_y, np.unique(objective.classes))
        trial.report(model.score(valid_x, valid_y), step)
        if trial.should_prune():
            raise optuna.TrialPruned
    return float(model.score(valid_x, valid_y))


@kind(alpha=1e-3)
def fits_in_steps(trial: optuna.Trial) -> float:
    return _fit_in_steps(trial, trial.suggest_float("alpha", 1e-5, 10.0, log=True))


@kind(alpha=9.5)
def fits_in_steps_and_is_pruned(trial: optuna.Trial) -> float:
    return fits_in_steps(trial)


@kind(scaler="minmax", reduces=True, components=2, neighbour=None)
def builds_a_pipeline(trial: optuna.Trial) -> float:
    steps: list[Any] = []
    scaler = trial.suggest_categorical("scaler", ["standard", "minmax", None])
    if scaler is not None:
        steps.append(StandardScaler() if scaler == "standard" else MinMaxScaler())
    if trial.suggest_categorical("reduces", [True, False]):
        steps.append(PCA(trial.suggest_int("components", 1, 4)))
    trial.suggest_categorical("neighbour", [None, 1, 0.5, "few"])
    model = make_pipeline(*steps, SVC())
    scores = cross_val_score(model, objective.features, objective.classes, cv=3)
    report_cross_validation_scores(trial, scores.tolist())
    return float(scores.mean())


# Keras


@kind(units=8, rate=0.05)
def trains_with_keras(trial: optuna.Trial) -> float:
    import keras

    class Reports(keras.callbacks.Callback):  # type: ignore[misc]  # Keras has no types
        def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
            assert logs is not None
            trial.report(logs["val_accuracy"], 100 + epoch)
            if trial.should_prune():
                raise optuna.TrialPruned(f"at epoch {epoch}")

    keras.utils.set_random_seed(0)
    train_x, valid_x, train_y, valid_y = objective.split()
    units = trial.suggest_int("units", 4, 64, step=4)
    model = keras.Sequential(
        [keras.Input((4,)), keras.layers.Dense(units, "relu"), keras.layers.Dense(3, "softmax")]
    )
    optimizer = keras.optimizers.Adam(trial.suggest_float("rate", 1e-4, 0.1, log=True))
    model.compile(optimizer, "sparse_categorical_crossentropy", metrics=["accuracy"])
    history = model.fit(
        train_x, train_y, validation_data=(valid_x, valid_y), epochs=3, verbose=0,
        callbacks=[Reports()],
    )  # fmt: skip
    return float(history.history["val_accuracy"][-1])


# What is drawn, noted and asked


@kind(layers=3, batch=48, momentum=0.75, decay=1e-4, width=100, optimizer=None)
def draws_from_every_domain(trial: optuna.Trial) -> float:
    drawn = [
        trial.suggest_int("layers", 1, 5),
        trial.suggest_int("batch", 16, 128, step=16),
        trial.suggest_float("momentum", 0.0, 1.0, step=0.25),
        trial.suggest_float("decay", 1e-6, 1e-1, log=True),
        trial.suggest_int("width", 1, 1_000, log=True),
    ]
    assert trial.suggest_categorical("optimizer", ["adam", "sgd", None]) is None
    assert trial.suggest_int("layers", 1, 5) == drawn[0], "the same once more"
    trial.set_user_attr("types", [type(each).__name__ for each in drawn])
    return float(sum(drawn))


@kind(x=0.25)
def notes_attributes(trial: optuna.Trial) -> float:
    x = trial.suggest_float("x", 0, 1)
    trial.set_user_attr("who", "Zoë")
    trial.set_user_attr("nested", {"a": [1, None, True], "b": {"c": 0.5}})
    trial.set_user_attr("who", "the last one counts")
    trial.set_user_attr("read", [trial.params["x"], trial.number, sorted(trial.user_attrs)])
    return x


@kind(x=0.5)
def looks_at_its_study(trial: optuna.Trial) -> float:
    study = trial.study
    ended = [each for each in study.trials if each.state.is_finished()]
    trial.set_user_attr("seen", [len(ended), study.best_trial.number, study.best_value])
    trial.set_user_attr("direction", study.direction.name)
    return trial.suggest_float("x", 0, 1)


@kind(x=0.75)
def has_constraints(trial: optuna.Trial) -> float:
    x = trial.suggest_float("x", 0, 1)
    trial.set_constraint("memory", x - 0.5)
    trial.set_constraint("latency", -1.0)
    trial.set_user_attr("constraint", (x - 0.5, -1.0))  # as a sampler's constraints_func reads them
    return x


@kind(x=0.3)
def uploads_an_artifact(trial: optuna.Trial) -> float:
    x = trial.suggest_float("x", 0, 1)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "weights.txt"
        file.write_text(str(x))
        store = FileSystemArtifactStore(folder)
        found = upload_artifact(artifact_store=store, file_path=str(file), study_or_trial=trial)
        assert store.open_reader(found).read() == str(x).encode()
    return x


@kind(x=0.6)
def runs_an_inner_study(trial: optuna.Trial) -> float:
    x = trial.suggest_float("x", 0, 1)
    inner = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=3))
    inner.optimize(lambda each: (each.suggest_float("y", 0, 1) - x) ** 2, n_trials=5)
    asked = inner.ask({"y": optuna.distributions.FloatDistribution(0, 1)})
    inner.tell(asked, asked.params["y"])
    return inner.best_value


# What is reported


@kind(x=0.35)
def reports_in_every_way(trial: optuna.Trial) -> float:
    x = trial.suggest_float("x", 0, 1)
    trial.report(np.float32(0.5), np.int64(200))  # type: ignore[arg-type]  # as users do
    trial.report(9.0, 200)  # the first value of a step counts
    trial.report(float("nan"), 201)
    trial.report(float("inf"), 199)
    copy.deepcopy(trial).report(0.25, 202)
    thread = threading.Thread(target=trial.report, args=(0.125, 203))
    thread.start()
    thread.join()
    return x


@kind(x=0.45)
def asks_before_it_reports(trial: optuna.Trial) -> float:
    return trial.suggest_float("x", 0, 1) + trial.should_prune()


@kind(x=0.55)
def prunes_itself(trial: optuna.Trial) -> float:
    trial.report(trial.suggest_float("x", 0, 1), 300)
    raise optuna.TrialPruned("hopeless")


@kind(x=0.65)
def prunes_itself_without_a_value(trial: optuna.Trial) -> float:
    trial.suggest_float("x", 0, 1)
    raise optuna.TrialPruned


@kind(x=0.66)
def prunes_itself_after_a_nan(trial: optuna.Trial) -> float:
    trial.report(0.5, 300)
    trial.report(float("nan"), 301)
    trial.suggest_float("x", 0, 1)
    raise optuna.TrialPruned


# What is returned


def returns(name: str, value: Callable[[float], Any]) -> None:
    """A kind that returns what ``value`` makes of x."""

    def function(trial: optuna.Trial) -> Any:
        return value(trial.suggest_float("x", 0, 1))

    KINDS[f"returns {name}"] = (function, {"x": 0.5})


returns("a whole number", lambda x: int(x * 4))
returns("a number of NumPy", np.float32)
returns("an array of one", np.array)
returns("a list of one", lambda x: [x])
returns("a fraction", fractions.Fraction)
returns("true", lambda x: x > 0)
returns("infinity", lambda x: float("inf"))
returns("nothing", lambda x: None)
returns("a text", lambda x: "good")
returns("a dictionary", lambda x: {"value": x})
returns("an array of two", lambda x: np.array([x, x]))
returns("a list of a text", lambda x: ["good"])
returns("an object", lambda x: objective)


# What fails


def fails(name: str, act: Callable[[optuna.Trial], object]) -> None:
    """A kind that fails in ``act``."""

    def function(trial: optuna.Trial) -> float:
        x = trial.suggest_float("x", 0, 1)
        act(trial)
        return x

    KINDS[f"fails: {name}"] = (function, {"x": 0.5})


def _raise(error: BaseException) -> Callable[[optuna.Trial], object]:
    def act(_: optuna.Trial) -> None:
        raise error

    return act


def _fails_in_sqlite(_: optuna.Trial) -> None:
    import sqlite3

    sqlite3.connect(":memory:").execute("SELECT * FROM no_such_table")


def _fails_in_its_inner_study(_: optuna.Trial) -> None:
    inner = optuna.create_study()
    trial = inner.ask()
    inner.tell(trial, 1.0)
    trial.set_user_attr("late", 1)


def _fails_in_its_inner_storage(_: optuna.Trial) -> None:
    optuna.load_study(study_name="nowhere", storage="sqlite://")


fails("an exception", _raise(ValueError("no such layer")))
fails("no memory", _raise(MemoryError("16 GiB")))
fails("an assertion without words", _raise(AssertionError()))
fails("a low end above the high end", lambda trial: trial.suggest_float("y", 1.0, 0.0))
fails("a logarithm of 0", lambda trial: trial.suggest_int("y", 0, 9, log=True))
fails("no choice", lambda trial: trial.suggest_categorical("y", []))
fails("another type of domain", lambda trial: trial.suggest_int("x", 0, 1))
fails("other choices", lambda trial: trial.suggest_categorical("kind", ["one", "two"]))
fails("a negative step", lambda trial: trial.report(1.0, -1))
fails("a step that is a text", lambda trial: trial.report(1.0, "last"))  # type: ignore[arg-type]
fails("a value that is a text", lambda trial: trial.report("good", 1))  # type: ignore[arg-type]
fails("a constraint that is none", lambda trial: trial.set_constraint("c", float("nan")))
fails("a program", lambda trial: subprocess.run(["false"], check=True))
fails("its own database", _fails_in_sqlite)
fails("its inner study", _fails_in_its_inner_study)
fails("its inner storage", _fails_in_its_inner_storage)
fails("scores of one fold", lambda trial: report_cross_validation_scores(trial, [0.5]))


@kind(x=1.0)
def stops_the_study(trial: optuna.Trial) -> float:
    """The last one: both end here, whatever is left of the budget."""
    trial.study.stop()
    return trial.suggest_float("x", 0, 1)


# Studies of several values, and of a sampler with a memory


def cost_and_error(trial: optuna.Trial) -> tuple[float, float]:
    x = trial.suggest_float("x", 0, 5)
    y = trial.suggest_int("y", 0, 3)
    trial.set_constraint("disc", (x - 5) ** 2 + y**2 - 25)
    trial.set_user_attr("flops", x * y)
    if y == 3:
        raise optuna.TrialPruned
    if x == 5:
        raise ArithmeticError("diverged")
    return 4 * x**2 + 4 * y**2, (x - 5) ** 2 + (y - 5) ** 2


bowl = lambda trial: sum(trial.suggest_float(name, -5, 5) ** 2 for name in "abc")  # noqa: E731
