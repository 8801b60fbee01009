"""Keras objectives: the base class, its training loop, and the state that lets a training go on."""

from __future__ import annotations

import gc
import importlib.util
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)

from orchestrator.errors import ObjectiveError, OrchError
from orchestrator.training import fast_fit
from orchestrator.training.base import Objective, Refit, Settings, Trial
from orchestrator.training.compiled_epoch import SMALLEST_PART
from orchestrator.training.data import Array, DataFacts, Dataset
from orchestrator.training.data_source import DataSource
from orchestrator.training.metric_names import (
    PARAMETERS,
    are_certain,
    check_metrics,
    unknown_metric,
)
from orchestrator.training.nest import examples_of, is_stream, map_nest
from orchestrator.training.rounds import Rounds, Split

if TYPE_CHECKING:
    import keras

_BATCH_SIZE = 32  # Keras's own


def capture_state(model: keras.Model) -> dict[str, Array]:
    """Copies of everything that training changes: weights, random states, the optimizer's state."""
    return {
        f"{index:05d}": np.array(variable.numpy()) for index, variable in enumerate(_state(model))
    }


def restore_state(model: keras.Model, arrays: Mapping[str, Array]) -> None:
    """Give a newly built model the captured state.

    Raises:
        ObjectiveError: it is of another model.
    """
    variables = _state(model)
    captured = [arrays[name] for name in sorted(arrays)]
    shapes = [tuple(variable.shape) for variable in variables]
    if shapes != [array.shape for array in captured]:
        raise ObjectiveError("the checkpoint is of another model; has the objective changed?")
    for variable, array in zip(variables, captured, strict=True):
        variable.assign(array)


def custom_gradients() -> dict[str, Any]:
    """TensorFlow's registry of gradient functions; empty where a later TensorFlow moved it."""
    try:
        from tensorflow.python.framework import ops

        registry: dict[str, Any] = ops.gradient_registry._registry
    except (ImportError, AttributeError):
        return {}
    return registry


def forget_custom_gradients(known: set[str]) -> None:
    """Remove the gradient functions that were registered since ``known`` was taken."""
    # Each trace of an optimizer step registers a function that holds its whole graph, and
    # TensorFlow never removes it: a worker grew by 8 MiB a trial, and became slower (TF 2.21).
    # Only the names that custom_gradient makes up for a trace are removed.
    registry = custom_gradients()
    for name in set(registry) - known:
        if name.startswith("CustomGradient-"):
            del registry[name]


def _state(model: keras.Model) -> list[Any]:
    model.optimizer.build(model.trainable_variables)
    return [*model.variables, *model.optimizer.variables]


def configure(threads: int | None, small_network: bool = False) -> None:
    """Import TensorFlow and divide the machine: before the first trial, once a process.

    Args:
        threads: CPU threads of this process; None: TensorFlow takes all cores.
        small_network: an operation has one thread, and ``threads`` of them run at the same time.

    Raises:
        OrchError: TensorFlow is not installed here.
    """
    if importlib.util.find_spec("tensorflow") is None:
        raise OrchError(
            "a Keras objective needs TensorFlow, which is not installed on this machine; "
            "pip install tensorflow"
        )
    # The import makes a million objects that live as long as the process: looking for garbage
    # among them takes half a second each time, during the import and after every trial.
    collects = gc.isenabled()
    gc.disable()
    try:
        import keras  # noqa: F401
        import tensorflow as tf

        gc.freeze()
    finally:
        if collects:
            gc.enable()
    try:
        if threads is not None:
            tf.config.threading.set_intra_op_parallelism_threads(1 if small_network else threads)
            tf.config.threading.set_inter_op_parallelism_threads(threads)
        for gpu in tf.config.list_physical_devices("GPU"):
            # Several workers share a card: each takes what it needs, not all of it.
            tf.config.experimental.set_memory_growth(gpu, True)
    except RuntimeError:
        pass  # TensorFlow runs already in this process; it keeps what it has


