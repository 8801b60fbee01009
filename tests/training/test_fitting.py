"""``model.fit`` of user's code: phases, epochs of its own, what it returns, and where it resumes."""

from __future__ import annotations

import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest
from notebook import Notebook

from orchestrator.errors import ObjectiveError, OrchError, WrongUse
from orchestrator.training.base import Settings
from orchestrator.training.builtin.digits import Digits
from orchestrator.training.keras import load_model, save_model
from orchestrator.training.keras_tuner import KerasTunerObjective
from orchestrator.worker.checkpoints import place

Fit = Callable[..., Any]


@pytest.fixture(scope="module", autouse=True)
def prepared() -> None:
    Digits(Settings()).prepare(threads=2)


def small(units: int = 16, metrics: tuple[Any, ...] = ("accuracy",)) -> Any:
    import keras
    from keras import layers

    model = keras.Sequential(
        [
            keras.Input((8, 8)),
            layers.Flatten(),
            layers.Dense(units, activation="relu", name="hidden"),
            layers.Dense(10, activation="softmax"),
        ]
    )
    model.compile(
        keras.optimizers.Adam(0.01), "sparse_categorical_crossentropy", metrics=list(metrics)
    )
    return model


def hypermodel(fit: Fit | None, build: Callable[[Any], Any] | None = None) -> Any:
    class Hypermodel:
        def build(self, hp: Any) -> Any:
            return small() if build is None else build(hp)

    if fit is not None:
        Hypermodel.fit = lambda self, *a, **k: fit(*a, **k)  # type: ignore[attr-defined]
        Hypermodel.fit.__signature__ = _with_self(fit)  # type: ignore[attr-defined]
    return Hypermodel()


