"""A function by plain Optuna: ``python plain_peer.py MODULE DIRECTION PARAMS``."""

from __future__ import annotations

import importlib
import json
import sys

import optuna


def main(module: str, direction: str, params: str) -> None:
    study = optuna.create_study(direction=direction)
    study.enqueue_trial(json.loads(params))
    study.optimize(importlib.import_module(module).objective, n_trials=1)
    [trial] = study.trials
    print(json.dumps([trial.params, trial.value, trial.intermediate_values]))


if __name__ == "__main__":
    main(*sys.argv[1:])