@dataclass(frozen=True)
class Training:
    """How one trial trains.

    Attributes:
        build: makes the compiled model; called after the seeds are set.
        fit: trains a model as ``model.fit`` does, with the arguments that it is given, and
            returns the metrics where it does not report them by its callbacks.
        epochs: epochs of a full training.
        metrics: keys of Keras's logs, as ``val_accuracy``, or ``parameters``, the number of
            weights. The first is reported.
        tries_metrics: one more model, built before the first, tells whether there are such metrics.
    """

    build: Callable[[], keras.Model]
    fit: Callable[..., Any]
    epochs: int
    metrics: tuple[str, ...]
    tries_metrics: bool = False

    def run(self, rounds: Sequence[Split], trial: Trial) -> list[float]:
        """Train on one split and report each epoch, or on several and report each of them.

        Args:
            rounds: what ``model.fit`` is given in each.
            trial: where the values go, and who says when to stop.

        Returns:
            The metrics after the last epoch, averaged over the rounds.

        Raises:
            optuna.TrialPruned: the pruner stopped the trial, or the loss is no longer a number.
            WrongUse: the model does not report a metric.
        """
        if len(rounds) > 1:
            return self._run_rounds(rounds, trial)
        trial.steps = self.epochs
        epoch, state = trial.restore() or (0, {})

        def after_epoch(epoch: int, values: list[float], model: keras.Model) -> None:
            trial.report(values[0], epoch)
            if epoch < self.epochs and trial.should_prune():
                raise optuna.TrialPruned
            trial.checkpoint(epoch, lambda: capture_state(model))
            if epoch == self.epochs:
                trial.offer_model(values[0], model.save)

        return self._train(rounds[0], 0, trial, epoch, state, after_epoch)

    def _run_rounds(self, rounds: Sequence[Split], trial: Trial) -> list[float]:
        trial.steps = len(rounds)
        done, state = trial.restore() or (0, {})
        ended = [list(values) for values in state.pop("rounds", [])]
        epoch = int(state.pop("epoch", 0))

        def after_epoch(epoch: int, values: list[float], model: keras.Model) -> None:
            # A round takes its time: it goes on elsewhere from its last epoch, too.
            trial.checkpoint(len(ended), lambda: {**_rounds(ended, epoch), **capture_state(model)})

        for index in range(done, len(rounds)):
            values = self._train(rounds[index], index, trial, epoch, state, after_epoch)
            epoch, state = 0, {}
            ended.append(values)
            trial.report(values[0], index + 1)
            if index + 1 < len(rounds) and trial.should_prune():
                raise optuna.TrialPruned
            trial.checkpoint(index + 1, lambda: _rounds(ended, 0))
        return [float(mean) for mean in np.mean(ended, axis=0)]

    def _train(
        self,
        split: Split,
        index: int,
        trial: Trial,
        done: int,
        state: Mapping[str, Array],
        after_epoch: Callable[[int, list[float], keras.Model], None],
    ) -> list[float]:
        import keras

        # The order of the examples after a restart is another than that of the first epochs.
        seed = int(np.random.SeedSequence([trial.seed, index, done]).generate_state(1)[0])
        gradients = set(custom_gradients())
        tries_metrics = self.tries_metrics and isinstance(split.validation_data, tuple)
        if tries_metrics and index == 0 and not state:
            self._try_metrics(split, seed)
        keras.utils.set_random_seed(seed)
        model = self.build()
        if state:
            if not model.built:  # Keras lets a model without an Input wait for its data
                _build(model, split.x)
            restore_state(model, state)
        reporter = make_reporter(self.metrics, after_epoch)
        positional, options = split.fit_arguments()
        callbacks = _as_list(options.pop("callbacks", None))
        try:
            returned = self.fit(
                model,
                *positional,
                **({"initial_epoch": done} if done else {}),
                **{"verbose": 0, **options},
                epochs=self.epochs,
                callbacks=[*callbacks, reporter],
            )
            if isinstance(returned, Mapping):
                return [_metric(returned, metric, model) for metric in self.metrics]
            return list(reporter.last)
        finally:
            # Keras holds every graph of a process until told otherwise; workers run many trials.
            del model, reporter
            keras.backend.clear_session(free_memory=False)
            forget_custom_gradients(gradients)
            gc.collect()

    def _try_metrics(self, split: Split, seed: int) -> None:
        """Learn before the first epoch that a metric does not exist.

        The model is thrown away, and the seeds are set anew: the training is the same without it.
        """
        import keras

        keras.utils.set_random_seed(seed)
        model = self.build()
        try:
            check_metrics(model, self.metrics, *split.validation_data[:2])
        finally:
            del model
            keras.backend.clear_session(free_memory=False)