def _with_self(fit: Fit) -> Any:
    import inspect

    own = inspect.Parameter("self", inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return inspect.Signature([own, *inspect.signature(fit).parameters.values()])


def run(fit: Fit | None, trial: Notebook, epochs: int = 3, **settings: Any) -> list[float]:
    settings = {"metrics": ("val_accuracy",), "data": "digits", **settings}
    objective = KerasTunerObjective(hypermodel(fit), Settings(epochs=epochs, **settings))
    return objective(trial)


def test_fit_may_choose_its_own_number_of_epochs(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "orch")

    def fit(hp: Any, model: Any, *args: Any, **kwargs: Any) -> Any:
        return model.fit(*args, epochs=2, **kwargs)

    trial = Notebook()
    [value] = run(fit, trial, epochs=5)
    assert "epochs=2 by the user's code, so the study's training.epochs = 5" in caplog.text
    assert list(trial.reports) == [1, 2]
    assert value == trial.reports[2]


def test_fit_that_names_epochs_is_given_those_of_the_study() -> None:
    def fit(hp: Any, model: Any, x: Any, y: Any, validation_data: Any, epochs: int) -> Any:
        return model.fit(x, y, epochs=epochs, validation_data=validation_data)

    trial = Notebook()
    run(fit, trial, epochs=2)
    assert list(trial.reports) == [1, 2]


def test_fit_that_looks_for_epochs_among_its_keywords_finds_them() -> None:
    class Popping:
        def build(self, hp: Any) -> Any:
            return small()

        def fit(self, hp: Any, model: Any, *args: Any, **kwargs: Any) -> Any:
            epochs = kwargs.pop("epochs")
            return model.fit(*args, epochs=epochs + 1, **kwargs)

    trial = Notebook()
    settings = Settings(epochs=2, metrics=("val_accuracy",), data="digits")
    KerasTunerObjective(Popping, settings)(trial)
    assert list(trial.reports) == [1, 2, 3]


def test_fit_without_keywords_resumes_as_any_other() -> None:
    def fit(hp: Any, model: Any, x: Any, y: Any, validation_data: Any) -> Any:
        return model.fit(x, y, validation_data=validation_data, initial_epoch=0)

    first = Notebook()
    first.keep_at = 2
    run(fit, first, epochs=4)
    retry = Notebook()
    retry.found = first.kept
    run(fit, retry, epochs=4)
    assert list(retry.reports) == [3, 4], "an initial_epoch of the user's own is moved along"
    for epoch in (3, 4):
        assert retry.reports[epoch] == pytest.approx(first.reports[epoch], rel=1e-5)


def test_epochs_count_through_all_phases() -> None:
    lengths: list[int] = []

    def fit(hp: Any, model: Any, *args: Any, **kwargs: Any) -> Any:
        model.get_layer("hidden").trainable = False
        model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
        first = model.fit(*args, epochs=2, **kwargs)
        lengths.append(len(first.history["loss"]))
        model.get_layer("hidden").trainable = True
        model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
        return model.fit(*args, epochs=5, initial_epoch=2, **kwargs)

    first = Notebook()
    first.keep_at = 4
    run(fit, first)
    assert list(first.reports) == [1, 2, 3, 4, 5]
    retry = Notebook()
    retry.found = first.kept
    run(fit, retry)
    assert list(retry.reports) == [5], "of the finished phase there is its history alone"
    assert retry.reports[5] == pytest.approx(first.reports[5], rel=1e-5)
    assert lengths == [2, 2]


def one_epoch_at_a_time(hp: Any, model: Any, *args: Any, **kwargs: Any) -> Any:
    for _ in range(4):
        history = model.fit(*args, epochs=1, **kwargs)
    return history


def test_loop_of_fits_of_one_epoch_resumes_and_is_pruned() -> None:
    first = Notebook()
    first.keep_at = 2
    run(one_epoch_at_a_time, first)
    assert first.steps is None, "no epoch is known to be the last, and goes without a checkpoint"
    retry = Notebook()
    retry.found = first.kept
    run(one_epoch_at_a_time, retry)
    assert list(retry.reports) == [3, 4]
    pruned = Notebook(prune_at=2)
    with pytest.raises(optuna.TrialPruned):
        run(one_epoch_at_a_time, pruned)
    assert list(pruned.reports) == [1, 2]
    completed = Notebook(prune_at=4)
    run(one_epoch_at_a_time, completed)
    assert list(completed.reports) == [1, 2, 3, 4], "the last epoch decides nothing"


def test_models_that_were_trained_before_a_restart_have_their_weights() -> None:
    class Ensemble:
        def build(self, hp: Any) -> Any:
            return small()

        def fit(
            self, hp: Any, model: Any, x: Any, y: Any, validation_data: Any, **kwargs: Any
        ) -> Any:
            models = [model, self.build(hp)]
            for one in models:
                one.fit(x, y, validation_data=validation_data, epochs=2, **kwargs)
            x, y = validation_data
            averaged = sum(one.predict(x, verbose=0) for one in models)
            return float(np.mean(np.argmax(averaged, axis=1) == y))

    settings = Settings(metrics=("val_accuracy",), data="digits")
    first = Notebook()
    first.keep_at = 3
    whole = KerasTunerObjective(Ensemble, settings)(first)
    retry = Notebook()
    retry.found = first.kept
    assert KerasTunerObjective(Ensemble, settings)(retry) == whole
    assert list(retry.reports) == [4]


def test_early_stopping_counts_across_a_restart_and_its_model_is_kept() -> None:
    import keras

    def fit(hp: Any, model: Any, *args: Any, callbacks: Any, **kwargs: Any) -> Any:
        stop = keras.callbacks.EarlyStopping("val_loss", min_delta=10, patience=4)
        return model.fit(*args, callbacks=[*callbacks, stop], **kwargs)

    first = Notebook()
    first.keep_at = 3
    run(fit, first, epochs=20)
    retry = Notebook()
    retry.found = first.kept
    [value] = run(fit, retry, epochs=20)
    assert list(first.reports) == [1, 2, 3, 4, 5] and list(retry.reports) == [4, 5]
    assert retry.offered == value


def test_checkpoint_of_the_epoch_that_stopped_a_training_trains_no_further() -> None:
    import keras

    def fit(hp: Any, model: Any, *args: Any, callbacks: Any, **kwargs: Any) -> Any:
        stop = keras.callbacks.EarlyStopping("val_loss", min_delta=10, patience=2)
        return model.fit(*args, callbacks=[*callbacks, stop], **kwargs)

    first = Notebook()
    first.keep_at = 3
    [value] = run(fit, first, epochs=20)
    retry = Notebook()
    retry.found = first.kept
    assert run(fit, retry, epochs=20) == [value] and not retry.reports


@pytest.mark.parametrize(
    ("returned", "expected"),
    [
        ({"val_accuracy": 0.25, "other": 1}, 0.25),
        ({"val_accuracy": [0.5, 0.25], "loss": [2.0, 1.0]}, 0.25),
        (0.5, 0.5),
        (np.float32(0.5), 0.5),
        ([{"val_accuracy": 0.25}, {"val_accuracy": 0.75}], 0.5),
    ],
)
def test_what_fit_returns_is_read_as_kerastuner_reads_it(returned: Any, expected: float) -> None:
    assert run(lambda hp, model, x, y, **kwargs: returned, Notebook()) == [expected]


def test_histories_of_models_of_its_own_are_averaged() -> None:
    def fit(hp: Any, model: Any, x: Any, y: Any, **kwargs: Any) -> Any:
        histories = []
        for part in (slice(None, 400), slice(400, 800)):
            held_out = (x[800:], y[800:])
            one = small()
            histories.append(
                one.fit(x[part], y[part], epochs=2, validation_data=held_out, verbose=0)
            )
        seen.append([each.history["val_accuracy"][-1] for each in histories])
        return histories

    seen: list[list[float]] = []
    assert run(fit, Notebook()) == [pytest.approx(np.mean(seen[0]))]


def test_build_that_returns_no_model_is_wrong_use() -> None:
    objective = KerasTunerObjective(lambda hp: None, Settings(data="digits", metrics=("loss",)))
    with pytest.raises(WrongUse, match="build returned None; return the model"):
        objective(Notebook())


def test_class_that_needs_arguments_says_how_to_name_an_object() -> None:
    class Sized:
        def __init__(self, classes: int) -> None:
            self.classes = classes

        def build(self, hp: Any) -> Any:
            return small()

    with pytest.raises(ObjectiveError, match=r"Sized needs arguments .*'classes'.*:hypermodel"):
        KerasTunerObjective(Sized)


def test_fit_that_returns_nothing_says_what_it_should_return() -> None:
    with pytest.raises(ObjectiveError, match="fit returned None"):
        run(lambda hp, model, x, y, **kwargs: None, Notebook())


def test_loop_of_the_users_own_is_reported_by_its_callbacks_and_cannot_resume() -> None:
    def build(hp: Any) -> Any:
        import keras
        from keras import layers

        return keras.Sequential([keras.Input((8, 8)), layers.Flatten(), layers.Dense(10)])

    def fit(
        hp: Any, model: Any, x: Any, y: Any, validation_data: Any, callbacks: Any, **_: Any
    ) -> Any:
        for callback in callbacks:
            callback.set_model(model)
        for epoch in range(3):
            for callback in callbacks:
                callback.on_epoch_end(epoch, logs={"my_metric": 3.0 - epoch})
        return 1.0

    trial = Notebook()
    trial.keep_at = 2
    settings = Settings(epochs=3, metrics=("my_metric",), data="digits")
    assert KerasTunerObjective(hypermodel(fit, build), settings)(trial) == [1.0]
    assert trial.reports == {1: 3.0, 2: 2.0, 3: 1.0} and trial.kept is None


def test_value_of_the_best_epoch_comes_with_its_model(tmp_path: Path) -> None:
    import keras

    def fit(hp: Any, model: Any, x: Any, y: Any, **kwargs: Any) -> Any:
        spoil = keras.callbacks.LambdaCallback(
            on_epoch_begin=lambda epoch, logs: (
                epoch == 2 and model.optimizer.learning_rate.assign(9)
            )
        )
        callbacks = [*kwargs.pop("callbacks"), spoil]
        return model.fit(x, y, epochs=4, callbacks=callbacks, **kwargs)

    trial = Notebook()
    saved: list[Any] = []

    def offer(value: float, save: Any) -> None:
        save(tmp_path / "model.keras")
        saved.append(value)

    trial.offer_model = offer  # type: ignore[method-assign]
    [value] = run(fit, trial, value="best", maximize=True)
    assert value == max(trial.reports.values()) > trial.reports[4]
    data = Digits(Settings()).dataset
    model = keras.models.load_model(tmp_path / "model.keras")
    split = KerasTunerObjective(hypermodel(None), Settings(data="digits"))._rounds[0]
    assert split.validation_data is not None and data is not None
    measured = model.evaluate(*split.validation_data, verbose=0, return_dict=True)["accuracy"]
    assert measured == pytest.approx(value, abs=1e-6)


def test_metric_may_come_with_every_second_epoch() -> None:
    def fit(hp: Any, model: Any, *args: Any, **kwargs: Any) -> Any:
        return model.fit(*args, epochs=4, validation_freq=2, **kwargs)

    trial = Notebook()
    objective = KerasTunerObjective(
        hypermodel(fit), Settings(metrics=("val_accuracy",), data="digits")
    )
    objective(trial)
    assert list(trial.reports) == [2, 4]


def test_callback_of_the_data_may_add_the_metric() -> None:
    trial = Notebook()
    run(None, trial, epochs=2, metrics=("gap",), data="hypermodels:with_gap")
    assert list(trial.reports) == [1, 2]


def test_each_fold_is_a_step_with_the_logs_of_its_last_epoch() -> None:
    trial = Notebook()
    run(None, trial, epochs=2, folds=2)
    assert list(trial.reports) == list(trial.logs) == [1, 2]
    for fold, value in trial.reports.items():
        assert trial.logs[fold]["val_accuracy"] == value
        assert trial.logs[fold]["learning_rate"] == pytest.approx(0.01)


def test_checkpoint_within_a_fold_names_its_epoch_and_resumes_there() -> None:
    trial = Notebook()
    trial.keep_at = 1
    values = run(None, trial, epochs=3, folds=2)
    assert trial.kept is not None and place(*trial.kept) == [1, 3]
    again = Notebook()
    again.found = trial.kept
    assert run(None, again, epochs=3, folds=2) == pytest.approx(values, rel=1e-5)
    assert list(again.reports) == [2]


def test_metric_of_many_numbers_says_how_to_average_it() -> None:
    import keras

    def build(hp: Any) -> Any:
        model = small()
        model.compile(
            "adam", "categorical_crossentropy", metrics=[keras.metrics.F1Score(name="f1")]
        )
        return model

    def fit(hp: Any, model: Any, x: Any, y: Any, validation_data: Any, **kwargs: Any) -> Any:
        held_out = (validation_data[0], keras.utils.to_categorical(validation_data[1]))
        labels = keras.utils.to_categorical(y)
        return model.fit(x, labels, validation_data=held_out, **kwargs)

    settings = Settings(epochs=1, metrics=("val_f1",), data="digits")
    with pytest.raises(WrongUse, match="'val_f1' has 10 numbers"):
        KerasTunerObjective(hypermodel(fit, build), settings)(Notebook())


def test_pruned_phase_ends_the_trial() -> None:
    def fit(hp: Any, model: Any, *args: Any, **kwargs: Any) -> Any:
        return model.fit(*args, **kwargs)

    trial = Notebook(prune_at=2)
    with pytest.raises(optuna.TrialPruned):
        run(fit, trial, epochs=9)
    assert list(trial.reports) == [1, 2]


def test_model_that_keras_cannot_save_whole_is_kept_by_its_weights(tmp_path: Path) -> None:
    import keras

    class Wrapped(keras.Model):  # type: ignore[misc]  # no get_config: Keras cannot make it anew
        def __init__(self, inner: Any) -> None:
            super().__init__()
            self.inner = inner

        def call(self, x: Any) -> Any:
            return self.inner(x)

    def made() -> Any:
        model = Wrapped(small())
        model(np.zeros((1, 8, 8), "float32"))
        return model

    model, path = made(), tmp_path / "model.keras"
    save_model(model, path)
    loaded = load_model(path, made)
    x = np.random.default_rng(0).random((3, 8, 8), np.float32)
    assert np.allclose(model.predict(x, verbose=0), loaded.predict(x, verbose=0))


def late(units: int, kept: dict[str, Any] | None = None) -> Fit:
    """A fit that makes its model by a function of its own, and passes on what it is given."""

    def fit(hp: Any, model: Any, *args: Any, **kwargs: Any) -> Any:
        made = small(units)
        if kept is not None:
            kept["model"] = made
        return made.fit(*args, **kwargs)

    return fit


def test_model_that_fit_makes_by_any_function_is_the_trial_s(tmp_path: Path) -> None:
    made: dict[str, Any] = {}
    first = Notebook()
    first.keep_at = 2
    [value] = run(late(24, made), first, epochs=4)
    assert list(first.reports) == [1, 2, 3, 4] and first.offered == value
    retry = Notebook()
    retry.found = first.kept
    run(late(24, made), retry, epochs=4)
    assert list(retry.reports) == [3, 4]
    assert retry.reports[4] == pytest.approx(first.reports[4], rel=1e-5)
    import keras

    assert "fit" not in vars(keras.Model), "Keras is as it was"


def test_refit_saves_the_model_that_fit_has_trained(tmp_path: Path) -> None:
    import keras

    made: dict[str, Any] = {}
    settings = Settings(epochs=2, metrics=("val_accuracy",), data="digits")
    refit = KerasTunerObjective(hypermodel(late(24, made)), settings).refit(Notebook())
    refit.save(tmp_path / "model.keras")
    saved = keras.models.load_model(tmp_path / "model.keras")
    for ours, theirs in zip(saved.get_weights(), made["model"].get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert refit.test["accuracy"] > 0.8


def test_refit_of_a_fit_that_trains_several_models_names_the_reason() -> None:
    def fit(hp: Any, model: Any, *args: Any, **kwargs: Any) -> Any:
        return [small(units).fit(*args, **kwargs) for units in (8, 16)]

    settings = Settings(epochs=1, metrics=("val_accuracy",), data="digits")
    objective = KerasTunerObjective(hypermodel(fit), settings)
    with pytest.raises(OrchError, match="trains several models of its own"):
        objective.refit(Notebook())


def test_fit_that_is_not_given_the_callbacks_is_left_alone() -> None:
    def fit(hp: Any, model: Any, x: Any, y: Any, validation_data: Any, callbacks: Any) -> Any:
        small(8).fit(x, y, epochs=3, verbose=0)  # e.g. a teacher
        return model.fit(x, y, validation_data=validation_data, callbacks=callbacks)

    trial = Notebook()
    run(fit, trial, epochs=2)
    assert list(trial.reports) == [1, 2]


def test_backup_of_another_trial_is_not_restored(tmp_path: Path) -> None:
    import keras

    def fit(hp: Any, model: Any, *args: Any, callbacks: Any, **kwargs: Any) -> Any:
        backup = keras.callbacks.BackupAndRestore(tmp_path)
        return model.fit(*args, callbacks=[*callbacks, backup], **kwargs)

    class Pruned(Notebook):
        def should_prune(self) -> bool:
            return 2 in self.reports

    with pytest.raises(optuna.TrialPruned):
        run(fit, Pruned(), epochs=4)
    trial = Notebook()
    run(fit, trial, epochs=4)
    assert list(trial.reports) == [1, 2, 3, 4]


def test_tensorboard_has_a_folder_for_each_trial(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import keras

    module = types.ModuleType("watched_data")
    x, y = np.zeros((12, 8, 8), np.float32), np.arange(12) % 10
    board = keras.callbacks.TensorBoard(tmp_path)
    module.data = lambda: {"x": x, "y": y, "validation_data": (x, y), "callbacks": [board]}  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "watched_data", module)
    for number in (3, 4):
        trial = Notebook()
        trial.number = number
        run(None, trial, epochs=1, data="watched_data:data")
    assert sorted(each.name for each in tmp_path.iterdir()) == ["trial-00003", "trial-00004"]
