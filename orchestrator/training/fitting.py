"""``model.fit`` as a trial has it: epochs, the reporter, and the place where it resumes."""

from __future__ import annotations

import functools
import json
import logging
import math
import weakref
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import optuna

from orchestrator.errors import ObjectiveError, WrongUse
from orchestrator.training.arrays import is_stream, pack, unpack
from orchestrator.training.data import Array
from orchestrator.training.fit_call import FitCall, can_evaluate, own_callbacks, with_reporter
from orchestrator.training.metric_names import PARAMETERS, few, unknown_metric
from orchestrator.training.rounds import Split
from orchestrator.training.state import (
    capture_state,
    ensure_built,
    restore_callbacks,
    restore_model,
)

if TYPE_CHECKING:
    import keras

_log = logging.getLogger("orch")

_PROGRESS = "fit/progress"
_BEST = "fit/best/"
_ENDED = "fit/ended/"
_LEARNING_RATE = "learning_rate"

Logs = Mapping[str, Any]
History = dict[str, list[Any]]


@dataclass(frozen=True)
class Plan:
    """What a trial's trainings have in common.

    Attributes:
        metrics: keys of Keras's logs, e.g. ``val_accuracy``, or ``parameters``, the number of
            weights. The first is reported.
        epochs: of a ``fit`` that does not say how many.
        batch_size: of a ``fit`` that does not say it; None: Keras's own default.
        best: the value is that of the best epoch, and the model is the one after it.
        maximize: which value of the first metric is better.
        has_own_fit: the user's code may return metrics that Keras's logs do not have.
    """

    metrics: tuple[str, ...]
    epochs: int
    batch_size: int | None = None
    best: bool = False
    maximize: bool = False
    has_own_fit: bool = False


@dataclass
class Progress:
    """How far a training is; what a checkpoint holds beside the model's state.

    Attributes:
        epochs: trained in all calls of ``fit``.
        phases: the histories of the calls of ``fit`` that have ended.
        history: of the call that is running.
        trained: epochs of the call that is running.
        stopped: a callback has ended the call that is running.
        values: the metrics after the last epoch that had them.
        best: the metrics after the best epoch.
    """

    epochs: int = 0
    phases: list[History] = field(default_factory=list)
    history: History = field(default_factory=dict)
    trained: int = 0
    stopped: bool = False
    values: list[float] | None = None
    best: list[float] | None = None

    def as_array(self) -> Array:
        """As bytes, for a checkpoint."""
        return np.frombuffer(json.dumps(asdict(self)).encode(), np.uint8)

    @classmethod
    def of(cls, arrays: Mapping[str, Array]) -> Progress:
        """What a checkpoint holds; without one, the beginning."""
        if _PROGRESS not in arrays:
            return cls()
        return cls(**json.loads(arrays[_PROGRESS].tobytes()))


