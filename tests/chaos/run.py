"""Chaos: real workers on a real PostgreSQL over TCP, and random faults until all have happened.

    python tests/chaos/run.py --kills 200 --restarts 20 --cuts 20 --partitions 10 --seed 1

Prints one JSON object; exits 1 when a promise of docs/reliability.md was broken.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
from proxy import Proxy

from orchestrator.errors import StorageError
from orchestrator.report.reader import summarise
from orchestrator.storage.database import Database
from orchestrator.storage.embedded import EmbeddedServer
from orchestrator.storage.studies import open_study, raise_budget

GRACE_SECONDS = 3.0
STUDY = "chaos"
HERE = Path(__file__).parent

AUDIT = """
CREATE TABLE chaos_audit (what text NOT NULL, at timestamptz NOT NULL DEFAULT now());
CREATE FUNCTION chaos_audit_value() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF (SELECT state FROM trials WHERE trial_id = NEW.trial_id) IN ('COMPLETE', 'PRUNED', 'FAIL')
    THEN
        INSERT INTO chaos_audit (what)
        VALUES (format('value of step %s written to ended trial %s', NEW.step, NEW.trial_id));
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER chaos_audit_value BEFORE INSERT OR UPDATE ON trial_intermediate_values
FOR EACH ROW EXECUTE FUNCTION chaos_audit_value();
CREATE FUNCTION chaos_audit_end() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO chaos_audit (what)
    VALUES (format('trial %s went from %s to %s', NEW.trial_id, OLD.state, NEW.state));
    RETURN NEW;
