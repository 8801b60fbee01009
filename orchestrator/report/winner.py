"""The winner: what came after the search, and which trial to use."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

import numpy as np
from optuna.trial import FrozenTrial, TrialState
from psycopg2.extras import Json
from pydantic import BaseModel, BeforeValidator

from orchestrator.report.numbers import deviation, mean, scaled
from orchestrator.spec.eligibility import feasible, rank
from orchestrator.spec.model import TrainingSection
from orchestrator.storage.database import Database
from orchestrator.storage.storable import clean
from orchestrator.storage.studies import StoredStudy, open_study, ranking, read_trials

# What a study stores by name, without the characters that UTF-8 does not have.
Writable = Annotated[dict[str, Any], BeforeValidator(clean)]


class Winner(BaseModel):
    """The trial to use.

    Attributes:
        chosen_by: ``"confirmation"`` where a finished one has its mean, else ``"search"``.
        searched_value: its value in the search.
        mean: over the fresh seeds; None where it was not confirmed; so for what follows.
        std: sample standard deviation over them.
        low: lower end of the mean's 95 % confidence interval.
        high: its upper end.
        seeds: how many fresh seeds there were.
    """

    number: int
    params: Writable
    chosen_by: Literal["search", "confirmation"]
    searched_value: float
    mean: float | None = None
    std: float | None = None
    low: float | None = None
    high: float | None = None
    seeds: int | None = None


class RefitRecord(BaseModel):
    """The newest refit: a trial trained on all training data and evaluated on the test set.

    Attributes:
        number: the trial's.
        value: its value in the search; None where it was not recorded; so for the others.
        params: its parameters.
        seed: of the training.
        model: the name of the file.
        sha256: of the model's bytes as they were written.
        versions: of the packages that trained it.
        test: the figures on the test set, which belong to this one evaluation; None: not finite.
        evaluations: how often the study's test set has been evaluated, this one included.
    """

    number: int
    value: float | None = None
    params: Writable | None = None
    seed: int | None = None
    model: str | None = None
    sha256: str | None = None
    versions: dict[str, str] | None = None
    test: dict[str, float | None]
    evaluations: int


def choose_winner(
    trials: Sequence[FrozenTrial], study: StoredStudy, confirmation: Confirmation | None
) -> Winner | None:
    """The best mean of a finished confirmation that may win, else the search's best.

    None without a trial that may win, and in a study of several metrics.
    """
    if len(study.spec.study.metrics) > 1:
        return None
    ranked = ranking(trials, study.spec)
    by_number = {trial.number: trial for trial in ranked}
    if confirmation is not None and confirmation.finished:
        for each in confirmation.results:
            if each.mean is not None and each.number in by_number:
                return _winner(
                    by_number[each.number],
                    chosen_by="confirmation",
                    mean=each.mean,
                    std=each.std,
                    low=each.low,
                    high=each.high,
                    seeds=len(each.values),
                )
    return _winner(ranked[0], chosen_by="search") if ranked else None


def _winner(trial: FrozenTrial, **facts: Any) -> Winner:
    assert trial.value is not None
    return Winner(number=trial.number, params=trial.params, searched_value=trial.value, **facts)


def read_winner(
    database: Database, study: StoredStudy, trials: Sequence[FrozenTrial]
) -> Winner | None:
    """The study's winner as things stand; see :func:`choose_winner`."""
    return choose_winner(trials, study, read_confirmation(database, study, trials))


def read_refit(database: Database, study: StoredStudy) -> RefitRecord | None:
    """The study's newest refit."""
    row = database.row("test_evaluations", study_id=study.study_id)
    if row is None or not row["evaluations"]:
        return None
    evaluations = row["evaluations"]
    newest = dict(evaluations[-1])
    evaluated = count_evaluations(evaluations)
    return RefitRecord(number=newest.pop("trial"), evaluations=evaluated, **newest)


def count_evaluations(refits: Sequence[Mapping[str, Any]]) -> int:
    """How often the test set has been evaluated; an objective may have none."""
    return sum(bool(each["test"]) for each in refits)


