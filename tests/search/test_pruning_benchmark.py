"""A search with a pruner stays as good as it was: the short form of ``benchmarks.pruning``."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution

from benchmarks.learning_curves import LearningCurves
from benchmarks.pruning import KERASTUNER, TOP_SHARES, Job, pruner_section, run
from benchmarks.pruning_problems import Recorded, pruning_problem

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:keras_tuner")

SEEDS, EPOCHS = 4, 160
# The mean epochs, at most, until a value that only one configuration in 20 ends with.
BAR = 90


def _epochs(method: str) -> float:
    problem = pruning_problem("mnist", 0)
    assert isinstance(problem, Recorded)
    target = problem.targets(TOP_SHARES)[1]
    found = [run(Job("mnist", method, seed, 4, EPOCHS)).best for seed in range(SEEDS)]
    return float(np.mean([1 + np.searchsorted(best, target) for best in found]))


def test_the_default_sampler_with_asha_is_as_fast_as_it_was() -> None:
    assert _epochs("auto/asha") <= BAR


@pytest.mark.parametrize(
    "method",
    [KERASTUNER, "auto/asha:promote", "random/hyperband:promote", "auto/hyperband", "auto/auto"],
)
def test_a_search_is_replayed_from_its_seed(method: str) -> None:
    first, again = (run(Job("mnist", method, 0, 4, 60)) for _ in range(2))
    assert first.best == again.best
    assert len(first.best) == 60
    assert first.trials == again.trials > 1


def test_a_recorded_configuration_is_trained_once() -> None:
    space = {"x": FloatDistribution(0, 1), "kind": CategoricalDistribution(("a", "b"))}
    configurations = [{"x": 0.1, "kind": "a"}, {"x": 0.4, "kind": "a"}, {"x": 0.1, "kind": "b"}]
    curves = LearningCurves(space, configurations, np.zeros((3, 1, 2)), np.ones((3, 1)), {})
    recorded = Recorded(curves, 0)
    asked = [recorded.train({"x": 0.2, "kind": "a"}).name for _ in range(3)]
    assert asked == ["0", "1", "2"]


def test_a_file_of_curves_is_read_as_it_was_written(tmp_path: Path) -> None:
    space = {"x": FloatDistribution(1e-3, 1, log=True), "n": CategoricalDistribution((16, 32))}
    configurations = [{"x": 0.123456789012345, "n": 32}]
    written = LearningCurves(
        space, configurations, np.array([[[0.5, 0.75]]]), np.array([[2.0]]), {"command": "this"}
    )
    written.write(tmp_path / "curves.npz")
    read = LearningCurves.read(tmp_path / "curves.npz")
    assert (read.space, read.configurations, read.about) == (space, configurations, written.about)
    assert read.values.tolist() == [[[0.5, 0.75]]]
    assert read.best == 0.75


def test_a_method_may_set_options_of_its_pruner() -> None:
    method = "auto/hyperband:min_resource=3:reduction_factor=4"
    assert pruner_section(method) == {"name": "hyperband", "min_resource": 3, "reduction_factor": 4}
    assert pruner_section("tpe/median") == {"name": "median"}
    assert pruner_section("auto/asha:promote") == {"name": "asha", "promote": True}


def test_all_recordings_can_be_searched() -> None:
    for name in ("mnist", "cnn"):
        found = run(Job(name, "random/asha", 0, 4, 60))
        recorded = pruning_problem(name, 0)
        assert 0.5 * recorded.best < found.best[-1] <= 1
