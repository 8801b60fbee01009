"""Keras objectives: the base class, its training, and how a process gets ready for Keras."""

from __future__ import annotations

import copy
import gc
import importlib.util
import json
import logging
import os
import sys
import tempfile
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)

from orchestrator.errors import ObjectiveError, OrchError, UsageError
from orchestrator.training.arrays import examples_of, is_stream, map_nest
from orchestrator.training.base import Objective, Refit, Settings, Trial
from orchestrator.training.compiled_epoch import SMALLEST_PART
from orchestrator.training.data import Array, DataFacts, Dataset
from orchestrator.training.data_source import DataSource
from orchestrator.training.fit_call import call_fit
from orchestrator.training.fitting import Fitting, Logs, Plan
from orchestrator.training.metric_names import are_certain, check_metrics, direction_of, few
from orchestrator.training.rounds import Rounds, Split
from orchestrator.training.state import ensure_built

if TYPE_CHECKING:
    import keras

_log = logging.getLogger("orch")

_BATCH_SIZE = 32  # Keras's own


def custom_gradients() -> dict[str, Any]:
    """TensorFlow's registry of gradient functions; empty on another backend, or if it moved."""
    if "tensorflow" not in sys.modules:
        return {}
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


def configure(threads: int | None, small_network: bool = False) -> None:
    """Import Keras and divide the machine: before the first trial, once a process.

    TensorFlow is imported where it is Keras's backend.

    Args:
        threads: CPU threads of this process; None: TensorFlow takes all cores.
        small_network: an operation has one thread, and ``threads`` of them run at the same time.

    Raises:
        OrchError: Keras's backend is not installed here.
    """
    backend = _backend()
    if importlib.util.find_spec(backend) is None:
        package = {"tensorflow": "TensorFlow", "jax": "JAX"}.get(backend, backend)
        raise OrchError(
            f"a Keras objective needs {package}, which is not installed on this machine; "
            f"pip install {backend}"
        )
    # The import makes a million objects that live as long as the process: looking for garbage
    # among them takes half a second each time, during the import and after every trial.
    collects = gc.isenabled()
    gc.disable()
    try:
        import keras  # noqa: F401

        if backend == "tensorflow":
            import tensorflow  # noqa: F401

        gc.freeze()
    finally:
        if collects:
            gc.enable()
    if backend == "tensorflow":
        _divide(threads, small_network)


def _backend() -> str:
    """The package that Keras is going to compute with, as Keras itself finds it out."""
    named = os.environ.get("KERAS_BACKEND")
    home = os.environ.get("KERAS_HOME")
    path = (Path(home) if home else Path.home() / ".keras") / "keras.json"
    if not named:
        try:
            named = json.loads(path.read_text()).get("backend")
        except (OSError, ValueError, AttributeError):
            named = None
    return str(named or "tensorflow")


