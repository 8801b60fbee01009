"""Listings: the studies of a storage, one study's page, a search space, the best trials."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from textwrap import wrap

from optuna.distributions import BaseDistribution
from optuna.trial import FrozenTrial

from orchestrator.base.printed import Printed, rounded, table_columns
from orchestrator.errors import printable
from orchestrator.report.numbers import (
    counted,
    duration,
    number,
    params_line,
    percent,
    plus_minus,
    step_word,
    values_line,
)
from orchestrator.report.section import section
from orchestrator.report.summary import Summary, TrialSummary
from orchestrator.report.verdict import decision
from orchestrator.report.winner import Confirmed
from orchestrator.resolve.warm_start import copied_trials
from orchestrator.search.auto import samplers_used
from orchestrator.search.conditional import condition_words, configurations
from orchestrator.search.space import count, describe
from orchestrator.spec.command import reference_of
from orchestrator.spec.domains import Conditions, Scalar
from orchestrator.spec.facts import ObjectiveFacts
from orchestrator.spec.model import StudySpec
from orchestrator.storage.database import Database
from orchestrator.storage.postgres_storage import PostgresStorage
from orchestrator.storage.studies import StoredStudy, found_domains, read_trials


def table(
    header: Sequence[str], rows: Sequence[Sequence[object]], columns: int | None = None
) -> str:
    """Columns as wide as their widest cell; numbers to the right.

    Args:
        header: a word for each column.
        rows: their cells.
        columns: of the terminal. A table that is wider has each row below its first cell instead,
            so that nothing is cut; None: as wide as it is.
    """
    cells = [[str(cell) for cell in row] for row in rows]
    widths = [max(len(row[i]) for row in [list(header), *cells]) for i in range(len(header))]
    right = [all(isinstance(row[i], int | float) for row in rows) for i in range(len(header))]

    def line(row: Sequence[str]) -> str:
        padded = (
            cell.rjust(width) if to_right else cell.ljust(width)
            for cell, width, to_right in zip(row, widths, right, strict=True)
        )
        return "  ".join(padded).rstrip()

    if columns is not None and sum(widths) + 2 * (len(widths) - 1) > columns:
        return "\n".join(_below_its_name(header, row, columns) for row in cells)
    return "\n".join(line(row) for row in [list(header), *cells])


def _below_its_name(header: Sequence[str], row: Sequence[str], columns: int) -> str:
    pairs = zip(header[1:], row[1:], strict=True)
    facts = ", ".join(f"{word} {cell}".strip() for word, cell in pairs)
    return "\n".join([
        f"{header[0]} {row[0]}".strip(),
        *wrap(facts, columns, initial_indent="  ", subsequent_indent="  "),
    ])  # fmt: skip


def confirmed_table(
    metric: str, found: Sequence[Confirmed]
) -> tuple[list[str], list[tuple[object, ...]]]:
    """The confirmed trials: the words of the head, and a row each."""
    head = ["trial", "in search", f"mean {metric}", "std", "95 % interval", "seeds", "best with"]
    rows: list[tuple[object, ...]] = [
        (
            each.number,
            "-" if each.searched_value is None else number(each.searched_value),
            "-" if each.mean is None else number(each.mean),
            "-" if each.std is None else number(each.std),
            "-" if each.low is None else f"{number(each.low)} to {number(each.high)}",
            len(each.values),
            percent(each.probability_best),
        )
        for each in found
    ]
    return head, rows


@dataclass(frozen=True)
class StudyInfo:
    """One study of a storage.

    Attributes:
        name: its name.
        objective: what it runs.
        state: ``open``, ``stopping``, ``failed`` or ``done``.
        done: trials COMPLETE or PRUNED.
        budget: of how many.
        running: trials that run now.
        workers: workers that are alive.
        reason: why it failed or ended; None: there is nothing to say.
    """

    name: str
    objective: str
    state: str
    done: int
    budget: int
    running: int
    workers: int
    reason: str | None = None


class StudyList(list[StudyInfo], Printed):
    """The studies of a storage; prints as a table."""

    def __str__(self) -> str:
        if not self:
            return "no studies yet; start one with: orch run digits --trials 12"
        reasons = [f"{each.name}: {each.reason}" for each in self if each.state == "failed"]
        head = ["study", "objective", "state", "done", "budget", "running", "workers"]
        rows = [
            (e.name, e.objective, e.state, e.done, e.budget, e.running, e.workers) for e in self
        ]
        columns = table_columns()
        shown = table(head, rows, columns)
        if columns is not None:
            reasons = [line for each in reasons for line in wrap(each, columns)]
        return "\n".join([shown, *([""] if reasons else []), *reasons])


def read_studies(database: Database) -> StudyList:
    """Every study of the storage."""
    return StudyList(
        StudyInfo(
            row["name"],
            reference_of(row["objective"]),
            state_word(row["state"], row["finished"], row["budget"]),
            row["finished"],
            row["budget"],
            row["running"],
            row["workers"],
            row["reason"],
        )
        for row in database.rows("list_studies")
    )


def state_word(state: str, finished: int, budget: int) -> str:
    """A study's state in one word."""
    ended = state == "exhausted" or (state == "open" and finished >= budget)
    return "done" if ended else state