class Fitting:
    """One training of a model, however often the user's code calls ``model.fit``.

    Each call is a phase, e.g. one with frozen layers and one to fine-tune; epochs count through.
    In a training that resumes, a phase that had ended returns its history without training, and
    the one that was interrupted continues after its last saved epoch. A loop of the user's own
    that calls the callbacks is reported as well, and starts from its beginning.

    Args:
        plan: what the trial's trainings have in common.
        split: the examples.
        seeds: the order of the examples follows from them.
        after_epoch: called with the number of epochs, the metrics' values (None: not in this
            epoch's logs), and all logs.
        plans_steps: told how many epochs there will be, as far as is known.
        state: a checkpoint's arrays; empty: from the beginning.
    """

    def __init__(
        self,
        plan: Plan,
        split: Split,
        seeds: tuple[int, ...],
        after_epoch: Callable[[int, list[float] | None, Logs], None],
        plans_steps: Callable[[int], None],
        state: Mapping[str, Array],
    ) -> None:
        self.plan = plan
        self.split = split
        self._seeds = seeds
        self._after_epoch = after_epoch
        self._plans_steps = plans_steps
        self._state = unpack(state)
        self.progress = Progress.of(state)
        self._ended = len(self.progress.phases)  # phases that are not trained again
        self._phase = 0
        self._model: Any = None
        self._fits: Any = None  # the model whose fit is running
        self._callbacks: list[Any] = []  # the user's, of the phase that is running
        self._validates_always = True
        self._best = self._stored(_BEST)
        self._models: dict[int, weakref.ref[Any]] = {}  # by the phase that trained each of them
        self.reporter = make_reporter(self)

    def attach(self, model: keras.Model) -> None:
        """Take the place of the model's ``fit``, until :meth:`detach`.

        Raises:
            WrongUse: it is something else than a model.
        """
        if not callable(getattr(model, "fit", None)):
            raise WrongUse(f"build returned {model!r}; return the model, usually compiled")
        self._model = model
        self.follow(model)

    def follow(self, model: keras.Model) -> None:
        """Take the place of the ``fit`` of a further model that the user's code makes."""
        model.fit = functools.wraps(type(model).fit)(functools.partial(self.fit, model))

    def fits(self, model: keras.Model) -> bool:
        """Whether the ``fit`` of this model is running, as a part of this training."""
        return self._fits is model

    def detach(self) -> None:
        """Give the model its own ``fit`` back."""
        if self._model is not None:
            vars(self._model).pop("fit", None)

    @property
    def resumes(self) -> bool:
        """Whether a checkpoint tells where it continues."""
        return bool(self._state)

    @property
    def can_resume(self) -> bool:
        """Whether :meth:`capture` holds all; a loop of the user's own can only start anew."""
        return self._fits is not None

    @property
    def history(self) -> dict[str, list[float]]:
        """Each metric's value after each epoch of all phases; those that are one number."""
        whole: dict[str, list[float]] = {}
        for phase in self.progress.phases:
            for name, values in phase.items():
                if all(isinstance(value, int | float) for value in values):
                    whole.setdefault(name, []).extend(map(float, values))
        return whole

    def capture(self) -> dict[str, Array]:
        """Everything that the training needs to resume."""
        kept = {f"{_BEST}{index:05d}": array for index, array in enumerate(self._best)}
        for phase, model in self._others().items():
            for index, variable in enumerate(model.variables):
                kept[f"{_ENDED}{phase:03d}/{index:05d}"] = np.array(variable.numpy())
        state = capture_state(self._fits, self._callbacks)
        return {_PROGRESS: self.progress.as_array(), **pack(kept), **state}

    def _others(self) -> dict[int, Any]:
        """The models of phases that have ended, e.g. of an ensemble, while they are in use."""
        found = {phase: model() for phase, model in self._models.items()}
        last = {id(model): phase for phase, model in found.items()}
        return {
            phase: model
            for phase, model in found.items()
            if model is not None and model is not self._fits and last[id(model)] == phase
        }

    def _stored(self, prefix: str) -> list[Array]:
        return [self._state[name] for name in sorted(self._state) if name.startswith(prefix)]

    def forget(self) -> None:
        """Let go of the model: its memory is wanted for the next one."""
        self._model = None
        self._callbacks, self._best = [], []
        self.reporter._model = None

    def take_best(self) -> None:
        """Give the model the weights of its best epoch, where that one counts."""
        trained = self.trained
        if self.plan.best and trained is not None:
            _assign(trained, self._best)

    def finish(self, returned: Any) -> list[float]:
        """The values of the metrics.

        Args:
            returned: by the user's code: what KerasTuner understands, or None.

        Raises:
            WrongUse: a metric is neither in the logs nor in what was returned.
            ObjectiveError: what was returned is nothing that KerasTuner understands.
        """
        said = self._returned(returned)
        own = self.progress.best if self.plan.best else self.progress.values
        values = []
        for index, metric in enumerate(self.plan.metrics):
            if metric in said:
                values.append(said[metric])
            elif own is not None:
                values.append(own[index])
            elif metric == PARAMETERS:
                values.append(float(self._model.count_params()))
            else:
                raise unknown_metric(metric, [*self._names(), *said, PARAMETERS])
        self.take_best()
        return values

    @property
    def trained(self) -> Any:
        """The model that was trained: that of ``build``, or the only other one.

        None: the user's code trained several, and nobody knows which of them counts.
        """
        seen = getattr(self.reporter, "_model", None)
        if seen is None or seen is self._model:
            return self._model
        return seen if len(set(map(id, self._models.values()))) == 1 else None

    # A call of model.fit

    def fit(self, model: Any, *arguments: Any, **keywords: Any) -> Any:
        """In place of ``model.fit``, with its arguments; what that returns."""
        call = FitCall(model, arguments, keywords)
        phase, self._phase = self._phase, self._phase + 1
        self._models[phase] = weakref.ref(model)
        if phase < self._ended:
            self._restore_ended(phase, call)
            return _past(model, self.progress.phases[phase])
        progress = self.progress
        given = call.given
        first, epochs = int(given.get("initial_epoch") or 0), given.get("epochs")
        if phase == 0 and epochs is not None and int(epochs) - first != self.plan.epochs:
            _log.warning(
                "fit is given epochs=%d by the user's code, so the study's training.epochs = %d "
                "does not count here", int(epochs), self.plan.epochs,
            )  # fmt: skip
        epochs = self.plan.epochs if epochs is None else int(epochs)
        resumes = phase == self._ended and progress.trained > 0
        trained = progress.trained if resumes else 0
        self._plans_steps(progress.epochs - trained + max(0, epochs - first))
        if resumes:
            ensure_built(model, few(given.get("x")))
            restore_model(model, self._state)
        if resumes and progress.stopped:
            epochs = first + trained
        given |= {"epochs": epochs, "initial_epoch": first + trained}
        given.setdefault("verbose", 0)
        self._add_data(given)
        if given.get("validation_data") is not None and not can_evaluate(model):
            del given["validation_data"]
        self._validates_always = given.get("validation_freq", 1) == 1
        self._callbacks = own_callbacks(given.get("callbacks"), self.reporter)
        given["callbacks"] = with_reporter(given.get("callbacks"), self._callbacks, self.reporter)
        self._fits = model
        try:
            history = call.run(self._seeds if phase == 0 else (*self._seeds, phase))
        finally:
            self._fits = None
        progress.phases.append(progress.history)
        _complete(history, progress.history, first)
        progress.history, progress.trained, progress.stopped = {}, 0, False
        return history

    def _restore_ended(self, phase: int, call: FitCall) -> None:
        """Give a model that was trained before the interruption its weights."""
        arrays = self._stored(f"{_ENDED}{phase:03d}/")
        if arrays:
            ensure_built(call.model, few(call.given.get("x")))
            _assign(call.model, arrays)

    def _add_data(self, given: dict[str, Any]) -> None:
        """What the user's code did not pass on."""
        if given.get("x") is not self.split.x:
            return
        is_array = not is_stream(self.split.x)
        if is_array and given.get("batch_size") is None and self.plan.batch_size is not None:
            given["batch_size"] = self.plan.batch_size
        if (
            given.get("validation_data") is None
            and not given.get("validation_split")
            and self.split.validation_data is not None
        ):
            given["validation_data"] = self.split.validation_data

    # What the reporter tells

    def train_began(self) -> None:
        """All callbacks have begun, and forgotten what they knew."""
        if self._fits is None:
            return
        # Also where nothing is restored: what changes from here on is their state.
        state = self._state if self.progress.trained else {}
        for lost in restore_callbacks(self._callbacks, state):
            _log.warning("a checkpoint cannot hold %s; it starts anew", lost)

    def epoch_ended(self, logs: Logs) -> None:
        """An epoch has ended, of a ``fit`` or of the user's own loop."""
        progress = self.progress
        model = self._fits or getattr(self.reporter, "_model", None) or self._model
        check_loss(logs, progress.epochs)
        progress.epochs += 1
        if self._fits is not None:
            progress.trained += 1
            progress.stopped = bool(model.stop_training)
            for name, value in logs.items():
                progress.history.setdefault(name, []).append(_plain(value))
        values = self._values(logs, model)
        if values is not None:
            self._take(values, model)
        self._after_epoch(progress.epochs, values, _with_rate(logs, model))

    def _values(self, logs: Logs, model: Any) -> list[float] | None:
        missing = [each for each in self.plan.metrics if each not in logs and each != PARAMETERS]
        if missing:
            if self.plan.has_own_fit or not self._validates_always:
                return None  # the user's code may return it; it may come with a later epoch
            raise unknown_metric(missing[0], [*logs, PARAMETERS])
        return [
            float(model.count_params()) if each == PARAMETERS else as_number(logs[each], each)
            for each in self.plan.metrics
        ]

    def _take(self, values: list[float], model: Any) -> None:
        for metric, value in zip(self.plan.metrics, values, strict=True):
            if not math.isfinite(value):
                raise optuna.TrialPruned(
                    f"diverged: {metric} became {value} in epoch {self.progress.epochs}"
                )
        self.progress.values = values
        if self.progress.best is None or self._is_better(values[0], self.progress.best[0]):
            self.progress.best = values
            if self.plan.best and self._fits is not None:
                self._best = [np.array(each.numpy()) for each in model.variables]

    def _is_better(self, value: float, than: float) -> bool:
        return value > than if self.plan.maximize else value < than

    # What the user's code returned

    def _returned(self, returned: Any) -> dict[str, float]:
        if returned is None and self.progress.values is None:
            names = ", ".join(self.plan.metrics)
            raise ObjectiveError(
                f"fit returned None and no epoch had {names}; return the history, a dictionary "
                "of metrics or a number"
            )
        if returned is None or (hasattr(returned, "history") and self.progress.values is not None):
            return {}  # the values were reported epoch by epoch
        return self._metrics_of(returned)

    def _metrics_of(self, returned: Any) -> dict[str, float]:
        """As KerasTuner understands it.

        Raises:
            ObjectiveError: it does not.
        """
        first = self.plan.metrics[0]
        if hasattr(returned, "history"):
            return self._of_history(returned.history)
        if isinstance(returned, Mapping):
            if all(isinstance(each, list) and each for each in returned.values()):
                return self._of_history(returned)  # the dictionary of a History
            return {str(name): as_number(value, str(name)) for name, value in returned.items()}
        if isinstance(returned, list | tuple) and returned:
            each = [self._metrics_of(one) for one in returned]
            return {
                name: sum(one[name] for one in each) / len(each)
                for name in each[0]
                if all(name in one for one in each)
            }
        try:
            return {first: float(returned)}
        except (TypeError, ValueError):
            raise ObjectiveError(
                f"fit returned {returned!r}; return the history, a dictionary of metrics or a "
                "number"
            ) from None

    def _of_history(self, history: Mapping[str, Sequence[Any]]) -> dict[str, float]:
        lengths = {len(values) for values in history.values()}
        first = history.get(self.plan.metrics[0])
        place = -1
        if self.plan.best and first and len(lengths) == 1:
            place = int(np.argmax(first) if self.plan.maximize else np.argmin(first))
        numbers = {name: values[place] for name, values in history.items() if values}
        return {name: float(each) for name, each in numbers.items() if np.ndim(each) == 0}

    def _names(self) -> set[str]:
        histories = [*self.progress.phases, self.progress.history]
        return {name for history in histories for name in history}