def _divide(threads: int | None, small_network: bool) -> None:
    import tensorflow as tf

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
        plan: the metrics, the epochs, and which of them counts.
        build: makes the model; called after the seeds are set.
        fit: trains a model, whose ``fit`` is the wrapped one.
        tries_metrics: one more model, built before the first, tells whether there are such metrics.
        reported: which of the metrics is reported.
    """

    plan: Plan
    build: Callable[[], keras.Model]
    fit: Callable[[keras.Model, Fitting], Any]
    tries_metrics: bool = False
    reported: int = 0

    def run(self, rounds: Sequence[Split], trial: Trial) -> list[float]:
        """Train on one split and report each epoch, or on several and report each of them.

        Args:
            rounds: the examples of each training.
            trial: where the values go, and who says when to stop.

        Returns:
            The metrics, averaged over the rounds.

        Raises:
            optuna.TrialPruned: the pruner stopped the trial, or the loss is no longer a number.
            WrongUse: the model does not report a metric.
        """
        if len(rounds) > 1:
            return self._run_rounds(rounds, trial)
        # How often a fit of the user's calls model.fit, nobody knows: each epoch may be followed.
        trial.steps = None if self.plan.has_own_fit else self.plan.epochs
        _, state = trial.restore() or (0, {})
        last = self.plan.epochs
        undecided = False  # the last epoch of a call of model.fit may be that of the trial

        def begin(epochs: int) -> None:
            nonlocal last, undecided
            if undecided and trial.should_prune():
                raise optuna.TrialPruned
            last, undecided = epochs, False
            if not self.plan.has_own_fit:
                trial.steps = epochs

        def after_epoch(epoch: int, values: list[float] | None, logs: Logs) -> None:
            nonlocal undecided
            trial.log(logs, epoch)
            if values is not None:
                trial.report(values[self.reported], epoch)
            undecided = values is not None and epoch >= last
            if values is not None and not undecided and trial.should_prune():
                raise optuna.TrialPruned
            trial.checkpoint(epoch, fitting.capture if fitting.can_resume else None)

        split = _of_trial(rounds[0], trial, 0)
        fitting = Fitting(self.plan, split, (trial.seed, 0), after_epoch, begin, state)
        return self._train(fitting, trial, 0, offer=trial.offer_model)

    def _run_rounds(self, rounds: Sequence[Split], trial: Trial) -> list[float]:
        trial.steps = len(rounds)
        done, state = trial.restore() or (0, {})
        ended = [list(values) for values in state.pop("rounds", [])]
        state.pop("epoch", None)

        for index in range(done, len(rounds)):
            values = self._train_round(
                _of_trial(rounds[index], trial, index), index, trial, ended, state
            )
            state = {}
            ended.append(values)
            trial.report(values[self.reported], index + 1)
            if index + 1 < len(rounds) and trial.should_prune():
                raise optuna.TrialPruned
            trial.checkpoint(index + 1, lambda: _rounds(ended))
        return [float(mean) for mean in np.mean(ended, axis=0)]

    def _train_round(
        self,
        split: Split,
        index: int,
        trial: Trial,
        ended: list[list[float]],
        state: Mapping[str, Array],
    ) -> list[float]:
        def after_epoch(epoch: int, values: list[float] | None, logs: Logs) -> None:
            # A round is one step: what its last epoch logged stays.
            trial.log(logs, len(ended) + 1)
            # A round takes its time: it resumes elsewhere from its last epoch, too.
            trial.checkpoint(len(ended), partial(capture, epoch) if fitting.can_resume else None)

        def capture(epoch: int) -> dict[str, Array]:
            # The epoch tells the checkpoints of a round apart: a replay resumes from the same one.
            return {"epoch": np.array(epoch)} | _rounds(ended) | fitting.capture()

        seeds = trial.seed, index
        fitting = Fitting(self.plan, split, seeds, after_epoch, lambda steps: None, state)
        return self._train(fitting, trial, index)

    def _train(
        self,
        fitting: Fitting,
        trial: Trial,
        index: int,
        offer: Callable[[float, Callable[[Path], None]], None] | None = None,
    ) -> list[float]:
        import keras

        seed = int(np.random.SeedSequence([trial.seed, index, 0]).generate_state(1)[0])
        gradients = set(custom_gradients())
        may_come = _may_log(fitting.split.options.get("callbacks"))
        if self.tries_metrics and index == 0 and not fitting.resumes and not may_come:
            self._try_metrics(fitting.split, seed)
        keras.utils.set_random_seed(seed)
        model = self.build()
        fitting.attach(model)
        try:
            values = fitting.finish(self.fit(model, fitting))
            fitting.detach()
            if offer is not None and (trained := fitting.trained) is not None:
                offer(values[0], partial(save_model, trained))
            return values
        finally:
            # Keras holds every graph of a process until told otherwise; workers run many trials.
            fitting.detach()
            fitting.forget()
            del model
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
            check_metrics(model, self.plan.metrics, split)
        finally:
            del model
            keras.backend.clear_session(free_memory=False)


def for_keras(split: Split) -> Split:
    """The split with texts as tensors: Keras takes no arrays of them."""
    return replace(
        split,
        x=_with_texts(split.x),
        y=_with_texts(split.y),
        validation_data=_with_texts(split.validation_data),
    )


def _of_trial(split: Split, trial: Trial, index: int) -> Split:
    """The split for Keras, whose ``TensorBoard`` has a folder for each trial and round.

    KerasTuner makes the same of the folder that it is given.
    """
    import keras

    split = for_keras(split)
    callbacks = copy.deepcopy(split.options.get("callbacks"))
    for each in keras.tree.flatten(callbacks or []):
        if isinstance(each, keras.callbacks.TensorBoard):
            each.log_dir = os.path.join(each.log_dir, f"trial-{trial.number:05d}", str(index))
    return replace(split, options={**split.options, "callbacks": callbacks})


def _with_texts(data: Any) -> Any:
    return data if is_stream(data) else map_nest(_as_text, data)


def _as_text(array: Any) -> Any:
    if not isinstance(array, np.ndarray) or array.dtype.kind not in "OSUT":
        return array
    import tensorflow as tf

    return tf.constant(array.astype(object), tf.string)


def save_model(model: keras.Model, path: Path) -> None:
    """Save a model; where Keras cannot save it whole, its weights.

    A model that cannot be saved is no reason to lose its trial: then nothing is written.
    """
    try:
        model.save(path)
        return
    except OSError:
        raise
    except Exception as error:  # whatever the model's own get_config raises
        reason = " ".join(str(error).split())
    path.unlink(missing_ok=True)
    weights = path.with_name(f"{path.stem}.weights.h5")
    try:
        model.save_weights(weights)
    except OSError:
        raise
    except Exception as error:
        _log.warning("the model cannot be saved: %s", " ".join(str(error).split()))
        return
    weights.replace(path)
    _log.info("the model is kept by its weights, because Keras cannot save it whole: %s", reason)


def load_model(path: Path, rebuild: Callable[[], keras.Model]) -> keras.Model:
    """A model that :func:`save_model` has written.

    Args:
        path: of the file.
        rebuild: makes the model anew, with the parameters of its trial, for one that Keras cannot
            load whole, e.g. of a class without ``get_config``; it is given the saved weights.

    Raises:
        ObjectiveError: the file does not fit the model.
    """
    import keras

    try:
        return keras.models.load_model(path, safe_mode=True)
    except Exception as error:  # Keras, h5py and zipfile each raise their own
        _log.debug("%s cannot be loaded whole: %s", path.name, " ".join(str(error).split()))
    model = rebuild()
    optimizer = getattr(model, "optimizer", None)
    if optimizer is not None and not optimizer.built:  # its state is in the file as well
        optimizer.build(model.trainable_variables)
    try:
        with tempfile.TemporaryDirectory(prefix="orch-") as folder:
            # Keras tells the two formats apart by the file's name.
            suffix = ".keras" if zipfile.is_zipfile(path) else ".weights.h5"
            named = Path(folder) / f"model{suffix}"
            named.write_bytes(path.read_bytes())
            model.load_weights(named)
    except Exception as error:
        reason = " ".join(str(error).split())[:200]
        raise ObjectiveError(f"{path.name} does not fit the model of its trial: {reason}") from None
    return model


def evaluate(model: keras.Model, test: Sequence[Any]) -> dict[str, float]:
    """The metrics on the test set that are one number; none of a model that cannot evaluate.

    Args:
        model: trained.
        test: x, and where there are such y and the weights of the examples.
    """
    names = ("x", "y", "sample_weight")
    try:
        logs = model.evaluate(**dict(zip(names, test, strict=False)), verbose=0, return_dict=True)
    except (NotImplementedError, ValueError) as error:
        _log.warning("the model is not evaluated: %s", " ".join(str(error).split())[:200])
        return {}
    return {name: float(value) for name, value in logs.items() if np.ndim(value) == 0}


def _may_log(callbacks: Any) -> bool:
    """Whether callbacks may add metrics to the logs: those that are not Keras's own."""
    import keras

    return any(
        not type(each).__module__.startswith("keras.")
        or isinstance(each, keras.callbacks.LambdaCallback)
        for each in keras.tree.flatten(callbacks or [])
    )


