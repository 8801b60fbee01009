"""A linear classifier of digits, with options, whose pickle is its checkpoint."""

import argparse
import json
import os
import pickle
import time

import numpy as np
from sklearn.datasets import load_digits
from sklearn.linear_model import SGDClassifier


def get_args():
    parser = argparse.ArgumentParser()
    parser.add_argument("--alpha", type=float, default=1e-4)
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--average", action="store_true")
    parser.add_argument("--seed", type=int, default=int(os.environ.get("ORCH_SEED", "0")) % 2**32)
    return parser.parse_args()


def main():
    args = get_args()
    x, y = load_digits(return_X_y=True)
    path = os.path.join(os.environ["ORCH_CHECKPOINT_DIR"], "model.pkl")
    epoch = 0
    model = SGDClassifier(alpha=args.alpha, average=args.average, random_state=args.seed)
    if os.path.exists(path):
        with open(path, "rb") as file:
            epoch, model = pickle.load(file)
    while epoch < args.epochs:
        epoch += 1
        model.partial_fit(x[:1400] / 16, y[:1400], classes=np.unique(y))
        with open(path + ".tmp", "wb") as file:
            pickle.dump((epoch, model), file)
        os.replace(path + ".tmp", path)
        accuracy = model.score(x[1400:] / 16, y[1400:])
        print(json.dumps({"step": epoch, "val_accuracy": accuracy}))
        while epoch == 2 and os.path.exists(os.environ.get("USERS_HOLD", "")):
            time.sleep(0.05)


if __name__ == "__main__":
    main()
