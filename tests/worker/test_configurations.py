"""In a finite space each configuration is tried once, whoever draws it."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from worker.workplace import Workplace

from orchestrator.resolve.queue import enqueue
from orchestrator.resolve.resolve import create_or_resume
from orchestrator.spec.model import StudySpec
from orchestrator.storage.claims import Failure
from orchestrator.storage.studies import open_study

TWELVE = {"x": {"choice": [-1, 0, 1, 2]}, "y": {"int": [-3, -1]}}


def _params(place: Workplace) -> list[tuple[Any, ...]]:
    return sorted((each.params["x"], each.params["y"]) for each in place.trials())


EACH_ONCE = sorted((x, y) for x in (-1, 0, 1, 2) for y in (-3, -2, -1))


@pytest.mark.parametrize("sampler", ["auto", "random", "tpe", "qmc", "mixed-gp"])
def test_four_workers_try_each_configuration_once_and_the_study_ends(
    place: Workplace, sampler: str
) -> None:
    place.create("quadratic", 60, space=TWELVE, sampler={"name": sampler})
    threads = [threading.Thread(target=place.worker().run) for _ in range(4)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert _params(place) == EACH_ONCE
    assert {each.state.name for each in place.trials()} == {"COMPLETE"}
    ended = open_study(place.database, place.name)
    assert (ended.state, ended.reason) == ("exhausted", "all 12 configurations have been tried")


def test_duplicates_are_drawn_where_the_study_asks_for_them(place: Workplace) -> None:
    place.create("quadratic", 14, space=TWELVE, sampler={"name": "random", "duplicates": True})
    place.worker().run()
    assert len(_params(place)) == 14


def test_a_study_that_was_stored_before_draws_duplicates(place: Workplace) -> None:
    place.create("quadratic", 14, space=TWELVE)
    place.execute("UPDATE orch.study SET spec = spec #- '{sampler,duplicates}'")
    place.worker().run()
    assert len(_params(place)) == 14
    # The same command again resumes it as it was.
    again = place.study.spec.model_dump(mode="json", exclude_unset=True)
    del again["sampler"]["duplicates"]
    assert create_or_resume(place.database, StudySpec.parse(again)).study.spec.sampler.duplicates


def test_an_enqueued_configuration_is_tried_again_and_not_drawn(place: Workplace) -> None:
    place.create("quadratic", 60, space=TWELVE)
    for _ in range(2):
        enqueue(place.database, place.study, [{"x": 0, "y": -2}])
    place.worker().run()
    assert _params(place) == sorted([*EACH_ONCE, (0, -2)])


def test_what_is_enqueued_in_part_is_completed_by_a_configuration_of_its_own(
    place: Workplace,
) -> None:
    place.create("quadratic", 60, space=TWELVE)
    for _ in range(3):
        enqueue(place.database, place.study, [{"x": 0}])
    place.worker().run()
    assert _params(place) == EACH_ONCE


def test_a_retry_keeps_its_configuration(place: Workplace) -> None:
    place.create("quadratic", 60, space=TWELVE, worker={"max_retries": 2, "max_failures": 50})
    fails = (
        """UPDATE orch.study SET spec = jsonb_set(spec, '{objective}', '{"failure_rate": 0.3}')"""
    )
    place.execute(fails)
    place.worker().run()
    firsts = [each for each in place.trials() if "orch:retry_of" not in each.user_attrs]
    assert sorted((each.params["x"], each.params["y"]) for each in firsts) == EACH_ONCE


def test_a_study_of_which_workers_of_an_older_orch_drew_goes_on_without_repeats(
    place: Workplace,
) -> None:
    place.create("quadratic", 5, space=TWELVE)
    place.worker().run()
    place.execute("DELETE FROM orch.configuration")
    place.execute("UPDATE orch.study SET spec = jsonb_set(spec, '{study,trials}', '60')")
    place.worker().run()
    assert _params(place) == EACH_ONCE


def test_an_interrupted_draw_is_not_lost(place: Workplace) -> None:
    place.create("quadratic", 60, space=TWELVE, worker={"max_retries": 3})
    claims = place.claims()
    claim = claims.claim()
    assert claim.trial_id is not None  # and nothing was drawn
    claims.fail(claim.trial_id, "on purpose", {}, Failure())
    place.worker().run()
    ended = [each for each in place.trials() if each.state.name == "COMPLETE"]
    assert sorted((each.params["x"], each.params["y"]) for each in ended) == EACH_ONCE