class Spread(BaseModel):
    """Of one trial's trainings. ``std`` is the sample standard deviation (n - 1)."""

    trainings: int
    mean: float
    std: float
    standard_error: float


def spread(values: Sequence[float]) -> Spread | None:
    """The spread of two or more values; None of fewer, or where one is not finite."""
    if len(values) < 2 or not all(map(math.isfinite, values)):
        return None
    # The mean of equal values may be rounded, and then they would differ from it.
    std = deviation(values, ddof=1) if min(values) < max(values) else 0.0
    return Spread(
        trainings=len(values),
        mean=mean(values),
        std=std,
        standard_error=std / math.sqrt(len(values)),
    )


def rounds_of(trial: FrozenTrial, training: TrainingSection) -> list[float]:
    """The value of each fold and repeat that the trial has ended; none where it trains once."""
    if training.rounds == 1:
        return []
    return [value for _, value in sorted(trial.intermediate_values.items())]


# Confirmation: what fresh seeds say about a study's best trials.
#
# ``orch confirm`` trains them in a study of its own (winner/confirm.py). The study that is
# confirmed keeps a link to it, and the result once it is finished, so that a report has both.

CONFIRMS = "confirms"  # the user attribute that names the confirmed trial
CLEAR_PROBABILITY = 0.95  # from here on the others are ruled out
_CONFIDENCE = 0.95
_DRAWS = 200_000


class Confirmed(BaseModel):
    """One configuration over its fresh seeds.

    Attributes:
        number: of the trial in the study that is confirmed.
        searched_value: its value there; None if that trial was deleted.
        values: with each fresh seed.
        mean: of them; None while there are none, or where a training diverged.
        std: sample standard deviation (n - 1); None of fewer than two.
        low: lower end of the mean's 95 % confidence interval (Student's t); None likewise.
        high: its upper end.
        probability_best: that its mean is the best of all; None until each has two values.
    """

    number: int
    searched_value: float | None
    values: list[float]
    mean: float | None
    std: float | None
    low: float | None
    high: float | None
    probability_best: float | None


class Confirmation(BaseModel):
    """A study's best trials over fresh seeds.

    Attributes:
        study: the study that trains them; it may have been deleted since.
        seeds: how many each was to have.
        finished: whether all of them have ended; a winner is taken from a finished one alone.
        done: how many trainings have ended.
        planned: of how many.
        trials_since: how many trials of the confirmed study have ended since it was started.
        results: the best mean first.
    """

    study: str
    seeds: int
    finished: bool
    done: int
    planned: int
    trials_since: int
    results: list[Confirmed]


def link_confirmation(
    database: Database,
    study: StoredStudy,
    confirming: StoredStudy,
    numbers: Sequence[int],
    seeds: int,
) -> None:
    """Note at the study which other one confirms it; a link to that one stays as it is."""
    link = {
        "study_id": confirming.study_id,
        "study": confirming.name,
        "trials": list(numbers),
        "seeds": seeds,
    }
    database.call("link_confirmation", study=study.study_id, link=Json(link))


def read_confirmation(
    database: Database, study: StoredStudy, trials: Sequence[FrozenTrial]
) -> Confirmation | None:
    """What is known of the study's newest confirmation.

    Args:
        database: where both studies are.
        study: the study that is confirmed.
        trials: its trials.
    """
    row = database.row("confirmation", study_id=study.study_id)
    if row is None:
        return None
    link: dict[str, Any] = row["link"]
    ended = _ended(trials)
    if row["name"] is None:  # deleted; its result, or an earlier one, may have been kept
        kept = row["result"]
        if kept is None:
            return None
        since = ended - kept["ended"]
        return Confirmation.model_validate({**kept["confirmation"], "trials_since": since})
    confirming = open_study(database, row["name"])
    fresh = read_trials(database, confirming)
    done, planned = _ended(fresh), confirming.spec.study.trials
    return Confirmation(
        study=confirming.name,
        seeds=int(link["seeds"]),
        finished=done >= planned or (confirming.state != "open" and not _is_running(fresh)),
        done=done,
        planned=planned,
        trials_since=ended - link["ended"],
        results=confirmed(trials, fresh, study.spec.study.maximize),
    )