def study_page(database: Database, study: StoredStudy) -> str:
    """One study's spec as TOML, its state, its data and its workers that are alive."""
    progress = database.row("progress", study_id=study.study_id)
    assert progress is not None
    done = progress["complete"] + progress["pruned"]
    state = state_word(study.state, done, progress["budget"])
    reason = f" ({study.reason})" if study.reason else ""
    parts = [
        study.spec.to_toml().rstrip(),
        f"# state: {state}{reason}; {done} of {progress['budget']} trials done, "
        f"{progress['running']} running, {progress['failed']} failed",
    ]
    if study.spec.study.warm_start:
        attributes = PostgresStorage(database).get_study_system_attrs(study.study_id)
        copied = ", ".join(
            f"{counted(len(older.params), 'trial')} of {name}"
            for name, older in copied_trials(attributes).items()
        )
        parts.append(f"# starts warm with {copied}")
    used = samplers_used(study.spec, read_trials(database, study))
    if used is not None:
        parts.append(f"# drawn: {used}")
    if study.data:
        facts = ", ".join(
            f"{key} {value}" for key, value in study.data.items() if value is not None
        )
        parts.append(f"# data: {facts}")
    workers = [
        row for row in database.rows("workers_of_study", study_id=study.study_id) if row["live"]
    ]
    parts.append(f"# live workers: {len(workers)}")
    parts += [
        f"#   {row['name']}: {row['trials']} trials, last seen "
        f"{duration(row['last_seen_seconds'])} ago"
        for row in workers
    ]
    return "\n".join(parts)


def space_of_study(database: Database, study: StoredStudy) -> ObjectiveFacts:
    """What a study has stored of its objective, with the parameters that its trials suggested."""
    facts = study.facts
    if not facts.is_open:
        return facts
    return replace(facts, space={**found_domains(database, study), **(facts.space or {})})


class SearchSpace(dict[str, BaseDistribution], Printed):
    """A search space, each parameter with its domain; prints as a table with its size and cost.

    Args:
        spec: the study, or what one of this objective would be.
        facts: those of its objective.
    """

    def __init__(self, spec: StudySpec, facts: ObjectiveFacts) -> None:
        super().__init__(facts.space or {})
        self._spec, self._facts = spec, facts

    def __str__(self) -> str:
        return space_page(self._spec, self._facts, table_columns())


def space_page(spec: StudySpec, facts: ObjectiveFacts, columns: int | None = None) -> str:
    """A search space: every parameter, the number of configurations, the cost of the budget.

    Args:
        spec: the study, or what one of this objective would be.
        facts: those of its objective.
        columns: of the terminal; see :func:`table`.
    """
    space, further = facts.space or {}, facts.further or {}
    conditions = Conditions(spec.space)
    trials, steps = spec.study.trials, facts.steps
    step = step_word(facts.has_epochs, spec.training.rounds)
    lines = []
    if space:
        lines.append(_tree(conditions, space, spec.priors, columns))
    if further:
        rows = [(name, describe(each)) for name, each in further.items()]
        lines.append("also searched where [space] or --param names it:")
        lines.append(table(["parameter", "domain"], rows, columns))
    if facts.is_open:
        lines.append("the function's own parameters are found as it suggests them")
    else:
        lines.append(f"size: {_size(conditions, space)}")
    cost = f"cost: {counted(trials, 'trial')}"
    # How many steps a function has, only it knows; that one step is one trial, everybody.
    if not facts.is_open and (step, steps) != ("step", 1):
        cost += f" of at most {counted(steps, step)}: {counted(trials * steps, step)} unpruned"
    lines.append(cost)
    return printable("\n".join(lines))


