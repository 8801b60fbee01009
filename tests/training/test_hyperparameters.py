"""KerasTuner's HyperParameters over an Optuna trial, beside KerasTuner's own."""

from __future__ import annotations

from typing import Any

import optuna
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import FixedTrial

from orchestrator.training.hyperparameters import HyperParameters
from orchestrator.training.keras_tuner import _suggest


def hyperparameters(**params: Any) -> HyperParameters:
    trial = FixedTrial(params)
    return HyperParameters(lambda name, domain, default: _suggest(trial, name, domain))


def defaults() -> HyperParameters:
    return HyperParameters(lambda name, domain, default: default)


def declare(hp: Any) -> None:
    """A space with every kind of hyperparameter and condition."""
    hp.Int("int", 6, 13, step=3)
    hp.Int("log", 2, 32, step=2, sampling="log")
    hp.Float("float", 0.0, 1.0, step=0.25)
    hp.Float("rate", 1e-4, 1e-1, step=10, sampling="log")
    hp.Float("reverse", 1.0, 16.0, step=2, sampling="reverse_log")
    hp.Boolean("flag", default=True)
    hp.Fixed("fixed", 7)
    hp.Choice("kind", ["a", "b"], default="b")
    with hp.name_scope("scope"):
        hp.Choice("kind", [1, 2])
        with hp.conditional_scope("kind", [1]):
            hp.Int("inner", 0, 3, default=2)
    hp.Int("only_a", 1, 2, parent_name="kind", parent_values=["a"])
    with hp.conditional_scope("flag", [True]):
        hp.Choice("under", ["a", "b"], default="b")
        with hp.conditional_scope("under", ["b"]):
            hp.Float("both", 0.0, 1.0, default=0.5)
        with hp.conditional_scope("under", ["a"]):
            hp.Float("neither", 0.0, 1.0)


def test_names_values_and_activity_equal_keras_tuners() -> None:
    keras_tuner = pytest.importorskip("keras_tuner", reason="keras-tuner is not installed")
    ours, theirs = defaults(), keras_tuner.HyperParameters()
    declare(ours)
    declare(theirs)
    assert ours.values == theirs.values
    assert [each.name for each in ours.space] == [each.name for each in theirs.space]
    for each in ours.space:
        assert ours.is_active(each.name) == theirs.is_active(each.name), each.name
        assert (each.name in ours) == (each.name in theirs)


def test_stepped_values_equal_keras_tuners() -> None:
    keras_tuner = pytest.importorskip("keras_tuner", reason="keras-tuner is not installed")
    ours, theirs = defaults(), keras_tuner.HyperParameters()
    declare(ours)
    declare(theirs)
    domains = {each.name: each.domain for each in ours.space}
    for each in theirs.space:
        if each.name in ("int", "log", "float", "rate", "reverse"):
            domain, wanted = domains[each.name], list(each.values)
            if isinstance(domain, CategoricalDistribution):
                numbers = [c for c in domain.choices if isinstance(c, int | float)]
                assert len(numbers) == len(domain.choices)
                assert sorted(numbers) == pytest.approx(sorted(wanted))
            else:
                assert isinstance(domain, IntDistribution | FloatDistribution)
                assert [domain.low, domain.high] == pytest.approx([wanted[0], wanted[-1]])
                assert domain.step == each.step


def test_an_inactive_hyperparameter_is_none_and_draws_nothing() -> None:
    hp = hyperparameters(kind="wide")
    hp.Choice("kind", ["mlp", "wide"])
    with hp.conditional_scope("kind", ["mlp"]):
        assert hp.Int("second", 1, 9) is None
    assert "second" not in hp
    with pytest.raises(ValueError, match="second is currently inactive"):
        hp.get("second")
    with pytest.raises(KeyError, match="third does not exist"):
        hp.get("third")


def test_a_repeated_name_is_the_same_value() -> None:
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=1))
    trial = study.ask()
    hp = HyperParameters(lambda name, domain, default: _suggest(trial, name, domain))
    first = hp.Float("rate", 0.0, 1.0)
    assert hp.Float("rate", 0.0, 1.0) == first == hp["rate"] == trial.params["rate"]


def test_the_value_is_recorded_whatever_the_sampling() -> None:
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=1))
    trial = study.ask()
    hp = HyperParameters(lambda name, domain, default: _suggest(trial, name, domain))
    declare(hp)
    hp.Float("reverse_free", 1.0, 100.0, sampling="reverse_log")
    assert trial.params == hp.values
    free = next(each for each in hp.space if each.name == "reverse_free").domain
    assert isinstance(free, CategoricalDistribution)
    above = sum(float(choice) > 90 for choice in free.choices)  # type: ignore[arg-type]
    assert above > len(free.choices) / 3, "reverse_log is dense at the upper end"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((9, 1), "greater than the max_value"),
        ((0, 9, None, "log"), "does not support negative values"),
        ((1, 9, 1, "log"), "expected step > 1"),
        ((1, 9, None, "quadratic"), "sampling must be one of"),
        ((1.5, 9), "must have integers"),
    ],
)
def test_invalid_hyperparameters_raise_keras_tuners_errors(arguments: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        defaults().Int("n", *arguments)


def test_a_conditional_scope_needs_an_existing_differently_named_parent() -> None:
    hp = defaults()
    hp.Choice("kind", ["a"])
    with pytest.raises(ValueError, match="same name as its parent"):
        hp.Int("kind", 1, 2, parent_name="kind", parent_values=["a"])
    with pytest.raises(ValueError, match="`HyperParameter` named: x not defined"):
        hp.Int("y", 1, 2, parent_name="x", parent_values=[1])
