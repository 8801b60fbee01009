"""Confirm: the best trials trained again with fresh seeds. Is the winner really better?

Each is a trial of a study of its own, so that any number of workers on any machine may share them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
from optuna.trial import FrozenTrial
from pydantic import BaseModel
from scipy import stats

from orchestrator.errors import OrchError, UsageError
from orchestrator.queue import queue
from orchestrator.ranking import rank
from orchestrator.report.noise import spread
from orchestrator.report.trials import ranking
from orchestrator.resolve.objective import check_can_run
from orchestrator.sections import PrunerSection, SamplerSection, TerminatorSection
from orchestrator.spec import StudySpec
from orchestrator.storage.database import Database
from orchestrator.study import StoredStudy, create_or_resume
from orchestrator.worker.seeds import derive

CONFIRMS = "confirms"  # the user attribute that names the confirmed trial
_CONFIDENCE = 0.95
_DRAWS = 200_000


class Confirmed(BaseModel):
    """One configuration over its fresh seeds.

    Attributes:
        number: of the trial in the study that is confirmed.
        searched_value: its value there; None where that trial is no longer there.
        values: with each fresh seed.
        mean: of them; None while there are none.
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


def confirm_study(
    database: Database, study: StoredStudy, trials: list[FrozenTrial], top: int, seeds: int
) -> StoredStudy:
    """Make the study ``NAME-confirm`` of ``top`` times ``seeds`` trials, or take it up again.

    Raises:
        OrchError: there are not that many complete trials.
        UsageError: that study exists for other trials or seeds.
    """
    check_can_run(study.spec)
    if len(study.spec.study.metrics) > 1:
        raise UsageError("a study of several metrics has no single winner to confirm")
    best = ranking(trials, study.spec)[:top]
    if len(best) < top:
        raise OrchError(
            f"study '{study.name}' has {len(best)} complete trials; --top {top} needs as many"
        )
    stored = create_or_resume(database, _spec(study.spec, [trial.number for trial in best], seeds))
    # Seed by seed, so that a look on the way compares like with like. The stage makes it happen
    # once, however often the command is given.
    wanted = [trial for _ in range(seeds) for trial in best]
    queue(
        database,
        stored,
        [trial.params for trial in wanted],
        [{CONFIRMS: trial.number} for trial in wanted],
        stage=0,
    )
    return stored


def _spec(spec: StudySpec, numbers: list[int], seeds: int) -> StudySpec:
    name = f"{spec.study.name}-confirm"
    listed = ", ".join(map(str, numbers))
    section = spec.study.model_copy(
        update={
            "name": name,
            "trials": len(numbers) * seeds,
            "timeout": None,
            "note": f"Trials {listed} of study {spec.study.name}, each with {seeds} fresh seeds.",
        }
    )
    training = spec.training.model_copy(
        update={"seed": derive(spec.training.seed, "confirm"), "repeats": 1}
    )
    return spec.model_copy(
        update={
            "study": section,
            "training": training,
            "sampler": SamplerSection(name="enqueued"),
            "pruner": PrunerSection(name="none"),
            "terminator": TerminatorSection(),
            "worker": spec.worker.model_copy(update={"keep_models": 0}),
        }
    )


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
            if trial.state.name == "COMPLETE" and trial.value is not None:
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
        half = float(stats.t.ppf((1 + _CONFIDENCE) / 2, len(values) - 1)) * noise.standard_error
    mean = float(np.mean(values)) if values else None
    return Confirmed(
        number=number,
        searched_value=searched,
        values=values,
        mean=mean,
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
            values for any of them nothing is said.
        maximize: the direction.
    """
    if not values or min(map(len, values.values())) < 2:
        return {}
    random = np.random.default_rng(0)
    draws = np.stack(
        [
            np.mean(each)
            + np.std(each, ddof=1)
            / math.sqrt(len(each))
            * random.standard_t(len(each) - 1, size=_DRAWS)
            for each in values.values()
        ]
    )
    best = draws == (draws.max(axis=0) if maximize else draws.min(axis=0))
    # Without any spread two may be equal; they share.
    shares = (best / best.sum(axis=0)).mean(axis=1)
    return {number: float(share) for number, share in zip(values, shares, strict=True)}
