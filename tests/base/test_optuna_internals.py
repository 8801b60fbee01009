"""Each private name of Optuna's that orch uses is still there, and means what it meant."""

from __future__ import annotations

import ast
import logging
import warnings
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution
from optuna.storages import InMemoryStorage
from optuna.trial import FrozenTrial, TrialState

from orchestrator.base import optuna_internals as internals

ROOT = Path(__file__).parents[2] / "orchestrator"


@pytest.fixture
def study() -> internals.HookedStudy:
    """Of ten trials, which report three steps each under Hyperband."""
    study = optuna.create_study(
        sampler=optuna.samplers.RandomSampler(seed=1),
        pruner=optuna.pruners.HyperbandPruner(1, 9, 3),
        direction="maximize",
    )
    study.optimize(_objective, n_trials=10)
    return internals.HookedStudy(study.study_name, internals.storage_of(study), pruner=study.pruner)


def _objective(trial: optuna.Trial) -> float:
    x = trial.suggest_float("x", 0, 1)
    for step in range(1, 4):
        trial.report(x + step, step)
        if trial.should_prune():
            raise optuna.TrialPruned
    return x


# The study


def test_a_study_has_its_storage_and_its_row(study: internals.HookedStudy) -> None:
    storage, row = study.storage, study.study_id
    assert internals.storage_of(study) is storage and isinstance(storage, InMemoryStorage)
    assert storage.get_study_name_from_id(row) == study.study_name
    assert internals.study_id_of(study) == row
    (frozen,) = storage.get_all_studies()
    assert isinstance(frozen, internals.FrozenStudy) and internals.study_id_of(frozen) == row


def test_a_pruner_sees_a_study_of_several_directions_with_one() -> None:
    made = optuna.create_study(directions=["minimize", "maximize"])
    study = internals.HookedStudy(made.study_name, internals.storage_of(made))
    pruner, maximize = optuna.pruners.NopPruner(), optuna.study.StudyDirection.MAXIMIZE
    view = internals.with_one_direction(study, maximize, pruner)
    assert (view.direction, view.directions, view.pruner) == (maximize, [maximize], pruner)
    assert len(study.directions) == 2 and study.pruner is not pruner
    made.ask()
    assert len(view.get_trials()) == 1


def test_a_whole_number_that_a_trial_lacks_is_none() -> None:
    class Lacking(internals.HookedTrial):
        def lacks(self, name: str) -> bool:
            return name == "absent"

    study = optuna.create_study()
    trial = Lacking(study, study.ask()._trial_id)
    assert trial.suggest_int("absent", 1, 3, log=True) is None
    assert trial.suggest_int("present", 1, 4, step=3) in (1, 4)


def test_a_study_reads_its_trials_again_after_clearing_its_cache(
    study: internals.HookedStudy,
) -> None:
    def known() -> int:
        return len(study._get_trials(deepcopy=False, use_cache=True))

    study.forget_trials()
    assert known() == 10
    study.storage.create_new_trial(study.study_id)
    assert known() == 10, "Optuna keeps what it has read"
    study.forget_trials()
    assert known() == 11


# The trial


class _Trial(internals.HookedTrial):
    """Notes which hooks Optuna goes through."""

    def __init__(self, study: optuna.Study, trial_id: int) -> None:
        super().__init__(study, trial_id)
        self.calls: list[str] = []

    def suggest(self, name: str, distribution: BaseDistribution) -> Any:
        self.calls.append(f"suggest {name}")
        return super().suggest(name, distribution)

    def check_domain(self, name: str, distribution: BaseDistribution) -> None:
        self.calls.append(f"check {name}")
        super().check_domain(name, distribution)

    def latest(self) -> FrozenTrial:
        self.calls.append("latest")
        return super().latest()


