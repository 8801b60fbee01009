"""Each section of a report fails by itself, whatever a study holds and whatever NumPy is to do."""

from __future__ import annotations

import csv
import io
import json
import logging
import math
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import NoReturn

import jsonschema
import numpy as np
import optuna
import pytest
from browser import Page
from conftest import Orch
from optuna.storages import BaseStorage
from optuna_dashboard import get_note
from report.nasty_studies import KINDS, MOST, store_nasty
from report.studies import searched, store
from report.test_dashboard_access import ask, served

import orchestrator.report.figures as gallery_module
import orchestrator.report.listing as listing_module
import orchestrator.report.reader as summary_module
import orchestrator.report.text as text_module
from orchestrator.errors import StorageError, StorageUnavailable
from orchestrator.report.compare import compare, permutation_p
from orchestrator.report.figures import gallery
from orchestrator.report.figures.svg import Linear, Log, scale_of
from orchestrator.report.listing import best_page
from orchestrator.report.numbers import deviation, difference, mean, median, share
from orchestrator.report.reader import summarise
from orchestrator.report.render import render, render_comparison, schema
from orchestrator.report.section import section
from orchestrator.report.summary import Summary, TrialSummary
from orchestrator.report.winner import probability_best
from orchestrator.serve import dashboard as notes
from orchestrator.storage.database import Database
from orchestrator.storage.rdb_storage import open_optuna_storage
from orchestrator.storage.schema import prepare
from orchestrator.storage.studies import StoredStudy, open_study

FORMS = ("text", "json", "csv", "markdown", "html")
# Choices that no float holds have no place in Optuna's own figures either.
_HARD = {"choices"}


@pytest.fixture(scope="session")
def nasty(url: str) -> Database:
    """The session's server with a study of each nasty kind, and a healthy one."""
    database = Database(url)
    prepare(database)
    for kind in KINDS:
        store_nasty(database, kind)
    store(database, "nasty-healthy", searched(80), metric="val_accuracy")
    return database


@pytest.fixture(params=["warn", "raise"])
def numpy_errors(request: pytest.FixtureRequest) -> Iterator[None]:
    """NumPy's error state as a user's module may have left it."""
    with np.errstate(all=request.param):
        yield


def summary_of(database: Database, kind: str) -> Summary:
    return summarise(database, open_study(database, f"nasty-{kind}"), thorough=True)


@pytest.mark.usefixtures("numpy_errors")
@pytest.mark.parametrize("kind", KINDS)
def test_the_report_of_any_nasty_study_is_complete(nasty: Database, kind: str) -> None:
    summary = summary_of(nasty, kind)
    made = {form: render(summary, form) for form in FORMS}
    assert summary.missing == {}
    jsonschema.validate(json.loads(made["json"]), json.loads(schema()))
    assert len(list(csv.reader(io.StringIO(made["csv"])))) == 1 + len(summary.trials)
    assert best_page(summary, 3)
    if kind not in _HARD:
        assert not [form for form in FORMS if "cannot be shown" in made[form]]
        assert "nan" not in "".join(
            each.body for drawn in gallery(summary).values() for each in drawn
        )


@pytest.mark.usefixtures("numpy_errors")
@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "pareto"])
def test_any_nasty_studies_can_be_compared(nasty: Database, kind: str) -> None:
    one = summary_of(nasty, kind)
    other = one.model_copy(update={"study": "nasty-other", "spec": {**one.spec, "study": {}}})
    for form in ("text", "json", "html"):
        made = render_comparison(compare([one, other]), form)
        assert "nasty-other" in made and "cannot be shown" not in made


def test_differences_across_the_whole_float_range_are_tested() -> None:
    with np.errstate(all="raise"):
        assert permutation_p([MOST] * 4, [-MOST] * 4) == permutation_p([1.0] * 4, [-1.0] * 4)
        assert probability_best({1: [MOST, MOST / 2], 2: [-MOST, -MOST / 2]}, True)[1] > 0.5


def test_the_page_of_a_study_with_huge_values_works(
    nasty: Database, page: Page, tmp_path: Path
) -> None:
    for kind in KINDS:
        path = tmp_path / f"{kind}.html"
        path.write_text(render(summary_of(nasty, kind), "html"), encoding="utf-8")
        page.open(path.as_uri())
        assert page.errors() == [], kind
        rows = page.script("return document.querySelectorAll('#trials tbody tr').length")
        assert rows == min(20, len(summary_of(nasty, kind).trials)), kind


