"""What trials printed, in the report and on the dashboard; one trial as text."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from urllib.request import pathname2url
from uuid import uuid4

import jsonschema
import pytest
from browser import Page
from report.studies import Made, store

import orchestrator as orch
from orchestrator.errors import OrchError
from orchestrator.report.reader import summarise
from orchestrator.report.render import render
from orchestrator.serve.dashboard import ReadableStorage
from orchestrator.storage.claims import Claims
from orchestrator.storage.database import Database
from orchestrator.storage.studies import StoredStudy, delete

SCHEMA = Path(__file__).parents[2] / "docs" / "report.schema.json"
HOSTILE = "</pre><script>document.title = 'taken over'</script><b>&amp;\n=1+1\n\x1b[31mred\n"
PARAMS = {"learning_rate": 0.01, "units": 64, "activation": "relu"}


@pytest.fixture
def study(database: Database, name: str) -> Iterator[StoredStudy]:
    """A trial that is complete, and two that failed; all but the last have printed."""
    trials = [
        Made("COMPLETE", PARAMS, [0.5], [0.6, 0.5]),
        Made("FAIL", PARAMS, curve=list(range(1, 31)), attributes={
            "orch:reason": "ValueError: <u>why</u>", "orch:retried_as": 2, "orch:attempt": 1,
            "orch:seed": 7, "orch:restarts": [[3, 0], [5, 0]], "mine": "my own",
        }),
        Made("FAIL", PARAMS, attributes={
            "orch:retry_of": 1, "orch:attempt": 2, "orch:log": "its log\x1b[0m", "orch:losses": 1,
        }),
    ]  # fmt: skip
    stored = store(database, name, trials)
    claims = Claims(database, stored.study_id, uuid4())
    claims.join("lab:1")
    ids = trial_ids(database, stored)
    claims.store_output(ids[0], 1, "of a complete one\n", 1, True)
    claims.store_output(ids[1], 2, "line\n" * 1000 + HOSTILE, 1003, True)
    yield stored
    delete(database, stored)


def trial_ids(database: Database, study: StoredStudy) -> list[int]:
    rows = database.execute(
        "SELECT trial_id FROM trials WHERE study_id = %(id)s ORDER BY number",
        {"id": study.study_id},
    )
    return [row["trial_id"] for row in rows]


def test_the_json_has_the_last_lines_of_each_trial(database: Database, study: StoredStudy) -> None:
    report = json.loads(render(summarise(database, study, logs="all"), "json"))
    jsonschema.validate(report, json.loads(SCHEMA.read_text()))
    complete, failed, silent = (trial["printed"] for trial in report["trials"])
    assert complete == "of a complete one\n" and silent is None
    assert failed.endswith(HOSTILE.replace("\x1b", "�")) and len(failed) <= 2048


def test_the_page_folds_them_and_shows_them_as_text(
    database: Database, study: StoredStudy, page: Page, tmp_path: Path
) -> None:
    html = tmp_path / "report.html"
    html.write_text(render(summarise(database, study, logs="drawn"), "html"))
    assert html.stat().st_size < 100_000
    page.open(f"file://{pathname2url(str(html))}")
    closed = page.script("return [...document.querySelectorAll('details')].map(each => each.open)")
    assert closed == [False, False]
    words = page.script(
        "const [best, each] = document.querySelectorAll('details'); best.open = each.open = true;"
        "return [document.title, each.querySelector('summary').innerText,"
        " each.querySelector('pre').innerText, each.querySelectorAll('script, b, u').length,"
        " best.innerText]"
    )
    assert words[0] == f"{study.name}: report"
    assert words[1] == "Trial 1: ValueError: <u>why</u>"
    assert words[2].endswith(HOSTILE.replace("\x1b", "�").rstrip("\n")) or words[2].endswith(
        HOSTILE.replace("\x1b", "�")
    )
    assert words[3] == 0 and not page.errors()
    assert words[4].split("\n")[0] == "Trial 0: value 0.5" and "of a complete one" in words[4]


def test_the_dashboard_shows_them_beside_a_trials_attributes(
    database: Database, study: StoredStudy
) -> None:
    storage = ReadableStorage(database.url)
    complete, failed, silent = storage.get_all_trials(study.study_id)
    assert failed.user_attrs["printed last"].endswith("red\n")
    assert failed.user_attrs["mine"] == "my own"
    assert failed.user_attrs["went on after"] == "step 3, step 5"
    assert complete.user_attrs["printed last"] == "of a complete one\n"
    assert not {"printed last", "orch:printed"} & silent.user_attrs.keys()
    assert storage.get_trial(failed._trial_id).user_attrs == failed.user_attrs
    # What comes after the page has first shown the trial is not missed.
    claims = Claims(database, study.study_id, uuid4())
    claims.join("lab:2")
    claims.store_output(silent._trial_id, 1, "late\n", 1, True)
    assert storage.get_trial(silent._trial_id).user_attrs["printed last"] == "late\n"
    assert storage.get_all_trials(study.study_id)[2].user_attrs["printed last"] == "late\n"


def test_one_trial_is_shown_as_plain_text_with_all_that_is_known(
    database: Database, study: StoredStudy
) -> None:
    loaded = orch.load_study(study.name, storage=database.url)
    shown = loaded.show(trial=1)
    lines = shown.splitlines()
    assert lines[0] == f"trial 1 of study {study.name}: failed"
    for line in (
        "retried as:    trial 2",
        "reason:        ValueError: <u>why</u>",
        "  units:       64",
        "reported:      1: 1, 2: 2, 3: 3, 4: 4, 5: 5, 6: 6, …, 25: 25, 26: 26, 27: 27, 28: 28, "
        "29: 29, 30: 30",
        "worker:        lab:1",
        "seed:          7",
        "went on after: step 3, step 5",
        "attribute mine: my own",
        f"printed (the end of it; all that is kept: orch logs {study.name} 1):",
    ):
        assert line in lines
    assert len(shown) < 4096 and "\x1b" not in shown
    retry = loaded.show(trial=2).splitlines()
    assert "retry of:      trial 1; attempt 2" in retry and "lost leases:   1" in retry
    assert retry[-2:] == ["log:", "  its log�[0m"]
    assert "value:         0.5" in loaded.show(trial=0)
    assert loaded.logs(1).startswith("line\n") and loaded.logs(2) == ""
    for call in (loaded.show, loaded.logs, lambda trial: next(loaded.follow_logs(trial))):
        with pytest.raises(OrchError, match=r"has no trial 3; it has 3 trials"):
            call(3)


def test_a_running_trials_lines_are_read_again(database: Database, name: str) -> None:
    stored = store(database, name, [Made("RUNNING", PARAMS)])
    claims = Claims(database, stored.study_id, uuid4())
    claims.join("lab:1")
    [running] = trial_ids(database, stored)
    storage = ReadableStorage(database.url)
    for text in ("step 1\n", "step 1\nstep 2\n"):
        claims.store_output(running, 1, text, text.count("\n"), False)
        assert storage.get_trial(running).user_attrs["printed last"] == text
    delete(database, stored)


def test_the_best_trials_lines_are_read_however_many_come_after(
    database: Database, name: str
) -> None:
    trials = [Made("COMPLETE", PARAMS, [0.5]), *[Made("PRUNED", PARAMS)] * 101]
    stored = store(database, name, trials)
    claims = Claims(database, stored.study_id, uuid4())
    claims.join("lab:1")
    for each in trial_ids(database, stored):
        claims.store_output(each, 1, "loss 1\n", 1, True)
    printed = [trial.printed for trial in summarise(database, stored, logs="drawn").trials]
    assert printed == ["loss 1\n", None, *["loss 1\n"] * 100]
    delete(database, stored)