def make_reporter(
    metrics: Sequence[str], after_epoch: Callable[[int, list[float], keras.Model], None]
) -> Any:
    """A Keras callback that reads ``metrics`` after each epoch, and prunes what diverges.

    It is made in a function so that importing this module does not import Keras.

    Args:
        metrics: see :class:`Training`.
        after_epoch: called with the epoch, from 1, the metrics' values, and the model.
    """
    import keras

    class Reporter(keras.callbacks.Callback):  # type: ignore[misc]
        """Keeps the last values."""

        watches_loss = True  # see fast_fit: it looks at the loss of each step in its place

        def __init__(self) -> None:
            super().__init__()
            self.last = [math.nan]
            self.epoch = 0

        def on_epoch_begin(self, epoch: int, logs: Mapping[str, Any] | None = None) -> None:
            self.epoch = epoch

        def on_train_batch_end(self, batch: int, logs: Mapping[str, Any] | None = None) -> None:
            _check_loss(logs or {}, self.epoch)

        def on_epoch_end(self, epoch: int, logs: Mapping[str, Any] | None = None) -> None:
            logs = logs or {}
            _check_loss(logs, epoch)
            self.last = [_metric(logs, metric, self.model) for metric in metrics]
            for metric, value in zip(metrics, self.last, strict=True):
                if not math.isfinite(value):
                    raise optuna.TrialPruned(
                        f"diverged: {metric} became {value} in epoch {epoch + 1}"
                    )
            after_epoch(epoch + 1, self.last, self.model)

    return Reporter()


def _rounds(ended: list[list[float]], epoch: int) -> dict[str, Array]:
    return {"rounds": np.array(ended, np.float64), "epoch": np.array(epoch)}


def _check_loss(logs: Mapping[str, Any], epoch: int) -> None:
    loss = float(logs.get("loss", 0.0))
    if not math.isfinite(loss):
        raise optuna.TrialPruned(f"diverged: loss became {loss} in epoch {epoch + 1}")


def _metric(logs: Mapping[str, Any], metric: str, model: keras.Model) -> float:
    if metric == PARAMETERS:
        return float(model.count_params())
    if metric not in logs:
        raise unknown_metric(metric, [*logs, PARAMETERS])
    return float(logs[metric])


def _largest_batch(space: Mapping[str, BaseDistribution]) -> int:
    domain = space.get("batch_size")
    if isinstance(domain, CategoricalDistribution):
        return max(int(choice) for choice in domain.choices if choice is not None)
    if isinstance(domain, IntDistribution | FloatDistribution):
        return int(domain.high)
    return _BATCH_SIZE


