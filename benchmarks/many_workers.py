"""Many workers on one server, through PgBouncer in transaction mode.

    python -m benchmarks.many_workers --json

Each simulated worker is a thread with the connections and the statements of a real one: a claim, a
value every 10 s, what others changed at Hyperband's rungs, an end with the next claim. It neither
trains nor looks at what it is told: real workers do that on cores of their own. It is late when its
answer takes more than a second. The process, the server and PgBouncer share this machine.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import sys
import threading
import time
import uuid
from typing import Any

from optuna.distributions import FloatDistribution, distribution_to_json

from benchmarks.bouncer import pgbouncer
from benchmarks.home import orch, temporary_home
from orchestrator.resolve.resolve import create
from orchestrator.spec.model import StudySpec
from orchestrator.storage.claims import Account, Claims, Writes
from orchestrator.storage.database import Database
from orchestrator.storage.studies import StoredStudy
from orchestrator.storage.trial_cache import Position

LATE_SECONDS, MOST_LATE_SHARE = 1.0, 0.01
_STEPS = 8
_DOMAIN = distribution_to_json(FloatDistribution(0.0, 1.0))


class SimulatedWorker(threading.Thread):
    """Runs trials until told to stop; keeps how long each answer took."""

    def __init__(self, url: str, study: StoredStudy, every: float, stop: threading.Event) -> None:
        super().__init__(daemon=True)
        self._database, self._stop_asked, self._every = Database(url), stop, every
        self._claims = Claims(self._database, study.study_id, uuid.uuid4())
        self._position = Position()
        self.answers: list[float] = []
        self.ended = 0
        self.error: Exception | None = None

    def run(self) -> None:
        try:
            self._stop_asked.wait(random.uniform(0, self._every))
            self._ask(lambda: self._claims.join("simulated"))
            claim: Any = None
            while not self._stop_asked.is_set():
                claim = self._trial(claim or self._ask(lambda: self._claims.claim(self._position)))
        except Exception as error:
            self.error = error
        finally:
            self._database.close()

    def _trial(self, claim: Any) -> Any:
        """Run a claimed trial to its end. Returns the next claim."""
        self._position = claim.changes.position
        written = Writes(params={f"x{each}": (random.random(), _DOMAIN) for each in range(7)})
        new, serial = written.copy(), 0
        for step in range(1, random.choice((1, 3, _STEPS)) + 1):
            if self._stop_asked.wait(self._every * random.uniform(0.9, 1.1)):
                return None
            new.values[step] = random.random()
            rung = step in (1, 3)
            if rung:
                new.system_attributes[f"completed_rung_{step // 2}"] = str(new.values[step])
            sent, written = new, _sum(written, new)
            since = self._position if rung else None
            _, changes = self._ask(
                lambda sent=sent, since=since, serial=serial: self._claims.write(
                    claim.trial_id, sent, False, since, serial=serial + 1, after=serial
                )
            )
            serial += 1
            if changes is not None:
                self._position = changes.position
            new = Writes()
        since, account = self._position, Account(written, new, serial)
        following = self._ask(
            lambda: self._claims.finish_and_claim(
                claim.trial_id, "PRUNED", [0.5], {"orch:worker": "simulated"}, account, since
            )
        )
        self.ended += 1
        return following

    def _ask(self, call: Any) -> Any:
        started = time.monotonic()
        answer = call()
        self.answers.append(time.monotonic() - started)
        return answer


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--workers", type=int, default=500)
    parser.add_argument("--connections", type=int, default=60)
    parser.add_argument("--seconds", type=float, default=100.0)
    parser.add_argument("--report-seconds", type=float, default=10.0)
    options = parser.parse_args()
    with temporary_home() as folder:
        url = orch("db", "url").strip()
        orch("db", "init")
        with pgbouncer(folder, url, options.connections) as through:
            result = _simulate(url, through, options)
    print(json.dumps(result) if options.json else json.dumps(result, indent=2))
    return 0 if result["late_share"] <= MOST_LATE_SHARE and not result["errors"] else 1


def _simulate(url: str, through: str, options: argparse.Namespace) -> dict[str, Any]:
    database = Database(url)
    spec = {"study": {"name": "many", "objective": "quadratic", "trials": 1_000_000}}
    study = create(database, StudySpec.parse(spec))
    stop = threading.Event()
    every = options.report_seconds
    workers = [SimulatedWorker(through, study, every, stop) for _ in range(options.workers)]
    for worker in workers:
        worker.start()
    time.sleep(2 * every)  # all have joined
    for worker in workers:
        worker.answers.clear()
    began, used, most = time.monotonic(), time.process_time(), 0
    while time.monotonic() < began + options.seconds:
        time.sleep(2)
        most = max(most, _connections(database))
    seconds, used = time.monotonic() - began, time.process_time() - used
    answers = sorted(answer for worker in workers for answer in list(worker.answers))
    stop.set()
    for worker in workers:
        worker.join(timeout=20)
    database.close()
    return {
        "workers": options.workers,
        "server_connections": most,
        "statements_per_second": round(len(answers) / seconds, 1),
        "trials_ended": sum(worker.ended for worker in workers),
        "median_ms": round(statistics.median(answers) * 1000, 2),
        "p99_ms": round(answers[int(len(answers) * 0.99)] * 1000, 2),
        "slowest_ms": round(answers[-1] * 1000, 2),
        "late_share": round(sum(each > LATE_SECONDS for each in answers) / len(answers), 5),
        "simulation_cores": round(used / seconds, 2),
        "errors": sorted({str(worker.error) for worker in workers if worker.error}),
    }


def _sum(first: Writes, second: Writes) -> Writes:
    total = first.copy()
    total.add(second)
    return total


def _connections(database: Database) -> int:
    rows = database.execute(
        "SELECT count(*) AS n FROM pg_stat_activity "
        "WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()"
    )
    return int(rows[0]["n"])


if __name__ == "__main__":
    sys.exit(main())
