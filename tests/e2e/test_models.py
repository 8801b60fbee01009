"""The models of the best trials are kept, and only those."""

from __future__ import annotations

from pathlib import Path

from conftest import Orch

from orchestrator.storage.artifacts import PostgresArtifactStore
from orchestrator.storage.database import Database


def test_the_best_models_are_kept_and_load_in_keras(
    orch: Orch, name: str, database: Database, tmp_path: Path
) -> None:
    import keras

    keep = 2
    orch.ok(
        "run", "digits", "--study", name, "--trials", "5", "--workers", "1", "--epochs", "2",
        "--pruner", "none", "--set", f"worker.keep_models={keep}",
    )  # fmt: skip
    report = orch.report(name)
    best = sorted(report["trials"], key=lambda trial: -trial["value"])[:keep]
    rows = database.execute(
        "SELECT m.study_id, t.number, m.artifact_id FROM orch.model m JOIN trials t USING (trial_id) "
        "JOIN studies s ON s.study_id = m.study_id WHERE s.study_name = %(name)s",
        {"name": name},
    )
    assert {row["number"] for row in rows} == {trial["number"] for trial in best}
    for row in rows:
        path = tmp_path / "model.keras"
        reader = PostgresArtifactStore(database, 0).open_reader(row["artifact_id"])
        path.write_bytes(reader.read())
        assert keras.models.load_model(path, safe_mode=True).output_shape == (None, 10)
    assert orch.ok("best", name, "--top", "5", "--models", str(tmp_path / "models"))
    written = {path.name for path in (tmp_path / "models").iterdir()}
    assert written == {f"trial-{trial['number']:05d}.keras" for trial in best}
    assert keras.models.load_model(tmp_path / "models" / written.pop(), safe_mode=True)
    orch.ok("delete", name, "--yes")
    # Other tests' studies share the database, so only this study's rows may be counted.
    left = database.execute(
        "SELECT count(*) AS n FROM orch.model WHERE study_id = %(study_id)s",
        {"study_id": rows[0]["study_id"]},
    )
    assert left[0]["n"] == 0
