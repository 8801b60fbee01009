"""Replay: train a trial again, and compare each value with the record."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass

import optuna
from optuna.trial import FrozenTrial, TrialState

from orchestrator.errors import OrchError
from orchestrator.report.trials import find_trial
from orchestrator.study import StoredStudy
from orchestrator.winner.prepared import prepare_objective
from orchestrator.winner.recorded import RecordedTrial, Restarted
from orchestrator.worker.seeds import training_seed


@dataclass(frozen=True)
class Replay:
    """A trial beside its replay.

    Attributes:
        number: the trial's.
        seed: its training's seed.
        threads: CPU threads that both used; None: not limited.
        recorded: the values by step, as the study has them.
        replayed: the same, trained again.
    """

    number: int
    seed: int
    threads: int | None
    recorded: dict[int, float]
    replayed: dict[int, float]

    @property
    def largest_difference(self) -> float:
        """Between a recorded value and its replay; infinite where one of them is missing."""
        if self.recorded.keys() != self.replayed.keys():
            return float("inf")
        return max(
            (abs(value - self.replayed[step]) for step, value in self.recorded.items()), default=0.0
        )


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
    attributes = frozen.user_attrs
    seed = training_seed(study.spec.training.seed, frozen)
    if attributes.get("orch:seed", seed) != seed:
        raise OrchError(
            f"trial {number} was trained with seed {attributes['orch:seed']}, which does not "
            "follow from the study's seed; it was made by another version of orch"
        )
    threads = attributes.get("orch:threads")
    objective, space = prepare_objective(study, threads)
    pruned = frozen.state == TrialState.PRUNED
    trial = RecordedTrial(
        frozen.params,
        number,
        seed,
        pruned_at=frozen.last_step if pruned else None,
        restarts=attributes.get("orch:restarts"),
    )
    trial.suggest_space(space, objective)
    finished = False
    while not finished:
        with contextlib.suppress(Restarted):
            with contextlib.suppress(optuna.TrialPruned):
                objective(trial)
            finished = True
    return Replay(number, seed, threads, dict(frozen.intermediate_values), trial.reported)
