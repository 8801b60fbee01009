"""Every example file runs, made smaller."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest
from conftest import Orch

EXAMPLES = Path(__file__).parent.parent / "examples"
# The number of trials, and the options that make it small.
SMALLER = {
    "gridsearch": (
        4, "--folds 2 --param epochs={choice=[1,2]} --param batch_size={choice=[512]} "
        "--param units={choice=[8,16]}",
    ),
    "hparams": (8, "--param units={choice=[16]} --param dropout=0.1"),
    "randomsearch": (5, "--epochs 1"),
    "hyperband": (8, "--epochs 4"),
    "coordinate": (  # 4 optimizers, one more learning rate, two more activations
        7, "--epochs 1 --set sampler.values={learning_rate=[0.001,0.003]} "
        "--set sampler.order=['optimizer','learning_rate','activation']",
    ),
}  # fmt: skip


def test_every_example_has_a_test() -> None:
    assert {path.stem for path in EXAMPLES.glob("*.toml")} == set(SMALLER)


def test_every_search_on_the_results_page_is_an_example() -> None:
    page = (EXAMPLES.parent / "docs" / "results.md").read_text()
    assert set(re.findall(r"orch run examples/(\w+)\.toml", page)) == set(SMALLER)


@pytest.mark.parametrize("example", sorted(SMALLER))
def test_the_example_runs(orch: Orch, example: str) -> None:
    trials, options = SMALLER[example]
    orch.ok("run", str(EXAMPLES / f"{example}.toml"), "--data", "digits", "--workers", "2",
            *options.split())  # fmt: skip
    report = orch.report(example)
    states = report["states"]
    assert states["complete"] + states["pruned"] == trials and states["failed"] == 0
    assert report["best"]["params"]


def test_the_script_with_options_runs_as_a_command(orch: Orch, name: str) -> None:
    script = str(EXAMPLES / "train.py")
    orch.ok("run", "--study", name, "--metric", "val_accuracy", "--epochs", "5", "--trials", "3",
            "--workers", "1", "--param", "lr={float=[0.01,1.0],log=true}", "--param", "l2=0.001",
            "--", sys.executable, script, "--lr", "{lr}", "--l2={l2}", "--epochs", "5")  # fmt: skip
    assert orch.report(name)["best"]["value"] > 0.8


def test_the_shell_script_runs_as_a_command(orch: Orch, name: str) -> None:
    orch.ok("run", "--study", name, "--metric", "error", "--epochs", "8", "--trials", "3",
            "--workers", "1", "--param", "rate={float=[0.2,0.4]}",
            "--", "sh", str(EXAMPLES / "train.sh"), "{rate}")  # fmt: skip
    assert 0 <= orch.report(name)["best"]["value"] < 0.1