END $$;
CREATE TRIGGER chaos_audit_end BEFORE UPDATE ON trials
FOR EACH ROW WHEN (OLD.state IN ('COMPLETE', 'PRUNED', 'FAIL') AND NEW.state <> OLD.state)
EXECUTE FUNCTION chaos_audit_end();
"""


class Server:
    """A PostgreSQL that listens on TCP and can be restarted or crashed."""

    def __init__(self, folder: Path) -> None:
        self._embedded = EmbeddedServer(folder)
        self._embedded.ensure_running()
        self._embedded.stop()
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        settings = f"listen_addresses = '127.0.0.1'\nport = {self.port}\n"
        with (self._embedded.data / "postgresql.conf").open("a") as file:
            file.write(settings)
        (self._embedded.data / "pg_hba.conf").write_text("host all all 127.0.0.1/32 trust\n")
        self._control("start")

    def url(self, port: int | None = None) -> str:
        return f"postgresql://postgres@127.0.0.1:{port or self.port}/postgres"

    def restart(self, crash: bool) -> None:
        self._control("stop", "-m", "immediate" if crash else "fast")
        time.sleep(0.5)
        self._control("start")

    def stop(self) -> None:
        self._control("stop", "-m", "immediate")

    def _control(self, action: str, *options: str) -> None:
        data = self._embedded.data
        self._embedded._postgres(
            "pg_ctl", "-w", "-D", str(data), "-l", str(data / "log"), "-o", f"-k {data}",
            *options, action,
        )  # fmt: skip


@dataclass
class Machine:
    """A supervisor with its workers, behind a line of its own."""

    home: Path
    server: Server
    processes: int
    process: subprocess.Popen[bytes] | None = None
    cut_until: float = 0.0
    proxy: Proxy = field(init=False)

    def __post_init__(self) -> None:
        self.proxy = Proxy(self.server.port)

    def ensure_running(self) -> None:
        if self.process is not None and self.process.poll() is None:
            return
        self.home.mkdir(parents=True, exist_ok=True)
        self.process = subprocess.Popen(
            [sys.executable, "-m", "orchestrator", "worker", STUDY, "--wait",
             "--processes", str(self.processes)],
            env={
                **os.environ,
                "ORCH_HOME": str(self.home),
                "ORCH_STORAGE": self.server.url(self.proxy.port),
                "STEPS_LOG": str(self.home.parent / "steps.log"),
                "PYTHONPATH": str(HERE),
            },
            stdout=subprocess.DEVNULL,
            stderr=(self.home / "stderr.log").open("ab"),
        )  # fmt: skip

    def workers(self) -> list[psutil.Process]:
        if self.process is None or self.process.poll() is not None:
            return []
        return psutil.Process(self.process.pid).children()

    def kill(self) -> None:
        """As a power cut."""
        victims = self.workers()
        if self.process is not None and self.process.poll() is None:
            victims.append(psutil.Process(self.process.pid))
        for victim in victims:
            _quietly(victim.suspend)
        for victim in victims:
            _quietly(victim.kill)
        if self.process is not None:
            self.process.wait()

    def leave(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            self.process.wait(timeout=120)


class Chaos:
    """One run: faults drawn from the seed, invariants checked along the way and at the end."""

    def __init__(self, options: argparse.Namespace, folder: Path) -> None:
        self.options = options
        self.random = random.Random(options.seed)
        self.folder = folder
        self.server = Server(folder / "server")
        self.database = Database(self.server.url())
        self.machines = [
            Machine(folder / f"machine-{index}", self.server, options.processes)
            for index in range(options.machines)
        ]
        self.faults: Counter[str] = Counter()
        self.violations: list[str] = []
        self.budget = options.trials

    def run(self) -> dict[str, Any]:
        started = time.monotonic()
        self._create()
        plan = self._plan()
        while plan or self._done() < self.budget:
            for machine in self.machines:
                if machine.cut_until and time.monotonic() > machine.cut_until:
                    machine.proxy.join()
                    machine.cut_until = 0.0
                machine.ensure_running()
            if plan:
                self._inflict(plan.pop())
                if self._done() > self.budget - 20:
                    self._raise_budget(40)
            self._check_budget()
            time.sleep(self.random.uniform(0.2, 1.8) if plan else 0.5)
            if time.monotonic() - started > self.options.limit:
                self.violations.append(f"not done after {self.options.limit} s")
                break
        for machine in self.machines:
            machine.proxy.join()
        for machine in self.machines:
            machine.leave()
        self._check_end()
        return {
            "objective": self.options.objective,
            "seed": self.options.seed,
            "faults": dict(self.faults),
            "trials": self.budget,
            "attempts": self._count("SELECT count(*) AS n FROM trials"),
            "violations": len(self.violations),
            "what": self.violations[:20],
            "epochs_trained": sum(self._trained().values()),
            "epochs_trained_twice": sum(n - 1 for n in self._trained().values()),
            "seconds": round(time.monotonic() - started, 1),
        }

    def _create(self) -> None:
        options = self.options
        settings = {
            "worker.heartbeat_seconds": 0.7,
            "worker.grace_seconds": GRACE_SECONDS,
            "worker.max_retries": 1000,
            "worker.max_failures": 1000,
        }
        if options.objective == "WitnessedQuadratic":
            settings |= {"objective.sleep": 0.05, "objective.steps": options.steps}
            settings |= {"objective.failure_rate": 0.03}
        sets = [f"--set={key}={value}" for key, value in settings.items()]
        subprocess.run(
            [sys.executable, "-m", "orchestrator", "create", STUDY, "--objective",
             f"chaos_objectives:{options.objective}", "--trials", str(self.budget),
             "--epochs", str(options.steps), *sets],
            env={**os.environ, "ORCH_STORAGE": self.server.url(), "PYTHONPATH": str(HERE)},
            check=True, capture_output=True,
        )  # fmt: skip
        self.database.execute(AUDIT)

    def _plan(self) -> list[str]:
        options = self.options
        plan = ["kill worker"] * (options.kills * 2 // 3)
        plan += ["kill machine"] * (options.kills - len(plan))
        plan += ["restart server"] * (options.restarts // 2)
        plan += ["crash server"] * (options.restarts - options.restarts // 2)
        plan += ["cut connections"] * options.cuts + ["partition"] * options.partitions
        self.random.shuffle(plan)
        return plan

    def _inflict(self, fault: str) -> None:
        machine = self.random.choice(self.machines)
        if fault == "kill worker":
            if not self._kill_one(machine):
                return self._again(fault)
        elif fault == "kill machine":
            if not machine.workers():
                return self._again(fault)
            machine.kill()
        elif fault in ("restart server", "crash server"):
            self.database.close()
            self.server.restart(crash=fault == "crash server")
        elif fault == "cut connections":
            self._quiet_sql(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE application_name = 'orch' AND pid <> pg_backend_pid()"
            )
        elif fault == "partition":
            machine.proxy.cut()
            machine.cut_until = time.monotonic() + self.random.uniform(1.5, 2.5) * GRACE_SECONDS
        self.faults[fault] += 1
        return None

    def _again(self, fault: str) -> None:
        # Its victims are only just starting: the same fault a little later.
        time.sleep(0.3)
        for machine in self.machines:
            machine.ensure_running()
        self._inflict(fault)

    def _kill_one(self, machine: Machine) -> bool:
        workers = machine.workers()
        if not workers:
            return False
        _quietly(self.random.choice(workers).kill)
        return True

    def _raise_budget(self, trials: int) -> None:
        try:
            self.budget += trials
            raise_budget(self.database, open_study(self.database, STUDY), self.budget)
        except StorageError:
            self.budget -= trials

    def _check_budget(self) -> None:
        taken = self._count(
            "SELECT count(*) AS n FROM trials WHERE state IN ('COMPLETE', 'PRUNED', 'RUNNING')"
        )
        if taken > self.budget:
            self.violations.append(f"{taken} trials taken of a budget of {self.budget}")

    def _check_end(self) -> None:
        rows = self.database.execute("SELECT what FROM chaos_audit")
        self.violations += [row["what"] for row in rows]
        done = self._done()
        if done != self.budget:
            self.violations.append(f"{done} trials done of a budget of {self.budget}")
        running = self._count("SELECT count(*) AS n FROM trials WHERE state = 'RUNNING'")
        if running:
            self.violations.append(f"{running} trials left RUNNING")
        summary = summarise(self.database, open_study(self.database, STUDY))
        for trial in summary.trials:
            expected = [str(step) for step in range(1, self.options.steps + 1)]
            if trial.state == "COMPLETE" and list(trial.intermediate) != expected:
                self.violations.append(f"trial {trial.number} has steps {list(trial.intermediate)}")
        rows = self.database.execute(
            "SELECT CASE d.direction WHEN 'MAXIMIZE' THEN max(v.value) ELSE min(v.value) END AS best "
            "FROM trials t JOIN trial_values v USING (trial_id) JOIN study_directions d "
            "USING (study_id) WHERE t.state = 'COMPLETE' GROUP BY d.direction"
        )
        best = rows[0]["best"] if rows else None
        if summary.best is None or summary.best.value != best:
            self.violations.append(f"best reported {summary.best}, best recorded {best}")

    def _done(self) -> int:
        return self._count("SELECT count(*) AS n FROM trials WHERE state IN ('COMPLETE', 'PRUNED')")

    def _count(self, sql: str) -> int:
        for _ in range(100):
            try:
                return int(self.database.execute(sql)[0]["n"])
            except StorageError:
                time.sleep(0.2)
        raise SystemExit("the server does not come back")

    def _quiet_sql(self, sql: str) -> None:
        try:
            self.database.execute(sql)
        except StorageError:
            self.database.close()

    def _trained(self) -> Counter[str]:
        log = self.folder / "steps.log"
        return Counter(log.read_text().splitlines()) if log.exists() else Counter()


def _quietly(call: Callable[[], object]) -> None:
    with contextlib.suppress(psutil.Error):  # it ended by itself meanwhile
        call()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--restarts", type=int, default=20)
    parser.add_argument("--cuts", type=int, default=20)
    parser.add_argument("--partitions", type=int, default=10)
    parser.add_argument("--machines", type=int, default=3)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--trials", type=int, default=60, help="the first budget; it is raised")
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--limit", type=float, default=3600.0, help="seconds")
    parser.add_argument("--objective", default="WitnessedQuadratic")
    parser.add_argument("--keep", action="store_true", help="leave the folder for a look")
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="orch-chaos-"))
    folder.chmod(0o755)
    chaos = Chaos(options, folder)
    try:
        result = chaos.run()
    finally:
        for machine in chaos.machines:
            machine.kill()
        chaos.server.stop()
        if not options.keep:
            subprocess.run(["rm", "-rf", str(folder)], check=False)
    print(json.dumps(result))
    return 1 if result["violations"] else 0


if __name__ == "__main__":
    sys.exit(main())
