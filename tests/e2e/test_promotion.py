"""Hyperband with promotion, distributed: stopped trials go on from their checkpoints."""

from __future__ import annotations

from collections import Counter

from conftest import Orch
from fault_site import OwnServer, ended, wait_until


def test_promoted_trials_continue_where_they_paused(site: OwnServer) -> None:
    site.create(
        trials=16, pruner__name="hyperband", pruner__promote=True, objective__steps=8,
        objective__sleep=0.02,
    )  # fmt: skip
    ended(site.start("worker", "s", "--processes", "3"))
    report = site.report()
    lengths = Counter(len(trial["intermediate"]) for trial in report["trials"])
    assert lengths == {8: 2 * (2 + 3), 3: 2 * 3}, "two times both brackets"
    assert report["states"]["complete"] == 10 and report["states"]["pruned"] == 6
    twice = {step: count for step, count in site.trained().items() if count > 1}
    assert not twice, "no epoch is trained twice"
    assert report["rungs"] == [
        {"bracket": 0, "resource": 8, "reached": 6, "passed": 6},
        {"bracket": 1, "resource": 3, "reached": 10, "passed": 4},
        {"bracket": 1, "resource": 8, "reached": 4, "passed": 4},
    ]
    for trial in report["trials"]:
        if trial["state"] == "PRUNED":
            assert trial["value"] == trial["intermediate"]["3"]


def test_brackets_survive_killed_workers_and_a_stop(site: OwnServer) -> None:
    site.create(
        trials=8, pruner__name="hyperband", pruner__promote=True, objective__steps=8,
    )  # fmt: skip
    shell = site.start("worker", "s", "--processes", "2")
    wait_until(lambda: sum(site.trained().values()) >= 8)
    site.processes(shell)[0].kill()
    wait_until(lambda: sum(site.trained().values()) >= 20)
    site.kill_machine(shell)
    ended(site.start("worker", "s", "--processes", "2"))
    report = site.report()
    assert report["states"]["complete"] == 5 and report["states"]["pruned"] == 3
    lost = report["retries"]
    assert sum(count - 1 for count in site.trained().values()) <= 2 * lost


def test_promotion_is_refused_where_it_is_impossible(orch: Orch, name: str) -> None:
    promote = ("--set", "pruner.promote=true")
    message = orch.refused(
        2, "create", name, "--objective", "user_objectives:conditional", *promote
    )
    assert "keeps no checkpoints" in message
    message = orch.refused(2, "create", name, "--objective", "digits", "--folds", "3", *promote)
    assert "whole trainings" in message
    message = orch.refused(
        2, "create", name, "--objective", "quadratic", "--sampler", "grid",
        "--param", "x=1.0", "--param", "y=1.0", *promote,
    )  # fmt: skip
    assert "use one of them" in message
