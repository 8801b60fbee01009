"""TrialCache: one study's trials in memory, brought up to date by what has changed since."""

from __future__ import annotations

import json
import math
import threading
from datetime import UTC, datetime
from typing import Any

from optuna.trial import FrozenTrial, TrialState

from orchestrator.spec.choices import read_domain

_NUMBERS = {"INF_POS": math.inf, "INF_NEG": -math.inf, "NAN": math.nan}

# An answer that comes late may have a worker's own trial as it was before its claim.
_OPEN = ("WAITING", "RUNNING")

Changes = dict[str, Any]


class TrialCache:
    """A study's trials. One that changed is a new object; what was given out stays as it was.

    Of how another worker's trial changed it may be told no more than the rungs, all that Hyperband
    and ASHA ask for. Until it is told the rest, the trial is here as it was before, or not at all.

    Attributes:
        cursor: what ``orch.changes`` is asked from: what is older is here, or partly known.
    """

    def __init__(self) -> None:
        self.cursor = "0"
        self._trials: dict[int, FrozenTrial] = {}  # by number; one that is claimed may be ahead
        self._by_id: dict[int, FrozenTrial] = {}
        self._history: list[int] = []  # the numbers of the trials that changed, in order
        self._newest: dict[
            int, FrozenTrial
        ] = {}  # by number; with rungs only, where not all is known
        self._partly_known: set[int] = set()  # ids of the latter
        self._lock = threading.Lock()

    def take(
        self, changes: Changes, own: int | None = None, ended: FrozenTrial | None = None
    ) -> None:
        """Bring it up to date.

        Args:
            changes: the answer of ``orch.changes``, or what came with a claim.
            own: id of the trial that is written here: while it runs it is newer here than there.
            ended: the trial that has ended here, but for the time of its end.
        """
        with self._lock:
            for row in changes.get("rungs", ()):
                if row[0] != own or row[2] not in _OPEN:
                    self._note(frozen_trial([*row[:3], *[None] * 6, row[3]]))
                    self._partly_known.add(row[0])
            for row in [*changes.get("trials", ()), *changes.get("own", ())]:
                if row[0] != own or row[2] not in _OPEN:
                    self._put(frozen_trial(row))
            for outline in changes.get("outlines", ()):
                if ended is not None and outline[0] == ended._trial_id:
                    ended.datetime_complete = _local(outline[4])
                    self._put(ended)
                else:  # it has just begun
                    self._put(frozen_trial([*outline, None, None, None, None, None]))
            self.cursor = changes["cursor"]

    def _put(self, trial: FrozenTrial) -> None:
        self._trials[trial.number] = trial
        self._by_id[trial._trial_id] = trial
        self._partly_known.discard(trial._trial_id)
        self._note(trial)

    def _note(self, trial: FrozenTrial) -> None:
        self._newest[trial.number] = trial
        self._history.append(trial.number)

    def partly_known(self) -> list[int]:
        """The ids of the trials that changed, and of which nothing but the rungs is known since."""
        with self._lock:
            return list(self._partly_known)

    def trials(self) -> list[FrozenTrial]:
        """All of them, by number."""
        with self._lock:
            return [self._trials[number] for number in sorted(self._trials)]

    def unfinished(self) -> list[int]:
        """The ids of those that have not ended."""
        with self._lock:
            return [
                each._trial_id for each in self._trials.values() if not each.state.is_finished()
            ]

    def trial(self, trial_id: int) -> FrozenTrial:
        """The trial with that id.

        Raises:
            KeyError: it is not known here.
        """
        return self._by_id[trial_id]

    def changed_since(self, position: int) -> tuple[list[FrozenTrial], int]:
        """The trials that changed since an earlier answer (0: all); the position of this one.

        Each with its rungs as they are now; the rest may be missing.
        """
        with self._lock:
            numbers = dict.fromkeys(self._history[position:])
            return [self._newest[number] for number in numbers], len(self._history)


def frozen_trial(row: list[Any]) -> FrozenTrial:
    """A row of ``orch.changes`` as Optuna's object."""
    trial_id, number, state, start, complete, values, params, reported, user, system = row
    domains = {name: read_domain(text) for name, _, text in params or ()}
    return FrozenTrial(
        number=number,
        state=TrialState[state],
        value=None,
        values=[_number(value, kind) for value, kind in values] if values else None,
        datetime_start=_local(start),
        datetime_complete=_local(complete),
        params={
            name: domains[name].to_external_repr(float(value)) for name, value, _ in params or ()
        },
        distributions=domains,
        user_attrs={key: json.loads(text) for key, text in user or ()},
        system_attrs={key: json.loads(text) for key, text in system or ()},
        intermediate_values={step: _number(value, kind) for step, value, kind in reported or ()},
        trial_id=trial_id,
    )


def stored_number(value: float) -> tuple[float | None, str]:
    """Optuna's representation of what SQL's own floats would not sort with the rest."""
    if math.isnan(value):
        return None, "NAN"
    if math.isinf(value):
        return None, "INF_POS" if value > 0 else "INF_NEG"
    return value, "FINITE"


def _number(value: float | None, kind: str) -> float:
    return _NUMBERS[kind] if kind in _NUMBERS else float(value or 0.0)


def _local(text: str | None) -> datetime | None:
    # As Optuna does: naive UTC in the table, naive local time in the object.
    if text is None:
        return None
    return datetime.fromisoformat(text).replace(tzinfo=UTC).astimezone().replace(tzinfo=None)
