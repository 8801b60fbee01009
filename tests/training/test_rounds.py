"""Rounds: what each training of a trial is given."""

from __future__ import annotations

import logging
import tracemalloc
from typing import Any

import numpy as np
import pytest
from sklearn.model_selection import KFold, StratifiedKFold

from orchestrator.errors import DataError
from orchestrator.training.data import load
from orchestrator.training.data_source import DataSource
from orchestrator.training.handover import Handover, lent
from orchestrator.training.rounds import Rounds

X = np.arange(60.0).reshape(30, 2)
Y = np.arange(30) % 3


def rounds(
    returned: Any, validation: int | None = None, folds: int = 0, repeats: int = 1
) -> Rounds:
    with lent([Handover("__main__:<data>", lambda: returned)]):
        source = DataSource("__main__:<data>")
        return Rounds(source.whole(), validation, folds, repeats, source.whole)


def test_the_last_sixth_is_held_out_and_the_test_set_is_not_touched() -> None:
    digits = load("digits")
    split = Rounds(digits, 200, 0, 1)[0]
    assert len(split.validation_data[0]) == 200
    assert np.array_equal(split.validation_data[0], digits.x_train[-200:])
    assert np.array_equal(split.y, digits.y_train[:-200])
    assert len(Rounds(digits, None, 0, 1)[0].validation_data[0]) == 1437 // 6


@pytest.mark.parametrize("count", [0, 1437, 5000])
def test_an_impossible_split_is_refused(count: int) -> None:
    with pytest.raises(DataError, match="choose 1 to 1436"):
        Rounds(load("digits"), count, 0, 1)


def test_every_array_of_a_nest_is_split_at_the_same_place() -> None:
    x = {"age": X[:, :1], "place": [X[:, 1], np.array([f"town {i}" for i in range(30)])]}
    y = (Y, X)
    [split] = rounds({"x": x, "y": y, "sample_weight": np.arange(30.0)})
    assert split.x["place"][1][-1] == "town 24" and isinstance(split.y, tuple)
    x_val, y_val, weights = split.validation_data
    assert x_val["place"][1].tolist() == [f"town {i}" for i in range(25, 30)]
    assert np.array_equal(y_val[1], X[25:]) and weights.tolist() == [25, 26, 27, 28, 29]


def test_without_labels_there_are_none_to_validate() -> None:
    [split] = rounds({"x": X})
    positional, keywords = split.fit_arguments()
    assert len(positional) == 1 and set(keywords) == {"validation_data"}
    assert split.validation_data[1] is None


def test_given_validation_data_leave_all_examples_to_the_training() -> None:
    [split] = rounds({"x": X, "y": Y, "validation_data": [X[:4], Y[:4]]})
    assert len(split.x) == 30 and isinstance(split.validation_data, tuple)


def test_a_share_is_held_out_as_keras_does_it() -> None:
    [split] = rounds({"x": X, "y": Y, "validation_split": 0.25})
    assert len(split.x) == int(30 * 0.75)
    assert "validation_split" not in split.fit_arguments()[1]


def test_options_reach_fit_and_callbacks_are_fresh_in_each_round() -> None:
    class Counter:
        count = 0

    found = rounds(
        {"x": X, "y": Y, "class_weight": {0: 2.0}, "batch_size": 7, "callbacks": [Counter()]},
        repeats=2,
    )
    first, second = (each.fit_arguments()[1] for each in found)
    assert first["class_weight"] == {0: 2.0} and first["batch_size"] == 7
    assert first["callbacks"][0] is not second["callbacks"][0]


@pytest.mark.parametrize(
    "y",
    [Y, Y + 1, Y * 10**12, Y == 0, np.array(["a", "b", "c"])[Y], Y[:, np.newaxis]],
    ids=["from 0", "from 1", "huge", "bool", "text", "a column"],
)
def test_folds_of_classes_are_stratified(y: Any) -> None:
    expected = StratifiedKFold(5).split(X, y.reshape(-1))
    for split, (train, validation) in zip(rounds((X, y), folds=5), expected, strict=True):
        assert np.array_equal(split.x, X[train])
        assert np.array_equal(split.validation_data[1], y[validation])


@pytest.mark.parametrize(
    "y",
    [X[:, 0], np.eye(3)[Y], {"one": Y}, np.arange(30), None],
    ids=["floats", "one-hot", "nest", "measurements", "none"],
)
def test_other_folds_are_plain(y: Any) -> None:
    expected = [train for train, _ in KFold(5).split(X)]
    found = rounds({"x": X, "y": y}, folds=5)
    for split, train in zip(found, expected, strict=True):
        assert np.array_equal(split.x, X[train])


def test_a_metric_of_validation_needs_data_to_validate() -> None:
    examples = rounds(iter([(X, Y)]))
    assert examples[0].validation_data is None
    examples._dataset.check_metrics(["loss"])
    with pytest.raises(DataError, match="val_loss needs validation data"):
        examples._dataset.check_metrics(["loss", "val_loss"])


def test_huge_labels_cost_no_memory() -> None:
    y = Y.astype(np.int64) * 2**33
    tracemalloc.start()
    rounds((X, y), folds=3)[0]
    assert tracemalloc.get_traced_memory()[1] < 2**26
    tracemalloc.stop()


def test_a_class_that_is_rarer_than_the_folds_is_named() -> None:
    y = np.array([0] * 28 + [1] * 2)
    with pytest.raises(DataError, match="choose 2 folds at most"):
        rounds((X, y), folds=3)


@pytest.mark.parametrize("y", [np.sort(Y), np.eye(3)[np.sort(Y)], np.sort(Y).astype(str)])
def test_a_class_that_does_not_validate_is_one_line_of_the_log(
    y: Any, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, "orch"):
        rounds((X, Y))
        rounds((X, X[:, 0]))
        assert not caplog.records
        rounds((X, y))
    [record] = caplog.records
    assert "lack 2 of its 3 classes" in record.getMessage()


def test_streams_are_made_again_for_each_round() -> None:
    def make() -> Any:
        examples = iter([(X, Y)])
        return {"x": examples, "validation_data": (X, Y), "steps_per_epoch": 1}

    with lent([Handover("__main__:<data>", make)]):
        source = DataSource("__main__:<data>")
        found = Rounds(source.whole(), None, 0, 2, source.whole)
    first, second = found
    assert first.x is not second.x
    assert first.fit_arguments()[1]["steps_per_epoch"] == 1


@pytest.mark.parametrize(
    ("returned", "folds", "words"),
    [
        ({"x": iter([]), "validation_data": (X, Y)}, 3, "folds need arrays"),
        ({"x": X, "y": Y, "validation_data": (X, Y)}, 3, "exclude each other"),
    ],
)
def test_what_cannot_be_split_is_one_clear_error(returned: Any, folds: int, words: str) -> None:
    with pytest.raises(DataError, match=words) as caught:
        rounds(returned, folds=folds)
    assert "\n" not in str(caught.value)
