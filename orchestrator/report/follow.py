"""Follow a study: look at its trials again and again until it is done."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from optuna.trial import FrozenTrial

from orchestrator.storage.database import Database
from orchestrator.storage.studies import open_study, read_trials

_POLL_SECONDS = 2.0


def follow(database: Database, name: str, show: Callable[[Sequence[FrozenTrial]], object]) -> None:
    """Call ``show`` with the study's trials every two seconds, and once more when it is done.

    Raises:
        NoSuchStudy: it was deleted meanwhile.
        StorageError: the database is out of reach.
    """
    while True:
        study = open_study(database, name)
        trials = read_trials(database, study)
        show(trials)
        ended = sum(trial.state.name in ("COMPLETE", "PRUNED") for trial in trials)
        if study.state != "open" or ended >= study.spec.study.trials:
            return
        time.sleep(_POLL_SECONDS)
