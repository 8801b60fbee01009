"""What an objective is."""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Literal, Protocol, Self

import pydantic
from optuna.distributions import BaseDistribution

from orchestrator.errors import ObjectiveError
from orchestrator.spec.domains import Conditions
from orchestrator.training.data import Array, DataFacts
from orchestrator.training.metric_names import direction_of


@dataclass(frozen=True)
class Settings:
    """What a study fixes for its objective.

    Attributes:
        metrics: what a trial returns; empty: the objective's default.
        epochs: epochs of a full training.
        repeats: trainings of one trial with different seeds.
        folds: k of k-fold cross-validation; 0: one split.
        data: a data set's name, a PATH.npz or a function's place; None: the objective's default.
        fingerprint: pins the data where their content does not; None: it does.
        validation: examples held out of the training set; None: a sixth.
        options: the spec's ``[objective]`` table.
        space: the parameters that the spec's ``[space]`` table names.
        value: of which epoch a trial's value is, where it trains epochs.
        maximize: whether the first metric is maximised.
        conditions: of the spec's ``[space]`` table.
        reported: which of the metrics is reported; by that one trials are pruned.
        domains: the domains of the spec's ``[space]`` table.
        checkpoint_mb: the largest checkpoint, in megabytes.
    """

    metrics: tuple[str, ...] = ()
    epochs: int = 8
    repeats: int = 1
    folds: int = 0
    data: str | None = None
    fingerprint: str | None = None
    validation: int | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    space: frozenset[str] = frozenset()
    value: Literal["last", "best"] = "last"
    maximize: bool = False
    conditions: Conditions = field(default_factory=Conditions)
    reported: int = 0
    domains: Mapping[str, BaseDistribution] = field(default_factory=dict)
    checkpoint_mb: int = 256


@dataclass(frozen=True)
class Refit:
    """A model trained on all training data.

    Attributes:
        history: each metric's value after each epoch.
        test: the metrics on the test set, evaluated once; empty without a test set.
        save: writes the model.
        examples: on how many it was trained; None: on all that there are, or nobody knows.
        validated: whether the validation part was held out here as well.
    """

    history: dict[str, list[float]]
    test: dict[str, float]
    save: Callable[[Path], object]
    examples: int | None = None
    validated: bool = False


class Trial(Protocol):
    """The small surface that a trial gives an objective.

    Attributes:
        seed: the trial's own.
        steps: how many values it reports when it is never pruned; set by an objective where that
            depends on the trial's parameters. None: unknown.
        is_leaving: whether its next checkpoint ends it here, because its worker leaves or it was
            taken back; for an objective that waits for something long.
    """

    seed: int
    steps: int | None

    @property
    def number(self) -> int: ...

    @property
    def is_leaving(self) -> bool: ...

    @property
    def params(self) -> dict[str, Any]: ...

    def report(self, value: float, step: int) -> None: ...

    def log(self, metrics: Mapping[str, float], step: int) -> None: ...

    def should_prune(self) -> bool: ...

    def checkpoint(self, step: int, capture: Callable[[], Mapping[str, Array]] | None) -> None: ...

    def offer_model(self, value: float, save: Callable[[Path], object]) -> None: ...

    def restore(self) -> tuple[int, dict[str, Array]] | None: ...

    def set_user_attr(self, key: str, value: Any) -> None: ...


def log(trial: object, metrics: Mapping[str, float], step: int) -> None:
    """Record further values of a step beside the one that is reported, e.g. the loss.

    Reports show them beside the metric. Under plain Optuna it does nothing, so that a script runs
    there as well. Keras objectives log all that Keras logs.

    Args:
        trial: the trial that the objective was given.
        metrics: numbers by name. An array is logged element by element: ``name/0``, ``name/1`` ….
        step: as in ``trial.report``. A trial that resumes after a step keeps the logs up to it.

    Example:
        def objective(trial):
            for epoch in range(1, 11):
                loss, accuracy, rate = train_epoch()
                orch.log(trial, {"loss": loss, "learning_rate": rate}, epoch)
                trial.report(accuracy, epoch)
    """
    own = getattr(trial, "log", None)
    if own is not None:
        own(metrics, step)


class NoOptions(pydantic.BaseModel):
    """For objectives that the spec's ``[objective]`` table cannot change."""

    model_config = pydantic.ConfigDict(extra="forbid")


