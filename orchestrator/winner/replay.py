"""Replay: train a trial again, and compare each value with the record."""

from __future__ import annotations

import math
from dataclasses import dataclass

import optuna
from optuna.trial import FrozenTrial, TrialState

from orchestrator.base import facts
from orchestrator.base.printed import Printed, table_columns
from orchestrator.errors import OrchError
from orchestrator.report.listing import table
from orchestrator.storage.storable import as_values
from orchestrator.storage.studies import StoredStudy, find_trial
from orchestrator.training.base import Objective
from orchestrator.winner.retraining import RecordedStudy, RecordedTrial, Restarted, retraining
from orchestrator.worker.endings import words_of
from orchestrator.worker.seeds import training_seed


@dataclass(frozen=True)
class Replay(Printed):
    """A trial beside its replay.

    Attributes:
        number: the trial's.
        seed: its training's seed.
        threads: CPU threads that both used; None: not limited.
        recorded: the values by step, as the study has them.
        replayed: the same, trained again.
        returned: what the objective returned, a value each metric; empty for a pruned trial.
        returned_again: the same, trained again.
        metrics: what they are of.
        rounds: how many trainings the trial is.
    """

    number: int
    seed: int
    threads: int | None
    recorded: dict[int, float]
    replayed: dict[int, float]
    returned: list[float]
    returned_again: list[float]
    metrics: tuple[str, ...] = ()
    rounds: int = 1

    @property
    def largest_difference(self) -> float:
        """Between a recorded value and its replay; infinite where one of them is missing."""
        if self.recorded.keys() != self.replayed.keys():
            return math.inf
        if len(self.returned) != len(self.returned_again):
            return math.inf
        pairs = [(value, self.replayed[step]) for step, value in self.recorded.items()]
        pairs += zip(self.returned, self.returned_again, strict=True)
        return max(difference(*pair) for pair in pairs)

    def verdict(self, tolerance: float = 0.0) -> str:
        """What was compared, and that it is equal."""
        count = len(self.recorded)
        compared = [f"{count} of {count} values"] if count else []
        if self.returned:
            compared.append(f"the returned value{'s' if len(self.returned) > 1 else ''}")
        found = self.largest_difference
        if found == 0:
            return f"identical: {' and '.join(compared)}"
        return f"equal within {tolerance:g}: the largest difference is {found:.3g}"

    def __str__(self) -> str:
        head = "epoch" if self.rounds == 1 else "training"
        rows = [
            _row(step, self.recorded.get(step), self.replayed.get(step))
            for step in sorted(self.recorded.keys() | self.replayed.keys())
        ]
        again = self.returned_again
        for place, (metric, value) in enumerate(zip(self.metrics, self.returned, strict=False)):
            other = again[place] if place < len(again) else None
            rows.append(_row(f"returned {metric}", value, other))
        return table([head, "recorded", "replayed", "difference"], rows, table_columns())


def _row(place: int | str, recorded: float | None, replayed: float | None) -> tuple[object, ...]:
    def shown(value: float | None) -> str:
        return "-" if value is None else repr(value)

    if recorded is None or replayed is None:
        return place, shown(recorded), shown(replayed), "-"
    return place, shown(recorded), shown(replayed), f"{difference(recorded, replayed):.3g}"


def difference(recorded: float, replayed: float) -> float:
    """Between two values; none where both are infinite or not a number."""
    if recorded == replayed or (math.isnan(recorded) and math.isnan(replayed)):
        return 0.0
    found = abs(recorded - replayed)
    return math.inf if math.isnan(found) else found


def replay(study: StoredStudy, trials: list[FrozenTrial], number: int) -> Replay:
    """Train trial ``number`` again in this process.

    Raises:
        OrchError: there is no such trial, it has not ended well, or this machine's data differ.
    """
    frozen = find_trial(trials, number, study.name)
    if frozen.state not in (TrialState.COMPLETE, TrialState.PRUNED):
        raise OrchError(
            f"trial {number} is {frozen.state.name}; only a COMPLETE or PRUNED trial has a record "
            "to compare with"
        )
    pruned = frozen.state == TrialState.PRUNED
    if pruned and not frozen.intermediate_values:
        raise OrchError(
            f"trial {number} was pruned and has reported no value; there is nothing to compare"
        )
    attributes = frozen.user_attrs
    seed = training_seed(study.spec.training.seed, frozen)
    if attributes.get(facts.SEED, seed) != seed:
        raise OrchError(
            f"trial {number} was trained with seed {attributes[facts.SEED]}, which does not "
            "follow from the study's seed; it was made by another version of orch"
        )
    threads = attributes.get(facts.THREADS)
    trial = RecordedTrial(
        RecordedStudy(study, frozen, trials),
        frozen.params,
        number,
        seed,
        pruned_at=frozen.last_step if pruned else None,
        restarts=attributes.get(facts.RESTARTS),
    )
    with retraining(study, threads) as (objective, space):
        trial.suggest_space(space, objective)
        values = _run(objective, trial, len(study.spec.study.metrics))
    return Replay(
        number,
        seed,
        threads,
        recorded=dict(frozen.intermediate_values),
        replayed=trial.reported,
        returned=[] if pruned else list(frozen.values),
        returned_again=[] if pruned else values,
        metrics=study.spec.study.metrics,
        rounds=study.spec.training.rounds,
    )


def _run(objective: Objective, trial: RecordedTrial, metrics: int) -> list[float]:
    """Train the trial to its end. Returns its values; none if it prunes itself."""
    while True:
        try:
            return as_values(objective(trial), metrics)
        except Restarted:
            continue
        except optuna.TrialPruned:
            return []
        except Exception as error:  # whatever the objective raises
            raise OrchError(
                f"trial {trial.number} fails in its replay: {type(error).__name__}: "
                f"{words_of(error)}"
            ) from error
