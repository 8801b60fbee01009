"""What every Keras objective shares: the data, the rounds, the training, the refit."""

from __future__ import annotations

from abc import abstractmethod
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

from orchestrator.training import fast_fit, training
from orchestrator.training.base import Objective, Refit, Settings, Trial
from orchestrator.training.data import Array, DataFacts, Dataset, load
from orchestrator.training.metric_names import are_certain
from orchestrator.training.rounds import Rounds, scaled

if TYPE_CHECKING:
    import keras


class KerasObjective(Objective):
    """Trains the model that :meth:`build` makes on a data set of labelled images."""

    default_metric: ClassVar[str] = "val_accuracy"
    default_data: ClassVar[str] = "mnist"
    trains_in_rounds: ClassVar[bool] = True
    uses_epochs: ClassVar[bool] = True
    checkpoints: ClassVar[bool] = True
    model_suffix: ClassVar[str | None] = ".keras"

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        # Once in a process, where it could tell anything.
        self._metrics_are_tried = self.known_metrics() is not None or are_certain(self.metrics)

    @abstractmethod
    def build(self, trial: Trial) -> keras.Model:
        """The compiled model of a trial's parameters.

        Returns:
            A model from images, shape (batch, *image), to class probabilities, shape
            (batch, classes).
        """

    def epochs(self, trial: Trial) -> int:
        """How many epochs one full training of the trial has."""
        return int(trial.params.get("epochs", self.settings.epochs))

    def batch_size(self, trial: Trial) -> int:
        """How many examples a step of the trial's training has; 32, as Keras, unless searched."""
        return int(trial.params.get("batch_size", 32))

    def fit(self, trial: Trial, model: keras.Model, x: Array, y: Array, **options: Any) -> Any:
        """Train the model as ``model.fit`` does.

        Returns:
            Keras's history, or a dictionary of metrics that were not reported by callbacks.
        """
        return fast_fit.fit(model, x, y, self.batch_size(trial), **options)

    def check(self) -> DataFacts:
        return self.dataset.facts(self.settings.validation, self.settings.folds)

    def prepare(self, threads: int | None = None) -> None:
        training.configure(threads)

    def __call__(self, trial: Trial) -> list[float]:
        tries_metrics = not self._metrics_are_tried and self._has_keras_fit()
        self._metrics_are_tried = True
        return training.Training(
            build=lambda: self.build(trial),
            fit=lambda model, x, y, **options: self.fit(trial, model, x, y, **options),
            epochs=self.epochs(trial),
            metrics=self.metrics,
            tries_metrics=tries_metrics,
        ).run(self._rounds, trial)

    def _has_keras_fit(self) -> bool:
        """Whether the metrics are those of the model: no fit of the user's adds to them."""
        return type(self).fit is KerasObjective.fit

    def refit(self, trial: Trial) -> Refit:
        import keras

        keras.utils.set_random_seed(trial.seed)
        model = self.build(trial)
        data = self.dataset
        history = keras.callbacks.History()
        self.fit(
            trial,
            model,
            scaled(data.x_train),
            data.y_train,
            epochs=self.epochs(trial),
            verbose=0,
            callbacks=[history],
        )
        test = model.evaluate(scaled(data.x_test), data.y_test, verbose=0, return_dict=True)
        return Refit(
            history={name: list(map(float, values)) for name, values in history.history.items()},
            test={name: float(value) for name, value in test.items()},
            save=model.save,
        )

    @cached_property
    def dataset(self) -> Dataset:
        """The whole data set."""
        return load(self.settings.data or self.default_data)

    @cached_property
    def _rounds(self) -> Rounds:
        settings = self.settings
        return Rounds(self.dataset, settings.validation, settings.folds, settings.repeats)
