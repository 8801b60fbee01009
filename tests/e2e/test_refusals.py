"""Wrong use: one line with the mend, the documented exit code, nothing half done."""

from __future__ import annotations

import pytest
from conftest import Orch


@pytest.mark.parametrize(
    ("code", "arguments", "words"),
    [
        (2, ["run", "quadratc"], ["unknown objective 'quadratc'", "did you mean 'quadratic'"]),
        (2, ["run", "user_objectives:condtional"], ["has no 'condtional'", "'conditional'"]),
        (2, ["run", "no_such_module:f"], ["cannot import no_such_module"]),
        (2, ["run", "user_objectives:not_callable"], ["cannot be called"]),
        (2, ["run", "quadratic", "--sampler", "tpee"], ["unknown sampler", "did you mean 'tpe'"]),
        (2, ["run", "quadratic", "--pruner", "hyperbnd"], ["unknown pruner", "'hyperband'"]),
        (2, ["run", "quadratic", "--set", "sampler.n_startup=3"], ["sampler.n_startup"]),
        (2, ["run", "quadratic", "--set", "pruner.max_resource='auto'"], ["max_resource", "auto"]),
        (2, ["run", "quadratic", "--set", "objective.steps=0"], ["objective.steps"]),
        (2, ["run", "quadratic", "--set", "objective.stepz=2"], ["stepz", "did you mean 'steps'"]),
        (2, ["run", "quadratic", "--set", "worker"], ["write SECTION.KEY=VALUE"]),
        (2, ["run", "quadratic", "--set", "epochs=3"], ["write SECTION.KEY=VALUE"]),
        (2, ["run", "quadratic", "--param", "z=1"], ["unknown parameter space.z"]),
        (2, ["run", "quadratic", "--param", "x={int=[9,1]}"], ["space.x", "swap them"]),
        (2, ["run", "quadratic", "--trials", "0"], ["--trials"]),
        (2, ["run", "quadratic", "--trials", "many"], ["--trials"]),
        (2, ["run", "quadratic", "--study", "a/b"], ["study.name"]),
        (2, ["run", "no-such-file.toml"], ["cannot read no-such-file.toml"]),
        (2, ["run"], ["OBJECTIVE"]),
        (2, ["runn"], ["runn"]),
        (2, ["create", "x"], ["--objective"]),
        (2, ["resume", "x", "--trials", "3", "--add", "3"], ["one of them"]),
        (1, ["show", "never-made"], ["no study 'never-made'"]),
        (1, ["report", "never-made"], ["no study 'never-made'"]),
        (1, ["worker", "never-made"], ["no study 'never-made'"]),
        (1, ["resume", "never-made"], ["no study 'never-made'"]),
        (2, ["worker", "never-made", "--processes", "0"], ["--processes"]),
        (1, ["run", "digits", "--set", "data.validation=99999"], ["data.validation 99999"]),
        (1, ["run", "digits", "--data", "gone.npz"], ["no file gone.npz"]),
    ],
)
def test_wrong_use_is_refused_in_one_line(
    orch: Orch, code: int, arguments: list[str], words: list[str]
) -> None:
    message = orch.refused(code, *arguments)
    for word in words:
        assert word in message


def test_a_refused_study_leaves_nothing_behind(orch: Orch, name: str) -> None:
    orch.refused(2, "create", name, "--objective", "quadratic", "--pruner", "nonsense")
    assert name not in orch.ok("list")


def test_creating_a_study_twice_is_refused(orch: Orch, name: str) -> None:
    orch.ok("create", name, "--objective", "quadratic")
    assert f"orch resume {name}" in orch.refused(2, "create", name, "--objective", "quadratic")


def test_a_failing_module_is_named_with_its_own_error(orch: Orch) -> None:
    message = orch.refused(2, "run", "broken_module:f")
    assert "cannot import broken_module" in message and "ModuleNotFoundError" in message


def test_debug_shows_the_traceback(orch: Orch) -> None:
    ended = orch("--debug", "show", "never-made")
    assert "Traceback" in ended.stderr and ended.returncode == 1
