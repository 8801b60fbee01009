"""Studies with many trials, written straight into the database: running them is not the point."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import psycopg2
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
    distribution_to_json,
)
from psycopg2.extras import execute_values

from orchestrator.resolve.resolve import resolve
from orchestrator.spec.model import StudySpec
from orchestrator.storage.database import Database
from orchestrator.storage.studies import StoredStudy, open_study
from orchestrator.storage.studies import insert as insert_study
from orchestrator.storage.trial_cache import stored_number
from orchestrator.training.metric_names import direction_of

SPACE: dict[str, BaseDistribution] = {
    "learning_rate": FloatDistribution(1e-5, 1e-1, log=True),
    "units": IntDistribution(16, 512),
    "activation": CategoricalDistribution(("relu", "tanh")),
}
WORKERS = ("north:1", "south:2")


@dataclass
class Made:
    """One trial as it is to be."""

    state: str
    params: dict[str, Any] = field(default_factory=dict)
    values: Sequence[float] = ()
    curve: Sequence[float] = ()
    attributes: dict[str, Any] = field(default_factory=dict)
    logs: Mapping[str, Sequence[float]] = field(default_factory=dict)  # from step 1 on


def store(
    database: Database,
    name: str,
    trials: Sequence[Made],
    space: Mapping[str, BaseDistribution] = SPACE,
    **study: Any,
) -> StoredStudy:
    """Create the study of ``quadratic`` and write its trials, each a second long."""
    training = {"epochs": 9, "seed": study.pop("seed", 0)}
    sampler = {"name": study.pop("sampler", "tpe")}
    tables = {"pruner": study.pop("pruner")} if "pruner" in study else {}
    metric = study.pop("metric", None)
    if isinstance(metric, str):
        study.setdefault("direction", direction_of(metric) or "minimize")
    document = {
        "study": {"name": name, "objective": "quadratic", "trials": max(1, len(trials)), **study},
        "sampler": sampler,
        **tables,
        "training": training,
    }
    resolved = resolve(StudySpec.parse(document))
    if metric is not None:  # one that quadratic does not have, and would refuse
        named = metric if isinstance(metric, str) else tuple(metric)
        section = resolved.spec.study.model_copy(update={"metric": named})
        resolved = replace(resolved, spec=resolved.spec.model_copy(update={"study": section}))
    stored = insert_study(database, resolved)
    connection = psycopg2.connect(database.url)
    with connection, connection.cursor() as cursor:

        def insert(
            statement: str, rows: Iterable[tuple[Any, ...]], template: str | None = None
        ) -> None:
            execute_values(cursor, statement, list(rows), template, page_size=5000)

        insert(
            "INSERT INTO trials (number, study_id, state, datetime_start, datetime_complete) VALUES %s",
            ((n, stored.study_id, trial.state, n // 2, n // 2) for n, trial in enumerate(trials)),
            "(%s, %s, %s, timestamp '2026-01-01' + make_interval(secs => %s),"
            " timestamp '2026-01-01 00:00:01' + make_interval(secs => %s))",
        )
        cursor.execute(
            "SELECT trial_id FROM trials WHERE study_id = %s ORDER BY number", (stored.study_id,)
        )
        ids = [row[0] for row in cursor.fetchall()]
        pairs = list(zip(ids, trials, strict=True))
        insert(
            "INSERT INTO trial_params (trial_id, param_name, param_value, distribution_json) VALUES %s",
            (
                (i, key, space[key].to_internal_repr(value), distribution_to_json(space[key]))
                for i, trial in pairs
                for key, value in trial.params.items()
            ),
        )
        insert(
            "INSERT INTO trial_values (trial_id, objective, value, value_type) VALUES %s",
            ((i, at, *stored_number(v)) for i, trial in pairs for at, v in enumerate(trial.values)),
        )
        insert(
            "INSERT INTO trial_intermediate_values"
            " (trial_id, step, intermediate_value, intermediate_value_type) VALUES %s",
            ((i, step, v, "FINITE") for i, trial in pairs for step, v in enumerate(trial.curve, 1)),
        )
        insert(
            "INSERT INTO trial_user_attributes (trial_id, key, value_json) VALUES %s",
            (
                (i, key, json.dumps(value))
                for number, (i, trial) in enumerate(pairs)
                for key, value in {
                    "orch:worker": WORKERS[number % 2],
                    "orch:seconds": 1.0,
                    **trial.attributes,
                }.items()
            ),
        )
        insert(
            "INSERT INTO orch.logged (trial_id, step, names, numbers) VALUES %s",
            (
                (i, step, list(trial.logs), list(numbers))
                for i, trial in pairs
                for step, numbers in enumerate(zip(*trial.logs.values(), strict=True), 1)
            ),
        )
        for worker in WORKERS:
            cursor.execute(
                "INSERT INTO orch.worker (worker_id, study_id, name, trials, busy_seconds)"
                " VALUES (%s, %s, %s, %s, 1)",
                (str(uuid.uuid4()), stored.study_id, worker, len(trials) // 2),
            )
    connection.close()
    return open_study(database, name)


def searched(count: int, seed: int = 0, lift: float = 0.0) -> list[Made]:
    """Trials as Hyperband leaves them: most pruned, a good learning rate near 0.001.

    Args:
        count: how many.
        seed: of the draws.
        lift: added to every value.
    """
    random = np.random.default_rng(seed)
    made = []
    for number in range(count):
        rate = float(10 ** random.uniform(-5, -1))
        units = int(random.integers(16, 513))
        quality = 0.98 - 0.05 * (np.log10(rate) + 3) ** 2 + 1e-5 * units + lift
        final = float(quality + random.normal(0, 0.002))
        steps = 9 if number % 4 == 0 else int(random.choice([1, 3]))
        curve = [float(final - 0.3 / (step + 1) ** 2) for step in range(1, steps + 1)]
        params = {
            "learning_rate": rate,
            "units": units,
            "activation": str(random.choice(["relu", "tanh"])),
        }
        made.append(Made("COMPLETE" if steps == 9 else "PRUNED", params, curve[-1:], curve))
    return made
