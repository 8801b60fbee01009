"""The verdict: what a study answers, in a few sentences, the decision first."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

from orchestrator.report.numbers import counted, difference, duration, number, percent
from orchestrator.report.section import section
from orchestrator.report.summary import Summary, TrialSummary, took_part
from orchestrator.report.winner import CLEAR_PROBABILITY, Winner

# A lead of so many standard errors is more than noise, as a rule of thumb.
_CLEAR_ERRORS = 2.0
_MOST_PARAMS = 4


def verdict(summary: Summary) -> list[str]:
    """The sentences: which trial, how sure, what mattered, what it cost, what to do next."""
    found = decision(summary)
    if summary.ranked() and not summary.confirms_another:
        found += _part(summary, "How sure that is", _certainty)
        found += _part(summary, "What mattered", _importance, "importances")
    why, last = summary.failed_because, summary.last_reason()
    if why and not (last and last in why):  # else the decision has said it
        found.append(f"The study is stopped: {why}.")
    found.append(_why_ended(summary))
    found += _part(summary, "The refit", refit_sentences, "refit")
    found += _part(summary, "What it cost", _cost, "epochs")
    found += _part(summary, "Where it comes from", _origin)
    found += _part(summary, "The next step", _next)
    return [sentence for sentence in dict.fromkeys(found) if sentence]


def _part(
    summary: Summary,
    title: str,
    make: Callable[[Summary], str | list[str]],
    *needs: str,
) -> list[str]:
    """Sentences, or the lines in place of those that cannot be said.

    Args:
        summary: what they are about.
        title: what they say.
        make: makes them.
        needs: the keys of the summary that they rest on.
    """
    missing = [summary.missing[key] for key in needs if key in summary.missing]
    if missing:
        return missing
    made = section(title, lambda: make(summary), str)
    return [made] if isinstance(made, str) else made


def _why_ended(summary: Summary) -> str:
    """Why a study that has not failed takes no more of its budget."""
    done = summary.states.complete + summary.states.pruned
    why = summary.ended_because if done < summary.budget else None
    return f"No further trial starts: {why}." if why else ""


def decision(summary: Summary) -> list[str]:
    """Which trial is the best, or why none is."""
    return _part(summary, "The verdict", _decision, "best", "pareto", "confirmed", "winner")


def _decision(summary: Summary) -> list[str]:
    states = summary.states
    ended = states.complete + states.pruned
    if summary.ranked():
        goes_on = ended < summary.budget and not summary.ended_because
        return _decided(summary, so_far="So far, " if goes_on else "")
    if states.complete:
        return [_why_none_wins(summary)]
    if states.pruned:
        return _all_pruned(summary, ended)
    if states.failed:
        reason = summary.last_reason()
        last = f" The last reason: {reason}." if reason else ""
        return [f"There is no winner: {counted(states.failed, 'configuration')} failed.{last}"]
    return _none_ended(summary)


def _none_ended(summary: Summary) -> list[str]:
    if summary.failed_because:
        return ["No trial has ended."]
    if summary.states.running:
        return [f"No trial has ended yet; {counted(summary.states.running, 'trial')} running."]
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


def _decided(summary: Summary, so_far: str) -> list[str]:
    if summary.confirms_another:
        note = summary.spec["study"].get("note") or "Trials of another study with fresh seeds."
        return [note, "What they say is in the report of that study."]
    winner = summary.winner
    if winner is not None and winner.chosen_by == "confirmation":
        return confirmed_sentences(summary, winner)
    sentence = so_far + (_pareto(summary) if summary.is_multi_objective else _best(summary))
    found = [sentence[:1].upper() + sentence[1:]]
    confirmed = summary.confirmed
    if confirmed is not None and not confirmed.finished:
        top = len(confirmed.results) or 1
        found.append(
            f"Its confirmation is under way, {confirmed.done:,} of {confirmed.planned:,} trainings "
            f"done; to continue it: orch confirm {summary.study} --top {top} "
            f"--seeds {confirmed.seeds}"
        )
    return found


def _best(summary: Summary) -> str:
    best = summary.best
    assert best is not None
    done = summary.states.complete + summary.states.pruned
    return (
        f"trial {best.number} is the best of {done:,}: "
        f"{summary.metrics[0]} {number(best.value)}{_chosen(summary, best.params)}."
    )


def _chosen(summary: Summary, params: Mapping[str, Any]) -> str:
    """``, with learning_rate 0.01 and 3 further parameters``: those that varied."""
    varied = [name for name in summary.varied_params() if name in params]
    names = sorted(varied, key=lambda name: -summary.importances.get(name, 0.0))
    told = names[:_MOST_PARAMS]
    listed = [f"{name} {number(params[name])}" for name in told]
    chosen = f", with {', '.join(listed)}" if listed else ""
    if len(names) > len(told) > 0:
        chosen += f" and {counted(len(names) - len(told), 'further parameter')}"
    return chosen


def confirmed_sentences(summary: Summary, winner: Winner) -> list[str]:
    """What a finished confirmation says, and how sure that is."""
    confirmed, best = summary.confirmed, summary.best
    assert confirmed is not None and best is not None and winner.mean is not None
    interval = ""
    if winner.low is not None and winner.high is not None:
        low, high = number(winner.low), number(winner.high)
        interval = f" (95 % interval {low} to {high})" if winner.std else ", the same with each"
    found = [
        f"Trial {winner.number} is the winner: mean {summary.metrics[0]} {number(winner.mean)} "
        f"over {counted(winner.seeds or 0, 'fresh seed')}{interval}"
        f"{_chosen(summary, winner.params)}."
    ]
    found.append(_beside_search(summary, winner))
    found.append(_probability(summary))
    if confirmed.trials_since > 0:
        have = "trial has" if confirmed.trials_since == 1 else "trials have"
        found.append(
            f"{confirmed.trials_since:,} {have} ended since this confirmation began, and took no "
            "part in it."
        )
    return [sentence for sentence in found if sentence]


def _beside_search(summary: Summary, winner: Winner) -> str:
    confirmed, best = summary.confirmed, summary.best
    assert confirmed is not None and best is not None
    if winner.number == best.number:
        return f"It is also the best of the search, with {number(best.value)} there."
    other = next((each for each in confirmed.results if each.number == best.number), None)
    sentence = f"The best of the search is trial {best.number} with {number(best.value)}"
    if other is None:
        return f"{sentence}; it was not confirmed."
    if other.mean is None:
        return f"{sentence}; with fresh seeds it has no finite mean."
    return f"{sentence}; its mean over fresh seeds is {number(other.mean)}."


def _probability(summary: Summary) -> str:
    """How sure it is that the winner's mean is the best of those that were confirmed."""
    confirmed, winner = summary.confirmed, summary.winner
    assert confirmed is not None and winner is not None
    if len(confirmed.results) < 2:
        return ""
    found = next(each for each in confirmed.results if each.number == winner.number)
    if found.probability_best is None:
        return "The fresh seeds are too few to say how sure that is."
    share = percent(found.probability_best)
    if found.probability_best >= CLEAR_PROBABILITY:
        of = counted(len(confirmed.results), "confirmed trial")
        return f"The probability that it is the best of the {of} is {share}."
    return (
        f"The other confirmed trials are not ruled out: the probability that it is the best is "
        f"{share}."
    )


