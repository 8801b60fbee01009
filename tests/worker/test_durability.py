"""What a crash of the server loses of a running trial, and what the trial's end brings back."""

from __future__ import annotations

from pathlib import Path
from uuid import uuid4

from crash import kill
from optuna.trial import TrialState

from orchestrator.resolve.resolve import create
from orchestrator.spec.model import StudySpec
from orchestrator.storage.claims import Account, Claims, Writes
from orchestrator.storage.database import Database
from orchestrator.storage.embedded import EmbeddedServer
from orchestrator.storage.postgres_storage import PostgresStorage
from orchestrator.storage.schema import prepare
from orchestrator.storage.worker_storage import WorkerStorage
from orchestrator.worker.reporter import Reporter

DISTRIBUTION = (
    '{"name": "FloatDistribution", '
    '"attributes": {"step": null, "low": 0.0, "high": 1.0, "log": false}}'
)


def test_a_server_killed_between_a_report_and_the_end_loses_nothing(open_path: Path) -> None:
    server = EmbeddedServer(open_path)
    try:
        database = Database(server.ensure_running())
        prepare(database)
        # So that what is not waited for is hardly ever on the disk when the server is killed.
        database.execute("ALTER SYSTEM SET wal_writer_delay = '10s'")
        database.execute("ALTER SYSTEM SET autovacuum = off")
        database.close()
        server.stop()
        database = Database(server.ensure_running())
        study = create(
            database,
            StudySpec.parse({"study": {"name": "s", "objective": "quadratic", "trials": 2}}),
        )
        claims = Claims(database, study.study_id, uuid4())
        claims.join("worker")
        beside = Database(database.url)
        reporter = Reporter(
            Claims(beside, study.study_id, claims.token),
            WorkerStorage(beside, study.study_id),
            heartbeat_seconds=1000.0,
        )
        with reporter:
            trial_id = claims.claim().trial_id
            assert trial_id is not None
            reporter.start_trial(trial_id)
            reporter.write_param("x", 0.25, DISTRIBUTION)
            reporter.write_user_attribute("note", '"kept"')
            for step in range(1, 4):
                reporter.write_system_attribute(f"completed_rung_{step}", "0.5")
                assert reporter.send(step, step / 10)
            kill(server)
            database.close()
            database = Database(server.ensure_running())
            claims = Claims(database, study.study_id, claims.token)
            assert claims.finish(trial_id, "COMPLETE", [0.3], {}, reporter.close_trial())
        beside.close()
        trial = PostgresStorage(database).get_trial(trial_id)
        assert (trial.state, trial.value) == (TrialState.COMPLETE, 0.3)
        assert trial.intermediate_values == {1: 0.1, 2: 0.2, 3: 0.3}
        assert trial.params == {"x": 0.25} and trial.user_attrs["note"] == "kept"
        assert trial.system_attrs == {f"completed_rung_{step}": 0.5 for step in range(1, 4)}
        second = claims.claim().trial_id
        assert second is not None
        written = Writes({1: 0.1}, {"x": (0.25, DISTRIBUTION)})
        assert claims.write(second, written, durable=False, serial=1)[0]
        # The connections of a pooler survive what its server does not: nobody tells the worker.
        kill(server)
        database.close()
        database = Database(server.ensure_running())
        claims = Claims(database, study.study_id, claims.token)
        assert claims.write(second, Writes({2: 0.2}), durable=False, serial=2, after=1)[0]
        written.values[2] = 0.2
        assert claims.finish(second, "COMPLETE", [0.2], {}, Account(written, Writes(), 2))
        trial = PostgresStorage(database).get_trial(second)
        assert trial.intermediate_values == {1: 0.1, 2: 0.2} and trial.params == {"x": 0.25}
        # And the end itself is there after a crash.
        kill(server)
        database.close()
        database = Database(server.ensure_running())
        assert PostgresStorage(database).get_trial(trial_id).value == 0.3
        database.close()
    finally:
        server.stop()