def test_a_study_across_the_whole_float_range_has_the_right_best_and_importance(
    nasty: Database,
) -> None:
    summary = summary_of(nasty, "huge")
    assert summary.best is not None and summary.best.value == min(
        trial.value for trial in summary.ranked() if trial.value is not None
    )
    assert next(iter(summary.importances)) in ("x", "rate")
    assert sum(summary.importances.values()) == pytest.approx(1, abs=0.001)


def test_importance_of_a_full_grid_of_huge_values_is_exact(nasty: Database) -> None:
    assert summary_of(nasty, "grid").importances == {"x": 1.0, "y": 0.0}


def test_values_outside_their_domain_are_drawn_and_count_for_importance(nasty: Database) -> None:
    summary = summary_of(nasty, "outside")
    assert summary.importance_claim.parameter == "x" and summary.importances_fanova
    drawn = next(
        each for figures in gallery(summary).values() for each in figures if each.key == "slice-x"
    )
    assert len(drawn.points) == 60
    places = [x for x, _, _ in drawn.points]
    assert len(set(places)) == 60  # none is put on the frame


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([MOST, MOST], (MOST, 0.0, MOST)),
        ([-MOST, MOST], (0.0, MOST, 0.0)),
        ([5e-324, 15e-324], (10e-324, 5e-324, 10e-324)),
        ([1.0, 2.0, 6.0], (3.0, np.std([1.0, 2.0, 6.0]), 2.0)),
    ],
)
def test_means_and_deviations_hold_over_all_floats(
    values: list[float], expected: tuple[float, float, float]
) -> None:
    with np.errstate(all="raise"):
        assert (mean(values), deviation(values, ddof=0), median(values)) == expected


def test_places_on_an_axis_hold_over_all_floats() -> None:
    assert [share(each, -MOST, MOST) for each in (-MOST, 0.0, MOST)] == [0.0, 0.5, 1.0]
    wide = scale_of([-MOST, MOST], 0.0, 100.0)
    assert wide.place(0.0) == 50.0 and wide.place(math.inf) == 100.0 and len(wide.ticks()) > 2
    assert all(0 <= at <= 100 for at, _ in wide.ticks())
    logarithmic = scale_of([5e-324, MOST], 0.0, 100.0, log=True)
    assert isinstance(logarithmic, Log) and logarithmic.place(1.0) == pytest.approx(51.2, abs=0.1)
    assert len(logarithmic.ticks()) > 2
    assert isinstance(scale_of([0.0, 10.0], 0.0, 100.0, log=True), Linear)
    assert difference(MOST, -MOST) == "3.6e+308" and difference(1.0, 3.0) == "2"


def broken(*_: object) -> NoReturn:
    raise OverflowError("cannot convert float infinity to integer")


LINE = "cannot be shown (OverflowError: cannot convert float infinity to integer)."


@pytest.mark.parametrize(
    ("module", "name", "form"),
    [
        (summary_module, "assess", "all"),
        (summary_module, "read_confirmation", "all"),
        (summary_module, "read_refit", "all"),
        (summary_module, "_rungs", "all"),
        (summary_module, "_workers", "all"),
        (summary_module, "_best", "all"),
        (text_module, "_history", "text"),
        (text_module, "_importances", "text"),
        (gallery_module, "history", "html"),
        (gallery_module, "slices", "html"),
        (gallery_module, "history", "markdown"),
    ],
)
def test_a_failing_section_is_replaced_by_one_line_and_the_rest_is_complete(
    nasty: Database, monkeypatch: pytest.MonkeyPatch, module: ModuleType, name: str, form: str
) -> None:
    whole = {each: render(summary_of(nasty, "healthy"), each) for each in FORMS}
    monkeypatch.setattr(module, name, broken)
    summary = summary_of(nasty, "healthy")
    for each in ("text", "json", "markdown", "html") if form == "all" else (form,):
        made = render(summary, each) if each != "markdown" else _with_figures(summary)
        words = " ".join(made.replace("\\", "").split())
        assert LINE in words, (each, made)
        assert len(made) > len(whole[each]) / 2
    assert (list(summary.missing.values()) == []) == (form != "all")
    assert render(summary, "csv") == whole["csv"]


def _with_figures(summary: Summary) -> str:
    from orchestrator.report.markdown import render as render_markdown

    return render_markdown(summary, "report-")


