"""Facts: what a study stores of its objective, so that a report need not import it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from optuna.distributions import BaseDistribution, distribution_to_json

from orchestrator.spec.choices import read_domain
from orchestrator.spec.model import StudySpec


@dataclass(frozen=True)
class ObjectiveFacts:
    """What is known of a study's objective without its code.

    Attributes:
        steps: how many values a trial reports that is never pruned; with searched epochs, at most.
        has_epochs: the objective trains in epochs; a plain function just reports values.
        model_suffix: the file name's ending of the model that a refit keeps; None: there is none.
        space: the parameters that a configuration may have; None: unknown, because the study is of
            an older orch.
        further: parameters that are searched only where the spec names them.
        is_open: the objective may have more parameters, found as it suggests them.
    """

    steps: int
    has_epochs: bool
    model_suffix: str | None = None
    space: Mapping[str, BaseDistribution] | None = None
    further: Mapping[str, BaseDistribution] | None = None
    is_open: bool = True

    def as_json(self) -> dict[str, Any]:
        """As the database keeps it; :meth:`read` takes it back."""
        return {
            "steps": self.steps,
            "has_epochs": self.has_epochs,
            "model_suffix": self.model_suffix,
            "space": _listed(self.space or {}),
            "further": _listed(self.further or {}),
            "is_open": self.is_open,
        }

    @classmethod
    def read(cls, stored: Mapping[str, Any] | None, spec: StudySpec) -> ObjectiveFacts:
        """What a study has stored; studies of older versions have less, or nothing.

        Args:
            stored: the column; None: the objective was never loaded since the upgrade. It then
                counts as a plain function.
            spec: the study.
        """
        if stored is None:
            return cls(assumed_steps(spec), has_epochs=False)
        facts = dict(stored)
        for key in ("space", "further"):
            if key in facts:
                facts[key] = {name: read_domain(text) for name, text in facts[key]}
        return cls(**facts)


def assumed_steps(spec: StudySpec) -> int:
    """How many values a trial reports where its objective does not say."""
    if spec.training.rounds > 1:
        return spec.training.rounds
    # Of a function, only the pruner may have been told how often it reports.
    told = spec.pruner.options.get("max_resource")
    return told if isinstance(told, int) else spec.training.epochs


def _listed(space: Mapping[str, BaseDistribution]) -> list[tuple[str, str]]:
    # A list, because an object of jsonb does not keep its order; Optuna's own text of a domain,
    # because its choices may be numbers that JSON does not have.
    return [(name, distribution_to_json(each)) for name, each in space.items()]