class KerasObjective(Objective):
    """Trains the model that :meth:`build` makes on a data set of labelled images.

    Subclass it, or give it what builds a KerasTuner model: a function of ``hp``, or a
    ``HyperModel``.

    Example:
        orch.create_study("mlp", objective=orch.KerasObjective(build_model))
    """

    default_metric: ClassVar[str] = "val_accuracy"
    default_data: ClassVar[str] = "mnist"
    trains_in_rounds: ClassVar[bool] = True
    uses_epochs: ClassVar[bool] = True
    checkpoints: ClassVar[bool] = True
    model_suffix: ClassVar[str | None] = ".keras"
    # Its operations are too small to be divided among threads; each thread takes a part of the
    # batch instead (docs/performance-training.md). Right for a few dense layers, e.g. of MNIST.
    small_network: ClassVar[bool] = False

    def __new__(cls, *arguments: Any, **_: Any) -> KerasObjective:
        if cls is not KerasObjective:
            return object.__new__(cls)
        from orchestrator.training.keras_tuner import KerasTunerObjective

        return object.__new__(KerasTunerObjective)

    def __init__(self, settings: Settings | Any) -> None:
        super().__init__(settings)

    def _bind(self, settings: Settings) -> None:
        super()._bind(settings)
        # Once in a process, where it could tell anything.
        self._metrics_are_tried = self.known_metrics() is not None or are_certain(self.metrics)

    def build(self, trial: Trial) -> keras.Model:
        """The compiled model of a trial's parameters.

        Returns:
            A model from images, shape (batch, *image), to class probabilities, shape
            (batch, classes).
        """
        raise ObjectiveError(f"{type(self).__name__} builds no model; define build(self, trial)")

    def epochs(self, trial: Trial) -> int:
        """How many epochs one full training of the trial has."""
        return int(trial.params.get("epochs", self.settings.epochs))

    def batch_size(self, trial: Trial) -> int:
        """How many examples a step of the trial's training has; 32, as Keras, unless searched."""
        return int(trial.params.get("batch_size", _BATCH_SIZE))

    def fit(self, trial: Trial, model: keras.Model, x: Any, y: Any = None, **options: Any) -> Any:
        """Train the model as ``model.fit`` does.

        Returns:
            Keras's history, or a dictionary of metrics that were not reported by callbacks.
        """
        if "batch_size" in trial.params or "batch_size" not in options:
            options["batch_size"] = self.batch_size(trial)
        if is_stream(x):
            del options["batch_size"]
        if y is None:
            return model.fit(x, **options)
        return fast_fit.fit(model, x, y, options.pop("batch_size"), **options)

    def check(self) -> DataFacts:
        settings = self.settings
        return self._source.facts(settings.validation, settings.folds, self._checked)

    def most_threads(self, space: Mapping[str, BaseDistribution]) -> int | None:
        if not self.small_network:
            return None
        return max(1, _largest_batch(space) // SMALLEST_PART)

    def prepare(self, threads: int | None = None) -> None:
        configure(threads, self.small_network)

    def __call__(self, trial: Trial) -> list[float]:
        tries_metrics = not self._metrics_are_tried and self._has_keras_fit()
        self._metrics_are_tried = True
        return Training(
            build=lambda: self.build(trial),
            fit=lambda model, *data, **options: self.fit(trial, model, *data, **options),
            epochs=self.epochs(trial),
            metrics=self.metrics,
            tries_metrics=tries_metrics,
        ).run(self.rounds(trial), trial)

    def _has_keras_fit(self) -> bool:
        """Whether the metrics are those of the model: no fit of the user's adds to them."""
        return type(self).fit is KerasObjective.fit

    def refit(self, trial: Trial) -> Refit:
        import keras

        keras.utils.set_random_seed(trial.seed)
        rounds = self.rounds(trial)
        split = rounds.for_refit if self._has_keras_fit() else rounds.searched
        model = self.build(trial)
        history = keras.callbacks.History()
        positional, options = split.fit_arguments()
        callbacks = _as_list(options.pop("callbacks", None))
        self.fit(
            trial,
            model,
            *positional,
            **{"verbose": 0, **options},
            epochs=self.epochs(trial),
            callbacks=[*callbacks, history],
        )
        test = {}
        if rounds.test is not None:
            test = model.evaluate(*rounds.test, verbose=0, return_dict=True)
        return Refit(
            history={name: list(map(float, values)) for name, values in history.history.items()},
            test={name: float(value) for name, value in test.items()},
            save=model.save,
            examples=None if is_stream(split.x) else examples_of(split.x, "x"),
            validated=split.validation_data is not None,
        )

    @cached_property
    def dataset(self) -> Dataset:
        """The whole data set.

        Raises:
            DataError: it cannot be had, or each trial has its own.
        """
        return self._source.whole()

    def rounds(self, trial: Trial) -> Rounds:
        """The folds and repeats of a trial, on its data."""
        settings = self.settings

        def make() -> Dataset:
            return self._source.for_trial(trial)

        is_anew = self._source.takes_trial or self.dataset.is_stream
        if not is_anew:
            return self._rounds
        made = self._checked(make())
        return Rounds(made, settings.validation, settings.folds, settings.repeats, make)

    def _checked(self, dataset: Dataset | None = None) -> Dataset:
        """The data, by which the metrics can be measured; a fit of the user's measures as it likes.

        Raises:
            DataError: they cannot.
        """
        dataset = self.dataset if dataset is None else dataset
        if self._has_keras_fit():
            dataset.check_metrics(self.metrics)
        return dataset

    @cached_property
    def _rounds(self) -> Rounds:
        settings = self.settings
        return Rounds(self.dataset, settings.validation, settings.folds, settings.repeats)

    @cached_property
    def _source(self) -> DataSource:
        return DataSource(self.settings.data or self.default_data, self.settings.fingerprint)


def _build(model: keras.Model, x: Any) -> None:
    """Make the weights of a model that waits for its data."""
    if is_stream(x):
        model(next(iter(x))[0])
    else:
        model.build(map_nest(lambda array: (None, *array.shape[1:]), x))


def _as_list(callbacks: Any) -> list[Any]:
    if callbacks is None:
        return []
    return list(callbacks) if isinstance(callbacks, list | tuple) else [callbacks]
