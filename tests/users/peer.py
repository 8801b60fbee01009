"""Trainings without orch: ``python peer.py FOLDER SEED TRAINING...`` writes FOLDER/TRAINING.json.

Each is run with the parameters that it declares, by KerasTuner's ``run_trial``, or by plain Keras
where KerasTuner cannot; all of them in this one process.
"""

from __future__ import annotations

import importlib
import json
import sys
import time
import traceback
from pathlib import Path
from typing import Any

import keras
import keras_tuner
import numpy as np
from declared import Training
from epochs import read_log
from keras_tuner.src.engine import tuner_utils
from keras_tuner.src.engine.trial import Trial
from watched import Watch, given_data


class Seeded(keras_tuner.HyperModel):
    """A user's hypermodel, whose models are built after the seeds are set."""

    def __init__(self, target: Any, seed: int) -> None:
        super().__init__()
        self.target = target() if isinstance(target, type) else target
        self.seed = seed

    def build(self, hp: Any) -> Any:
        keras.utils.set_random_seed(self.seed)
        return getattr(self.target, "build", self.target)(hp)

    def fit(self, hp: Any, model: Any, *args: Any, **kwargs: Any) -> Any:
        if hasattr(self.target, "fit"):
            return self.target.fit(hp, model, *args, **kwargs)
        return super().fit(hp, model, *args, **kwargs)


def arguments_of(training: Training) -> tuple[list[Any], dict[str, Any]]:
    """What a user passes to ``search``: positional arguments and keywords."""
    given = given_data(training.name)
    positional = [given.pop("x"), *([given.pop("y")] if "y" in given else [])]
    validates = {"validation_data", "validation_split"} & given.keys()
    if not validates and training.metric.startswith("val_"):
        cut = len(positional[0]) - len(positional[0]) // 6  # orch's, where nothing is said
        given["validation_data"] = tuple(part[cut:] for part in positional)
        positional = [part[:cut] for part in positional]
    return positional, given


def train(training: Training, folder: Path, seed: int) -> dict[str, Any]:
    """Run the training's own configuration, and say what came of it."""
    module = importlib.import_module(training.name)
    direction = training.direction or ("max" if "acc" in training.metric else "min")
    objective = keras_tuner.Objective(training.metric, direction[:3])
    hypermodel = Seeded(getattr(module, training.target), seed)
    hp = keras_tuner.HyperParameters()
    hp.values = dict(training.params)
    log = folder / f"{training.name}.log"
    log.unlink(missing_ok=True)
    positional, keywords = arguments_of(training)
    keywords["callbacks"] = [*keywords.get("callbacks", ()), Watch(str(log))]
    started = time.monotonic()
    keywords |= {"epochs": training.epochs, "verbose": 0}
    if training.peer == "keras":
        results = hypermodel.fit(hp, hypermodel.build(hp), *positional, **keywords)
    else:
        tuner = keras_tuner.RandomSearch(
            hypermodel, objective, max_trials=1, directory=str(folder),
            project_name=f"{training.name}-project", overwrite=True,
        )  # fmt: skip
        results = tuner.run_trial(Trial(hyperparameters=hp), *positional, **keywords)
    assert hp.values == training.params, f"PARAMS is not whole: {hp.values}"
    lines = read_log(log)
    return {
        "best": _value(results, objective, last=False),
        "last": _value(results, objective, last=True),
        "begun": [(line["epoch"], line["rate"]) for line in lines if line["what"] == "begin"],
        "logs": [line["logs"] for line in lines if line["what"] == "end"],
        "seconds": time.monotonic() - started,
    }


def _value(results: Any, objective: Any, last: bool) -> float:
    """The trial's value as KerasTuner takes it; or that of the last epochs, of histories."""
    if isinstance(results, list):
        return float(np.mean([_value(each, objective, last) for each in results]))
    if last and hasattr(results, "history"):
        return float(results.history[objective.name][-1])
    return float(tuner_utils.convert_to_metrics_dict(results, objective)[objective.name])


def main(folder: Path, seed: int, names: list[str]) -> None:
    for name in names:
        try:
            made = train(Training.of(name), folder, seed)
        except Exception:
            made = {"error": traceback.format_exc()}
        part = folder / f"{name}.part"
        part.write_text(json.dumps(made))
        part.rename(folder / f"{name}.json")  # tests wait for the whole file
        keras.backend.clear_session()
        keras.config.set_dtype_policy("float32")


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3:])
