"""Listings: the studies of a storage, one study's page, a search space, the best trials."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from optuna.distributions import BaseDistribution, json_to_distribution

from orchestrator.report.document import Summary
from orchestrator.report.verdict import decision
from orchestrator.report.words import (
    counted,
    duration,
    params_line,
    percent,
    plus_minus,
    step_word,
    values_line,
)
from orchestrator.resolve.facts import ObjectiveFacts
from orchestrator.search.space import count, describe, size
from orchestrator.spec import StudySpec
from orchestrator.storage.database import Database
from orchestrator.study import StoredStudy


def table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Columns as wide as their widest cell; numbers to the right."""
    cells = [[str(cell) for cell in row] for row in rows]
    widths = [max(len(row[i]) for row in [list(header), *cells]) for i in range(len(header))]
    right = [all(isinstance(row[i], int | float) for row in rows) for i in range(len(header))]

    def line(row: Sequence[str]) -> str:
        padded = (
            cell.rjust(width) if to_right else cell.ljust(width)
            for cell, width, to_right in zip(row, widths, right, strict=True)
        )
        return "  ".join(padded).rstrip()

    return "\n".join(line(row) for row in [list(header), *cells])


def studies_table(database: Database) -> str:
    """Every study of the storage, a line each."""
    rows = database.rows("list_studies")
    if not rows:
        return "no studies yet; start one with: orch run digits --trials 12"
    reasons = [f"{row['name']}: {row['reason']}" for row in rows if row["state"] == "failed"]
    studies = table(
        ["study", "objective", "state", "done", "budget", "running", "workers"],
        [
            (
                row["name"],
                row["objective"],
                state_word(row["state"], row["finished"], row["budget"]),
                row["finished"],
                row["budget"],
                row["running"],
                row["workers"],
            )
            for row in rows
        ],
    )
    return "\n".join([studies, *([""] if reasons else []), *reasons])


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
    if study.data:
        facts = ", ".join(f"{key} {value}" for key, value in study.data.items())
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
    found = {
        row["name"]: json_to_distribution(row["domain"])
        for row in database.rows("found_domains", study_id=study.study_id)
    }
    return replace(facts, space={**found, **(facts.space or {})})


def space_page(spec: StudySpec, facts: ObjectiveFacts) -> str:
    """A search space: every parameter, the number of configurations, the cost of the budget.

    Args:
        spec: the study, or what one of this objective would be.
        facts: those of its objective.
    """
    space, further = facts.space or {}, facts.further or {}
    trials, steps = spec.study.trials, facts.steps
    step = step_word(facts.has_epochs, spec.training.rounds)
    lines = []
    if space:
        lines.append(
            table(
                ["parameter", "domain", "values"],
                [
                    (name, describe(each), count(each) or "continuous")
                    for name, each in space.items()
                ],
            )
        )
    if further:
        rows = [(name, describe(each)) for name, each in further.items()]
        lines.append("also searched where [space] or --param names it:")
        lines.append(table(["parameter", "domain"], rows))
    if facts.is_open:
        lines.append("the function's own parameters are found as it suggests them")
    else:
        lines.append(f"size: {_size(space)}")
    cost = f"cost: {counted(trials, 'trial')}"
    # How many steps a function has, only it knows; that one step is one trial, everybody.
    if not facts.is_open and (step, steps) != ("step", 1):
        cost += f" of at most {counted(steps, step)}: {counted(trials * steps, step)} unpruned"
    lines.append(cost)
    return "\n".join(lines)


def _size(space: Mapping[str, BaseDistribution]) -> str:
    cells = size(space)
    if cells is not None:
        return counted(cells, "configuration")
    first = next(name for name, each in space.items() if not count(each))
    return f"infinitely many configurations ({first} is continuous)"


def best_page(summary: Summary, top: int) -> str:
    """The best trials with their parameters, and what the search for them cost."""
    ranked = summary.ranked()
    if summary.is_multi_objective:
        ranked = [trial for trial in ranked if trial.number in summary.pareto]
    if not ranked:
        return " ".join(decision(summary))
    lines = [
        f"trial {trial.number}: {values_line(summary.metrics, trial.values or [])}"
        f"{plus_minus(trial.standard_error)}, {params_line(trial.params)}"
        for trial in ranked[:top]
    ]
    states, saved = summary.states, summary.epochs.saved_ratio
    of = f"of {states.complete} complete and {counted(states.pruned, 'pruned trial')}"
    lines.append(f"{of}; {percent(saved)} of the {summary.unit}s saved" if saved else of)
    return "\n".join(lines)
