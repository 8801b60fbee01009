"""A training with argparse, in NumPy alone: logistic regression by gradient descent.

    orch run --study logistic --metric val_accuracy --epochs 20 --trials 10 \
        --param 'lr={float=[0.001, 1.0], log=true}' --param 'l2={float=[1e-6, 0.1], log=true}' \
        -- python examples/train.py --lr {lr} --l2 {l2}
"""

import argparse
import json
import os
from pathlib import Path

import numpy as np


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--lr", type=float, required=True)
    parser.add_argument("--l2", type=float, default=0.0)
    parser.add_argument("--epochs", type=int, default=20)
    options = parser.parse_args()

    rng = np.random.default_rng(0)
    x = rng.normal(size=(1000, 20))
    y = (x @ rng.normal(size=20) + rng.normal(size=1000) > 0).astype(float)
    train, valid = slice(800), slice(800, None)

    checkpoint = Path(os.environ.get("ORCH_CHECKPOINT_DIR", "."), "weights.npz")
    weights, first = np.zeros(20), 1
    if checkpoint.exists():  # an earlier attempt was here
        saved = np.load(checkpoint)
        weights, first = saved["weights"], int(saved["epoch"]) + 1
    for epoch in range(first, options.epochs + 1):
        order = np.random.default_rng([int(os.environ.get("ORCH_SEED", "0")), epoch])
        for batch in np.array_split(order.permutation(800), 25):
            chance = 1 / (1 + np.exp(-x[train][batch] @ weights))
            gradient = x[train][batch].T @ (chance - y[train][batch]) / len(batch)
            weights -= options.lr * (gradient + options.l2 * weights)
        # By rename, and before the line that reports the epoch.
        new = checkpoint.with_suffix(".new.npz")
        np.savez(new, weights=weights, epoch=epoch)
        new.replace(checkpoint)
        accuracy = float(np.mean((x[valid] @ weights > 0) == y[valid]))
        print(
            json.dumps({"step": epoch, "val_accuracy": accuracy, "norm": float(weights @ weights)})
        )


if __name__ == "__main__":
    main()