class Objective(ABC):
    """What a worker runs for each trial. One instance serves all trials of a process.

    Args:
        settings: what the study fixes.

    Raises:
        pydantic.ValidationError: an option that the objective does not have, or cannot take.
    """

    default_metric: ClassVar[str]
    # Whether folds and repeats mean something to it; each is then one reported value.
    trains_in_rounds: ClassVar[bool] = False
    uses_epochs: ClassVar[bool] = False
    # Whether it calls trial.checkpoint after each report; a retry then goes on with trial.restore.
    checkpoints: ClassVar[bool] = False
    # The file name's ending of the model that a refit keeps; None: it trains no model.
    model_suffix: ClassVar[str | None] = None
    Options: ClassVar[type[pydantic.BaseModel]] = NoOptions

    def __init__(self, settings: Settings) -> None:
        self._bind(settings)

    def _bind(self, settings: Settings) -> None:
        """Take over what a study fixes, and what follows from it."""
        self.settings = settings
        self.options = self.Options.model_validate(dict(settings.options))
        self.metrics = settings.metrics or (self.default_metric,)

    def with_settings(self, settings: Settings) -> Self:
        """This object for a study: what its own ``__init__`` has set stays.

        Args:
            settings: what the study fixes.
        """
        fresh = copy.copy(self)
        for name in list(vars(fresh)):
            if isinstance(getattr(type(self), name, None), cached_property):
                del fresh.__dict__[name]  # it may follow from other settings
        fresh._bind(settings)
        return fresh

    def space(self) -> dict[str, BaseDistribution]:
        """The parameters that every trial is given; empty: found as a function suggests them."""
        return {}

    def catalogue(self) -> dict[str, BaseDistribution]:
        """Further parameters, searched only where the spec's ``[space]`` names them."""
        return {}

    def declared(self) -> dict[str, BaseDistribution]:
        """Parameters that are found as a trial runs, where they can be known before."""
        return {}

    def known_metrics(self) -> Sequence[str] | None:
        """The names that ``study.metric`` can have; None: they show only as a trial runs, or any
        name will do.
        """
        return None

    def direction(self, metric: str) -> Literal["minimize", "maximize"]:
        """Whether a metric is minimised or maximised, where the study does not say it.

        Raises:
            UsageError: that cannot be known.
        """
        return direction_of(metric) or ("maximize" if metric.endswith("_score") else "minimize")

    def is_active(self, name: str, chosen: Mapping[str, Any]) -> bool:
        """Whether a parameter exists beside those that are chosen before it.

        Args:
            name: the parameter.
            chosen: the values of the active parameters that stand before it in the space.
        """
        return True

    def exists(self, name: str, chosen: Mapping[str, Any]) -> bool:
        """Whether a parameter is active, and its condition in the spec's ``[space]`` holds.

        Args:
            name: as for :meth:`is_active`.
            chosen: likewise.
        """
        return self.settings.conditions.hold(name, chosen) and self.is_active(name, chosen)

    def needs(self, name: str) -> bool:
        """Whether no trial can do without a parameter, so that it takes no condition."""
        own = name in self.space() and name not in self.catalogue()
        return own or (self.uses_epochs and name == "epochs")

    def check(self) -> DataFacts | None:
        """Load the data, without TensorFlow.

        Returns:
            The facts that a study pins; None without data.

        Raises:
            DataError: the data cannot be had or are damaged.
        """
        return None

    def most_threads(self, space: Mapping[str, BaseDistribution]) -> int | None:
        """How many CPU threads a training can use well, at most; None: as many as it is given.

        Args:
            space: the domain of every parameter of the study.
        """
        return None

    def prepare(self, threads: int | None = None) -> None:  # noqa: B027 - most prepare nothing
        """Get a worker process ready for its first trial, as by importing TensorFlow.

        Args:
            threads: CPU threads that this process may use; None: not limited.
        """

    def steps(self) -> int | None:
        """How many values a trial reports that is never pruned; None: unknown."""
        rounds = max(1, self.settings.folds) * self.settings.repeats
        if rounds > 1:
            return rounds
        return self.settings.epochs if self.uses_epochs else None

    def load(self, trial: Trial, path: Path) -> Any:
        """The model of a file that a trial's ``offer_model`` or :meth:`refit` has written.

        Raises:
            ObjectiveError: the objective trains no model, or the file does not fit it.
        """
        raise ObjectiveError("this objective trains no model, so there is nothing to load")

    def refit(self, trial: Trial) -> Refit:
        """Train a trial's parameters on all training data, and evaluate once on the test set.

        Raises:
            ObjectiveError: the objective trains nothing that could be kept.
        """
        raise ObjectiveError("this objective trains no model, so there is nothing to refit")

    @abstractmethod
    def __call__(self, trial: Trial) -> float | Sequence[float]:
        """Run one trial.

        Returns:
            The value to optimise, or one for each metric.

        Raises:
            optuna.TrialPruned: the trial ended early; the message is the reason.
        """