def test_the_text_report_names_a_missing_part_once(
    nasty: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(summary_module, "assess", broken)
    text = " ".join(render(summary_of(nasty, "healthy"), "text").split())
    assert text.count("The importance of the parameters cannot be shown") == 1
    assert "Trial 4" in text or "trial" in text
    assert re.search(r"is the best of 80", text)


def test_a_trial_with_unreadable_attributes_keeps_its_value(
    nasty: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, read = summary_of(nasty, "healthy"), summary_module._seconds
    monkeypatch.setattr(
        summary_module,
        "_seconds",
        lambda trial, origin: broken() if trial.number == 8 else read(trial, origin),
    )
    summary = summary_of(nasty, "healthy")
    assert [each.number for each in summary.ranked()] == [each.number for each in whole.ranked()]
    assert summary.trials[7] == whole.trials[7]
    assert summary.trials[8].value == whole.trials[8].value
    assert summary.trials[8].reason is not None and LINE in summary.trials[8].reason


def test_the_reason_for_a_missing_section_is_logged_at_debug_level(
    nasty: Database, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(summary_module, "assess", broken)
    with caplog.at_level(logging.DEBUG, logger="orch"):
        summary_of(nasty, "healthy")
    (record,) = [each for each in caplog.records if each.name == "orch"]
    assert record.levelno == logging.DEBUG and record.exc_info is not None
    assert "in broken" in caplog.text


@pytest.mark.parametrize("error", [StorageUnavailable("away"), KeyboardInterrupt(), SystemExit(3)])
def test_lost_storage_and_ctrl_c_pass_through_a_section(error: BaseException) -> None:
    def fail() -> str:
        raise error

    with pytest.raises(type(error)):
        section("This", fail, str)
    assert issubclass(StorageUnavailable, StorageError)


def test_orch_best_omits_only_the_trial_that_cannot_be_formatted(
    nasty: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    summary = summary_of(nasty, "healthy")
    first, second = best_page(summary, 2).splitlines()[:2]
    line = listing_module._best_line

    def break_the_first(told: Summary, trial: TrialSummary) -> str:
        return broken() if trial.number == summary.ranked()[0].number else line(told, trial)

    monkeypatch.setattr(listing_module, "_best_line", break_the_first)
    made = best_page(summary, 2).splitlines()
    assert LINE in made[0] and made[1] == second != first


def test_a_failing_note_does_not_stop_the_notes_of_other_studies(
    nasty: Database, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two nasty studies and one healthy one; one verdict fails as a whole, one note too."""
    storage: BaseStorage = open_optuna_storage(url)
    summarise_one, write = summarise, notes.write_note

    def fail_for_huge(database: Database, study: StoredStudy) -> Summary:
        return broken() if study.name == "nasty-huge" else summarise_one(database, study)

    def fail_for_tiny(database: Database, storage: BaseStorage, name: str) -> bool:
        return broken() if name == "nasty-tiny" else write(database, storage, name)

    monkeypatch.setattr(notes, "summarise", fail_for_huge)
    monkeypatch.setattr(notes, "write_note", fail_for_tiny)
    with notes.keep_notes(url):
        healthy = _note(storage, "nasty-healthy", "### Verdict")
        huge = _note(storage, "nasty-huge", "### Verdict")
        grid = _note(storage, "nasty-grid", "### Verdict")
    assert "is the best of 80" in healthy and "is the best of 6" in grid
    assert LINE in huge


def _note(storage: BaseStorage, name: str, wanted: str) -> str:
    deadline, study = time.monotonic() + 60, optuna.Study(name, storage)
    while True:
        note: str = get_note(study)
        if wanted in note:
            return note
        assert time.monotonic() < deadline, note
        time.sleep(0.1)


def objectives_of(folder: Path) -> Callable[[str], str]:
    """Writes a module of an objective; returns its name."""

    def write(body: str) -> str:
        (folder / "nasty_objective.py").write_text(body)
        return str(folder / "nasty_objective.py") + ":objective"

    return write


_OBJECTIVE = """
import numpy as np
np.seterr(all="raise")
MOST = 1.7976931348623157e308

def objective(trial):
    x = trial.suggest_float("x", -1, 1)
    y = trial.suggest_float("y", 1e-300, 1e300, log=True)
    trial.report(-x * MOST, 1)
    trial.report(x * MOST, 2)
    return x * MOST
"""


def test_a_run_whose_module_makes_numpy_raise_still_prints_its_report(
    orch: Orch, name: str, tmp_path: Path
) -> None:
    objective = objectives_of(tmp_path)(_OBJECTIVE)
    done = orch(
        "run", objective, "--study", name, "--trials", "24", "--workers", "2", "--sampler",
        "random", "--pruner", "none",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "Trials 24 of 24: 24 complete" in done.stdout and "Importance (PED-ANOVA" in done.stdout
    assert "cannot be shown" not in done.stdout + done.stderr
    assert "Traceback" not in done.stderr


_VERBS = """
import sys
import numpy as np
np.seterr(all="raise")
from orchestrator.cli import terminal
terminal.make_encodable()
from orchestrator.cli.main import app
for line in sys.argv[1:]:
    app(line.split(), standalone_mode=False)
    print(f"done: {line}")
"""


def test_every_command_that_shows_a_study_shows_nasty_ones(
    orch: Orch, nasty: Database, tmp_path: Path
) -> None:
    commands = ["list"]
    for kind in KINDS:
        name = f"nasty-{kind}"
        commands += [f"report {name} --format {form} --out {tmp_path}/{kind}" for form in FORMS]
        commands += [f"best {name} --top 3", f"show {name}", f"watch {name}", f"space {name}"]
        commands += [f"tensorboard {name} --no-serve --logdir {tmp_path}/board-{kind}"]
        if kind != "pareto":
            commands += [f"compare {name} {name}-again"]
            store_nasty(nasty, kind, again=True)
    done = subprocess.run(
        [sys.executable, "-c", _VERBS, *commands],
        env=orch.environment, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    assert re.findall("^done: (.*)$", done.stdout, re.M) == commands


def test_the_dashboard_writes_notes_for_nasty_studies_too(orch: Orch, nasty: Database) -> None:
    with served(orch, "dashboard", "--port", "0", "--metrics-port", "0", lines=2) as (_, said):
        address, metrics = re.findall(r"http://\S+", said)
        studies = json.loads(ask(f"{address}api/studies")[1])["study_summaries"]
        ids = {each["study_name"]: each["study_id"] for each in studies}
        storage = open_optuna_storage(nasty.url)
        for kind, best in (("huge", 40), ("choices", 40), ("healthy", 80)):
            assert f"nasty-{kind}" in ids
            assert _note(storage, f"nasty-{kind}", f"is the best of {best}")
            assert ask(f"{address}api/studies/{ids[f'nasty-{kind}']}")[0] == 200
        status, body = ask(metrics)
        assert status == 200 and b'orch_best_value{study="nasty-huge"} -1.7' in body


_BROKEN_RUN = """
import sys
import orchestrator.{module} as module
def broken(*_, **__):
    raise OverflowError("cannot convert float infinity to integer")
module.{function} = broken
from orchestrator.cli.main import main
sys.argv = ["orch", *sys.argv[1:]]
main()
"""


@pytest.mark.parametrize(
    ("module", "function", "shown"),
    [
        ("report.reader", "assess", "Trials 4 of 4: 4 complete"),
        ("report.text", "_history", "Trials 4 of 4: 4 complete"),
        ("study", "summarise", "The report"),
    ],
)
@pytest.mark.parametrize("debug", [False, True])
def test_a_broken_report_does_not_change_a_runs_exit_code(
    orch: Orch, name: str, module: str, function: str, shown: str, debug: bool
) -> None:
    command = ["run", "quadratic", "--study", name, "--trials", "4", "--pruner", "none"]
    script = _BROKEN_RUN.format(module=module, function=function)
    done = subprocess.run(
        [sys.executable, "-c", script, *["--debug"] * debug, *command, "--workers", "1"],
        env=orch.environment, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert shown in done.stdout and LINE in " ".join(done.stdout.split())
    assert ("in broken" in done.stderr) == debug, "the traceback is there for who asks"


def test_a_failed_run_exits_1_even_if_its_report_breaks(orch: Orch, name: str) -> None:
    script = _BROKEN_RUN.format(module="study", function="summarise")
    done = subprocess.run(
        [
            sys.executable, "-c", script, "run", "quadratic", "--study", name, "--trials", "4",
            "--workers", "1", "--set", "objective.failure_rate=1",
            "--set", "worker.max_failures=1", "--set", "worker.max_retries=0",
        ],
        env=orch.environment, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 1 and LINE in done.stdout, done.stderr


@pytest.mark.parametrize("method", ["news", "headline", "read"])
def test_a_failing_live_display_does_not_stop_a_run(orch: Orch, name: str, method: str) -> None:
    script = _BROKEN_RUN.format(
        module="report.progress", function=f"ProgressReader.{method}"
    ).replace("def broken", "whole = module.ProgressReader.read\ndef broken", 1)
    if method == "read":  # not the first look, which says that there is work
        script = script.replace(
            "    raise", "    if not hasattr(module, 'told'):\n        module.told = 1\n"
            "        return whole(*_)\n    raise", 1,
        )  # fmt: skip
    done = subprocess.run(
        [
            sys.executable, "-c", script, "run", "quadratic", "--study", name, "--trials", "4",
            "--workers", "1",
        ],
        env=orch.environment, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0 and "Trials 4 of 4" in done.stdout, done.stderr
    assert done.stderr.count(f"The progress {LINE}") == 1