def make_reporter(fitting: Fitting) -> Any:
    """A Keras callback that tells ``fitting`` of each epoch, and prunes what diverges.

    It is made in a function so that importing this module does not import Keras.
    """
    import keras

    class Reporter(keras.callbacks.Callback):  # type: ignore[misc]
        """The last of the callbacks: the others have done their work when it is called."""

        watches_loss = True  # see fast_fit: it looks at the loss of each step in its place

        def on_train_begin(self, logs: Logs | None = None) -> None:
            fitting.train_began()

        def on_train_batch_end(self, batch: int, logs: Logs | None = None) -> None:
            check_loss(logs or {}, fitting.progress.epochs)

        def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
            fitting.epoch_ended(logs or {})

        def __deepcopy__(self, _: dict[int, Any]) -> Reporter:
            return self  # KerasTuner's users copy the callbacks that they are given

    return Reporter()


def check_loss(logs: Logs, epochs: int) -> None:
    """End a trial whose loss is not finite.

    Args:
        logs: of a step or of an epoch.
        epochs: that were trained before.

    Raises:
        optuna.TrialPruned: it is not.
    """
    loss = logs.get("loss", 0.0)
    if np.ndim(loss) == 0 and not math.isfinite(float(loss)):
        raise optuna.TrialPruned(f"diverged: loss became {float(loss)} in epoch {epochs + 1}")


