"""Warm start: the trials of older studies that a new study takes along.

They are copied when the study is created, as an attribute of the study. So all its workers see the
same ones, whatever happens to the older studies later.
"""

from __future__ import annotations

from typing import Any

import optuna
from optuna.distributions import BaseDistribution

from orchestrator.base import facts
from orchestrator.errors import UsageError, nearest
from orchestrator.search.encoded_space import EncodedSpace
from orchestrator.search.older_trials import OlderTrials
from orchestrator.storage.database import Database
from orchestrator.storage.postgres_storage import PostgresStorage
from orchestrator.storage.studies import NewStudy, StoredStudy, insert


def store_new(database: Database, new: NewStudy) -> StoredStudy:
    """Store a checked spec, with copies of the trials that it starts warm with.

    Raises:
        UsageError: the name is taken, or an older study cannot inform this one.
    """
    older = {name: _older(database, new, name) for name in new.spec.study.warm_start}
    with database.transaction():
        stored = insert(database, new)
        if older:
            copies = {name: trials.as_json() for name, trials in older.items()}
            storage = PostgresStorage(database)
            storage.set_study_system_attr(stored.study_id, facts.WARM_START, copies)
    return stored


def _older(database: Database, new: NewStudy, name: str) -> OlderTrials:
    if name == new.spec.study.name:
        raise UsageError(f"study.warm_start names the study itself, '{name}'; leave it out")
    try:
        study = optuna.Study(name, PostgresStorage(database))
    except KeyError:
        known = nearest(name, [row["name"] for row in database.rows("list_studies")])
        raise UsageError(f"study.warm_start names an unknown study '{name}'; {known}") from None
    directions = tuple(each.name.lower() for each in study.directions)
    if directions != new.spec.study.directions:
        raise UsageError(
            f"study.warm_start: '{name}' is to {' and '.join(directions)}, and this study to "
            f"{' and '.join(new.spec.study.directions)}; name one with the same direction"
        )
    older = OlderTrials.of(study.get_trials(deepcopy=False), directions == ("maximize",))
    if not older.params:
        raise UsageError(f"study.warm_start: '{name}' has no finished trial yet; leave it out")
    _check_overlap(new, name, older)
    return older


def _check_overlap(new: NewStudy, name: str, older: OlderTrials) -> None:
    """Refuse an older study without a configuration of the new space, as far as that is known.

    Raises:
        UsageError: it has none.
    """
    space: dict[str, BaseDistribution] = {
        key: each for key, each in _known_space(new).items() if not each.single()
    }
    if not space or len(older.within(EncodedSpace(space))[1]):
        return
    if new.facts is not None and new.facts.is_open:
        return  # a function may suggest further parameters
    theirs = dict.fromkeys(key for params in older.params for key in params)
    shared = [key for key in theirs if key in space]
    if shared:
        raise UsageError(
            f"study.warm_start: no trial of '{name}' lies in this study's domains of "
            f"{', '.join(shared)}; leave it out, or widen the domains"
        )
    raise UsageError(
        f"study.warm_start: '{name}' shares no parameter with this study; it has "
        f"{', '.join(theirs)}, and this one {', '.join(space)}"
    )


def _known_space(new: NewStudy) -> dict[str, BaseDistribution]:
    return {} if new.facts is None else dict(new.facts.space or {})


def copied_trials(attributes: dict[str, Any]) -> dict[str, OlderTrials]:
    """What a study took along of older ones, by their names, from its system attributes."""
    copies = attributes.get(facts.WARM_START, {})
    return {name: OlderTrials.read(trials) for name, trials in copies.items()}
