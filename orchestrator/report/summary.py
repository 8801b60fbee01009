"""A study's report as data."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from orchestrator.base.printed import Printed, columns
from orchestrator.report.importance import ImportanceClaim
from orchestrator.report.numbers import counted, step_word
from orchestrator.report.pruning import Epochs, Rung
from orchestrator.report.winner import CONFIRMS, Confirmation, RefitRecord, Winner, Writable
from orchestrator.search.auto import Used
from orchestrator.spec.choices import distinct
from orchestrator.spec.eligibility import rank
from orchestrator.storage.studies import IMPORTED, Origin

# How many of the best trials a table shows.
MOST_BEST = 10


class States(BaseModel):
    """How many trials are in which state; an attempt that was retried counts under its retry."""

    complete: int
    pruned: int
    failed: int
    running: int
    waiting: int


class Best(BaseModel):
    """The best trial of the search.

    Attributes:
        epochs: of one training.
        std: the sample standard deviation over repeats and folds; None with a single training.
        standard_error: of the mean over them.
        trainings: how many repeats and folds there were.
    """

    number: int
    value: float
    params: Writable
    epochs: int
    std: float | None
    standard_error: float | None
    trainings: int


class WorkerSummary(BaseModel):
    """One worker process.

    Attributes:
        trials: how many it ended, or trained last before their plan ended them.
        busy_ratio: the share of its presence with a trial.
        joined_seconds: how long ago it started.
        last_seen_seconds: how long ago it gave its last sign of life.
    """

    id: str
    trials: int
    busy_ratio: float | None
    joined_seconds: float
    last_seen_seconds: float


class TrialSummary(BaseModel):
    """One trial.

    Attributes:
        value: of the first metric.
        values: one for each metric.
        std: over the trial's folds and repeats, as in :class:`Best`.
        retry_of: the number of the first attempt at the same configuration.
        intermediate: the value of each reported step; None where it was not a number.
        logs: further values of each step, by the name that they were logged with.
        paused: it waits for its promotion, or did until its plan ended it.
        feasible: whether it keeps the study's constraints; None where there are none.
        started_seconds: when it started, counted from the study's first start; None: not yet.
        ended_seconds: when it ended, counted likewise; None: not yet.
        printed: the last lines that it printed; None: it printed nothing. Of many trials, the best
            ones, the newest that failed and the newest others have them.
    """

    number: int
    state: str
    value: float | None
    values: list[float] | None
    std: float | None
    standard_error: float | None
    params: Writable
    intermediate: dict[str, float | None]
    bracket: int | None
    retry_of: int | None
    worker: str
    seconds: float | None
    reason: str | None
    feasible: bool | None
    started_seconds: float | None
    ended_seconds: float | None
    attributes: Writable
    paused: bool = False
    logs: dict[str, dict[str, float | None]] = {}
    printed: str | None = None

    @property
    def may_win(self) -> bool:
        """Whether it is complete and feasible, and its value is a number."""
        return self.state == "COMPLETE" and self.value is not None and self.feasible is not False


class Improvement(BaseModel):
    """A trial that was better than all that had ended before.

    Attributes:
        seconds: when it ended, counted from the study's first start.
    """

    number: int
    value: float
    seconds: float


class Summary(BaseModel, Printed):
    """A study's report.

    Attributes:
        metric: one name, or a list in a study of several metrics; so for ``direction``.
        best: the search's best; None in a study of several metrics.
        best_over_time: the trials that were the best when they ended, in this order; empty in a
            study of several metrics.
        confirmed: what fresh seeds say about the best trials; None: orch confirm has not begun.
        refit: the newest retraining on all training data; None: orch refit has made none.
        winner: the trial to use, which orch best and orch refit follow.
        pareto: in a study of several metrics, the numbers of the trials that none beats in all.
        rounds: how many trainings one trial is.
        samplers: how many trials each sampler has drawn, where ``sampler`` is ``"auto"``; with
            ``sobol``, the first are spread evenly over the space.
        sampler_reason: why ``mixed-gp`` does not draw them all; None: it does, after the first.
        has_epochs: the objective trains in epochs; of a plain function, ``epochs`` counts the
            values that it reported.
        importances: of the parameters by PED-ANOVA, shares of 1; in a full grid, of the variance.
            Empty where too few trials are complete.
        importances_fanova: by fANOVA: where it was asked for, or the claim needs it.
        importance_claim: which parameter mattered most, or why that cannot be said.
        spec: the study's specification, with every default filled in.
        versions: of the packages where the report was made.
        verdict: the answer in sentences, the decision first.
        missing: what could not be worked out, by its key here, and a line that says why.
        mismatches: machines that took part with other software, and in what.
        failed_because: why the study failed as a whole; None: it did not.
        ended_because: why no further trial starts, although the study has not failed; None: its
            budget alone decides.
        imported: where the study comes from; None: it was made here. Without an objective its
            ``sampler`` and ``pruner`` are ``"unknown"``.
    """

    study: str
    objective: str
    metric: str | list[str]
    direction: str | list[str]
    sampler: str
    samplers: dict[str, int] = {}
    sampler_reason: str | None = None
    pruner: str
    budget: int
    states: States
    best: Best | None
    best_over_time: list[Improvement] = []
    confirmed: Confirmation | None = None
    refit: RefitRecord | None = None
    winner: Winner | None = None
    pareto: list[int]
    rounds: int
    has_epochs: bool
    epochs: Epochs
    rungs: list[Rung]
    importances: dict[str, float]
    importances_fanova: dict[str, float] | None
    importance_claim: ImportanceClaim = ImportanceClaim()
    workers: list[WorkerSummary]
    retries: int
    elapsed_seconds: float
    data: dict[str, Any] | None
    spec: dict[str, Any]
    versions: dict[str, str]
    verdict: list[str] = []
    missing: dict[str, str] = {}
    mismatches: list[str]
    failed_because: str | None = None
    ended_because: str | None = None
    imported: Origin | None = None
    trials: list[TrialSummary]

    def render(self, form: str = "text") -> str:
        """The report as ``"text"``, ``"json"``, ``"csv"``, ``"markdown"`` or ``"html"``."""
        from orchestrator.report.render import render  # which knows every form, and this class

        return render(self, form, columns())

    def write(self, path: Path, form: str) -> list[Path]:
        """Write the report whole, or leave what was there.

        Returns:
            The files beside it: the figures of Markdown, and of CSV what the trials log.

        Raises:
            OrchError: a file cannot be written.
        """
        from orchestrator.report.render import write

        return write(self, form, path)

    def to_json(self) -> str:
        """The report as JSON; its schema is :meth:`json_schema`."""
        return self.render("json")

    @staticmethod
    def json_schema() -> str:
        """The JSON Schema of :meth:`to_json` (draft 2020-12)."""
        from orchestrator.report.render import schema

        return schema()

    def __str__(self) -> str:
        return self.render().rstrip("\n")

    @property
    def is_multi_objective(self) -> bool:
        return isinstance(self.metric, list)

    @property
    def can_run(self) -> bool:
        """Whether more trials can run; not where the study was imported without an objective."""
        return self.objective != IMPORTED

    def is_imported(self, trial: TrialSummary) -> bool:
        """Whether the trial came with the study, and did not run here."""
        if self.imported is None:
            return not self.can_run
        return trial.number < self.imported.trials

    @property
    def strategy(self) -> str:
        """``tpe with hyperband``; of an import that cannot run, where it comes from."""
        if self.can_run:
            return f"{self.sampler} with {self.pruner}"
        return "imported" if self.imported is None else f"imported from {self.imported.made_by}"

    @property
    def drawn_by(self) -> str:
        """``40 by mixed-gp, 10 spread evenly``; empty where the study names its sampler."""
        return str(Used(self.samplers, self.sampler_reason)) if self.samplers else ""

    @property
    def metrics(self) -> list[str]:
        """The metrics, also where there is one."""
        return self.metric if isinstance(self.metric, list) else [self.metric]

    @property
    def directions(self) -> list[str]:
        """The directions in the metrics' order."""
        return self.direction if isinstance(self.direction, list) else [self.direction]

    @property
    def maximize(self) -> bool:
        """Whether more of the first metric is better."""
        return self.directions[0] == "maximize"

    @property
    def step(self) -> str:
        """What a reported value stands for, in a word."""
        return step_word(self.has_epochs, self.rounds)

    @property
    def unit(self) -> str:
        """What :attr:`epochs` counts, in a word."""
        return "epoch" if self.has_epochs else self.step

    def ranked(self) -> list[TrialSummary]:
        """The complete, feasible trials by the first metric, the best first."""
        return ranked(self.trials, self.maximize)

    @property
    def confirms_another(self) -> bool:
        """Whether its trials are those of another study with fresh seeds."""
        own = (trial for trial in self.trials if not self.is_imported(trial))
        return any(CONFIRMS in trial.attributes for trial in own)

    def last_reason(self) -> str | None:
        """Why the latest trial failed or was pruned that says why; None: none says."""
        reasons = [trial.reason for trial in self.trials if trial.reason]
        return reasons[-1] if reasons else None

    def failure_beside_success(self) -> str | None:
        """Why the latest trial failed, where the verdict is about others; None: none did."""
        reasons = [trial.reason for trial in self.trials if trial.state == "FAIL" and trial.reason]
        return reasons[-1] if reasons and self.states.failed and self.ranked() else None

    def best_so_far(self) -> list[tuple[int, float]]:
        """The trials that were better in the first metric than all before: number and value."""
        found: list[tuple[int, float]] = []
        best: float | None = None
        for trial in self.trials:
            value = trial.value if trial.may_win else None
            if value is not None and rank(value, self.maximize) < rank(best, self.maximize):
                best = value
                found.append((trial.number, value))
        return found

    def varied_params(self) -> list[str]:
        """The parameters that had more than one value, in their order."""
        values: dict[str, set[object]] = {}
        for trial in self.trials:
            for name, value in trial.params.items():
                values.setdefault(name, set()).add(distinct(value))
        return [name for name, found in values.items() if len(found) > 1]

    def shown_params(self) -> list[str]:
        """What a table of the best has: the parameters that varied, or all where none did."""
        ranked = self.ranked()
        return self.varied_params() or (list(ranked[0].params) if ranked else [])


