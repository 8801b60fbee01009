"""The winner: what came after the search, and which trial to use."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

from optuna.trial import FrozenTrial
from pydantic import BaseModel, BeforeValidator

from orchestrator.report.confirmation import Confirmation, read_confirmation
from orchestrator.storage.database import Database
from orchestrator.storage.storable import clean
from orchestrator.storage.studies import StoredStudy, ranking

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
