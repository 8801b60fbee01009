"""The verdict: what a study answers, in a few sentences, the decision first."""

from __future__ import annotations

import math

from orchestrator.report.document import Summary, TrialSummary
from orchestrator.report.presence import took_part
from orchestrator.report.words import counted, duration, number, percent

# A lead of so many standard errors is more than noise, as a rule of thumb.
_CLEAR_ERRORS = 2.0
_MOST_PARAMS = 4


def verdict(summary: Summary) -> list[str]:
    """The sentences: which parameters, how sure, what mattered, what it cost."""
    found = decision(summary)
    if summary.ranked():
        found += [_certainty(summary), _importance(summary)]
    return [sentence for sentence in [*found, _cost(summary), _origin(summary)] if sentence]


def decision(summary: Summary) -> list[str]:
    """Which trial is the best, or why none is."""
    states = summary.states
    ended = states.complete + states.pruned
    if summary.ranked():
        so_far = "" if ended >= summary.budget else "So far, "
        sentence = _pareto(summary) if summary.is_multi_objective else _best(summary)
        return [(so_far + sentence)[:1].upper() + (so_far + sentence)[1:]]
    if states.complete:
        return [_why_none_wins(summary)]
    if states.pruned:
        return _all_pruned(summary, ended)
    if states.failed:
        reason = summary.last_reason()
        last = f" The last reason: {reason}." if reason else ""
        return [f"There is no winner: {counted(states.failed, 'configuration')} failed.{last}"]
    if states.running:
        return [f"No trial has ended yet; {counted(states.running, 'trial')} running."]
    start = [f"Start workers with: orch worker {summary.study}"] if summary.can_run else []
    return ["No trial has run yet.", *start]


def _why_none_wins(summary: Summary) -> str:
    complete = [trial for trial in summary.trials if trial.state == "COMPLETE"]
    wanted = []
    if any(trial.feasible is False for trial in complete):
        wanted.append("keeps the constraints")
    if any(trial.value is None for trial in complete):
        wanted.append("has a finite value")
    return f"None of the {counted(len(complete), 'complete trial')} {' and '.join(wanted)}."


def _all_pruned(summary: Summary, ended: int) -> list[str]:
    none = f"There is no winner: all {counted(ended, 'trial')} that ended were pruned."
    reason = summary.last_reason()
    if not summary.can_run:
        return [none]
    if reason:  # the objective pruned them itself, or returned no number
        return [none, f"The last reason: {reason}."]
    return [none, "A milder pruner, or --pruner none, lets some finish."]


def _best(summary: Summary) -> str:
    best = summary.best
    assert best is not None
    done = summary.states.complete + summary.states.pruned
    varied = [name for name in summary.varied_params() if name in best.params]
    names = sorted(varied, key=lambda name: -summary.importances.get(name, 0.0))
    told = names[:_MOST_PARAMS]
    params = [f"{name} {number(best.params[name])}" for name in told]
    chosen = f", with {', '.join(params)}" if params else ""
    if len(names) > len(told) > 0:
        chosen += f" and {counted(len(names) - len(told), 'further parameter')}"
    return (
        f"trial {best.number} is the best of {done:,}: "
        f"{summary.metrics[0]} {number(best.value)}{chosen}."
    )


def _pareto(summary: Summary) -> str:
    count = len(summary.pareto)
    verb, them = ("are", "them") if count > 1 else ("is", "it")
    metrics = " and ".join(summary.metrics)
    return (
        f"{counted(count, 'trial')} of {summary.states.complete:,} {verb} on the Pareto front: "
        f"no other trial beats {them} in {metrics} together."
    )


def _certainty(summary: Summary) -> str:
    ranked = summary.ranked()
    if summary.is_multi_objective or len(ranked) < 2:
        return ""
    best, second = ranked[0], ranked[1]
    lead = abs((best.value or 0.0) - (second.value or 0.0))
    if lead == 0:
        return f"Trial {second.number} has the same value."
    ahead = f"It leads trial {second.number} by {lead:.2g}"
    error = _error_of_difference(best, second)
    if not summary.can_run:  # nor can its best trials run again
        return f"{ahead}."
    if error is None:
        one = "training" if summary.has_epochs else "run"
        again = "retrains the best" if summary.has_epochs else "runs the best again"
        return (
            f"{ahead} with one {one} each, so luck may have decided: "
            f"orch confirm {summary.study} {again} with fresh seeds."
        )
    if lead > _CLEAR_ERRORS * error:
        return f"{ahead}, more than twice the standard error of that difference ({error:.2g})."
    return (
        f"{ahead}, which is within the noise (standard error {error:.2g}): "
        f"orch confirm {summary.study} would tell."
    )


def _error_of_difference(best: TrialSummary, second: TrialSummary) -> float | None:
    if best.standard_error is None or second.standard_error is None:
        return None
    return math.hypot(best.standard_error, second.standard_error)


def _importance(summary: Summary) -> str:
    if not summary.importances or summary.states.complete < 5:
        return ""
    name, share = next(iter(summary.importances.items()))
    return f"{name} mattered most ({percent(share)} of the importance)."


def _cost(summary: Summary) -> str:
    epochs = summary.epochs
    workers = took_part(summary)
    saved = ""
    if epochs.saved_ratio is not None and epochs.saved_ratio > 0:
        saved = f" instead of {epochs.without_pruning:,} ({percent(epochs.saved_ratio)} saved)"
    by = f" on {workers}" if workers else ""
    spent = f"{duration(summary.elapsed_seconds)}{by}."
    if not summary.can_run and not any(trial.seconds for trial in summary.trials):
        trained = counted(epochs.trained, summary.unit)
        return f"{trained} trained." if epochs.trained and summary.has_epochs else ""
    longest = max((len(trial.intermediate) for trial in summary.trials), default=0)
    # A function that reports nothing, or its end alone, has no steps.
    if not epochs.trained or (summary.unit == "step" and longest < 2):
        return f"It took {spent}" if workers else ""
    verb = "trained" if summary.has_epochs else "run"
    return f"{counted(epochs.trained, summary.unit)} {verb}{saved} in {spent}"


def _origin(summary: Summary) -> str:
    """Where an imported study comes from, and what is unknown of it."""
    origin = summary.imported
    if origin is None:
        return ""
    if not summary.can_run:
        return f"Imported from {origin.made_by}: {origin.place}."
    return f"{counted(origin.trials, 'trial')} imported from {origin.made_by}: {origin.place}."
