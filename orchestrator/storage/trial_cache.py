"""TrialCache: one study's trials in memory, brought up to date by what has changed since."""

from __future__ import annotations

import json
import math
import threading
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from optuna.trial import FrozenTrial, TrialState

from orchestrator.spec.choices import read_domain

_NUMBERS = {"INF_POS": math.inf, "INF_NEG": -math.inf, "NAN": math.nan}

# An answer that comes late may have a worker's own trial as it was before its claim.
_OPEN = ("WAITING", "RUNNING")


@dataclass(frozen=True)
class Position:
    """From where changes are asked for, as the server has told it; see ``changes.sql``.

    Attributes:
        server: which one the others are of; None: nothing is known yet.
        since: the oldest transaction that may have changed what is not known here.
        known: a newer one of which all is known.
    """

    server: str | None = None
    since: str | None = "0"
    known: str | None = None


NOWHERE = Position(since=None)  # changes are not asked for


@dataclass(frozen=True)
class Changes:
    """What the server tells one who asked from a position.

    Attributes:
        position: the next one.
        rows: the trials that changed, each as ``orch.read_trials`` writes it.
        is_whole: these are all trials of the study, not those that changed.
    """

    position: Position
    rows: list[list[Any]]
    is_whole: bool = False

    @classmethod
    def take_from(cls, row: dict[str, Any], asked: Position) -> Changes | None:
        """Take the columns of changes out of an answer; None: it has none."""
        server, since, known = row.pop("server"), row.pop("since"), row.pop("known", None)
        rows = [*(row.pop("others") or ()), *(row.pop("ours", None) or ())]
        if since is None:
            return None
        return cls(Position(server, since, known), rows, server is None or server != asked.server)


class TrialCache:
    """A study's trials. One that changed is a new object; what was given out stays as it was.

    Attributes:
        position: from where to ask for what is not known here.
    """

    def __init__(self) -> None:
        self.position = Position()
        self._trials: dict[int, FrozenTrial] = {}  # by number; one that is claimed may be ahead
        self._by_id: dict[int, FrozenTrial] = {}
        self._history: list[int] = []  # the numbers of the trials that changed, in order
        self._view = 0  # how often all was read anew
        self._lock = threading.Lock()

    def take(self, changes: Changes, own: int | None = None) -> None:
        """Bring it up to date.

        Args:
            changes: an answer of the server.
            own: id of the trial that is written here: while it runs it is newer here than there.
        """
        with self._lock:
            if changes.position.server != self.position.server:
                if not changes.is_whole:
                    return  # a late answer of a server that is gone
                self._start_anew(own)
            for row in changes.rows:
                if row[0] != own or row[2] not in _OPEN:
                    self._put(frozen_trial(row))
            self.position = changes.position

    def _start_anew(self, own: int | None) -> None:
        """Another server may lack what this one has told: a crash has lost it."""
        kept = None if own is None else self._by_id.get(own)
        self._trials, self._by_id, self._history = {}, {}, []
        self._view += 1
        if kept is not None:
            self._put(kept)

    def _put(self, trial: FrozenTrial) -> None:
        self._trials[trial.number] = trial
        self._by_id[trial._trial_id] = trial
        self._history.append(trial.number)

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

    def changed_since(self, seen: tuple[int, int]) -> tuple[list[FrozenTrial], tuple[int, int]]:
        """The trials that changed since an earlier answer, and what to ask with the next time.

        Args:
            seen: how often all was read anew by then, and how many changes there were. Where all
                was read anew since, the answer has another first number and all trials.
        """
        with self._lock:
            view, count = seen
            numbers = dict.fromkeys(self._history[count if view == self._view else 0 :])
            return [self._trials[number] for number in numbers], (self._view, len(self._history))


def frozen_trial(row: list[Any]) -> FrozenTrial:
    """A row of ``orch.read_trials`` as Optuna's object."""
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