def _ignore(*_: Any) -> None:
    """A refit reports to nobody."""


def _rounds(ended: list[list[float]]) -> dict[str, Array]:
    return {"rounds": np.array(ended, np.float64)}


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
        """The model of a trial's parameters, usually compiled."""
        raise ObjectiveError(f"{type(self).__name__} builds no model; define build(self, trial)")

    def epochs(self, trial: Trial) -> int:
        """How many epochs one full training of the trial has."""
        return int(trial.params.get("epochs", self.settings.epochs))

    def batch_size(self, trial: Trial) -> int | None:
        """How many examples a step has; None, unless it is searched: what ``fit`` says, or 32."""
        size = trial.params.get("batch_size")
        return None if size is None else int(size)

    def fit(self, trial: Trial, model: keras.Model, *data: Any, **options: Any) -> Any:
        """Train the model; ``model.fit`` reports each epoch and resumes a lost training.

        Args:
            trial: the trial.
            model: from :meth:`build`.
            data: ``x``, and ``y`` where there is one.
            options: ``validation_data``, ``callbacks`` and what else the data bring.

        Returns:
            What KerasTuner understands: a history, a dictionary of metrics, a number, or a list of
            those.
        """
        return model.fit(*data, **options)

    def direction(self, metric: str) -> Literal["minimize", "maximize"]:
        found = direction_of(metric) or self._direction_by_class(metric)
        if found is None:
            raise UsageError(
                f"nothing tells whether the metric '{metric}' is minimised or maximised; say it, "
                f"e.g. --direction minimize"
            )
        return found

    def _direction_by_class(self, metric: str) -> Literal["minimize", "maximize"] | None:
        """By the class of the model's metric of that name, where a model can be built for that."""
        return None

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
        tries_metrics = not self._metrics_are_tried and not self.has_own_fit
        self._metrics_are_tried = True
        plan = self._plan(trial)
        return Training(
            plan=plan,
            build=lambda: self.build(trial),
            fit=lambda model, fitting: self._fit(trial, model, fitting),
            tries_metrics=tries_metrics,
            reported=self.settings.reported,
        ).run(self.rounds(trial), trial)

    @property
    def has_own_fit(self) -> bool:
        """Whether the user's code fits the model: it may bring metrics and callbacks."""
        return type(self).fit is not KerasObjective.fit

    def _fit(self, trial: Trial, model: keras.Model, fitting: Fitting) -> Any:
        return call_fit(self.fit, (trial, model), fitting)

    def _plan(self, trial: Trial) -> Plan:
        return Plan(
            metrics=self.metrics,
            epochs=self.epochs(trial),
            batch_size=self.batch_size(trial),
            best=self.settings.value == "best",
            maximize=self.settings.maximize,
            has_own_fit=self.has_own_fit,
        )

    def load(self, trial: Trial, path: Path) -> keras.Model:
        def rebuild() -> keras.Model:
            model = self.build(trial)
            ensure_built(model, few(self.rounds(trial)[0].x))
            return model

        return load_model(path, rebuild)

    def refit(self, trial: Trial) -> Refit:
        import keras

        keras.utils.set_random_seed(trial.seed)
        model = self.build(trial)
        rounds = self.rounds(trial)
        split = for_keras(rounds.searched if self.has_own_fit else rounds.for_refit)
        # There may be nothing to validate, and so not all metrics.
        plan = replace(self._plan(trial), has_own_fit=True)
        fitting = Fitting(plan, split, (trial.seed, 0), _ignore, _ignore, {})
        fitting.attach(model)
        try:
            self._fit(trial, model, fitting)
        except optuna.TrialPruned as diverged:
            raise OrchError(f"the training {diverged}") from None
        finally:
            fitting.detach()
        trained = fitting.trained
        if trained is None:
            raise OrchError(
                "the objective's fit trains several models of its own, and nothing tells which of "
                "them is the result; train one in fit, or the one that it is given"
            )
        fitting.take_best()
        test = rounds.test
        return Refit(
            history=fitting.history,
            test={} if test is None else evaluate(trained, _with_texts(test)),
            save=partial(save_model, trained),
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
        if not self.has_own_fit:
            dataset.check_metrics(self.metrics)
        return dataset

    @cached_property
    def _rounds(self) -> Rounds:
        settings = self.settings
        return Rounds(self.dataset, settings.validation, settings.folds, settings.repeats)

    @cached_property
    def _source(self) -> DataSource:
        return DataSource(self.settings.data or self.default_data, self.settings.fingerprint)
