"""Conditions of a space: what is refused, what follows, and how it is shown."""

from __future__ import annotations

import re
from typing import Any

import pytest
from search.test_plans import carry_out

import orchestrator as orch
from orchestrator.errors import UsageError
from orchestrator.resolve.objective import make_objective, search_space
from orchestrator.resolve.resolve import resolve
from orchestrator.search.conditional import configurations
from orchestrator.search.plans import build_plan
from orchestrator.search.plans.coordinate import CoordinatePlan
from orchestrator.spec.domains import Conditions
from orchestrator.spec.model import StudySpec

OPTIMIZER = {"choice": ["sgd", "rmsprop", "adam"]}
# "damping" by way of "nesterov", which stands before "optimizer", its own parent.
SPACE: dict[str, Any] = {
    "damping": {"int": [1, 5], "when": {"nesterov": True, "optimizer": ["sgd", "adam"]}},
    "nesterov": {"choice": [True, False], "when": {"optimizer": "sgd"}},
    "optimizer": OPTIMIZER,
    "momentum": {"float": [0.0, 0.8], "step": 0.4, "when": {"optimizer": ["sgd", "rmsprop"]}},
}


def spec(space: dict[str, Any], objective: str = "hooked:plain", **sections: Any) -> StudySpec:
    study = {"name": "s", "objective": objective}
    return StudySpec.parse({"study": study, "space": space, **sections})


def refusal(space: dict[str, Any], objective: str = "hooked:plain") -> str:
    with pytest.raises(UsageError) as refused:
        resolve(spec(space, objective))
    assert "\n" not in str(refused.value)
    return str(refused.value)


def test_a_condition_survives_the_spec_as_toml_and_as_a_document() -> None:
    import tomllib

    parsed = spec(SPACE)
    assert StudySpec.parse(tomllib.loads(parsed.to_toml())) == parsed
    assert StudySpec.parse(parsed.document()) == parsed
    assert parsed.document()["space"]["nesterov"]["when"] == {"optimizer": ["sgd"]}
    other = spec({**SPACE, "nesterov": {"choice": [True, False]}})
    assert other.fingerprint() != parsed.fingerprint()
    assert "space.nesterov" in parsed.differences(other)[0]


@pytest.mark.parametrize(
    ("when", "reason"),
    [
        ({"optimzer": "sgd"}, "an unknown parameter optimzer (those of a function are known by "
         "[space] alone); did you mean 'optimizer'?"),
        ({"optimizer": ["sgd", "sdg"]}, 'optimizer is never "sdg"; did you mean \'sgd\'?'),
        ({"optimizer": 1}, "optimizer is never 1; its domain is sgd, rmsprop, adam"),
        ({"layers": 9}, "layers is never 9; its domain is 1 to 7, step 2"),
        ({"layers": 2}, "layers is never 2"),
        ({"layers": True}, "layers is never true"),
        ({"deep": 1}, "deep is never 1"),
        ({"rate": 0.5}, "rate, which is continuous"),
        ({"x": 1}, "x depends on itself (x -> x)"),
        ({"y": 1}, "y depends on itself (y -> x -> y)"),
        ({"optimizer": []}, "when.optimizer needs one or more values of optimizer"),
        ({"optimizer": {"a": 1}}, "when.optimizer needs one or more values"),
        ({}, "when needs a table of parameters"),
        ("optimizer", "when needs a table of parameters"),
        ({"optimizer": "adam", "nesterov": True}, "the condition of space.x never holds: it and "
         "what it depends on need different values of optimizer"),
        ({"fixed": "text"}, "fixed is never \"text\""),
    ],
)  # fmt: skip
def test_a_condition_that_can_never_hold_is_refused(when: Any, reason: str) -> None:
    space = {
        "optimizer": OPTIMIZER, "layers": {"int": [1, 7], "step": 2}, "deep": {"choice": [True]},
        "rate": {"float": [0, 1]}, "nesterov": SPACE["nesterov"], "fixed": 3,
        "y": {"choice": [1], "when": {"x": 1}}, "x": {"choice": [1, 2], "when": when},
    }  # fmt: skip
    if "y" not in str(when):
        del space["y"]
    assert reason in refusal(space)