def ranked(trials: Iterable[TrialSummary], maximize: bool) -> list[TrialSummary]:
    """The complete, feasible trials by the first metric, the best first."""
    able = [trial for trial in trials if trial.may_win]
    return sorted(able, key=lambda trial: (rank(trial.value, maximize), trial.number))


def best_over_time(trials: Sequence[TrialSummary], maximize: bool) -> list[Improvement]:
    """The trials that were better in the first metric than all that had ended before."""
    ended = [(each.ended_seconds, each) for each in trials if each.ended_seconds is not None]
    found: list[Improvement] = []
    best: float | None = None
    for seconds, trial in sorted(ended, key=lambda pair: (pair[0], pair[1].number)):
        value = trial.value if trial.may_win else None
        if value is not None and rank(value, maximize) < rank(best, maximize):
            best = value
            found.append(Improvement(number=trial.number, value=value, seconds=seconds))
    return found


def took_part(summary: Summary) -> str:
    """``2 workers``, or ``4 workers, at most 2 at once``; empty where none ended a trial."""
    seen = [worker for worker in summary.workers if worker.trials]
    if not seen:
        return ""
    # Two sessions one after the other, or a process that was replaced: never all side by side.
    most = _most_at_once(seen)
    return counted(len(seen), "worker") + (f", at most {most} at once" if most < len(seen) else "")


def _most_at_once(workers: Sequence[WorkerSummary]) -> int:
    came = [(worker.joined_seconds, 1) for worker in workers]
    left = [(worker.last_seen_seconds, -1) for worker in workers]
    present = most = 0
    for _, change in sorted(came + left, reverse=True):  # the longest ago first
        present += change
        most = max(most, present)
    return most
