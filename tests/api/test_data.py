"""Data given in Python and by a function: workers find them, refits use them, others are refused."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import Orch

from orchestrator.storage.database import Database

MODULE = """
import numpy as np

X = np.arange(240.0).reshape(120, 2) / 240
Y = X.sum(axis=1)


def build_model(hp):
    import keras

    keras.utils.set_random_seed(0)
    layers = [keras.Input((2,)), keras.layers.Dense(hp.Int("units", 1, 8)), keras.layers.Dense(1)]
    model = keras.Sequential(layers)
    model.compile("adam", "mse")
    return model


def arrays():
    return {"x": X, "y": Y, "test_data": (X, Y)}


def watched():
    import keras

    return {"x": X, "y": Y, "callbacks": [keras.callbacks.EarlyStopping("val_loss", patience=2)]}


def of_trial(hp):
    return X[:, : hp.Int("columns", 2, 2)], Y


def stream():
    import tensorflow as tf

    examples = tf.data.Dataset.from_tensor_slices((X, Y)).batch(16)
    return {"x": examples, "validation_data": examples.take(2), "fingerprint": "v1"}
"""

SCRIPT = """
import functions
import orchestrator as orch

by_value = lambda: (functions.X, functions.Y)
for name, data in {
    "arrays": functions.arrays(),
    "by-value": by_value,
    "dataset": functions.stream(),
}.items():
    study = orch.create_study(
        name, objective=orch.KerasObjective(functions.build_model), data=data, metric="val_loss",
        direction="minimize", trials=2, epochs=2, seed=1,
    )
    study.run(workers=1, progress=False)
    print(name, len(study.trials), study.refit(f"{name}.keras"))
study = orch.create_study(
    "endless", objective=orch.KerasObjective(functions.build_model), metric="val_loss", trials=1,
    epochs=1, direction="minimize",
    data={
        "x": functions.stream()["x"].repeat(), "steps_per_epoch": 3,
        "validation_data": (functions.X, functions.Y),
    },
)
try:
    study.run(workers=1, progress=False)
except orch.OrchError as error:
    print("endless:", error)
study.run(workers=0, progress=False)
print("endless", study.best.number)
"""


@pytest.fixture
def folder(orch: Orch, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "functions.py").write_text(MODULE)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_what_python_hands_over_is_found_by_this_machine_alone(orch: Orch, folder: Path) -> None:
    (folder / "script.py").write_text(SCRIPT)
    done = subprocess.run(
        [sys.executable, "script.py"],
        env=orch.environment, capture_output=True, text=True, check=False, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    lines = done.stdout.splitlines()
    assert [line.split()[:2] for line in lines if line.startswith(("arr", "by", "data"))] == [
        ["arrays", "2"], ["by-value", "2"], ["dataset", "2"]
    ]  # fmt: skip
    assert any("trained on 120 examples, validation included" in line for line in lines)
    assert any("test set (120 examples, evaluated once)" in line for line in lines)
    assert sum("the data have no test set" in line for line in lines) == 2
    assert any(line.startswith("endless: ") and "workers=0" in line for line in lines)
    assert "endless 0" in lines
    assert "saved the tf.data.Dataset once" in done.stderr

    assert orch("resume", "arrays", "--add", "1", "--workers", "1").returncode == 0
    elsewhere = Orch(folder / "elsewhere", orch.ok("db", "url").strip())
    refused = elsewhere("resume", "arrays", "--add", "1", "--workers", "1")
    assert refused.returncode == 1 and refused.stderr.count("\n") == 1, refused.stderr
    assert "are not on this machine" in refused.stderr


def test_a_data_function_is_named_like_an_objective(orch: Orch, folder: Path) -> None:
    common = ["--objective", "kt:functions:build_model", "--metric", "val_loss", "--direction",
              "minimize", "--trials", "1", "--epochs", "4"]  # fmt: skip
    for data in ("functions:arrays", "./functions.py:watched", "functions:of_trial"):
        name = "fn-" + data.rpartition(":")[2].replace("_", "-")
        orch.ok("create", name, *common, "--data", data)
        orch.ok("resume", name, "--workers", "1")
    page = orch.ok("refit", "fn-watched", "--out", "watched.keras")
    assert "trained as in the search" in page and "no test set" in page
    assert "source of functions" in orch.ok("show", "fn-of-trial")
    orch.ok("create", "stream", *common, "--data", "functions:stream")
    assert "pinned_by fingerprint" in orch.ok("show", "stream")


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ("functions:gone", "functions has no 'gone'"),
        ("functions:X", "is not a function"),
    ],
)
def test_a_wrong_data_function_is_refused_in_one_line(
    orch: Orch, folder: Path, data: str, words: str
) -> None:
    done = orch("create", "wrong", "--objective", "digits", "--data", data)
    assert done.returncode == 1 and done.stderr.count("\n") == 1, done.stderr
    assert words in done.stderr
    assert "wrong" not in orch.ok("list")


def test_a_study_whose_arrays_were_scaled_does_not_resume(
    orch: Orch, folder: Path, database: Database
) -> None:
    images = np.random.default_rng(0).integers(0, 256, (60, 4, 4), np.uint8)
    for name, x in (("bytes", images), ("floats", images / np.float32(255))):
        np.savez(f"{name}.npz", x_train=x, y_train=np.arange(60) % 3, x_test=x, y_test=x[:, 0, 0])
        orch.ok("create", name, "--objective", "digits", "--data", f"{name}.npz", "--trials", "1")
        # As an orch stored it that divided bytes by 255.
        database.execute(
            "UPDATE orch.study SET data = data - 'pinned_by' FROM studies "
            "WHERE studies.study_id = orch.study.study_id AND study_name = %(name)s",
            {"name": name},
        )
    refusal = orch.refused(1, "resume", "bytes", "--workers", "1")
    assert "create another study" in refusal and "uint8" in refusal
    assert "pinned_by" not in orch.ok("show", "floats")
    orch.ok("resume", "floats", "--workers", "1", "--add", "1")
