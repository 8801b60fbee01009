"""Who may do what on the dashboard, over HTTP; and the metrics that it serves."""

from __future__ import annotations

import base64
import http.client
import json
import re
import signal
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest
from conftest import Orch
from prometheus_client.parser import text_string_to_metric_families
from report.studies import searched, store

from orchestrator.storage.artifacts import Picture, attach
from orchestrator.storage.database import Database
from orchestrator.storage.studies import open_study

pytestmark = pytest.mark.usefixtures("stored")


@contextmanager
def served(orch: Orch, *arguments: str, lines: int) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A running command, and the first lines that it says."""
    process = orch.start(*arguments)
    assert process.stderr is not None
    try:
        yield process, "".join(process.stderr.readline() for _ in range(lines))
    finally:
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=120)


def ask(
    address: str, password: str | None = None, method: str = "GET", body: bytes | None = None
) -> tuple[int, bytes]:
    request = urllib.request.Request(
        address, body, {"Content-Type": "application/json"}, method=method
    )
    if password is not None:
        coded = base64.b64encode(f"anyone:{password}".encode()).decode()
        request.add_header("Authorization", f"Basic {coded}")
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        return error.code, error.read()


def metrics_of(text: str) -> dict[tuple[str, ...], float]:
    """Each sample by its name and its labels' values."""
    return {
        (sample.name, *(value for _, value in sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


@pytest.fixture(scope="module")
def guarded(home: Path) -> Iterator[tuple[str, str, str, int]]:
    """Address, metrics' address, password and process id of a dashboard that is open to others."""
    arguments = [
        "dashboard",
        "--port",
        "0",
        "--host",
        "0.0.0.0",
        "--read-only",
        "--metrics-port",
        "0",
    ]
    with served(Orch(home), *arguments, lines=4) as (process, said):
        port = re.search(r"http://0\.0\.0\.0:(\d+)/, read-only", said)
        password = re.search(r"its password, for any user name: (\S+)", said)
        metrics = re.search(r"metrics at (http://127\.0\.0\.1:\d+/metrics)", said)
        assert port and password and metrics and "without TLS" in said, said
        yield f"http://127.0.0.1:{port[1]}/", metrics[1], password[1], process.pid


def test_a_probe_that_names_no_encoding_gets_the_static_files(
    guarded: tuple[str, str, str, int],
) -> None:
    address, _, password, _ = guarded
    coded = base64.b64encode(f"anyone:{password}".encode()).decode()
    connection = http.client.HTTPConnection(address.removeprefix("http://").rstrip("/"), timeout=60)
    connection.putrequest("GET", "/favicon.ico", skip_accept_encoding=True)
    connection.putheader("Authorization", f"Basic {coded}")
    connection.endheaders()
    assert connection.getresponse().status == 200
    connection.close()


def test_a_dashboard_reachable_from_outside_generates_and_requires_a_password(
    guarded: tuple[str, str, str, int],
) -> None:
    address, _, password, pid = guarded
    assert ask(f"{address}api/studies")[0] == 401
    assert ask(f"{address}api/studies", "wrong-password")[0] == 401
    assert ask(f"{address}api/studies", password)[0] == 200
    assert password not in " ".join(psutil.Process(pid).cmdline())


def test_read_only_refuses_every_write_and_changes_nothing(
    guarded: tuple[str, str, str, int],
) -> None:
    address, _, password, _ = guarded
    before = json.loads(ask(f"{address}api/studies", password)[1])["study_summaries"]
    study = next(each for each in before if each["study_name"] == "report-many")
    where = f"{address}api/studies/{study['study_id']}"
    note = json.dumps({"body": "mine", "version": 99}).encode()
    for method, path, body in (
        ("DELETE", where, None),
        ("PUT", f"{where}/note", note),
        ("POST", f"{address}api/studies", b'{"study_name": "x", "directions": ["minimize"]}'),
        ("PATCH", where, b"{}"),
    ):
        assert ask(path, password, method, body)[0] == 405, (method, path)
    after = json.loads(ask(f"{address}api/studies", password)[1])["study_summaries"]
    assert [each["study_name"] for each in after] == [each["study_name"] for each in before]


def test_the_metrics_endpoint_agrees_with_the_report(
    guarded: tuple[str, str, str, int], orch: Orch
) -> None:
    found = metrics_of(ask(guarded[1])[1].decode())
    report = orch.report("report-many")
    for state in ("complete", "pruned", "failed", "running", "waiting"):
        assert found["orch_trials", state, "report-many"] == report["states"][state]
    assert found["orch_budget_trials", "report-many"] == report["budget"]
    assert found["orch_best_value", "report-many"] == pytest.approx(report["best"]["value"])
    assert found["orch_epochs_total", "report-many"] == report["epochs"]["trained"]
    assert found["orch_retries_total", "report-many"] == report["retries"] == 1
    assert found["orch_storage_up",] == 1 and found["orch_storage_latency_seconds_count",] >= 1


def test_a_local_dashboard_needs_no_password_unless_one_is_given(
    orch: Orch, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "/nowhere")  # and so no browser
    for display in ("DISPLAY", "WAYLAND_DISPLAY", "BROWSER"):
        monkeypatch.delenv(display, raising=False)
    file = tmp_path / "password"
    file.write_text("a good long one\n")
    arguments = ["dashboard", "--open", "--port", "0", "--password-file", str(file)]
    with served(orch, *arguments, lines=2) as (_, said):
        assert "no browser was found here" in said
        address = re.search(r"http://127\.0\.0\.1:\d+/", said)
        assert address is not None and "good" not in said
        assert ask(f"{address[0]}api/studies")[0] == 401
        assert ask(f"{address[0]}api/studies", "a good long one")[0] == 200
    file.write_text("short")
    assert "8 characters" in orch.refused(2, "dashboard", "--password-file", str(file))
    assert "cannot read" in orch.refused(1, "dashboard", "--password-file", str(tmp_path / "none"))


def test_the_dashboard_shows_verdict_artifacts_and_attributes(orch: Orch, stored: Database) -> None:
    study = open_study(stored, "report-many")
    for content in (b"old", b"new"):
        attach(stored, study, 72, [Picture("digits.png", "image/png", content)])
    with served(orch, "dashboard", "--port", "0", lines=1) as (_, said):
        address = said.split()[2]
        studies = json.loads(ask(f"{address}api/studies")[1])["study_summaries"]
        number = next(e["study_id"] for e in studies if e["study_name"] == "report-many")
        deadline = time.monotonic() + 120
        note = ""
        while "Verdict" not in note:
            assert time.monotonic() < deadline, "no note"
            detail = json.loads(ask(f"{address}api/studies/{number}")[1])
            note = detail["note"]["body"]
            time.sleep(0.5)
        assert "trial 72 is the best of 79" in note
        shown = {each["key"]: each["value"] for each in detail["trials"][8]["user_attrs"]}
        assert shown["retry of trial"] == "7" and shown["worker"] == "north:1"
        assert shown["time"] == "1.0 s" and not any(key.startswith("orch:") for key in shown)
        assert detail["objective_names"] == ["val_accuracy"]
        (artifact,) = detail["trials"][72]["artifacts"]
        assert artifact["filename"] == "digits.png"
        trial = detail["trials"][72]["trial_id"]
        where = f"{address}artifacts/{number}/{trial}/{artifact['artifact_id']}"
        assert ask(where) == (200, b"new")


def test_deleting_a_study_removes_its_images(orch: Orch, stored: Database, name: str) -> None:
    study = store(stored, name, searched(1))
    attach(
        stored, study, 0, [Picture("a.png", "image/png", b"x"), Picture("b.png", "image/png", b"y")]
    )
    before = stored.execute("SELECT count(*) AS count FROM orch.artifact")[0]["count"]
    orch.ok("delete", name, "--yes")
    assert stored.execute("SELECT count(*) AS count FROM orch.artifact")[0]["count"] == before - 2


def test_a_worker_serves_the_metrics_of_its_study(orch: Orch, name: str) -> None:
    orch.ok("create", name, "--objective", "quadratic", "--trials", "2")
    with served(orch, "worker", name, "--wait", "--metrics-port", "0", lines=1) as (_, said):
        address = re.search(r"http://\S+/metrics", said)
        assert address is not None, said
        deadline = time.monotonic() + 120
        found: dict[tuple[str, ...], float] = {}
        while (
            found.get(("orch_trials", "complete", name), 0)
            + found.get(("orch_trials", "pruned", name), 0)
            < 2
        ):
            assert time.monotonic() < deadline, found
            found = metrics_of(ask(address[0])[1].decode())
            time.sleep(0.5)
        assert found["orch_live_workers", name] == 1
        assert found["orch_epochs_total", name] >= 2 and found["orch_epoch_seconds", name] > 0
        assert not [key for key in found if "report-many" in key], "its own study alone"
    assert "PORT" in orch.refused(2, "worker", name, "--metrics-port", "no")
