"""Trainings without Keras: functions of an Optuna trial, and commands in any language."""

from __future__ import annotations

import importlib.util
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent
ROOT = FOLDER.parents[1]
_INTERPRETERS = {
    ".py": sys.executable,
    ".sh": "sh",
    ".pl": "perl",
    ".R": "Rscript",
    ".rs": "rustc",
}


@dataclass(frozen=True)
class Plain:
    """A training as its user wrote it.

    Attributes:
        file: one of the examples, or where it is below this folder.
        params: one whole configuration.
        direction: of the value.
        needs: packages.
        checkpoints: whether a killed one continues; else it starts from its beginning.
        metric: in the lines of a command.
        arguments: of a command, behind its file.
        in_every_test_run: not only by ``make users``.
    """

    file: str
    params: dict[str, Any]
    direction: str = "minimize"
    needs: tuple[str, ...] = ()
    checkpoints: bool = True
    metric: str = ""
    arguments: tuple[str, ...] = ()
    in_every_test_run: bool = False

    @property
    def path(self) -> Path:
        return (ROOT if self.file.startswith("examples/") else FOLDER) / self.file

    @property
    def module(self) -> str:
        """Of a function."""
        return self.file.removesuffix(".py").replace("/", ".")

    @property
    def missing(self) -> list[str]:
        """What it needs and this machine has not."""
        missing = [each for each in self.needs if importlib.util.find_spec(each) is None]
        interpreter = _INTERPRETERS[self.path.suffix]
        return missing if shutil.which(interpreter) else [*missing, interpreter]

    def command(self, program: Path) -> list[str]:
        """What starts it. The program is its file, or what was compiled from it."""
        if program.suffix:
            return [_INTERPRETERS[program.suffix], str(program), *self.arguments]
        return [str(program), *self.arguments]


_BOOST = ("optuna_integration", "sklearn")
FUNCTIONS = [
    Plain(
        "examples/numpy_loop.py", {"learning_rate": 0.002, "momentum": 0.5}, in_every_test_run=True
    ),
    Plain("examples/partial_fit.py", {"alpha": 1e-3}, "maximize", ("sklearn",)),
    Plain("examples/torch_loop.py", {"units": 32, "learning_rate": 1e-3}, "maximize", ("torch",)),
    Plain("examples/xgboost_rounds.py", {"eta": 0.1, "max_depth": 3}, needs=("xgboost",)),
    Plain(
        "examples/lightgbm_rounds.py", {"learning_rate": 0.1, "num_leaves": 8}, needs=("lightgbm",)
    ),
    Plain("functions/evolution.py", {"parents": 4, "shrink": 0.95}),
    Plain(
        "functions/mlp_partial_fit.py",
        {"units": 16, "learning_rate": 0.003},
        "maximize",
        ("sklearn",),
    ),
    Plain("functions/sgd_pruning.py", {"alpha": 1e-3}, needs=("sklearn",), checkpoints=False),
    Plain("functions/torch_gru.py", {"hidden": 8, "lr": 0.1}, needs=("torch",)),
    Plain("functions/xgboost_own_callback.py", {"eta": 0.1, "lambda": 1.0}, needs=("xgboost",)),
    Plain(
        "functions/lightgbm_own_callback.py",
        {"learning_rate": 0.1, "min_data_in_leaf": 5},
        needs=("lightgbm",),
    ),
    Plain(
        "functions/xgboost_callback.py",
        {"booster": "gbtree", "alpha": 0.01, "max_depth": 3, "eta": 0.3},
        "maximize",
        ("xgboost", *_BOOST),
        checkpoints=False,
    ),
    Plain(
        "functions/lightgbm_callback.py",
        {"lambda_l1": 0.1, "num_leaves": 8, "feature_fraction": 0.8},
        "maximize",
        ("lightgbm", *_BOOST),
        checkpoints=False,
    ),
    Plain(
        "functions/lightning_callback.py",
        {"dropout": 0.25, "units": 32, "lr": 0.01},
        "maximize",
        ("lightning", *_BOOST),
        checkpoints=False,
    ),
    Plain(
        "functions/optuna_search_cv.py", {"components": 8}, "maximize", _BOOST, checkpoints=False
    ),
]
COMMANDS = [
    Plain(
        "commands/digits_sgd.py",
        {"alpha": 0.001},
        "maximize",
        ("sklearn",),
        metric="val_accuracy",
        arguments=("--alpha", "{alpha}", "--average"),
    ),
    Plain("commands/newton.sh", {"damping": 0.75}, metric="error", in_every_test_run=True),
    Plain(
        "commands/descent.pl",
        {"rate": 0.05, "momentum": 0.5},
        metric="loss",
        arguments=("{rate}", "{momentum}"),
    ),
    Plain("commands/descent.R", {"rate": 0.1}, metric="loss", arguments=("{rate}",)),
    Plain("commands/descent.rs", {"rate": 0.1}, metric="loss", arguments=("{rate}",)),
]
