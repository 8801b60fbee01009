"""The article's network on real digits, through the installed command."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from conftest import Orch


def test_real_mnist_reaches_95_percent_within_12_trials_of_3_epochs(
    orch: Orch, name: str, mnist: str
) -> None:
    orch.ok(
        "run", "mnist", "--study", name, "--trials", "12", "--workers", "2", "--epochs", "3",
        timeout=600,
    )  # fmt: skip
    report = orch.report(name)
    assert report["best"]["value"] >= 0.95
    assert report["data"]["train"] == 50000 and report["data"]["validation"] == 10000
    assert report["states"]["complete"] + report["states"]["pruned"] == 12
    for trial in report["trials"]:
        assert list(trial["intermediate"]) == [
            str(step) for step in range(1, len(trial["intermediate"]) + 1)
        ]


def test_digits_train_distributed_and_diverging_trials_are_pruned(orch: Orch, name: str) -> None:
    orch.ok(
        "run", "digits", "--study", name, "--trials", "4", "--workers", "2", "--epochs", "2",
        "--param", "learning_rate={choice=[1e-3, 1e30]}", "--sampler", "bruteforce",
        "--param", "units=32", "--param", "units_2=8", "--param", "units_3=8",
        "--param", "units_4=8", "--param", "dropout=0.0", "--param", 'activation="relu"',
        "--param", "batch_size={choice=[64, 128]}",
    )  # fmt: skip
    trials = orch.report(name)["trials"]
    diverged = [trial for trial in trials if trial["params"]["learning_rate"] > 1]
    assert diverged
    for trial in diverged:
        assert trial["state"] == "PRUNED" and "diverged" in trial["reason"]


def test_a_worker_with_different_data_refuses_to_join_and_says_why(
    orch: Orch, name: str, tmp_path: Path
) -> None:
    def write(seed: int) -> None:
        generator = np.random.default_rng(seed)
        np.savez(
            tmp_path / "own.npz",
            x_train=generator.integers(0, 255, (60, 4, 4)).astype(np.uint8),
            y_train=np.arange(60) % 3,
            x_test=generator.integers(0, 255, (9, 4, 4)).astype(np.uint8),
            y_test=np.arange(9) % 3,
        )

    write(1)
    orch.ok("create", name, "--objective", "mnist", "--data", str(tmp_path / "own.npz"))
    write(2)
    ended = orch("worker", name)
    assert ended.returncode == 1
    assert "data are not those of study" in ended.stderr and "sha256" in ended.stderr
    assert "Traceback" not in ended.stderr
