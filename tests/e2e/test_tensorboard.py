"""TensorBoard with HParams: the logs as its own backend reads them, and its page."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from browser import deep_text
from conftest import Orch

pytest.importorskip("tensorboard", reason="TensorBoard is not installed")


def session_groups(folder: Path) -> list[Any]:
    """What the HParams plugin's own backend makes of the logs."""
    from tensorboard.backend.event_processing import data_provider
    from tensorboard.backend.event_processing.plugin_event_multiplexer import EventMultiplexer
    from tensorboard.context import RequestContext
    from tensorboard.plugins import base_plugin
    from tensorboard.plugins.hparams import api_pb2, backend_context, list_session_groups

    multiplexer = EventMultiplexer().AddRunsFromDirectory(str(folder))
    multiplexer.Reload()
    provider = data_provider.MultiplexerDataProvider(multiplexer, str(folder))
    context = backend_context.Context(base_plugin.TBContext(data_provider=provider))
    request = api_pb2.ListSessionGroupsRequest(
        allowed_statuses=[
            api_pb2.STATUS_SUCCESS, api_pb2.STATUS_FAILURE, api_pb2.STATUS_RUNNING,
            api_pb2.STATUS_UNKNOWN,
        ],
        start_index=0, slice_size=1000,
    )  # fmt: skip
    experiment = context.experiment_from_metadata(
        RequestContext(),
        "",
        True,
        context.hparams_metadata(RequestContext(), ""),
        context.hparams_from_data_provider(RequestContext(), "", None),
    )
    request.col_params.extend(
        api_pb2.ColParams(metric=each.name) for each in experiment.metric_infos
    )
    handler = list_session_groups.Handler(RequestContext(), context, "", request)
    return list(handler.run().session_groups)


def value_of(hparam: Any) -> Any:
    return getattr(hparam, hparam.WhichOneof("kind"))


def test_every_trial_is_a_session_with_its_hparams_metric_and_status(
    orch: Orch, name: str, tmp_path: Path
) -> None:
    from tensorboard.plugins.hparams import api_pb2

    orch.ok(
        "run", "user_objectives:fails_at_two", "--study", name, "--sampler", "grid",
        "--workers", "2", "--param", "x={choice=[1,2,3]}", "--set", "worker.max_retries=1",
    )  # fmt: skip
    orch.ok("tensorboard", name, "--logdir", str(tmp_path / "logs"), "--no-serve")
    groups = {int(value_of(each.hparams["x"])): each for each in session_groups(tmp_path / "logs")}
    assert set(groups) == {1, 2, 3}, "a retried attempt is no session of its own"
    statuses = {x: each.sessions[0].status for x, each in groups.items()}
    success, failure = api_pb2.STATUS_SUCCESS, api_pb2.STATUS_FAILURE
    assert statuses == {1: success, 2: failure, 3: success}
    assert [each.value for each in groups[3].metric_values] == [3.0]
    assert groups[3].sessions[0].end_time_secs >= groups[3].sessions[0].start_time_secs


def test_the_metrics_curve_has_a_point_per_epoch(orch: Orch, name: str, tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    orch.ok("run", "quadratic", "--study", name, "--trials", "3", "--workers", "1")
    orch.ok("tensorboard", name, "--logdir", str(tmp_path), "--no-serve")
    for trial in orch.report(name)["trials"]:
        events = EventAccumulator(str(tmp_path / f"trial-{trial['number']:05d}"))
        events.Reload()
        curve = {str(each.step): each.value for each in events.Scalars("value")}
        assert curve == pytest.approx(trial["intermediate"], rel=1e-6)


def test_all_that_a_trial_logs_is_a_curve_beside_the_metric(
    orch: Orch, name: str, tmp_path: Path
) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    orch.ok("run", "user_objectives:logs", "--study", name, "--trials", "3", "--workers", "1",
            "--pruner", "none", "--metric", "score", "--direction", "maximize")  # fmt: skip
    orch.ok("tensorboard", name, "--logdir", str(tmp_path), "--no-serve")
    for trial in orch.report(name)["trials"]:
        events = EventAccumulator(str(tmp_path / f"trial-{trial['number']:05d}"))
        events.Reload()
        for tag, curve in {**trial["logs"], "score": trial["intermediate"]}.items():
            found = {str(each.step): each.value for each in events.Scalars(tag)}
            assert found == pytest.approx(curve, rel=1e-6), tag
        assert set(events.Tags()["scalars"]) == {"score", "loss", "learning_rate"}
    groups = session_groups(tmp_path)
    shown = sorted(each.metric_values[0].value for each in groups)
    assert shown == pytest.approx(sorted(t["value"] for t in orch.report(name)["trials"]))


def test_live_follows_the_study_to_its_end(orch: Orch, name: str, tmp_path: Path) -> None:
    orch.ok("create", name, "--objective", "quadratic", "--trials", "4",
            "--set", "objective.sleep=0.2")  # fmt: skip
    live = orch.start("tensorboard", name, "--logdir", str(tmp_path), "--no-serve", "--live")
    orch.ok("worker", name)
    _, errors = live.communicate(timeout=60)
    assert live.returncode == 0, errors
    assert len(list(tmp_path.glob("trial-*/complete"))) == 4
    assert not list(tmp_path.parent.glob(".orch-*")), "no temporary folder is left"


def test_the_page_shows_a_row_for_each_trial(orch: Orch, name: str, tmp_path: Path) -> None:
    orch.ok("run", "quadratic", "--study", name, "--trials", "5", "--workers", "1")
    server = orch.start("tensorboard", name, "--logdir", str(tmp_path / "logs"), "--port", "0")
    assert server.stderr is not None
    server.stderr.readline()
    found = re.search(r"http://127\.0\.0\.1:\d+/#hparams", server.stderr.readline())
    assert found is not None
    try:
        page = deep_text(found[0], tmp_path / "profile", "trial-00004")
        rows = set(re.findall(r"trial-0000\d", page))
        assert rows == {f"trial-0000{number}" for number in range(5)}
        port = found[0].split(":")[2].split("/")[0]
        refused = orch("tensorboard", name, "--logdir", str(tmp_path / "logs"), "--port", port)
        assert refused.returncode == 1 and "name another with --port" in refused.stderr
    finally:
        server.send_signal(signal.SIGINT)
        server.wait(timeout=20)
    assert server.returncode == 130


def test_writing_the_logs_does_not_import_tensorflow() -> None:
    code = (
        "import sys, tempfile, pathlib, optuna;"
        "from orchestrator.serve.tensorboard import HParamsLogs;"
        "from orchestrator.spec.model import StudySpec;"
        "spec = StudySpec.parse({'study': {'name': 'a', 'objective': 'b', 'metric': 'c'}});"
        "trial = optuna.trial.create_trial(value=1.0, params={'x': 1},"
        " distributions={'x': optuna.distributions.IntDistribution(0, 2)});"
        "HParamsLogs(pathlib.Path(tempfile.mkdtemp()) / 'logs', spec).write([trial]);"
        "sys.exit('tensorflow' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