def refit_sentences(summary: Summary) -> list[str]:
    """The figures of the newest refit on the test set; they belong to one evaluation."""
    refit = summary.refit
    if refit is None or not refit.test:
        return []
    figures = ", ".join(
        f"{name} {'not finite' if value is None else number(value)}"
        for name, value in refit.test.items()
    )
    found = [
        f"Trained again on all training data, trial {refit.number} has {figures} on the test set."
    ]
    if refit.evaluations > 1:
        found.append(
            f"The test set has been evaluated {refit.evaluations:,} times; the more often, the "
            "less its figures say."
        )
    return found


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
    is_confirmed = summary.winner is not None and summary.winner.chosen_by == "confirmation"
    if summary.is_multi_objective or is_confirmed or len(ranked) < 2:
        return ""
    best, second = ranked[0], ranked[1]
    lead = abs((best.value or 0.0) - (second.value or 0.0))
    if lead == 0:
        return f"Trial {second.number} has the same value."
    ahead = f"It leads trial {second.number} by {difference(best.value, second.value)}"
    if not summary.can_run:  # nor can its best trials run again
        return f"{ahead}."
    return _beside_noise(summary, ahead, lead, _error_of_difference(best, second))


def _beside_noise(summary: Summary, ahead: str, lead: float, error: float | None) -> str:
    if error is None:
        one = "training" if summary.has_epochs else "run"
        doubt = f"{ahead} with one {one} each, so the gap may be chance"
        if summary.confirmed is not None:
            return f"{doubt}."
        again = "retrains the best" if summary.has_epochs else "runs the best again"
        return f"{doubt}: orch confirm {summary.study} {again} with fresh seeds."
    if lead > _CLEAR_ERRORS * error:
        return f"{ahead}, more than twice the standard error of that difference ({error:.2g})."
    noise = f"{ahead}, which is within the noise (standard error {error:.2g})"
    return (
        f"{noise}." if summary.confirmed else f"{noise}: orch confirm {summary.study} would tell."
    )


def _error_of_difference(best: TrialSummary, second: TrialSummary) -> float | None:
    if best.standard_error is None or second.standard_error is None:
        return None
    return math.hypot(best.standard_error, second.standard_error)


def _importance(summary: Summary) -> str:
    claim = summary.importance_claim
    if claim.parameter is None:
        return f"{claim.reason[:1].upper()}{claim.reason[1:]}." if claim.reason else ""
    share = percent(summary.importances[claim.parameter])
    if claim.parameter not in claim.intervals:
        return f"{claim.parameter} mattered most: {share} of the variance in the grid."
    low, high = claim.intervals[claim.parameter]
    between = f"95 % interval {low * 100:.0f} to {high * 100:.0f} %"
    return f"{claim.parameter} mattered most: {share} of the importance ({between})."


def _next(summary: Summary) -> str:
    """The step after a confirmation; a model is trained from data that the study knows."""
    winner, refit = summary.winner, summary.refit
    if winner is None or winner.chosen_by != "confirmation" or summary.data is None:
        return ""
    if refit is not None and refit.number == winner.number:
        return ""
    out = "model.keras" if summary.has_epochs else "PATH"
    return f"Next, train it on all training data: orch refit {summary.study} --out {out}"


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
