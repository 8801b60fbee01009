"""Promotion, distributed: paused trials go on from their checkpoints."""

from __future__ import annotations

from collections import Counter
from typing import Any

import optuna
from conftest import Orch
from fault_site import OwnServer, ended, wait_until

from orchestrator.storage.rdb_storage import make_rdb_storage


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
            assert trial["value"] == trial["intermediate"]["3"] and trial["paused"]
    _every_trial_has_its_worker_and_seed(site, report)


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


def test_asha_promotes_without_waiting_and_trains_no_epoch_twice(site: OwnServer) -> None:
    site.create(
        trials=18, pruner__name="asha", pruner__promote=True, objective__steps=9,
        objective__sleep=0.02,
    )  # fmt: skip
    ended(site.start("worker", "s", "--processes", "3"))
    report = site.report()
    assert len(report["trials"]) == 18, "the budget is exact"
    lengths = Counter(len(trial["intermediate"]) for trial in report["trials"])
    assert set(lengths) == {1, 3, 9}
    assert lengths[3] + lengths[9] >= 18 // 3 and 1 <= lengths[9] == report["states"]["complete"]
    assert report["states"]["pruned"] == 18 - lengths[9]
    twice = {step: count for step, count in site.trained().items() if count > 1}
    assert not twice, "no epoch is trained twice"
    assert [(each["bracket"], each["resource"]) for each in report["rungs"]] == [
        (0, 1), (0, 3), (0, 9),
    ]  # fmt: skip
    _every_trial_has_its_worker_and_seed(site, report)


def _every_trial_has_its_worker_and_seed(site: OwnServer, report: dict[str, Any]) -> None:
    """Also those that their plan ended, though no worker did."""
    workers = {each["id"]: each["trials"] for each in report["workers"]}
    assert workers == Counter(trial["worker"] for trial in report["trials"])
    assert f" on {len(workers)} workers" in report["verdict"][-1]
    url = site.server.url()
    assert url is not None
    plain = optuna.load_study(study_name="s", storage=make_rdb_storage(url))
    for trial in plain.trials:
        assert trial.user_attrs["orch:seed"] >= 0 and trial.user_attrs["orch:seconds"] > 0


def test_rungs_survive_killed_workers_and_a_stop(site: OwnServer) -> None:
    site.create(trials=12, pruner__name="asha", pruner__promote=True, objective__steps=9)
    shell = site.start("worker", "s", "--processes", "2")
    wait_until(lambda: sum(site.trained().values()) >= 8)
    site.processes(shell)[0].kill()
    wait_until(lambda: sum(site.trained().values()) >= 14)
    site.kill_machine(shell)
    ended(site.start("worker", "s", "--processes", "2"))
    report = site.report()
    assert report["states"]["complete"] >= 1
    assert report["states"]["complete"] + report["states"]["pruned"] == 12
    assert sum(count - 1 for count in site.trained().values()) <= 2 * report["retries"]


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