def test_every_suggestion_and_decision_goes_through_the_hooks(
    study: internals.HookedStudy,
) -> None:
    study.enqueue_trial({"x": 0.25})
    trial = _Trial(study, study.ask()._trial_id)
    assert trial.fixed == {"x": 0.25}
    assert trial.suggest_float("x", 0, 1) == 0.25
    assert 1 <= trial.suggest_int("n", 1, 3) <= 3
    assert trial.suggest_categorical("c", ["a"]) == "a"
    trial.report(0.5, 1)
    trial.should_prune()
    assert [call for call in trial.calls if call != "latest"] == [
        "suggest x", "check x", "suggest n", "check n", "suggest c",
    ]  # fmt: skip
    assert trial.calls[-1] == "latest"
    with pytest.warns(RuntimeWarning, match="Inconsistent parameter values"):
        trial.suggest_float("x", 0, 2)


def test_a_trial_writes_into_its_cached_copy(study: internals.HookedStudy) -> None:
    trial = internals.HookedTrial(study, study.ask()._trial_id)
    trial.suggest_float("x", 0, 1)
    trial.report(0.5, 1)
    assert trial.frozen.params == trial.params
    assert trial.frozen.intermediate_values == {1: 0.5}
    trial.frozen = study.storage.get_trial(trial._trial_id)
    assert trial.frozen.params == trial.params


def test_a_copied_trial_shares_all_but_its_attributes() -> None:
    trial = optuna.trial.create_trial(
        value=1.0,
        params={"x": 0.5},
        distributions={"x": FloatDistribution(0, 1)},
        user_attrs={"mine": 1},
        system_attrs={"theirs": 2},
    )
    copied = internals.copy_trial(trial, {"mine": 3}, {"theirs": 4})
    assert (copied.user_attrs, copied.system_attrs) == ({"mine": 3}, {"theirs": 4})
    assert (trial.user_attrs, trial.system_attrs) == ({"mine": 1}, {"theirs": 2})
    assert copied.params is trial.params and copied.value == 1.0


def test_a_distribution_says_whether_it_contains_a_value() -> None:
    assert internals.contains(FloatDistribution(0, 1), 0.5)
    assert not internals.contains(FloatDistribution(0, 1), 2.0)
    assert internals.contains(CategoricalDistribution(["a", "b"]), 1)
    assert not internals.contains(CategoricalDistribution(["a", "b"]), 2)


# Halving


def test_the_rungs_of_a_trial_are_stored_under_optunas_keys(study: internals.HookedStudy) -> None:
    noted = {key for trial in study.trials for key in trial.system_attrs}
    assert noted and all(key.startswith(internals.RUNG) for key in noted)
    assert internals.rung_key(0) in noted and internals.rung_key(0) == f"{internals.RUNG}0"
    for trial in study.trials:
        assert internals.rung_of(trial) == len(trial.system_attrs)


def test_a_pruner_keeps_the_options_it_was_created_with() -> None:
    pruner = optuna.pruners.SuccessiveHalvingPruner(
        min_resource=2, reduction_factor=3, min_early_stopping_rate=1, bootstrap_count=4
    )
    rule = internals.rule_of(pruner)
    assert rule == internals.HalvingRule(2, 3, 1, 4)
    assert [rule.resource(rung) for rung in range(3)] == [6, 18, 54]
    auto = optuna.pruners.SuccessiveHalvingPruner(min_resource="auto")
    assert internals.rule_of(auto).min_resource is None


def test_hyperband_has_a_pruner_for_each_bracket(study: internals.HookedStudy) -> None:
    pruner = optuna.pruners.HyperbandPruner(1, 9, 3)
    made = internals.bracket_pruners(pruner, study)
    assert [internals.rule_of(each).min_early_stopping_rate for each in made] == [0, 1, 2]
    assert internals.bracket_pruners(pruner, study) is made
    brackets = {internals.bracket_of(pruner, study, trial) for trial in study.trials}
    assert brackets <= {0, 1, 2} and len(brackets) > 1


