"""Command: a program as the objective, in any language."""

from __future__ import annotations

import json
import logging
import os
import re
import shutil
import signal
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import optuna
from optuna.distributions import BaseDistribution

from orchestrator.errors import (
    FailedTrialError,
    UsageError,
    WrongUse,
    nearest,
    nearest_of_all,
)
from orchestrator.spec.command import arguments_of, command_reference, filled, placeholders
from orchestrator.training.base import Objective, Settings, Trial
from orchestrator.training.command_process import CheckpointFolder, CommandProcess
from orchestrator.training.data import Array
from orchestrator.training.metric_names import direction_of

_log = logging.getLogger("orch")

_FOLDER, _VALUES = "folder", "values"  # the arrays of a checkpoint
_MEGABYTE = 1_000_000
_MOST_NAMES = 50
# A preempted machine signals all its processes. This worker may hear of it a little later.
_NEWS_SECONDS = 3.0
_LOOK_SECONDS = 0.05
_ENDED_FROM_OUTSIDE = {signal.SIGTERM, signal.SIGINT, signal.SIGHUP}
# Ours: a password is in it.
_PRIVATE = ("ORCH_STORAGE",)


class CommandFailed(RuntimeError):
    """The command ended with another exit code than 0."""


class CommandKilled(RuntimeError):
    """The command was ended by a signal that nobody here has sent, e.g. for want of memory."""


class Command(Objective):
    """A command as the objective: a program in any language, run once for each trial.

    A parameter's name in braces stands for its value; ``{{`` is a brace. No shell runs it. A line
    of JSON with a ``step`` on standard output is a report, and the last line with the metric is the
    trial's value.

    Args:
        arguments: the program and its arguments.

    Example:
        orch.create_study(
            "train",
            objective=orch.Command(["python", "train.py", "--lr", "{lr}"]),
            space={"lr": {"float": [1e-4, 1e-1], "log": True}},
            metric="val_accuracy",
        ).run(workers=4)

    Raises:
        UsageError: an argument is not text, or a brace stands alone.
    """

    checkpoints = True

    def __init__(self, arguments: Sequence[str]) -> None:
        try:
            self.reference = command_reference(arguments)
        except ValueError as error:
            raise UsageError(str(error)) from None
        self.arguments = tuple(arguments)

    @classmethod
    def of(cls, reference: str) -> Command:
        """The command of a study's objective."""
        return cls(arguments_of(reference))

    def _bind(self, settings: Settings) -> None:
        if not settings.metrics:
            raise UsageError(
                "a command has no metric of its own; name the one in its lines of JSON, e.g. "
                "--metric val_accuracy"
            )
        super()._bind(settings)
        for name in (name for each in self.arguments for name in placeholders(each)):
            if name not in settings.domains:
                raise UsageError(
                    f"unknown parameter {{{name}}} of the command; "
                    f"{nearest(name, settings.domains)}; its domain is said in [space] or by "
                    f"--param {name}=DOMAIN"
                )
        _check_variables(settings.domains)

    def space(self) -> dict[str, BaseDistribution]:
        return dict(self.settings.domains)

    def needs(self, name: str) -> bool:
        return False  # without its parameter an argument is left out

    def direction(self, metric: str) -> Literal["minimize", "maximize"]:
        found = direction_of(metric)
        if found is None:
            raise UsageError(
                f"nothing tells whether the metric '{metric}' is minimised or maximised; say it, "
                "e.g. --direction minimize"
            )
        return found

    def check(self) -> None:
        """Look whether the program is here.

        Raises:
            UsageError: it is not, or it cannot be run.
        """
        program = self.arguments[0]
        if placeholders(program) or shutil.which(filled([program], {})[0]) is not None:
            return
        if Path(program).is_file():
            raise UsageError(f"the file {program} cannot be run; allow it: chmod +x {program}")
        raise UsageError(
            f"there is no program '{program}' here; install it, or give the path of your script"
        )

    def __call__(self, trial: Trial) -> list[float]:
        """Run the command for one trial.

        Raises:
            TrialPruned: the pruner has ended it.
            CommandFailed: its exit code was not 0.
            FailedTrialError: what it printed is not a value.
            WrongUse: it reports other metrics.
        """
        with CheckpointFolder() as folder:
            return _Attempt(self, trial, folder).run()


@dataclass(frozen=True)
class _Report:
    """A line of JSON that counts.

    Attributes:
        step: of the line; None: it has none.
        values: the study's metrics in it.
        others: what else is a number in it.
    """

    step: int | None
    values: dict[str, float]
    others: dict[str, float] = field(default_factory=dict)


def read_report(line: bytes, metrics: Sequence[str]) -> _Report | None:
    """What a line of the command's output reports; None: nothing.

    Args:
        line: as it was printed.
        metrics: the study's.

    Raises:
        FailedTrialError: a metric of a step is not a number.
    """
    if not line.lstrip().startswith(b"{"):
        return None
    try:
        document = json.loads(line)
    except (ValueError, RecursionError):
        return None
    step = _whole(document.get("step"))
    numbers = {name: _number(value) for name, value in document.items() if name != "step"}
    for name in metrics if step is not None else ():
        value = document.get(name)
        if value is not None and numbers[name] is None:
            raise FailedTrialError(
                f"the command reports '{name}' as {json.dumps(value)[:200]} in step {step}; it "
                "must be a number"
            )
    found = {name: number for name, number in numbers.items() if number is not None}
    values = {name: found.pop(name) for name in metrics if name in found}
    return _Report(step, values, found) if values or step is not None else None


