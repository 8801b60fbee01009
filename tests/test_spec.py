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


def test_differences_name_each_key_with_both_values() -> None:
    assert spec().differences(spec(training={"epochs": 3})) == ["training.epochs: 8 -> 3"]


def test_the_fingerprint_ignores_only_the_budget() -> None:
    assert spec().with_budget(99).fingerprint() == spec().fingerprint()
    assert spec(training={"seed": 1}).fingerprint() != spec().fingerprint()


@given(st.integers(min_value=1, max_value=10_000_000))
def test_a_duration_reads_back_as_it_was_written(seconds: int) -> None:
    assert parse_duration(format_duration(seconds)) == seconds
