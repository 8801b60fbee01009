"""A study of a training by the Python API: ``python in_python.py TRAINING STUDY SEED``."""

from __future__ import annotations

import importlib
import sys

from declared import Training

import orchestrator as orch


def main(name: str, study_name: str, seed: int) -> None:
    training = Training.of(name)
    module = importlib.import_module(name)
    study = orch.create_study(
        study_name,
        objective=orch.KerasObjective(getattr(module, training.target)),
        data=module.data(),
        metric=training.metric,
        epochs=training.epochs,
        trials=training.trials,
        seed=seed,
        sampler="random",
        pruner="none",
    )
    study.enqueue(training.params)
    study.run(workers=2, progress=False)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
