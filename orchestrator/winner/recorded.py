"""RecordedTrial: a trial of a study once more, outside of the study."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from numpy.typing import NDArray
from optuna.distributions import BaseDistribution, CategoricalDistribution
from optuna.trial import FixedTrial

from orchestrator.choices import domain_of, place_of, stored_form
from orchestrator.errors import OrchError
from orchestrator.search.space import Space
from orchestrator.training.base import Objective
from orchestrator.worker.checkpoints import Arrays, Place, place


class Restarted(BaseException):
    """The recorded training stopped here, and went on from this checkpoint."""


class RecordedTrial(FixedTrial):
    """An ``optuna.Trial`` with the parameters of a recorded one, which writes nothing.

    Args:
        params: the recorded parameters.
        number: the recorded number.
        seed: the training's seed.
        pruned_at: the step after which it was pruned; None: it was not.
        restarts: the checkpoints from which the recorded training went on.
    """

    def __init__(
        self,
        params: Mapping[str, Any],
        number: int,
        seed: int,
        pruned_at: int | None = None,
        restarts: list[Place] | None = None,
    ) -> None:
        super().__init__(dict(params), number)
        self.seed = seed
        self.steps: int | None = None
        self.reported: dict[int, float] = {}
        self._pruned_at = pruned_at
        self._restarts = list(restarts or [])
        self._state: tuple[int, Arrays] | None = None
        self._chosen: dict[str, Any] = {}  # the objective's own choices: a tuple, an enum

    def suggest_space(self, space: Space, objective: Objective) -> None:
        """Take every active parameter of the space from the record; a function suggests its own.

        Raises:
            OrchError: the record lacks one.
        """
        if not objective.space():
            return
        for name, distribution in space.items():
            if objective.is_active(name, self.params):
                try:
                    self._suggest(name, distribution)
                except ValueError as error:
                    raise OrchError(
                        f"trial {self.number} does not fit the space: {error}"
                    ) from None

    def suggest_categorical(self, name: str, choices: Sequence[Any]) -> Any:
        return self._suggest(name, domain_of(choices))

    def _suggest(self, name: str, distribution: BaseDistribution) -> Any:
        if not isinstance(distribution, CategoricalDistribution):
            return super()._suggest(name, distribution)
        # The record has what JSON makes of a tuple or an enum; the objective gets its own.
        stored = stored_form(distribution)
        place = place_of(stored, super()._suggest(name, stored))
        self._chosen[name] = distribution.choices[place]
        return self._chosen[name]

    @property
    def params(self) -> dict[str, Any]:
        return super().params | self._chosen

    def report(self, value: float, step: int) -> None:
        self.reported.setdefault(int(step), float(value))

    def should_prune(self) -> bool:
        return self._pruned_at is not None and max(self.reported, default=0) >= self._pruned_at

    def checkpoint(self, step: int, capture: Callable[[], Mapping[str, NDArray[Any]]]) -> None:
        """Stop and go on from here where the record says so.

        Raises:
            Restarted: call the objective again.
        """
        if self._restarts and self._restarts[0][0] == step:
            arrays = dict(capture())
            if place(step, arrays) == self._restarts[0]:
                self._restarts.pop(0)
                self._state = (step, arrays)
                raise Restarted

    def restore(self) -> tuple[int, Arrays] | None:
        return self._state

    def offer_model(self, value: float, save: Callable[[Path], None]) -> None:
        """Nothing is kept."""