def _tree(
    conditions: Conditions,
    space: Mapping[str, BaseDistribution],
    priors: Mapping[str, Scalar],
    columns: int | None,
) -> str:
    """The parameters as a table, each under the one on which it depends."""
    rows: list[tuple[object, ...]] = []

    def add(name: str, depth: int) -> None:
        each = space[name]
        row = ("  " * depth + name, describe(each), count(each) or "continuous")
        prior = (_prior(priors, name),) if priors else ()
        condition = (condition_words(conditions, name),) if any_depends else ()
        rows.append((*row, *prior, *condition))
        for child in space:
            parents = conditions.parents(child)
            if [parent for parent in space if parent in parents][-1:] == [name]:
                add(child, depth + 1)  # of several parents, the last one depends on the others

    any_depends = any(name in conditions for name in space)
    for name in space:
        if not any(parent in space for parent in conditions.parents(name)):
            add(name, 0)
    head = ["parameter", "domain", "values"]
    head += ["prior"] if priors else []
    head += ["exists where"] if any_depends else []
    return table(head, rows, columns)


def _prior(priors: Mapping[str, Scalar], name: str) -> str:
    value = priors.get(name, "")
    return rounded(value, 6) if isinstance(value, float) else str(value)


def _size(conditions: Conditions, space: Mapping[str, BaseDistribution]) -> str:
    cells = configurations(conditions, space)
    if cells is not None:
        return counted(cells, "configuration")
    first = next(name for name, each in space.items() if not count(each))
    return f"infinitely many configurations ({first} is continuous)"


class BestTrials(list[FrozenTrial], Printed):
    """The best trials, the winner first; prints as lines, with what the search for them cost.

    Args:
        summary: of the study.
        trials: all of the study.
        top: how many at most.
    """

    def __init__(self, summary: Summary, trials: Sequence[FrozenTrial], top: int) -> None:
        by_number = {trial.number: trial for trial in trials}
        super().__init__(
            by_number[each.number] for each in best_of(summary)[:top] if each.number in by_number
        )
        self._summary, self._top = summary, top

    def __str__(self) -> str:
        return best_page(self._summary, self._top)


def best_of(summary: Summary) -> list[TrialSummary]:
    """The trials that may win: the winner, then the best of the search, or of the Pareto front."""
    ranked = summary.ranked()
    if summary.is_multi_objective:
        ranked = [trial for trial in ranked if trial.number in summary.pareto]
    winner = summary.winner
    if winner is not None:
        ranked.sort(key=lambda trial: trial.number != winner.number)
    return ranked


def best_page(summary: Summary, top: int) -> str:
    """The winner and the next best trials of the search, and what the search for them cost."""
    ranked = best_of(summary)
    if not ranked:
        return " ".join(decision(summary))
    lines = [
        section(f"Trial {trial.number}", partial(_best_line, summary, trial), str)
        for trial in ranked[:top]
    ]
    states, saved = summary.states, summary.epochs.saved_ratio
    of = f"of {states.complete} complete and {counted(states.pruned, 'pruned trial')}"
    lines.append(f"{of}; {percent(saved)} of the {summary.unit}s saved" if saved else of)
    return printable("\n".join(lines))


def _best_line(summary: Summary, trial: TrialSummary) -> str:
    return (
        f"trial {trial.number}: {values_line(summary.metrics, trial.values or [])}"
        f"{plus_minus(trial.standard_error)}{_fresh(summary, trial.number)}, "
        f"{params_line(trial.params)}"
    )


def _fresh(summary: Summary, number_of_trial: int) -> str:
    """What the fresh seeds of a trial say, behind its value in the search."""
    results = summary.confirmed.results if summary.confirmed else []
    for each in results:
        if each.number == number_of_trial and each.mean is not None:
            spread = "" if each.std is None else f" (standard deviation {number(each.std)})"
            return (
                f"; mean {number(each.mean)}{spread} over {counted(len(each.values), 'fresh seed')}"
            )
    return ""