def keep_confirmation(database: Database, confirming: StoredStudy) -> None:
    """Keep what it has found with the study that it confirms, where it is finished.

    So the result outlives the study that has found it. Of another study, nothing happens.
    """
    row = database.row("confirmed_study", study_id=confirming.study_id)
    if row is None:
        return
    study = open_study(database, row["name"])
    found = read_confirmation(database, study, read_trials(database, study))
    if found is not None and found.finished:
        kept = Json(json.loads(found.model_dump_json()))  # infinity is null
        database.call("keep_confirmation", study=study.study_id, confirmation=kept)


def _ended(trials: Sequence[FrozenTrial]) -> int:
    return sum(trial.state in (TrialState.COMPLETE, TrialState.PRUNED) for trial in trials)


def _is_running(trials: Sequence[FrozenTrial]) -> bool:
    return any(not trial.state.is_finished() for trial in trials)


@np.errstate(all="ignore")  # NumPy's error state is that of the user's process
def confirmed(
    original: Sequence[FrozenTrial], fresh: Sequence[FrozenTrial], maximize: bool
) -> list[Confirmed]:
    """What the fresh seeds say, the best mean first.

    Args:
        original: the trials of the study that is confirmed.
        fresh: the trials of its confirming study.
        maximize: the direction.
    """
    searched = {trial.number: trial.value for trial in original}
    values: dict[int, list[float]] = {}
    for trial in fresh:
        number = trial.user_attrs.get(CONFIRMS)
        if number is not None:
            found = values.setdefault(int(number), [])
            # One that diverged counts: its mean cannot be told. One that is infeasible cannot win.
            ended = trial.state == TrialState.COMPLETE and feasible(trial) is not False
            if ended and trial.value is not None:
                found.append(trial.value)
    probabilities = probability_best(values, maximize)
    all_confirmed = [
        _confirmed(number, searched.get(number), each, probabilities.get(number))
        for number, each in values.items()
    ]
    return sorted(all_confirmed, key=lambda each: rank(each.mean, maximize))


def _confirmed(
    number: int, searched: float | None, values: list[float], probability: float | None
) -> Confirmed:
    noise = spread(values)
    half = 0.0
    if noise is not None:
        from scipy.special import stdtrit  # a fraction of scipy.stats, which has it as t.ppf

        half = float(stdtrit(len(values) - 1, (1 + _CONFIDENCE) / 2)) * noise.standard_error
    finite = [value for value in values if math.isfinite(value)]
    return Confirmed(
        number=number,
        searched_value=searched,
        values=finite,
        mean=mean(values) if values and finite == values else None,
        std=noise and noise.std,
        low=noise and noise.mean - half,
        high=noise and noise.mean + half,
        probability_best=probability,
    )


def probability_best(values: Mapping[int, Sequence[float]], maximize: bool) -> dict[int, float]:
    """The probability of each that its true mean is the best of all.

    The means are drawn from their posteriors under the usual noninformative prior, Student's t
    around the sample mean (A. Gelman et al., "Bayesian Data Analysis", 2013, section 3.2).

    Args:
        values: of each configuration; without a spread there is no posterior, so of fewer than two
            values for any of them, or of an infinite one, nothing is said.
        maximize: the direction.
    """
    if not values or any(spread(each) is None for each in values.values()):
        return {}
    random = np.random.default_rng(0)
    # Which mean is the best does not depend on their unit.
    parts, _ = scaled([value for each in values.values() for value in each])
    ends = np.cumsum([len(each) for each in values.values()])[:-1]
    draws = np.stack(
        [
            np.mean(each)
            + np.std(each, ddof=1)
            / math.sqrt(len(each))
            * random.standard_t(len(each) - 1, size=_DRAWS)
            for each in np.split(parts, ends)
        ]
    )
    best = draws == (draws.max(axis=0) if maximize else draws.min(axis=0))
    # Without any spread two may be equal; they share.
    shares = (best / best.sum(axis=0)).mean(axis=1)
    return {number: float(share) for number, share in zip(values, shares, strict=True)}
