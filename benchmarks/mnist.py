"""MNIST with fewer training examples, for a quick look."""

from __future__ import annotations

from pathlib import Path

import numpy as np


def smaller(examples: int, folder: Path) -> Path:
    """Write the first training examples and the whole test set: a file for ``ORCH_MNIST``."""
    from orchestrator.training.data import load  # imports TensorFlow

    data = load("mnist")
    path = folder / "mnist.npz"
    np.savez(
        path,
        x_train=data.x_train[:examples],
        y_train=data.y_train[:examples],
        x_test=data.x_test,
        y_test=data.y_test,
    )
    load.cache_clear()
    return path
