"""A plain function goes on from the state that it kept, wherever its worker was lost."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import optuna
import pytest
from fault_site import wait_until
from optuna.trial import TrialState
from worker.workplace import SetFunction, Workplace

import orchestrator as orch
from orchestrator.errors import PatienceExceeded, StudyFailed
from orchestrator.storage.studies import read_trials
from orchestrator.winner.replay import replay
from orchestrator.worker.trial import Trial

STEPS = 5
STEP: Any = "one"


class Loop:
    """A training of one number; notes which steps it was called for, and where it began."""

    def __init__(self, act: Callable[[Any, int], object] = lambda trial, step: None) -> None:
        self.act = act
        self.trained: list[int] = []
        self.began: list[int] = []

    def __call__(self, trial: optuna.Trial) -> float:
        rng = np.random.default_rng(0)
        done, state = orch.restore(trial) or (0, {})
        self.began.append(done)
        weights = state.get("weights", np.zeros(1))
        rng.bit_generator.state = state.get("rng", rng.bit_generator.state)
        for step in range(done + 1, STEPS + 1):
            self.trained.append(step)
            weights += rng.normal()
            trial.report(float(weights[0]), step)
            self.act(trial, step)
            kept = {"weights": weights, "rng": rng.bit_generator.state}
            orch.checkpoint(trial, step, kept)
        return float(weights[0])


def undisturbed() -> dict[int, float]:
    """The values of a training that nothing has disturbed."""
    values = np.random.default_rng(0).normal(size=STEPS).cumsum()
    return {step + 1: float(value) for step, value in enumerate(values)}


@pytest.fixture
def train(place: Workplace, function: SetFunction) -> Callable[..., Loop]:
    """Makes a study of one trial that runs a loop, and lets workers work until it is done."""

    def run(act: Callable[[Any, int], object], workers: int = 2, **sections: Any) -> Loop:
        loop = Loop(act)
        function(loop)
        place.create("hooked:plain", **sections)
        for _ in range(workers):
            place.worker().run()
        return loop

    return run


def assert_whole(place: Workplace, cut_off: bool = False) -> optuna.trial.FrozenTrial:
    """The trial that counts has every value once, as if nothing had happened.

    Where the database was away, an artifact may be left that no checkpoint names, for a day.
    """
    trial = place.trials()[-1]
    assert trial.state == TrialState.COMPLETE
    assert trial.intermediate_values == pytest.approx(undisturbed(), abs=0)
    assert place.execute("SELECT 1 FROM orch.checkpoint") == []
    assert cut_off or place.execute("SELECT 1 FROM orch.artifact") == []
    return trial


def test_a_stopped_worker_leaves_inside_the_next_checkpoint(
    place: Workplace, train: Callable[..., Loop]
) -> None:
    stopped: list[int] = []

    def stop(trial: Trial, step: int) -> None:
        if step == 3 and not stopped:
            stopped.append(step)
            trial._stop.asked = True

    loop = train(stop)
    assert loop.trained == [1, 2, 3, 4, 5] and loop.began == [0, 3]
    assert place.only().user_attrs["orch:restarts"] == [[3, 0]]
    assert_whole(place)


def test_a_stopped_worker_that_saves_rarely_leaves_at_the_report_after_next(
    place: Workplace, function: SetFunction
) -> None:
    trained: list[int] = []

    def objective(trial: Trial) -> float:
        done, state = orch.restore(trial) or (0, {"sum": 0})
        for step in range(done + 1, 11):
            trained.append(step)
            state["sum"] += step
            if step == 4 and trained.count(4) == 1:
                trial._stop.asked = True
            trial.report(step, step)
            if step % 3 == 0 and step != 6:
                orch.checkpoint(trial, step, state)
        assert state["sum"] == 55
        return 0.5

    function(objective)
    place.create("hooked:plain")
    place.worker().run()
    assert trained == [1, 2, 3, 4, 5], "asked before the report of 4, it leaves at that of 5"
    assert list(place.only().intermediate_values) == [1, 2, 3]
    place.worker().run()
    assert trained[5:] == list(range(4, 11))
    assert list(place.only().intermediate_values) == list(range(1, 11))


def test_a_function_that_keeps_nothing_leaves_at_its_next_report(
    place: Workplace, function: SetFunction
) -> None:
    reported: list[int] = []

    def objective(trial: Trial) -> float:
        for step in range(1, 4):
            trial._stop.asked = not reported
            reported.append(step)
            trial.report(1.0, step)
        return 0.5

    function(objective)
    place.create("hooked:plain")
    place.worker().run()
    assert reported == [1] and place.only().intermediate_values == {}


def test_a_failed_attempt_goes_on_from_its_last_stored_checkpoint(
    place: Workplace, train: Callable[..., Loop]
) -> None:
    def fail(trial: Trial, step: int) -> None:
        if step == 4 and trial.number == 0:
            place.wait_until_saved(3)
            raise ArithmeticError

    loop = train(fail, workers=1, worker={"max_retries": 1})
    assert loop.began == [0, 3] and loop.trained == [1, 2, 3, 4, 4, 5]
    assert assert_whole(place).number == 1


def test_a_lost_lease_leaves_its_checkpoint_to_the_retry(
    place: Workplace, train: Callable[..., Loop]
) -> None:
    def lose(trial: Trial, step: int) -> None:
        if step == 3 and trial.number == 0:
            place.wait_until_saved(2)
            place.lose_the_lease()

    loop = train(lose)
    assert loop.began == [0, 2]
    assert assert_whole(place).number == 1


def test_the_state_outlives_an_outage_on_this_machines_disk(
    place: Workplace, function: SetFunction
) -> None:
    def cut(trial: Trial, step: int) -> None:
        if step == 2 and len(loop.began) == 1:
            place.own.goes_away()
        if step == 3 and len(loop.began) == 1:
            wait_until(lambda: trial._reporter.outage_seconds > 0.5)

    loop = Loop(cut)
    function(loop)
    place.create("hooked:plain", worker={"storage_patience": "0.5s"})
    with pytest.raises(PatienceExceeded):
        place.worker().run()
    place.own.comes_back()
    place.lose_the_lease()
    place.worker().run()
    assert loop.began[1] >= 2 and loop.trained == [1, 2, 3, 4, 5]
    assert_whole(place, cut_off=True)


def test_a_pruned_function_leaves_no_checkpoint_behind(
    place: Workplace, function: SetFunction
) -> None:
    def objective(trial: optuna.Trial) -> float:
        assert orch.restore(trial) is None
        trial.report(1.0, 1)
        orch.checkpoint(trial, 1, {"x": 1})
        place.wait_until_saved(1)
        raise optuna.TrialPruned

    function(objective)
    place.create("hooked:plain")
    place.worker().run()
    assert place.only().state == TrialState.PRUNED
    assert place.execute("SELECT 1 FROM orch.artifact") == []


def test_a_checkpoint_of_a_forked_child_is_stored(place: Workplace, function: SetFunction) -> None:
    began: list[int] = []

    def objective(trial: optuna.Trial) -> float:
        step, _ = orch.restore(trial) or (0, {})
        began.append(step)
        child = os.fork()
        if not child:
            trial.report(0.5, step + 1)
            orch.checkpoint(trial, step + 1, {"weights": np.ones(3)})
            os._exit(0)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        if step == 0:
            raise ArithmeticError
        return 0.5

    function(objective)
    place.create("hooked:plain", worker={"max_retries": 1})
    place.worker().run()
    assert began == [0, 1] and list(place.trials()[-1].intermediate_values) == [1, 2]


def test_what_cannot_be_stored_fails_the_attempt_and_is_named(
    place: Workplace, function: SetFunction
) -> None:
    function(lambda trial: orch.checkpoint(trial, 1, {"model": object()}))
    # Not due, and refused all the same.
    place.create("hooked:plain", worker={"checkpoint_seconds": 3600})
    with pytest.raises(StudyFailed, match=re.escape("the state['model'] is a object; a state")):
        place.worker().run()


@pytest.mark.parametrize(
    ("act", "reason"),
    [
        (lambda trial: (trial.report(1, 1), orch.restore(trial)), "restore comes before the first"),
        (lambda trial: orch.checkpoint(trial, -1, {}), "must be non-negative"),
        (lambda trial: orch.checkpoint(trial, STEP, {}), "supposed to be an int"),
    ],
)
def test_a_wrong_call_is_named(
    place: Workplace, function: SetFunction, act: Callable[[Any], object], reason: str
) -> None:
    function(act)
    place.create("hooked:plain")
    with pytest.raises(StudyFailed, match=reason):
        place.worker().run()


def test_a_report_after_its_checkpoint_is_warned_of(
    place: Workplace, function: SetFunction, caplog: pytest.LogCaptureFixture
) -> None:
    def objective(trial: optuna.Trial) -> float:
        orch.checkpoint(trial, 1, {})
        trial.report(0.5, 1)
        return 0.5

    function(objective)
    place.create("hooked:plain")
    with caplog.at_level(logging.WARNING, "orch"):
        place.worker().run()
    assert "a step is reported after its checkpoint; report it first" in caplog.text


def test_a_replay_is_equal_and_reads_no_stored_state(
    place: Workplace, function: SetFunction
) -> None:
    """Of a training that forgets its random state, too: it stops and goes on at the same step."""
    began: list[int] = []

    def objective(trial: Any) -> float:
        rng = np.random.default_rng(0)
        done, state = orch.restore(trial) or (0, {"sum": 0.0})
        began.append(done)
        for step in range(done + 1, 6):
            state["sum"] += rng.normal()
            trial.report(state["sum"], step)
            if step == 3 and len(began) == 1:
                trial._stop.asked = True
            orch.checkpoint(trial, step, state)
        return float(state["sum"])

    function(objective)
    place.create("hooked:plain")
    place.worker().run()
    place.worker().run()
    assert place.execute("SELECT 1 FROM orch.artifact") == []
    found = replay(place.study, read_trials(place.database, place.study), 0)
    assert found.verdict() == "identical: 5 of 5 values and the returned value"
    assert began == [0, 3, 0, 3]