def as_number(value: Any, metric: str) -> float:
    """A metric's value.

    Raises:
        WrongUse: it has several numbers.
    """
    try:
        return float(value)
    except (TypeError, ValueError):
        shape = np.shape(value)
        raise WrongUse(
            f"the metric '{metric}' has {int(np.prod(shape)) if shape else 'no'} numbers, and one "
            "is needed; let it average them, e.g. F1Score(average='macro')"
        ) from None


def _plain(value: Any) -> Any:
    """A log's value as JSON has it."""
    return np.asarray(value).tolist()


def _with_rate(logs: Logs, model: Any) -> Logs:
    """The logs, and the learning rate, which Keras logs only beside some callbacks."""
    optimizer = getattr(model, "optimizer", None)
    if _LEARNING_RATE in logs or optimizer is None:
        return logs
    import keras

    rate = keras.ops.convert_to_numpy(optimizer.learning_rate)
    return {**logs, _LEARNING_RATE: float(rate)}


def _assign(model: Any, arrays: Sequence[Array]) -> None:
    """Give a model its variables' values, where they are of such a model."""
    variables = model.variables
    if [tuple(each.shape) for each in variables] == [each.shape for each in arrays]:
        for variable, array in zip(variables, arrays, strict=True):
            variable.assign(array)


def _past(model: Any, history: History) -> Any:
    """The history of a phase that had ended before the training was interrupted."""
    import keras

    past = keras.callbacks.History()
    past.history = {name: list(values) for name, values in history.items()}
    past.epoch = list(range(max(map(len, history.values()), default=0)))
    model.history = past
    return past


def _complete(history: Any, whole: History, first: int) -> None:
    """Put the epochs before an interruption in front of those that Keras has recorded."""
    recorded = getattr(history, "history", None)
    if not isinstance(recorded, dict):
        return
    for name, values in whole.items():
        before = len(values) - len(recorded.get(name, []))
        recorded[name] = [*values[: max(0, before)], *recorded.get(name, [])]
    history.epoch = list(range(first, first + max(map(len, whole.values()), default=0)))
