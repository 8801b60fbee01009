"""Origin: where a study comes from that another tool made."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ValidationError

from orchestrator.base import facts

KERASTUNER, OPTUNA = "KerasTuner", "Optuna"
# What stands for the objective of a study that was imported without one.
IMPORTED = "imported"


class Origin(BaseModel):
    """The source of an imported study.

    Attributes:
        tool: ``"Optuna"`` or ``"KerasTuner"``.
        version: of the tool that made the source; None: the source does not say.
        source: the storage's URL without a password, or the folder.
        study: its name there; None: the source has a single study without a name.
        trials: how many came from there. Their numbers are the first ones.
        has_times: the source says when each trial started and ended.
    """

    tool: str
    version: str | None = None
    source: str
    study: str | None = None
    trials: int
    has_times: bool

    @property
    def made_by(self) -> str:
        """``Optuna 4.2.0``, or ``KerasTuner`` where the version is unknown."""
        return self.tool if self.version is None else f"{self.tool} {self.version}"

    @property
    def place(self) -> str:
        """The study and its source: ``study 'one' at sqlite:///old.db``."""
        return self.source if self.study is None else f"study '{self.study}' at {self.source}"


def origin_of(attributes: Mapping[str, Any]) -> Origin | None:
    """The origin in a study's user attributes; None: it was made here, or by an older orch."""
    try:
        return Origin.model_validate(attributes[facts.IMPORTED])
    except (KeyError, ValidationError):
        return None
