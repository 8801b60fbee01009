"""A training that another process began; run by test_state.py, and imported by it."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import keras
import numpy as np
from keras import callbacks, layers

from orchestrator.training.data import Array
from orchestrator.training.state import capture_state, restore_callbacks, restore_model

RNG = np.random.default_rng(0)
X = RNG.normal(size=(64, 6)).astype("float32")
Y = RNG.normal(size=(64, 1)).astype("float32")


class Reporter(callbacks.Callback):  # type: ignore[misc]
    """The last callback, as orch's: it captures after each epoch, and restores at the beginning."""

    def __init__(self, others: list[Any], arrays: dict[str, Array]) -> None:
        super().__init__()
        self.others, self.arrays = others, arrays
        self.states: list[dict[str, Array]] = []
        self.rates: list[float] = []

    def on_train_begin(self, logs: Any = None) -> None:
        assert restore_callbacks(self.others, self.arrays) == []

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        self.rates.append(float(self.model.optimizer.learning_rate))
        self.states.append(capture_state(self.model, self.others))


def train(epoch: int, arrays: dict[str, Array]) -> Reporter:
    """Train from an epoch on, until EarlyStopping ends it."""
    model = keras.Sequential([layers.Dense(8, "relu"), layers.Dropout(0.2), layers.Dense(1)])
    model.build((None, 6))
    model.compile(keras.optimizers.Adam(0.05), "mse")
    if arrays:
        restore_model(model, arrays)
    others = [
        callbacks.ReduceLROnPlateau("loss", factor=0.5, patience=2, min_delta=0.02),
        callbacks.EarlyStopping("loss", patience=4, min_delta=0.05, restore_best_weights=True),
    ]
    reporter = Reporter(others, arrays)
    model.fit(
        X, Y, batch_size=16, shuffle=False, verbose=0,
        epochs=40, initial_epoch=epoch, callbacks=[*others, reporter],
    )  # fmt: skip
    return reporter


def main(folder: Path, epoch: int) -> None:
    """Go on from the state in a folder, and write there how it went."""
    with np.load(folder / "state.npz", allow_pickle=False) as file:
        reporter = train(epoch, {name: file[name] for name in file.files})
    np.savez(folder / "ended.npz", *reporter.model.get_weights())
    (folder / "rates.json").write_text(json.dumps(reporter.rates))


if __name__ == "__main__":
    keras.utils.set_random_seed(99)
    keras.layers.Dense(3), keras.layers.Dense(3)
    main(Path(sys.argv[1]), int(sys.argv[2]))
