"""A callback that writes down each epoch, and the data of a training with it.

``$USERS_LOG`` is the file. While ``$USERS_LOG.hold`` exists, the third epoch waits to be killed.
"""

from __future__ import annotations

import importlib
import json
import os
import time
from pathlib import Path
from typing import Any

import keras
import numpy as np
from epochs import read_log

_PATIENCE = 240  # seconds


class Watch(keras.callbacks.Callback):
    """Appends a line of JSON at each epoch's begin, and one at its end."""

    def __init__(self, log: str) -> None:
        super().__init__()
        self.log = log

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        begun = self._write("begin", epoch, rate=_rate(self.model))
        deadline = time.monotonic() + _PATIENCE
        while begun == 3 and Path(f"{self.log}.hold").exists() and time.monotonic() < deadline:
            time.sleep(0.05)

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        values = {name: float(value) for name, value in (logs or {}).items() if _is_number(value)}
        self._write("end", epoch, logs=values)

    def _write(self, what: str, epoch: int, **more: Any) -> int:
        """Returns how many lines of this kind there are now."""
        line = {"what": what, "epoch": epoch, "pid": os.getpid(), **more}
        with Path(self.log).open("a") as file:
            file.write(json.dumps(line) + "\n")
        return sum(each["what"] == what for each in read_log(Path(self.log)))


def data() -> dict[str, Any]:
    """The data of the training that ``$USERS_TRAINING`` names, with a watch among its callbacks."""
    given = given_data(os.environ["USERS_TRAINING"])
    return {**given, "callbacks": [*given.get("callbacks", ()), Watch(os.environ["USERS_LOG"])]}


def given_data(training: str) -> dict[str, Any]:
    """What the training's data function returns, or else what orch makes of ``digits``."""
    module = importlib.import_module(training)
    return dict(module.data() if hasattr(module, "data") else _digits())


def _digits() -> dict[str, Any]:
    """What orch makes of the data set ``digits``."""
    from sklearn.datasets import load_digits

    bundled = load_digits()
    order = np.random.default_rng(0).permutation(len(bundled.target))
    images = ((bundled.images[order] * 15).astype(np.uint8) / np.float32(255)).astype("float32")
    return {"x": images[:-360], "y": bundled.target[order][:-360].astype(np.int64)}


def _rate(model: keras.Model) -> float | None:
    optimizer = getattr(model, "optimizer", None)
    return None if optimizer is None else float(optimizer.learning_rate)


def _is_number(value: Any) -> bool:
    return getattr(value, "ndim", 0) == 0