class _Attempt:
    """One run of a command for a trial."""

    def __init__(self, command: Command, trial: Trial, folder: CheckpointFolder) -> None:
        self._metrics = command.metrics
        self._reported = command.metrics[command.settings.reported]
        self._trial = trial
        self._folder = folder
        self._values: dict[str, float] = {}
        self._names: set[str] = set()  # of what its reports have beside the metrics
        self._step: int | None = None
        self._limit_bytes = command.settings.checkpoint_mb * _MEGABYTE
        self._is_too_large = False
        self._restore()
        values = {name: as_text(value) for name, value in trial.params.items()}
        environment = self._environment(values)
        self._process = CommandProcess(filled(command.arguments, values), environment, folder.path)

    def run(self) -> list[float]:
        """Follow the command to its end. Whatever ends this ends the command."""
        try:
            while not self._process.has_ended:
                self._follow(self._process.read())
        except BaseException:
            self._process.stop()
            raise
        self._process.close()
        self._check_end()
        return [self._value(metric) for metric in self._metrics]

    def _follow(self, lines: list[bytes]) -> None:
        reports = [read_report(line, self._metrics) for line in lines]
        steps = [each.step for each in reports if each is not None and self._take(each)]
        if self._process.has_ended and self._trial.is_leaving:
            return  # it need not leave: the trial ends here
        if steps and steps[-1] is not None:
            self._step = steps[-1]
            self._checkpoint(self._step)
        else:
            self._leave_if_asked()

    def _take(self, report: _Report) -> bool:
        """Hand a report on. Returns whether it has a step.

        Raises:
            TrialPruned: that was its last one.
        """
        self._values |= report.values
        if report.step is None:
            return False
        if len(self._names) < _MOST_NAMES:
            self._names.update(report.others)
        others = report.others | {
            name: value for name, value in report.values.items() if name != self._reported
        }
        if others:
            self._trial.log(others, report.step)
        if self._reported in report.values:
            self._trial.report(report.values[self._reported], report.step)
            if self._trial.should_prune():
                raise optuna.TrialPruned
        return True

    def _leave_if_asked(self) -> None:
        if self._trial.is_leaving:
            self._trial.checkpoint(self._step or 0, None)

    def _check_end(self) -> None:
        """Refuse an exit code that is not 0."""
        code = self._process.exit_code
        if code == 0:
            return
        signum = -code if code < 0 else code - 128
        seconds = _NEWS_SECONDS if signum in _ENDED_FROM_OUTSIDE else 0.0
        deadline = time.monotonic() + seconds
        while not self._trial.is_leaving and time.monotonic() < deadline:
            time.sleep(_LOOK_SECONDS)
        self._leave_if_asked()
        lines = self._process.last_lines()
        last = f": {lines[-1]}" if lines else ", and it printed nothing"
        if code < 0:
            error: RuntimeError = CommandKilled(
                f"the command was ended by {signal.Signals(-code).name}{last}"
            )
        else:
            error = CommandFailed(f"the command ended with exit code {code}{last}")
        error.add_note("\n".join(lines))
        raise error

    def _value(self, metric: str) -> float:
        """The last value of a metric.

        Raises:
            WrongUse: the command reports others.
            FailedTrialError: it reports nothing.
        """
        if metric in self._values:
            return self._values[metric]
        if self._names and not self._values:
            raise WrongUse(
                f"the command reports no metric '{metric}'; {nearest_of_all(metric, self._names)}"
            )
        raise FailedTrialError(
            f"the command ended without a line of JSON with '{metric}', e.g. "
            f'{{"step": 1, "{metric}": 0.5}} on its standard output'
        )

    def _environment(self, values: Mapping[str, str]) -> dict[str, str]:
        inherited = {key: value for key, value in os.environ.items() if key not in _PRIVATE}
        return {
            "PYTHONUNBUFFERED": "1",  # a report that waits in a buffer comes too late to be pruned
            **inherited,
            "ORCH_TRIAL": str(self._trial.number),
            "ORCH_SEED": str(self._trial.seed),
            "ORCH_CHECKPOINT_DIR": str(self._folder.path),
            **{variable(name): text for name, text in values.items()},
        }

    # The checkpoint folder

    def _restore(self) -> None:
        """Put the newest copy back, if there is one."""
        found = self._trial.restore()
        if found is None:
            return
        self._step, arrays = found
        self._folder.fill(arrays[_FOLDER].tobytes())
        self._values = json.loads(arrays[_VALUES].tobytes())

    def _checkpoint(self, step: int) -> None:
        """Offer a copy of the folder; nothing where it is empty, or too large."""
        size = self._folder.size()
        is_too_large = size is not None and size > self._limit_bytes
        if is_too_large and not self._is_too_large:
            _log.warning(
                "the checkpoint folder of trial %d has %.0f MB, above worker.artifact_limit_mb; a "
                "retry continues from the last copy that was smaller",
                self._trial.number,
                (size or 0) / _MEGABYTE,
            )
        self._is_too_large = is_too_large
        self._trial.checkpoint(step, None if size is None or is_too_large else self._capture)

    def _capture(self) -> dict[str, Array]:
        return {
            _FOLDER: np.frombuffer(self._folder.copy(), np.uint8),
            _VALUES: np.frombuffer(json.dumps(self._values).encode(), np.uint8),
        }


def as_text(value: Any) -> str:
    """A parameter's value as the command gets it."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def variable(name: str) -> str:
    """The environment variable of a parameter."""
    return "ORCH_PARAM_" + re.sub(r"[^A-Z0-9]", "_", name.upper())


def _check_variables(names: Iterable[str]) -> None:
    seen: dict[str, str] = {}
    for name in names:
        other = seen.setdefault(variable(name), name)
        if other != name:
            raise UsageError(
                f"the parameters {other} and {name} are both {variable(name)} in a command's "
                "environment; rename one"
            )


def _whole(value: object) -> int | None:
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _number(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        return float(value)
    except OverflowError:
        return None
