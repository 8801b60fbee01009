"""The spec: TOML in and out, validation, differences."""

from __future__ import annotations

import tomllib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.errors import UsageError
from orchestrator.spec.durations import format_duration, parse_duration
from orchestrator.spec.model import StudySpec

MINIMAL: dict[str, Any] = {"study": {"name": "a", "objective": "quadratic"}}


def spec(**sections: Any) -> StudySpec:
    return StudySpec.parse({**MINIMAL, **sections})


def test_the_defaults_are_auto_with_hyperband() -> None:
    assert (spec().sampler.name, spec().pruner.name) == ("auto", "hyperband")


def test_a_spec_written_as_toml_reads_back_equal() -> None:
    full = spec(
        study={**MINIMAL["study"], "timeout": "2h", "trials": 60, "metric": "val_loss"},
        sampler={"name": "tpe", "n_startup_trials": 5},
        training={"epochs": 3},
        space={
            "units": {"int": [32, 512], "step": 32},
            "rate": {"float": [1e-4, 1e-2], "log": True},
            "activation": {"choice": ["relu", "tanh"]},
            "dropout": 0.05,
        },
    )
    assert StudySpec.parse(tomllib.loads(full.to_toml())) == full
    assert StudySpec.parse(full.document()) == full


@pytest.mark.parametrize(
    ("sections", "words"),
    [
        ({"training": {"epoch": 3}}, ["training.epoch", "did you mean 'epochs'"]),
        ({"trainin": {}}, ["trainin", "did you mean 'training'"]),
        ({"training": {"epochs": 0}}, ["training.epochs", "greater than or equal to 1"]),
        ({"study": {"name": "a b", "objective": "x"}}, ["study.name", "no study name"]),
        ({"study": {"name": "a"}}, ["study.objective is missing"]),
        ({"study": {**MINIMAL["study"], "timeout": "soon"}}, ["study.timeout", "30m"]),
        ({"worker": {"grace_seconds": 1}}, ["grace_seconds 1", "heartbeat_seconds 10"]),
        ({"space": {"u": {"int": [9, 1]}}}, ["space.u", "swap them"]),
        ({"space": {"u": {"int": [1, 9], "steps": 2}}}, ["space.u", "did you mean 'step'"]),
        ({"space": {"u": {"int": [1, 2.5]}}}, ["space.u", "whole numbers"]),
        ({"space": {"u": {"float": [0, 1], "log": True}}}, ["space.u", "above 0"]),
        ({"space": {"u": {"choice": []}}}, ["space.u", "at least one value"]),
        ({"space": {"u": {"choice": [1, 1]}}}, ["space.u", "stands twice"]),
        ({"space": {"u": [1, 2]}}, ["space.u", "is no domain"]),
        (
            {"space": {"u": {"int": [1, 9], "prior": 10}}},
            ["space.u: prior 10 is outside of 1 to 9"],
        ),
        (
            {"space": {"u": {"int": [1, 9], "prior": 2.5}}},
            ["space.u: prior must be a whole number"],
        ),
        ({"space": {"u": {"int": [1, 9], "prior": True}}}, ["space.u: prior must be a whole"]),
        (
            {"space": {"u": {"int": [32, 512], "step": 32, "prior": 100}}},
            ["space.u: prior 100 is not on a step of 32 from 32", "write 96 or 128"],
        ),
        (
            {"space": {"u": {"float": [0, 1], "step": 0.3, "prior": 1}}},
            ["space.u: prior 1 is not on a step of 0.3 from 0; write 0.9"],
        ),
        (
            {"space": {"u": {"float": [1e-4, 0.1], "log": True, "prior": 0.5}}},
            ["space.u: prior 0.5 is outside of 0.0001 to 0.1", "widen the domain"],
        ),
        ({"space": {"u": {"float": [0, 1], "prior": "high"}}}, ["space.u: prior must be a number"]),
        (
            {"space": {"u": {"choice": ["a", "b"], "prior": "c"}}},
            ['space.u: prior must be one of "a", "b", not "c"'],
        ),
        ({"space": {"u": {"choice": [1, 2], "prior": True}}}, ["one of 1, 2, not true"]),
        ({"space": {"u": {"choice": [1, 2], "priors": 1}}}, ["space.u", "did you mean 'prior'"]),
        ({"study": {**MINIMAL["study"], "warm_start": 3}}, ["study.warm_start"]),
        ({"space": {"u": {"int": [1, 9], "float": [1, 9]}}}, ["space.u", "exactly one"]),
    ],
)
def test_a_spec_error_is_one_line_with_its_key_and_the_fix(
    sections: dict[str, Any], words: list[str]
) -> None:
    with pytest.raises(UsageError) as caught:
        spec(**sections)
    message = str(caught.value)
    assert "\n" not in message
    for word in words:
        assert word in message


@pytest.mark.parametrize(
    ("domain", "prior"),
    [
        ({"int": [32, 512], "step": 32, "prior": 96}, 96),
        ({"float": [1e-4, 0.1], "log": True, "prior": 3e-3}, 3e-3),
        ({"float": [0, 1], "step": 0.1, "prior": 0.3, "when": {"v": [True]}}, 0.3),
        ({"float": [0, 1], "prior": 1}, 1.0),
        ({"choice": ["sgd", "adam"], "prior": "adam"}, "adam"),
        ({"choice": [True, 1], "prior": 1}, 1),
    ],
)
def test_a_prior_is_read_and_written_with_its_domain(domain: dict[str, Any], prior: object) -> None:
    read = spec(space={"u": domain, "v": {"choice": [True, False]}})
    assert read.priors == {"u": prior} and type(read.priors["u"]) is type(prior)
    assert spec(**tomllib.loads(read.to_toml())).fingerprint() == read.fingerprint()


def test_one_older_study_may_be_named_without_a_list() -> None:
    older = spec(study={**MINIMAL["study"], "warm_start": "old"}).study.warm_start
    assert older == ("old",)


def test_differences_name_each_key_with_both_values() -> None:
    assert spec().differences(spec(training={"epochs": 3})) == ["training.epochs: 8 -> 3"]


def test_the_fingerprint_ignores_only_the_budget() -> None:
    assert spec().with_budget(99).fingerprint() == spec().fingerprint()
    assert spec(training={"seed": 1}).fingerprint() != spec().fingerprint()


@given(st.integers(min_value=1, max_value=10_000_000))
def test_a_duration_reads_back_as_it_was_written(seconds: int) -> None:
    assert parse_duration(format_duration(seconds)) == seconds
