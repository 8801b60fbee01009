"""WorkerStudy: the Optuna study that an objective and a sampler are given."""

from __future__ import annotations

from collections.abc import Sequence

import optuna
from optuna.pruners import NopPruner
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from orchestrator.base.optuna_internals import HookedStudy, with_one_direction
from orchestrator.resolve.objective import full_steps, search_space
from orchestrator.search.auto import AUTO, choose
from orchestrator.search.older_trials import OlderTrials, first_tries
from orchestrator.search.plans import PLANS
from orchestrator.search.plans.rounds import build_rounds
from orchestrator.search.pruners import build_pruner
from orchestrator.search.samplers import build_sampler
from orchestrator.search.terminators import build_terminator
from orchestrator.storage.studies import StoredStudy
from orchestrator.storage.worker_storage import WorkerStorage
from orchestrator.training.base import Objective
from orchestrator.worker.seeds import derive
from orchestrator.worker.suggestion import SpecDomains

ALL_TRIED = "every configuration has been tried"
_STOPPED = "the objective called study.stop()"


class WorkerStudy(HookedStudy):
    """An Optuna study that its sampler or its objective may end.

    Args:
        stored: the study as the database has it.
        objective: its objective.
        storage: where its sampler and its pruner read and write.
        older: the trials of the studies with which it starts warm.

    Attributes:
        spec: what the study is.
        space: the domain of each parameter, the spec's in place of the objective's.
        conditions: of the spec's domains.
        first_tries: the values of the first trials, by their numbers; see ``sampler``.
        domains: checks those of the spec.
        pruned_view: as the pruner sees it, with the one direction by which trials are pruned; None:
            there are several metrics, and none to prune by.
        rounds: of a study that promotes trials; None of any other.
        terminator: may end the search after any trial; None: there is none.
        ends_because: why no further trial is wanted; None: nobody has called :meth:`stop`.
        chosen_sampler: the name of the running trial's sampler.
    """

    def __init__(
        self,
        stored: StoredStudy,
        objective: Objective,
        storage: WorkerStorage,
        older: Sequence[OlderTrials] = (),
    ) -> None:
        self.spec = stored.spec
        steps = full_steps(self.spec, objective)
        self._worker_storage = storage
        self._pruned_direction: StudyDirection | None = None
        pruner, section = build_pruner(self.spec, steps), self.spec.study
        several = len(section.metrics) > 1
        super().__init__(stored.name, storage, pruner=NopPruner() if several else pruner)
        self.pruned_view: optuna.Study | None = None if several else self
        if several and self.spec.pruner.metric is not None:
            direction = section.directions[section.place_of(self.spec.pruner.metric)]
            self._pruned_direction = StudyDirection[direction.upper()]
            self.pruned_view = with_one_direction(self, self._pruned_direction, pruner)
        self.space = search_space(self.spec, objective)
        self.conditions = objective.settings.conditions
        self.domains = SpecDomains(self.spec.space, not objective.space())
        self._older = older
        self.first_tries = (
            [] if self.spec.sampler.name in PLANS else first_tries(self.spec.priors, older)
        )
        self.rounds = build_rounds(self.spec, steps)
        self.terminator = build_terminator(self.spec)
        self.ends_because: str | None = None
        self.chosen_sampler = self.spec.sampler.name
        self._is_samplers_turn = False

    @property
    def direction(self) -> StudyDirection:
        """Of several metrics that by which trials are pruned: TPE ranks pruned trials by it."""
        return self._pruned_direction or super().direction

    @property
    def storage(self) -> WorkerStorage:
        """Where the study is, as this worker sees it."""
        return self._worker_storage

    def start_trial(self, number: int, place: int = 0, sampler: str | None = None) -> None:
        """Make the trial's sampler, whose draws do not depend on which worker draws.

        Args:
            number: the trial's.
            place: how often it has drawn before.
            sampler: the name of another sampler than the spec's; None: the spec's.
        """
        # As Study.ask does: samplers read the trials of this moment, not those of the last.
        self.forget_trials()
        chosen = sampler or self.spec.sampler.name
        if chosen == AUTO:
            chosen = choose(self.spec, number, self.get_trials(deepcopy=False)).sampler
        self.chosen_sampler = chosen
        path = (number, place) if place else (number,)
        seed = derive(self.spec.training.seed, "sampler", *path)
        self.sampler = build_sampler(self.spec, seed, self._older, chosen)

    @property
    def may_end(self) -> bool:
        """Whether the search may end with the running trial."""
        return self.terminator is not None or self.ends_because is not None

    def stop(self) -> None:
        """End the study after this trial; trials that run elsewhere finish."""
        if self.ends_because is None:
            self.ends_because = ALL_TRIED if self._is_samplers_turn else _STOPPED

    def tell_sampler(
        self, trial: FrozenTrial, state: TrialState, values: Sequence[float] | None
    ) -> None:
        """Show a trial that ends to the sampler, which stops the study when nothing is left."""
        self._is_samplers_turn = True
        try:
            self.sampler.after_trial(self, trial, state, values)
        finally:
            self._is_samplers_turn = False
