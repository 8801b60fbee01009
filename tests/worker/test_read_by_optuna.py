"""What orch writes in Optuna's name is read by Optuna's and optuna-dashboard's own code."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.artifacts import ArtifactMeta, download_artifact, get_all_artifact_meta
from optuna.trial import FrozenTrial, TrialState
from optuna_dashboard import get_note
from served import served, study_detail
from worker.workplace import SetFunction, Workplace

from orchestrator.resolve.queue import enqueue
from orchestrator.serve.dashboard import ReadableStorage, write_note
from orchestrator.storage.artifacts import Picture, PostgresArtifactStore, attach
from orchestrator.storage.database import script
from orchestrator.storage.postgres_storage import PostgresStorage
from orchestrator.storage.rdb_storage import make_rdb_storage
from orchestrator.worker.trial import Trial

PNG = Picture("digits.png", "image/png", b"\x89PNG")
# Optuna's or the dashboard's; what begins with orch: is ours alone.
READ_HERE = (
    "artifacts:", "completed_rung_", "constraints:", "dashboard:artifacts:", "dashboard:note_",
    "fixed_params", "study:metric_names",
)  # fmt: skip


def plain(place: Workplace) -> optuna.Study:
    """The study as plain Optuna loads it."""
    return optuna.load_study(study_name=place.name, storage=make_rdb_storage(place.url))


@pytest.fixture
def written(place: Workplace, function: SetFunction) -> Workplace:
    """A study with everything that orch writes: a kept model, each end, a note, a picture."""

    def run(trial: Trial) -> float:
        trial.suggest_float("x", 0, 1)
        trial.set_constraint("slow", -1.0)
        trial.set_user_attr("too_big", -trial.number)
        for step, value in enumerate((0.5, math.inf, 0.25), 1):
            trial.report(value, step)
            trial.should_prune()
        if trial.number == 1:
            raise ValueError
        if trial.number == 2:
            raise optuna.TrialPruned
        trial.offer_model(0.5, lambda path: path.write_bytes(b"model"))
        return math.inf if trial.number == 3 else 0.5

    function(run)
    place.create(
        "hooked:plain", trials=4, worker={"keep_models": 1, "max_failures": 5},
        pruner={"name": "asha", "min_resource": 1, "reduction_factor": 2},
        study={"metric": "loss", "note": "# My plan", "constraints": ["too_big"]},
    )  # fmt: skip
    database = place.database
    enqueue(database, place.study, [{"x": 0.125}])
    place.worker().run()
    attach(database, place.study, 0, [PNG])
    write_note(database, make_rdb_storage(place.url), place.name)
    enqueue(database, place.study, [{"x": 0.75}])
    return place


def test_optuna_reads_every_trial_as_we_do(written: Workplace) -> None:
    study = plain(written)
    theirs = study.get_trials()
    ours = PostgresStorage(written.database).get_all_trials(written.study.study_id)
    assert theirs == ours
    states = [trial.state for trial in theirs]
    complete, failed = TrialState.COMPLETE, TrialState.FAIL
    assert states == [complete, failed, TrialState.PRUNED, complete, complete, TrialState.WAITING]
    assert theirs[3].value == math.inf and theirs[0].intermediate_values[2] == math.inf
    assert study.best_trial.number == 0 and study.metric_names == ["loss"]
    assert study.direction == optuna.study.StudyDirection.MINIMIZE
    assert theirs[0].constraints == {"slow": -1.0, "too_big": 0}
    assert theirs[1].constraints == {"slow": -1.0}, "an attempt that failed has no end"


def test_optuna_reads_the_artifact_record_of_a_kept_model(
    written: Workplace, tmp_path: Path
) -> None:
    study, store = plain(written), PostgresArtifactStore(written.database, 0)
    [meta] = get_all_artifact_meta(study.best_trial, storage=study._storage)
    assert isinstance(meta, ArtifactMeta) and meta.filename == "model.keras"
    path = tmp_path / meta.filename
    download_artifact(artifact_store=store, artifact_id=meta.artifact_id, file_path=str(path))
    assert path.read_bytes() == b"model"
    for trial in study.trials[1:]:
        assert get_all_artifact_meta(trial, storage=study._storage) == [], "no other is kept"


def test_the_dashboard_shows_notes_models_and_pictures(written: Workplace) -> None:
    url, study_id = written.url, written.study.study_id
    shown = study_detail(url, study_id)
    assert shown["objective_names"] == ["loss"]
    assert shown["note"]["body"].startswith("# My plan\n\n### Verdict\n* Trial 0 is the best")
    assert get_note(plain(written)) == shown["note"]["body"]
    first, *others = shown["trials"]
    assert [each["filename"] for each in first["artifacts"]] == ["digits.png", "model.keras"]
    assert not any(trial["artifacts"] for trial in others)
    for each, content in zip(first["artifacts"], (PNG.content, b"model"), strict=True):
        path = f"/artifacts/{study_id}/{first['trial_id']}/{each['artifact_id']}"
        assert served(url, path) == content
    assert first["constraints"] == [-1.0, 0]
    assert first["fixed_params"] == [{"name": "x", "param_external_value": "0.125"}]
    assert [trial["number"] for trial in shown["best_trials"]] == [0]


def test_an_open_dashboard_shows_models_that_are_kept_or_removed_later(
    written: Workplace,
) -> None:
    storage, study_id = ReadableStorage(written.url), written.study.study_id

    def shown() -> list[int]:
        """The trials with an artifact, by the list of all and each by itself."""
        trials = storage.get_all_trials(study_id)
        found = [[get_all_artifact_meta(t, storage=storage), t.number] for t in trials]
        listed = [t.number for t in trials if any("artifacts:" in key for key in t.system_attrs)]
        assert listed == [number for meta, number in found if meta]
        return listed

    assert shown() == [0]
    claims, fourth = written.claims(), written.trials()[4]
    # As the worker that has ended it: no other one may keep its model.
    assert claims.keep_model(fourth._trial_id, "foreign", "0", 2) == ["foreign"]
    written.execute(
        "UPDATE orch.change SET ended_by = %(worker)s WHERE trial_id = %(trial)s",
        worker=str(claims.worker_id), trial=fourth._trial_id,
    )  # fmt: skip
    fallen = claims.keep_model(fourth._trial_id, "later", "0", 2)
    assert fallen == [] and shown() == [0, 4]
    assert claims.keep_model(fourth._trial_id, "again", "0", 1) == ["later", "again"]
    assert shown() == [0]


def test_plain_optuna_runs_a_queued_trial_with_its_values(written: Workplace) -> None:
    trial = plain(written).ask()
    assert trial.number == 5 and trial.suggest_float("x", 0, 1) == 0.75


def test_optunas_pruner_uses_the_rungs_of_our_trials(written: Workplace) -> None:
    study = plain(written)
    study.pruner = optuna.pruners.SuccessiveHalvingPruner(min_resource=1, reduction_factor=2)
    verdicts = []
    for value in (9.0, 0.1):
        trial = study.ask()
        trial.report(value, 1)
        verdicts.append(trial.should_prune())
    assert verdicts == [True, False]


def test_every_attribute_that_we_write_is_covered_here(written: Workplace) -> None:
    keys = written.execute(
        "SELECT key FROM trial_system_attributes JOIN trials USING (trial_id) "
        "WHERE study_id = %(study)s UNION "
        "SELECT key FROM study_system_attributes WHERE study_id = %(study)s"
    )
    found = {row["key"] for row in keys if not row["key"].startswith("orch:")}
    assert {key for key in found if not key.startswith(READ_HERE)} == set()
    for start in READ_HERE:
        assert any(key.startswith(start) for key in found), start


def test_notes_and_constraints_of_version_6_are_converted_for_optuna(
    written: Workplace,
) -> None:
    database, before = written.database, plain(written).get_trials()
    for statement in (
        "UPDATE trial_system_attributes SET value_json = value_json::jsonb #>> '{}' "
        "WHERE key LIKE 'artifacts:%'",
        "INSERT INTO trial_system_attributes (trial_id, key, value_json) "
        "SELECT trial_id, 'constraints', '[' || value_json || '.0]' FROM trial_system_attributes "
        "WHERE key = 'constraints:too_big'",
        "DELETE FROM trial_system_attributes WHERE key = 'constraints:too_big'",
    ):
        database.execute(statement)
    old = plain(written)
    with pytest.raises(TypeError, match="must be str"):
        get_all_artifact_meta(old.trials[0], storage=old._storage)
    for _ in range(2):  # twice: what is done already is left as it is
        database.execute(script("migrations/6_to_7.after_data.sql"))
        assert list(map(_facts, plain(written).get_trials())) == list(map(_facts, before))


def _facts(trial: FrozenTrial) -> dict[str, Any]:
    return {**vars(trial), "_system_attrs": dict(sorted(trial.system_attrs.items()))}
