"""The benchmarks' simulated time is what a study's samplers see."""

from __future__ import annotations

from collections import Counter

import pytest

from benchmarks.problems import problem
from benchmarks.simulation import Simulation
from orchestrator.base.facts import DRAW_SECONDS, SAMPLER
from orchestrator.spec.model import StudySpec


def _simulation(workers: int, trial_seconds: float = 60.0) -> Simulation:
    spec = StudySpec.parse(
        {"study": {"name": "s", "objective": "quadratic"}, "sampler": {"name": "auto"}}
    )
    return Simulation(problem("conditional"), spec, workers, trial_seconds=trial_seconds)


def test_auto_draws_as_it_does_for_trials_of_a_minute() -> None:
    simulation = _simulation(workers=2)
    simulation.run(14)
    drawn = Counter(each.user_attrs[SAMPLER] for each in simulation.study.trials)
    assert drawn == {"sobol": 10, "mixed-gp": 5}
    assert all(
        (DRAW_SECONDS in each.user_attrs) == (each.user_attrs[SAMPLER] == "mixed-gp")
        for each in simulation.study.trials
    )


def test_auto_draws_as_it_does_for_trials_of_a_millisecond() -> None:
    simulation = _simulation(workers=2, trial_seconds=0.001)
    simulation.run(14)
    drawn = Counter(each.user_attrs[SAMPLER] for each in simulation.study.trials)
    assert drawn == {"sobol": 10, "tpe": 5}


def test_trials_take_the_time_of_the_simulation_side_by_side() -> None:
    simulation = _simulation(workers=4)
    simulation.run(8)
    seconds = [each.duration.total_seconds() for each in simulation.study.trials if each.duration]
    assert len(seconds) == len(simulation.curve) == 8
    assert min(seconds) >= 30 and max(seconds) <= 90  # the problem says 0.5 to 1.5 of the mean
    assert simulation.curve[-1].seconds < sum(seconds) / 3
    assert simulation.regret_at(simulation.curve[2].seconds) == simulation.curve[2].regret
    assert simulation.mean_time(8) == pytest.approx(120)
