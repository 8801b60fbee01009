"""The least that one trial's rows cost: plain prepared statements, without anything of orch.

    python -m benchmarks.floor --json

The rows of a trial of benchmarks.storage that Hyperband prunes at its third step, in one
transaction with the next trial, as a worker writes those of a trial that takes a moment. No lease
is checked, no budget counted, nothing read; the triggers that note changes are off.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from typing import Any
from uuid import uuid4

from optuna.distributions import FloatDistribution, distribution_to_json

from benchmarks.home import orch, temporary_home
from benchmarks.storage import fsync_ms
from orchestrator.resolve.resolve import create
from orchestrator.spec.model import StudySpec
from orchestrator.storage.claims import Claims
from orchestrator.storage.database import Database

_TABLES = (
    "trials", "trial_params", "trial_values", "trial_user_attributes", "trial_system_attributes",
)  # fmt: skip
_PREPARED = """
PREPARE params(int, text[], float8[], text[]) AS
    INSERT INTO trial_params (trial_id, param_name, param_value, distribution_json)
    SELECT $1, * FROM unnest($2, $3, $4);
PREPARE reported(int, int[], float8[]) AS INSERT INTO trial_intermediate_values
    (trial_id, step, intermediate_value, intermediate_value_type)
    SELECT $1, s, v, 'FINITE' FROM unnest($2, $3) AS u(s, v);
PREPARE rung(int, text) AS
    INSERT INTO trial_system_attributes (trial_id, key, value_json) VALUES ($1, $2, '0.5');
PREPARE note(int) AS UPDATE orch.change SET xid = pg_current_xact_id() WHERE trial_id = $1;
PREPARE locked(int) AS SELECT 1 FROM studies WHERE study_id = $1 FOR NO KEY UPDATE;
PREPARE attributes(int, text[]) AS INSERT INTO trial_user_attributes (trial_id, key, value_json)
    SELECT $1, key, '1' FROM unnest($2) AS u(key);
PREPARE result(int) AS INSERT INTO trial_values (trial_id, objective, value, value_type)
    VALUES ($1, 0, 0.5, 'FINITE');
PREPARE ended(int) AS UPDATE trials SET state = 'PRUNED', datetime_complete = now()
    WHERE trial_id = $1;
PREPARE released(int) AS DELETE FROM orch.lease WHERE trial_id = $1;
PREPARE worker(uuid) AS UPDATE orch.worker SET trials = trials + 1, last_seen_at = now()
    WHERE worker_id = $1;
PREPARE begun(int, int, int) AS
    INSERT INTO trials (trial_id, number, study_id, state, datetime_start)
    VALUES ($1, $2, $3, 'RUNNING', now());
PREPARE noted(int, int) AS INSERT INTO orch.change (trial_id, study_id, xid)
    VALUES ($1, $2, pg_current_xact_id());
PREPARE leased(int, int, uuid) AS
    INSERT INTO orch.lease (trial_id, study_id, worker_id, taken_at, renewed_at)
    VALUES ($1, $2, $3, now(), now());
SET plan_cache_mode = force_generic_plan;
"""
_DOMAIN = distribution_to_json(FloatDistribution(0.0, 1.0))
_BEGIN = """EXECUTE begun({next}, {number}, {study}); EXECUTE noted({next}, {study});
EXECUTE leased({next}, {study}, '{worker}')"""
_TRIAL = (
    """BEGIN; EXECUTE locked({study}); EXECUTE released({trial}); EXECUTE note({trial});
EXECUTE params({trial}, '{{x0,x1,x2,x3,x4,x5,x6}}', '{{.1,.2,.3,.4,.5,.6,.7}}',
               array_fill('{domain}'::text, '{{7}}'));
EXECUTE reported({trial}, '{{1,2,3}}', '{{0.5,0.5,0.5}}');
EXECUTE rung({trial}, 'completed_rung_0'); EXECUTE rung({trial}, 'completed_rung_1');
EXECUTE attributes({trial}, '{{a,b,c,d}}');
EXECUTE result({trial}); EXECUTE ended({trial}); EXECUTE worker('{worker}'); """
    + _BEGIN
    + "; COMMIT"
)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--trials", type=int, default=2000)
    options = parser.parse_args()
    with temporary_home() as folder:
        url = orch("db", "url").strip()
        orch("db", "init")
        result = {"fsync_ms": round(fsync_ms(folder), 3), **_measure(url, options.trials)}
    print(json.dumps(result) if options.json else json.dumps(result, indent=2))
    return 0


def _measure(url: str, trials: int) -> dict[str, float]:
    database = Database(url)
    spec = {"study": {"name": "floor", "objective": "quadratic", "trials": 1}}
    study = create(database, StudySpec.parse(spec))
    claims = Claims(database, study.study_id, uuid4())
    claims.join("floor")
    names: dict[str, Any] = {
        "study": study.study_id,
        "worker": claims.worker_id,
        "domain": _DOMAIN,
    }
    for table in _TABLES:
        database.execute(f"ALTER TABLE {table} DISABLE TRIGGER orch_note")
    database.execute(_PREPARED)
    database.execute(_BEGIN.format(next=1, number=0, **names))
    times = []
    for trial in range(1, trials + 1):
        text = _TRIAL.format(trial=trial, next=trial + 1, number=trial, **names)
        asked = time.perf_counter()
        database.execute(text)
        times.append(time.perf_counter() - asked)
    bare = []
    for _ in range(trials):
        asked = time.perf_counter()
        database.execute("SELECT 1")
        bare.append(time.perf_counter() - asked)
    database.close()
    found = {"trial": times, "round_trip": bare}
    return {f"{name}_ms": round(statistics.median(each) * 1e3, 3) for name, each in found.items()}


if __name__ == "__main__":
    sys.exit(main())
