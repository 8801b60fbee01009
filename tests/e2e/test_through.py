"""Other ways to the database: PgBouncer, Optuna's own storage, Optuna's gRPC proxy."""

from __future__ import annotations

import signal
import socket
import warnings
from pathlib import Path

import optuna
import pytest
from conftest import Orch

from benchmarks import bouncer
from orchestrator.storage.database import Database
from orchestrator.storage.rdb_storage import open_optuna_storage


@pytest.mark.skipif(
    not Path(bouncer.PROGRAM).exists(), reason="needs PgBouncer (Debian package pgbouncer)"
)
def test_workers_share_few_connections_through_pgbouncer(
    home: Path, url: str, database: Database, name: str, open_path: Path
) -> None:
    with bouncer.pgbouncer(open_path, url, server_connections=2) as through:
        orch = Orch(home, storage=through)
        # More workers than connections: each statement may come by another connection.
        orch.ok(
            "run", "quadratic", "--study", name, "--trials", "30", "--workers", "3",
            "--set", "objective.failure_rate=0.1", "--set", "worker.heartbeat_seconds=0.2",
        )  # fmt: skip
        report = orch.report(name)
    states = report["states"]
    assert states["complete"] + states["pruned"] == 30 and states["running"] == 0
    assert len(report["workers"]) == 3
    locks = "SELECT count(*) AS n FROM pg_locks WHERE locktype = 'advisory' AND granted"
    assert database.execute(locks)[0]["n"] == 0


def test_plain_optuna_reads_and_writes_through_the_grpc_proxy(
    orch: Orch, url: str, name: str
) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    server = orch.start("db", "proxy", "--port", str(port))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            storage = optuna.storages.GrpcStorageProxy(host="127.0.0.1", port=port)
        storage.wait_server_ready(timeout=60)
        study = optuna.create_study(storage=storage, study_name=name)
        study.enqueue_trial({"x": 0.5})
        study.optimize(lambda trial: trial.suggest_float("x", 0, 1) ** 2, n_trials=5)
        direct = optuna.load_study(study_name=name, storage=open_optuna_storage(url))
        assert [each.params for each in study.trials] == [each.params for each in direct.trials]
        assert direct.trials[0].params == {"x": 0.5} and len(direct.trials) == 5
        assert study.best_value == direct.best_value
        assert "cannot listen" in orch.refused(1, "db", "proxy", "--port", str(port))
    finally:
        server.send_signal(signal.SIGINT)
        _, errors = server.communicate(timeout=30)
    assert server.returncode == 0 and f"127.0.0.1:{port}" in errors, errors
