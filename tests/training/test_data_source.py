"""Where data come from, what a data function may return, and what pins it."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from orchestrator.errors import DataError
from orchestrator.training.data import Dataset, load
from orchestrator.training.data_source import DataSource, as_mapping, sha256_of_data
from orchestrator.training.handed_data import hand_over_data, keep, read
from orchestrator.training.handover import lent

X = np.arange(24.0).reshape(12, 2)
Y = np.arange(12) % 3


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setenv("ORCH_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    load.cache_clear()


def from_file(home: Path, body: str, name: str = "made") -> DataSource:
    path = home / f"{name}_{abs(hash(body))}.py"
    path.write_text(f"import numpy as np\n{body}\n")
    return DataSource(f"./{path.name}:make")


def test_a_function_of_a_file_makes_the_data(home: Path) -> None:
    source = from_file(home, "def make():\n    return np.ones((6, 2)), np.arange(6)")
    facts = source.whole().facts(None)
    assert (facts.train, facts.validation, facts.test, facts.shape) == (5, 1, 0, [2])
    assert facts.pinned_by == "arrays"


def test_short_forms_are_what_they_are_in_keras_examples() -> None:
    pair = as_mapping((X, Y), "data")
    assert set(pair) == {"x", "y"}
    both = as_mapping(((X, Y), (X[:3], Y[:3])), "data")
    assert set(both) == {"x", "y", "test_data"} and len(both["test_data"][0]) == 3
    inputs = as_mapping(([X, X[:, 0]], Y), "data")
    assert isinstance(inputs["x"], list) and len(inputs["x"]) == 2
    assert as_mapping((X, Y, np.ones(12)), "data")["sample_weight"].sum() == 12


def test_frames_and_lists_become_the_arrays_that_keras_makes_of_them() -> None:
    frame = pd.DataFrame({"a": [1.0, 2, 3], "b": [4.0, 5, 6]})
    found = as_mapping((frame, frame["a"]), "data")
    assert found["x"].shape == (3, 2) and found["y"].shape == (3, 1)
    assert as_mapping((X, Y.tolist()), "data")["y"].tolist() == Y.tolist()


@pytest.mark.parametrize(
    ("returned", "words"),
    [
        (None, "return a mapping with x and y"),
        (5, "return a mapping with x and y"),
        ({"y": Y}, "lacks x"),
        ({"x": X, "labels": Y}, "unknown key 'labels'"),
        ({"x": X, "y": Y, "epochs": 3}, "training.epochs"),
        ({"x": X, "y": Y[:5]}, "x has 12 examples, and y has 5"),
        ({"x": {"a": X, "b": X[:3]}, "y": Y}, "3 examples"),
        ({"x": X, "y": Y, "sample_weight": np.ones(2)}, "sample_weight has 2"),
        ({"x": X, "y": Y, "validation_data": (X, Y[:2])}, "validation_data has 2"),
        ({"x": X[:0], "y": Y[:0]}, "holds none"),
        ({"x": object(), "y": Y}, "of the type object"),
        ({"x": [[1, 2], [3]], "y": [1, 2]}, "cannot be made an array"),
        ({"x": iter([]), "y": Y}, "leave y out"),
    ],
)
def test_what_model_fit_does_not_take_is_one_clear_error(returned: Any, words: str) -> None:
    with pytest.raises(DataError, match=words) as caught:
        as_mapping(returned, "data")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("reference", "words"),
    [
        ("./gone.py:make", "there is no file gone.py"),
        ("no_such_module_here:make", "cannot import no_such_module_here"),
        ("math:pi", "is not a function"),
        ("os.path:join", "takes a; it may take hp or trial"),
        ("imagenet", "unknown data set 'imagenet'"),
        ("__main__:make", r"load_study\(NAME, data="),
        ("arrays:0123456789abcdef", "not on this machine"),
    ],
)
def test_a_source_that_is_not_here_is_one_clear_error(reference: str, words: str) -> None:
    with pytest.raises(DataError, match=words) as caught:
        DataSource(reference).whole()
    assert "\n" not in str(caught.value)


def test_the_fingerprint_is_of_names_types_shapes_and_bytes() -> None:
    same = {"x": {"a": X, "b": X}, "y": Y}
    others = [
        {"x": {"a": X, "c": X}, "y": Y},
        {"x": {"a": X, "b": X.astype(np.float32)}, "y": Y},
        {"x": {"a": X, "b": X + 1}, "y": Y},
        {"x": {"a": X.reshape(12, 1, 2), "b": X}, "y": Y},
        {"x": {"a": X, "b": X}, "y": Y, "class_weight": {0: 2.0}},
        {"x": [X, X], "y": Y},
    ]
    assert sha256_of_data(same) == sha256_of_data({"y": Y.copy(), "x": {"b": X, "a": X}})
    assert len({sha256_of_data(each) for each in [same, *others]}) == 1 + len(others)


def test_callbacks_are_told_apart_by_what_they_hold() -> None:
    import keras

    def with_patience(patience: int) -> str:
        stopping = keras.callbacks.EarlyStopping("val_loss", patience=patience)
        return sha256_of_data({"x": X, "callbacks": [stopping]})

    assert with_patience(2) == with_patience(2) != with_patience(3)


STREAM = "def make():\n    return {'x': iter([]), 'validation_data': (np.ones(2), np.ones(2))%s}"


def test_streams_are_pinned_by_fingerprint_or_source(home: Path) -> None:
    by_source = from_file(home, STREAM % "").whole()
    assert by_source.pinned_by is not None and by_source.pinned_by.startswith("the source of made_")
    again = from_file(home, (STREAM % "") + "  # changed").whole()
    assert by_source.sha256 != again.sha256
    named = [from_file(home, (STREAM % ", 'fingerprint': 'v1'") + end).whole() for end in ("", "#")]
    assert [each.pinned_by for each in named] == ["fingerprint"] * 2
    assert named[0].sha256 == named[1].sha256


def test_a_function_of_hp_or_the_trial_is_called_for_each_trial(home: Path) -> None:
    source = from_file(
        home, "def make(trial):\n    return np.full((6, 2), trial.number), np.arange(6)"
    )

    class Trial:
        number = 7

    assert source.takes_trial and source.for_trial(Trial()).x.max() == 7
    facts = source.facts(None, 0, source.whole)
    assert (facts.train, facts.sha256 != "") == (None, True)
    assert str(facts.pinned_by).startswith("the source of")


def test_arrays_of_python_are_kept_on_this_machine_and_mapped(home: Path) -> None:
    data = {"x": {"a": X, "text": np.array(["é", "b"] * 6)}, "y": Y, "class_weight": {0: 2.0}}
    handed = hand_over_data(data)
    keep(handed)
    found, digest = read(handed.reference)
    assert digest == handed.digest and found["class_weight"] == {0: 2.0}
    assert np.array_equal(found["x"]["text"], data["x"]["text"])  # type: ignore[index]
    whole = DataSource(handed.reference).whole()
    assert whole.sha256 == digest and whole.pinned_by == "arrays"
    assert hand_over_data({**data}).reference == handed.reference


def test_damaged_data_of_python_are_one_clear_error(home: Path) -> None:
    handed = hand_over_data((X, Y))
    keep(handed)
    [file] = (home / "home" / "data").rglob("0.npy")
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    for damaged in (b"", bytes(content)):
        file.write_bytes(damaged)
        with pytest.raises(DataError, match="hand them over again"):
            read(handed.reference)


@pytest.mark.parametrize("name", ["../elsewhere", "/tmp/elsewhere", "", "0123456789ABCDEF"])
def test_name_from_a_study_cannot_lead_outside_the_store(home: Path, name: str) -> None:
    handed = hand_over_data((X, Y))
    keep(handed)
    data = home / "home" / "data"
    shutil.copytree(data / handed.reference.removeprefix("arrays:"), data.parent / "elsewhere")
    with pytest.raises(DataError, match="does not name data"):
        read(f"arrays:{name}")


def test_data_of_python_are_removed_after_a_month_without_use(home: Path) -> None:
    old, used = hand_over_data((X, Y)), hand_over_data((X + 1, Y))
    keep(old)
    keep(used)
    month = time.time() - 31 * 24 * 3600
    for folder in (home / "home" / "data").iterdir():
        os.utime(folder, (month, month))
    read(used.reference)
    keep(hand_over_data((X + 2, Y)))
    read(used.reference)
    with pytest.raises(DataError, match="not on this machine"):
        read(old.reference)


def test_a_dataset_of_python_is_saved_once_and_its_line_says_so(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import tensorflow as tf

    dataset = tf.data.Dataset.from_tensor_slices((X, Y)).batch(4)
    handed = hand_over_data({"x": dataset, "validation_data": dataset.take(1)})
    keep(handed)
    keep(handed)
    lines = capsys.readouterr().err.splitlines()
    assert len([line for line in lines if "saved the tf.data.Dataset once" in line]) == 2
    whole = DataSource(handed.reference).whole()
    batches = [x.numpy() for x, _ in whole.x]
    assert np.array_equal(np.concatenate(batches), X)
    assert whole.sha256 == handed.digest


def test_endless_data_stay_in_this_process() -> None:
    import tensorflow as tf

    endless = tf.data.Dataset.from_tensor_slices((X, Y)).batch(4).repeat()
    for x in (endless, iter([(X, Y)])):
        handed = hand_over_data({"x": x, "validation_data": (X, Y), "steps_per_epoch": 2})
        with pytest.raises(Exception, match="workers=0") as caught:
            handed.pickled()
        assert "\n" not in str(caught.value)
        with lent([handed]):
            assert isinstance(DataSource(handed.reference).whole(), Dataset)