def test_the_study_of_one_bracket_leads_to_that_of_all(study: internals.HookedStudy) -> None:
    pruner = study.pruner = optuna.pruners.HyperbandPruner(1, 9, 3)
    internals.bracket_pruners(pruner, study)
    of_one = optuna.pruners._filter_study(study, study.trials[0])
    assert 0 < len(of_one.trials) < len(study.trials)
    assert len(internals.all_brackets(of_one).trials) == len(study.trials)
    assert internals.all_brackets(study) is study


def test_hyperband_with_auto_waits_for_the_trials_that_determine_its_resource(
    study: internals.HookedStudy,
) -> None:
    pruner = optuna.pruners.HyperbandPruner(1, "auto", 3)
    assert internals.bracket_pruners(pruner, study, reads_trials=False) == []
    made = internals.bracket_pruners(pruner, study)
    assert len(made) == 2, "of four steps"


# The storage


def test_the_pareto_front_equals_optunas() -> None:
    study = optuna.create_study(directions=["minimize", "minimize"])
    for values in ([0.0, 3.0], [1.0, 1.0], [2.0, 2.0]):
        study.add_trial(optuna.trial.create_trial(values=values))
    front = internals.pareto_front(study.trials, study.directions)
    assert [trial.number for trial in front] == [0, 1]


def test_the_cached_storage_gives_an_unnamed_study_optunas_default_name(tmp_path: Path) -> None:
    backend = optuna.storages.RDBStorage(f"sqlite:///{tmp_path / 'a.db'}")
    storage = internals.CachedStorage(backend)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        study = optuna.create_study(storage=storage)
    assert study.study_name.startswith(internals.DEFAULT_STUDY_NAME_PREFIX)
    study.optimize(lambda trial: trial.suggest_float("x", 0, 1), n_trials=1)
    assert storage.get_all_trials(1)[0].state == TrialState.COMPLETE


def test_the_in_memory_storage_logs_to_the_expected_logger(
    caplog: pytest.LogCaptureFixture,
) -> None:
    log = logging.getLogger(internals.IN_MEMORY_LOGGER)
    caplog.set_level(logging.INFO, "optuna")  # a benchmark's search may have silenced it
    log.addHandler(caplog.handler)
    try:
        optuna.create_study(study_name="told")
    finally:
        log.removeHandler(caplog.handler)
    assert "told" in caplog.text


def test_our_artifact_store_satisfies_optunas_protocol(tmp_path: Path) -> None:
    from optuna.artifacts import FileSystemArtifactStore, _protocol

    store: _protocol.ArtifactStore = FileSystemArtifactStore(tmp_path)
    assert {"open_reader", "write", "remove"} <= set(dir(_protocol.ArtifactStore)) & set(dir(store))


# Nobody else


def _private(tree: ast.AST) -> list[str]:
    """Names of Optuna's private modules and functions that a file imports."""
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "optuna":
            modules = (node.module or "").split(".")
            names = [alias.name for alias in node.names if alias.name.startswith("_")]
            found += names or ([node.module or ""] if any(m[0] == "_" for m in modules) else [])
    return found


def _reached_into() -> set[str]:
    """The private attributes that the one file uses."""
    tree = ast.parse(Path(internals.__file__).read_text())
    names = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    private = {name for name in names if name.startswith("_") and not name.endswith("__")}
    return private - {"_storage", "_study_id"}  # names of our own classes, too


def test_no_other_file_uses_private_names_of_optuna() -> None:
    reached = _reached_into()
    for path in sorted(set(ROOT.rglob("*.py")) - {Path(internals.__file__)}):
        tree = ast.parse(path.read_text())
        used = {
            node.attr
            for node in ast.walk(tree)
            if isinstance(node, ast.Attribute) and not ast.unparse(node.value).startswith("self")
        }
        assert _private(tree) + sorted(used & reached) == [], path
