"""WorkerStudy: the Optuna study that an objective and a sampler are given."""

from __future__ import annotations

from collections.abc import Sequence

from optuna.trial import FrozenTrial, TrialState

from orchestrator.base.optuna_internals import HookedStudy

ALL_TRIED = "every configuration has been tried"
_STOPPED = "the objective called study.stop()"


class WorkerStudy(HookedStudy):
    """An Optuna study that its sampler or its objective may end.

    Attributes:
        ends_because: why no further trial is wanted; None: nobody has called :meth:`stop`.
    """

    ends_because: str | None = None
    _is_samplers_turn = False

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
