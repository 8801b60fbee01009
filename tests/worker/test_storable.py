"""What cannot be stored ends its attempt with a reason; what can be is as Optuna's storage has it."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import optuna
import pytest
from optuna.storages import BaseStorage
from optuna.terminator import report_cross_validation_scores
from optuna.trial import FrozenTrial
from worker.workplace import SetFunction, Workplace

from orchestrator.storage.postgres_storage import PostgresStorage
from orchestrator.storage.rdb_storage import make_rdb_storage

Write = Callable[[optuna.Trial], object]


class Model:
    """As one of scikit-learn or PyTorch: JSON cannot hold it."""


class Unreadable(Exception):
    """An exception whose message cannot be made."""

    def __str__(self) -> str:
        raise RuntimeError("no message")


@pytest.fixture(autouse=True)
def quiet_optuna() -> Iterator[None]:
    """Its log has the messages as they are, and no test runner can pass half a character on."""
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.CRITICAL)
    yield
    optuna.logging.set_verbosity(before)


def notes(key: Any, value: Any) -> Write:
    return lambda trial: trial.set_user_attr(key, value)


def draws(name: Any) -> Write:
    return lambda trial: trial.suggest_float(name, 0.0, 1.0)


def chooses(*choices: Any) -> Write:
    return lambda trial: trial.suggest_categorical(f"choice of {len(choices)}", choices)


def raises(error: BaseException) -> Write:
    def act(_: optuna.Trial) -> None:
        raise error

    return act


# Both Optuna's storage in PostgreSQL and orch fail the trial.
REFUSED: dict[str, tuple[Write, str]] = {
    "a step": (lambda trial: trial.report(1.0, 1_732_600_000_000), "step must be at most 2147483647"),
    "an attribute's long name": (notes("n" * 513, 1), "has 513 characters; at most 512"),
    "an attribute's name with NUL": (notes("a\0b", 1), "has a NUL or a lone surrogate"),
    "an attribute's name with half a character": (notes("a\ud83d", 1), "a lone surrogate"),
    "a parameter's long name": (draws("n" * 513), "has 513 characters; at most 512"),
    "a parameter's name with NUL": (draws("a\0b"), "has a NUL or a lone surrogate"),
    "a parameter's name with half a character": (draws("a\udc00"), "a lone surrogate"),
    "a set": (notes("seen", {1, 2}), "attribute 'seen': a set cannot be stored as JSON"),
    "a model": (notes("model", Model()), "attribute 'model': a Model cannot be stored as JSON"),
    "bytes": (notes("raw", b"\0"), "attribute 'raw': a bytes cannot be stored as JSON"),
    "a model among others": (notes("all", [{"best": Model()}]), "attribute 'all': a Model cannot"),
    "keys that are tuples": (notes("grid", {(1, 2): 3}), "attribute 'grid': keys must be str"),
    "a choice that is a model": (chooses(Model(), None), "Model is not JSON serializable"),
    "a message with NUL": (raises(ValueError("before\0after")), "ValueError: before\ufffdafter"),
    "a message with half a character": (raises(ValueError("\ud83d")), "ValueError: \ufffd"),
    "a message that cannot be read": (raises(Unreadable()), "Unreadable: its message cannot be read"),
    "a long message": (raises(ValueError("x" * 10**6)), "ValueError: xxxx"),
}  # fmt: skip
# Both store it.
STORED: dict[str, Write] = {
    "the longest names": lambda trial: (draws("n" * 512)(trial), notes("n" * 512, 1)(trial)),
    "the last step": lambda trial: trial.report(1.0, 2**31 - 1),
    "NUL in a text": notes("text", "before\0after"),
    "half a character in a text": notes("text", ["\ud83d"]),
    "NUL in a key": notes("table", {"a\0b": 1}),
    "numbers that are none": notes("numbers", [math.nan, math.inf, {"low": -math.inf}]),
    "a tuple": notes("tuple", (1, 2)),
    "whole numbers as keys": notes("table", {1: "one"}),
    "choices with NUL and halves": chooses("a\0b", "\ud83d", None),
    "choices of every kind": chooses(None, True, 1.5, "é", 7),
    "a printed NUL": lambda trial: print("printed\0"),
    "a large text": notes("large", "x" * 10**6),
}
# Optuna takes it in memory alone, and so do we.
OF_NUMPY: dict[str, Write] = {
    "an array": notes("array", np.array([[0.5, math.nan], [1.0, 2.0]])),
    "numbers": notes("numbers", {"a": np.float32(0.5), "b": [np.int64(3), np.bool_(True)]}),
    "scores": lambda trial: report_cross_validation_scores(trial, np.array([0.5, 0.75])),  # type: ignore[arg-type]
}


def run_all(place: Workplace, function: SetFunction, cases: dict[str, Write]) -> list[FrozenTrial]:
    """A trial for each case, in order; the last one ends the study."""
    waiting = list(cases.values())

    def objective(trial: optuna.Trial) -> float:
        if not waiting:
            trial.study.stop()
            return 0.0
        waiting.pop(0)(trial)
        return 1.0

    function(objective)
    place.create("hooked:plain", trials=99, worker={"max_failures": 99})
    place.worker().run()
    *trials, last = place.trials()
    assert last.value == 0.0
    return trials


def run_in_optunas(storage: BaseStorage, name: str, cases: dict[str, Write]) -> list[FrozenTrial]:
    study = optuna.create_study(
        study_name=f"plain {name}", storage=storage, sampler=optuna.samplers.RandomSampler()
    )
    waiting = list(cases.values())

    def objective(trial: optuna.Trial) -> float:
        waiting.pop(0)(trial)
        return 1.0

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        study.optimize(objective, n_trials=len(cases), catch=(Exception,))
    found = study.trials
    optuna.delete_study(study_name=study.study_name, storage=storage)
    return found


def test_writes_that_optunas_storage_refuses_fail_the_attempt_with_the_reason(
    place: Workplace, function: SetFunction
) -> None:
    cases = {name: write for name, (write, _) in REFUSED.items()}
    trials = run_all(place, function, cases)
    plain = run_in_optunas(make_rdb_storage(place.url), place.name, cases)
    for (name, (_, reason)), ours, theirs in zip(REFUSED.items(), trials, plain, strict=True):
        assert ours.state.name == theirs.state.name == "FAIL", name
        said = ours.user_attrs["orch:reason"]
        assert reason in said and len(said) < 2_200, (name, said)


def test_writes_that_optunas_storage_accepts_are_stored_alike(
    place: Workplace, function: SetFunction, url: str
) -> None:
    trials = run_all(place, function, STORED)
    plain = run_in_optunas(make_rdb_storage(place.url), place.name, STORED)
    for name, ours, theirs in zip(STORED, trials, plain, strict=True):
        assert ours.state.name == theirs.state.name == "COMPLETE", (name, ours.user_attrs)
        assert ours.distributions == theirs.distributions, name
        assert ours.intermediate_values == theirs.intermediate_values, name
        own = {key: each for key, each in ours.user_attrs.items() if not key.startswith("orch:")}
        assert repr(own) == repr(theirs.user_attrs), name


def test_arrays_and_scalars_of_numpy_are_stored_as_lists_and_numbers(
    place: Workplace, function: SetFunction
) -> None:
    array, numbers, scores = run_all(place, function, OF_NUMPY)
    assert repr(array.user_attrs["array"]) == "[[0.5, nan], [1.0, 2.0]]"
    assert numbers.user_attrs["numbers"] == {"a": 0.5, "b": [3, True]}
    assert scores.system_attrs["terminator:cv_scores"] == [0.5, 0.75]


def test_a_too_large_attribute_fails_only_its_trial(
    place: Workplace, function: SetFunction
) -> None:
    whole = {"one": notes("large", "x" * 65 * 2**20), "none": notes("small", 1)}
    large, small = run_all(place, function, whole)
    assert "attribute 'large' has 65 MiB as JSON; at most 64 MiB" in large.user_attrs["orch:reason"]
    assert small.state.name == "COMPLETE"


@pytest.mark.parametrize("writes_more", [False, True])
def test_an_attribute_that_only_the_server_rejects_fails_only_its_trial(
    place: Workplace, function: SetFunction, writes_more: bool
) -> None:
    # PostgreSQL's jsonb refuses more levels than its stack takes, as it does more than 256 MiB.
    place.database.execute(REFUSE_WRITES)

    def writes(trial: optuna.Trial) -> None:
        trial.suggest_float("x", 0.0, 1.0)
        trial.report(0.5, 1)
        trial.set_user_attr("unstorable", "it")
        if writes_more:
            trial.report(0.25, 2)

    try:
        failed, fine = run_all(place, function, {"one": writes, "none": notes("small", 1)})
    finally:
        place.database.execute("DROP TRIGGER refuses ON trial_user_attributes")
    assert failed.user_attrs["orch:reason"].startswith("Unstorable: the storage cannot hold it: ")
    assert failed.params and failed.intermediate_values[1] == 0.5
    assert failed.state.name == "FAIL" and fine.state.name == "COMPLETE"


REFUSE_WRITES = """
CREATE OR REPLACE FUNCTION refuses() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'total size of jsonb object elements exceeds the maximum'
        USING ERRCODE = 'program_limit_exceeded';
END $$;
CREATE TRIGGER refuses BEFORE INSERT ON trial_user_attributes FOR EACH ROW
    WHEN (NEW.key = 'unstorable') EXECUTE FUNCTION refuses();
"""


def test_plain_optuna_writes_to_our_storage_are_checked_alike(place: Workplace) -> None:
    place.create()
    storage = PostgresStorage(place.database)
    study = optuna.Study(place.name, storage)
    trial = optuna.Trial(study, storage.create_new_trial(place.study.study_id))
    writes: list[Callable[[], object]] = [
        lambda: study.set_user_attr("n" * 513, 1),
        lambda: study.set_user_attr("a\0b", 1),
        lambda: trial.set_user_attr("\ud83d", 1),
        lambda: trial.report(1.0, 2**31),
        lambda: trial.suggest_float("n" * 513, 0.0, 1.0),
    ]
    for write in writes:
        with pytest.raises(ValueError, match=r"at most|cannot be stored"):
            write()