def test_objectives_parameters_that_every_trial_needs_take_no_condition() -> None:
    always = {"optimizer": OPTIMIZER, "units": {"int": [8, 16], "when": {"optimizer": "sgd"}}}
    assert "space.units cannot have a condition: every trial" in refusal(always, "digits")
    epochs = {"optimizer": OPTIMIZER, "epochs": {"int": [1, 2], "when": {"optimizer": "sgd"}}}
    assert "space.epochs cannot have a condition" in refusal(epochs, "digits")
    alone = {"max_norm": {"float": [1, 2], "when": {"optimizer": "sgd"}}}
    assert "add space.optimizer" in refusal(alone, "digits")


def test_a_fixed_parent_rules_its_children_out_without_a_refusal() -> None:
    stored = resolve(spec({**SPACE, "optimizer": "adam"}))
    assert stored.facts is not None and list(stored.facts.space or {}) == ["optimizer"]


def test_the_space_is_drawn_as_a_tree_with_its_size() -> None:
    page = str(orch.search_space(spec({**SPACE, "dropout": 0.5})))
    assert [re.sub(r"(?<=\S)  +", " | ", line.rstrip()) for line in page.splitlines()[:6]] == [
        "parameter | domain | values | exists where",
        "optimizer | sgd, rmsprop, adam | 3",
        "  nesterov | true, false | 2 | optimizer is sgd",
        "    damping | 1 to 5 | 5 | nesterov is true and optimizer is sgd or adam",
        "  momentum | 0 to 0.8, step 0.4 | 3 | optimizer is sgd or rmsprop",
        "dropout | 0.5 (fixed) | 1",
    ]


def test_the_space_shows_priors_where_there_are_any() -> None:
    domains = {
        "optimizer": {**OPTIMIZER, "prior": "adam"},
        "rate": {"float": [1e-4, 0.1], "log": True, "prior": 0.003},
        "momentum": SPACE["momentum"],
    }
    page = str(orch.search_space(spec(domains)))
    assert [re.sub(r"(?<=\S)  +", " | ", line.rstrip()) for line in page.splitlines()[:4]] == [
        "parameter | domain | values | prior | exists where",
        "optimizer | sgd, rmsprop, adam | 3 | adam",
        "  momentum | 0 to 0.8, step 0.4 | 3 | optimizer is sgd or rmsprop",
        "rate | 0.0001 to 0.1, log | continuous | 0.003",
    ]


def test_configurations_and_cells_of_a_grid_count_only_what_exists() -> None:
    """3 of momentum: rmsprop 3, adam 1, and sgd 3 times nesterov's 5 + 1."""
    parsed = spec(SPACE, sampler={"name": "grid"})
    objective = make_objective(parsed)
    space = search_space(parsed, objective)
    assert configurations(Conditions(parsed.space), space) == 3 + 1 + 3 * 6
    plan = build_plan(parsed, space, objective.exists, 1)
    assert plan is not None and plan.size() == 22
    cells = plan.step([], 100).queue
    assert [each for each, _ in cells if each["optimizer"] == "adam"] == [{"optimizer": "adam"}]
    assert all(("damping" in each) == bool(each.get("nesterov")) for each, _ in cells)


def test_a_grid_whose_conditions_leave_few_cells_is_not_too_large() -> None:
    large = {f"x{place}": {"int": [1, 9], "when": {"on": True}} for place in range(4)}
    parsed = spec({"on": False, **large}, sampler={"name": "grid"})
    assert resolve(parsed).spec.study.trials == 1
    many = {f"x{place}": {"int": [1, 9]} for place in range(6)}
    with pytest.raises(UsageError, match=re.escape("a grid of 531,441 cells is above the limit")):
        resolve(spec(many, sampler={"name": "grid"}))


def test_coordinate_search_leaves_out_what_does_not_exist() -> None:
    parsed = resolve(spec(SPACE, sampler={"name": "coordinate"})).spec
    objective = make_objective(parsed)
    plan = build_plan(parsed, search_space(parsed, objective), objective.exists, 1)
    assert plan is not None
    assert isinstance(plan, CoordinatePlan)
    tried = carry_out(plan, len)
    conditions = Conditions(parsed.space)
    for each in tried:
        assert each.keys() == {name for name in SPACE if conditions.hold(name, each)}
    assert {each["optimizer"] for each in tried} == {"sgd", "rmsprop", "adam"}
