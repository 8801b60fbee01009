"""A training as its user wrote it gives the same by orch as by Keras and KerasTuner."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from declared import Training, names
from epochs import begun
from harness import Users

Peer = Callable[[Training], dict[str, Any]]
# Sums in another order: other threads, other batches of an operation.
ROUNDING = {"rel": 2e-4, "abs": 2e-5}
# The same again after a restart: by the compiled loop, and by Keras's own.
RESTARTED = {True: 1e-5, False: 1e-3}
BY_PYTHON = ["regression_table", "dict_inputs_outputs", "tuned_batch_size", "tf_dataset"]

_reports: dict[str, dict[str, Any]] = {}


def test_there_are_trainings_of_many_kinds() -> None:
    assert len(names()) >= 30


def test_a_training_runs_without_orch(peer: Peer, training: Training) -> None:
    result = peer(training)
    assert math.isfinite(result["best"]) and math.isfinite(result["last"])


def test_a_training_has_the_value_that_it_has_without_orch(
    users: Users, peer: Peer, training: Training, name: str
) -> None:
    expected = peer(training)
    report = report_of(users, training, name)
    check_budget(report, training)
    check_values(trial_of(report, training), expected, training)


@pytest.mark.parametrize(
    "chosen", [pytest.param(each, marks=pytest.mark.users) for each in BY_PYTHON]
)
def test_a_training_runs_by_the_python_api(
    users: Users, peer: Peer, chosen: str, name: str
) -> None:
    training = Training.of(chosen)
    report = users.run_in_python(training, name)
    check_budget(report, training)
    check_values(trial_of(report, training), peer(training), training)


@pytest.mark.kills
def test_a_killed_training_continues(
    users: Users, peer: Peer, training: Training, name: str, tmp_path: Path
) -> None:
    whole = peer(training)
    log = tmp_path / "epochs"
    report = users.run_and_kill(training, name, log)
    killed, trial = report["trials"]
    assert trial["state"] == "COMPLETE" and trial["retry_of"] == killed["number"], report["trials"]
    check_epochs(begun(log), whole["begun"])
    assert list(trial["intermediate"]) == [str(step + 1) for step in range(len(whole["begun"]))]
    if training.fast or training.exact is True:
        uninterrupted = trial_of(report_of(users, training, f"{name}-whole"), training)
        assert list(trial["intermediate"].values()) == pytest.approx(
            list(uninterrupted["intermediate"].values()), rel=RESTARTED[training.fast]
        )


def report_of(users: Users, training: Training, name: str) -> dict[str, Any]:
    """The training's study, run once in a process."""
    if training.name not in _reports:
        _reports[training.name] = users.run(training, name)
    return _reports[training.name]


def check_budget(report: dict[str, Any], training: Training) -> None:
    """Exactly the trials that were asked for, and no attempt that failed but where one must."""
    states = report["states"]
    assert states["complete"] + states["pruned"] == training.trials
    failed = [trial for trial in report["trials"] if trial["state"] == "FAIL"]
    assert len(failed) == states["failed"] == (1 if training.fails else 0), failed
    assert report["retries"] == 0
    if training.fails:
        assert failed[0]["params"] == training.fails


def trial_of(report: dict[str, Any], training: Training) -> dict[str, Any]:
    """The trial of the training's own parameters: the first."""
    first: dict[str, Any] = min(report["trials"], key=lambda trial: trial["number"])
    assert first["params"] == training.params and first["state"] == "COMPLETE"
    return first


def check_values(trial: dict[str, Any], expected: dict[str, Any], training: Training) -> None:
    """The trial's value, and that of each epoch where the peer reported them."""
    either = [expected["best"], expected["last"]]  # of the epochs, as the study is set
    if training.exact is not True:
        nearest = min(abs(trial["value"] - value) for value in either)
        assert nearest <= training.exact, (trial["value"], either)
        return
    assert any(trial["value"] == pytest.approx(value, **ROUNDING) for value in either), either
    epochs = [logs[training.metric] for logs in expected["logs"] if training.metric in logs]
    if trial["intermediate"] and len(epochs) == len(expected["logs"]):
        reported = list(trial["intermediate"].values())[: len(epochs)]
        assert reported == pytest.approx(epochs[: len(reported)], **ROUNDING)


def check_epochs(lines: list[dict[str, Any]], whole: list[tuple[int, float | None]]) -> None:
    """The retry begins with the epoch in which its worker was killed, at the same learning rates."""
    assert len({line["pid"] for line in lines}) == 2
    retried = [line for line in lines if line["pid"] != lines[0]["pid"]]
    assert len(lines) - len(retried) == 3
    begun_again = lines[:2] + retried
    assert len(lines) <= len(whole) + 1
    assert [line["epoch"] for line in begun_again] == [epoch for epoch, _ in whole]
    for line, (epoch, rate) in zip(begun_again, whole, strict=True):
        assert line["rate"] == (rate if rate is None else pytest.approx(rate, rel=1e-5)), epoch
