"""Record learning curves: what each configuration of an objective reports after each epoch.

    python -m benchmarks.learning_curves benchmarks/curves/mnist.npz --configurations 1000 --seeds 3
    python -m benchmarks.learning_curves few.npz --configurations 300 --examples 6000

``benchmarks.pruning`` replays searches on such a file, in which no time passes. The configurations
are random ones of the objective's own space. orch trains them, without a pruner, in a study for
each seed in this machine's storage, so the same command continues what was interrupted. Ctrl-C
writes what there is: the configurations that all seeds have.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import optuna
from optuna.distributions import BaseDistribution, distribution_to_json, json_to_distribution
from optuna.samplers import RandomSampler
from optuna.trial import FrozenTrial, TrialState

from benchmarks.mnist import smaller
from orchestrator.base.facts import SECONDS

Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class LearningCurves:
    """The curves of many configurations.

    Attributes:
        space: the domain of each parameter.
        configurations: a value for each parameter.
        values: the configuration, the seed, the epoch: what was reported. Larger is better.
        seconds: the configuration, the seed: how long an epoch takes.
        about: what was recorded, and how.
    """

    space: Mapping[str, BaseDistribution]
    configurations: list[dict[str, Any]]
    values: Array
    seconds: Array
    about: Mapping[str, Any]

    @cached_property
    def best(self) -> float:
        """The highest value that a configuration has after its last epoch, over the seeds."""
        return float(self.values[:, :, -1].mean(axis=1).max())

    def write(self, path: Path) -> None:
        """Write the file. It holds no objects, so reading it runs no code."""
        described = {name: distribution_to_json(each) for name, each in self.space.items()}
        np.savez_compressed(
            path,
            space=np.array(json.dumps(described)),
            configurations=np.array(json.dumps(self.configurations)),
            values=self.values.astype(np.float32),
            seconds=self.seconds.astype(np.float32),
            about=np.array(json.dumps(self.about)),
        )

    @classmethod
    def read(cls, path: Path) -> LearningCurves:
        """Read a file."""
        with np.load(path) as content:
            space = json.loads(str(content["space"]))
            return cls(
                {name: json_to_distribution(each) for name, each in space.items()},
                json.loads(str(content["configurations"])),
                content["values"].astype(float),
                content["seconds"].astype(float),
                json.loads(str(content["about"])),
            )


def main() -> int:
    options = _options()
    with _fewer(options.examples):
        curves = _record(options)
    curves.write(options.path)
    print(f"{options.path}: {curves.values.shape[0]} configurations, best {curves.best:.4f}")
    return 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("path", type=Path, help="the file, e.g. curves.npz")
    parser.add_argument("--objective", default="mnist", help="with a metric that is maximised")
    parser.add_argument("--data", help="of the objective, e.g. digits")
    parser.add_argument("--configurations", type=int, default=1000)
    parser.add_argument("--examples", type=int, help="of MNIST's 60,000; default: all")
    parser.add_argument(
        "--validation", type=int, help="examples that validate; default: the data's"
    )
    parser.add_argument("--epochs", type=int, default=27)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--workers", type=int, default=1)
    return parser.parse_args()


@contextmanager
def _fewer(examples: int | None) -> Iterator[None]:
    """MNIST with fewer training examples, for this process and its workers."""
    if examples is None:
        yield
        return
    with tempfile.TemporaryDirectory(prefix="orch-curves-") as folder:
        os.environ["ORCH_MNIST"] = str(smaller(examples, Path(folder)))
        yield


def _record(options: argparse.Namespace) -> LearningCurves:
    import orchestrator as orch

    space = dict(orch.search_space(options.objective))
    drawn = _drawn(space, options.configurations)
    studies = [_trained(options, seed, drawn) for seed in range(options.seeds)]
    # What failed with some seed, e.g. because its loss was no longer a number, is left out.
    whole = [each for each in drawn if all(_key(each) in study for study in studies)]
    rows = [[study[_key(each)] for study in studies] for each in whole]
    epochs = range(1, options.epochs + 1)
    return LearningCurves(
        space,
        whole,
        np.array([[[each.intermediate_values[n] for n in epochs] for each in row] for row in rows]),
        np.array([[_seconds(each) / options.epochs for each in row] for row in rows]),
        {
            "command": "python -m benchmarks.learning_curves " + " ".join(sys.argv[1:]),
            "orch": orch.__version__,
        },
    )


def _drawn(space: Mapping[str, BaseDistribution], count: int) -> list[dict[str, Any]]:
    study = optuna.create_study(sampler=RandomSampler(seed=0))
    return [study.ask(dict(space)).params for _ in range(count)]


def _trained(
    options: argparse.Namespace, seed: int, drawn: list[dict[str, Any]]
) -> dict[str, FrozenTrial]:
    """The trial of each configuration, trained with a seed."""
    import orchestrator as orch

    named: dict[str, Any] = {"data": options.data} if options.data else {}
    if options.validation:
        named["data_options"] = {"validation": options.validation}
    with orch.create_study(
        f"curves-{options.objective}-{seed}",
        objective=options.objective,
        trials=len(drawn),
        epochs=options.epochs,
        seed=seed,
        sampler="enqueued",
        pruner="none",
        worker={"keep_models": 0, "checkpoint_seconds": 3600},
        **named,
    ) as study:
        if not study.trials:
            study.enqueue(*drawn)
        with suppress(KeyboardInterrupt):
            study.run(workers=options.workers)
        complete = [each for each in study.trials if each.state == TrialState.COMPLETE]
    return {_key(each.params): each for each in complete}


def _key(configuration: Mapping[str, Any]) -> str:
    return json.dumps(configuration, sort_keys=True)


def _seconds(trial: FrozenTrial) -> float:
    return float(trial.user_attrs[SECONDS])


if __name__ == "__main__":
    sys.exit(main())
