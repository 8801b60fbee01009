"""orch predict, and the models that only their study's objective can load."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import Orch
from PIL import Image

from orchestrator.storage.database import Database


def run(orch: Orch, name: str, model: str, data: str, *options: str) -> str:
    """A study of one trial of ``tests/answering.py``. Returns its name."""
    orch.ok(
        "run", f"kt:answering:{model}", "--data", data, "--study", name, "--trials", "1",
        "--workers", "1", *options,
    )  # fmt: skip
    return name


def artifacts(database: Database, name: str) -> set[str]:
    """The names of the files that the dashboard shows at the study's trials."""
    rows = database.execute(
        "SELECT a.value_json FROM study_system_attributes a JOIN studies s USING (study_id) "
        "WHERE s.study_name = %(name)s AND a.key LIKE 'dashboard:artifacts:%%'",
        {"name": name},
    )
    return {
        found for row in rows for found in re.findall(r"[\w.]+\.(?:png|txt)", row["value_json"])
    }


def test_predict_draws_classes_of_logits_as_images(
    orch: Orch, name: str, database: Database, tmp_path: Path
) -> None:
    run(orch, name, "logits", "digits", "--epochs", "3")
    done = orch("predict", name, "--out", str(tmp_path / "p.png"), "--count", "12")
    assert done.returncode == 0, done.stderr
    found = re.findall(
        r"^test \d+: (\d) \(([\d.]+)\), (?:right|wrong, it is \d)$", done.stdout, re.M
    )
    assert len(found) == 12 and all(0 < float(share) <= 1 for _, share in found)
    assert re.search(r"^\d+ of 12 right \(test set of digits\); drawn in ", done.stderr, re.M)
    assert Image.open(tmp_path / "p.png").width > 700
    assert artifacts(database, name) == {"predictions.png", "confusion.png", "model.txt"}


def test_predict_says_both_classes_of_one_sigmoid(orch: Orch, name: str, tmp_path: Path) -> None:
    run(orch, name, "sigmoid", "answering:circles", "--epochs", "8")
    lines = orch.ok("predict", name, "--out", str(tmp_path / "p.png"), "--count", "30")
    said = {line.split(": ")[1].split()[0] for line in lines.splitlines()}
    assert said == {"0", "1"}
    right = sum(line.endswith("right") for line in lines.splitlines())
    assert right > 20, lines


def test_predict_sets_numbers_of_validation_examples_beside_the_true_ones(
    orch: Orch, name: str, database: Database, tmp_path: Path
) -> None:
    run(orch, name, "own_loss", "answering:houses", "--metric", "val_loss", "--epochs", "2")
    done = orch("predict", name, "--out", str(tmp_path / "p.png"), "--count", "4")
    assert done.returncode == 0, done.stderr
    assert len(re.findall(r"^validation \d+: [\d.-]+, true [\d.-]+$", done.stdout, re.M)) == 4
    assert "over 4 examples (validation examples of answering:houses); drawn" in done.stderr
    assert artifacts(database, name) == {"predictions.png", "model.txt"}


def test_predict_draws_each_output_of_several_inputs(orch: Orch, name: str, tmp_path: Path) -> None:
    run(orch, name, "two_outputs", "answering:tickets", "--metric", "val_loss", "--epochs", "2")
    lines = orch.ok("predict", name, "--out", str(tmp_path / "p.png"), "--count", "3").splitlines()
    assert [re.sub(r".*\d, (\w+):.*", r"\1", line) for line in lines] == [
        "priority", "department",
    ] * 3  # fmt: skip
    assert Image.open(tmp_path / "p.png").height > 600, "one below the other"


def test_predict_says_why_nothing_is_drawn(orch: Orch, name: str, tmp_path: Path) -> None:
    run(orch, name, "outlier", "answering:unlabelled", "--metric", "val_loss", "--epochs", "1")
    out = tmp_path / "p.png"
    done = orch("predict", name, "--out", str(out), "--count", "2")
    assert done.returncode == 1 and not out.exists()
    assert len(done.stdout.splitlines()) == 2, "what the model says is printed"
    assert done.stderr.splitlines()[-1] == (
        "orch: the output is not drawn: the data have no labels to compare it with"
    )


@pytest.mark.parametrize("model", ["vae", "subclassed"])
def test_a_model_that_keras_cannot_load_alone_is_rebuilt_by_its_study(
    orch: Orch, name: str, model: str, tmp_path: Path
) -> None:
    data, said = (
        ("answering:pictures", "mean difference") if model == "vae" else ("digits", "it|right")
    )
    metric = ["--metric", "val_total_loss", "--direction", "minimize"] if model == "vae" else []
    run(orch, name, model, data, "--epochs", "2", *metric)

    done = orch("best", name, "--models", str(tmp_path))
    [kept] = tmp_path.glob("trial-*")
    assert kept.name == "trial-00000.weights.h5"
    assert "the weights alone, as Keras cannot save this model whole" in done.stderr

    refitted = tmp_path / "model.keras"
    done = orch("refit", name, "--out", str(refitted))
    assert done.returncode == 0, done.stderr
    assert f"{refitted} holds the weights alone" in done.stderr

    out = tmp_path / "p.png"
    for options in ([], ["--model", str(kept)], ["--model", str(refitted)]):
        done = orch("predict", name, "--out", str(out), "--count", "2", *options)
        assert done.returncode == 0, done.stderr
        assert len(re.findall(said, done.stdout)) >= 2
        assert "Warning" not in done.stderr
        out.unlink()

    code = (
        "import sys, numpy as np, orchestrator as orch\n"
        "model = orch.load_study(sys.argv[1]).best_model()\n"
        "print(type(model).__name__, model.optimizer.iterations.numpy() > 0,"
        " np.isfinite(model.predict(np.ones((1, 8, 8)), verbose=0)).all())\n"
    )
    fresh = subprocess.run(
        [sys.executable, "-c", code, name], env=orch.environment, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert fresh.returncode == 0, fresh.stderr
    assert fresh.stdout.split() == [{"vae": "VAE", "subclassed": "Net"}[model], "True", "True"]

    other = tmp_path / "other.keras"
    other.write_bytes(kept.read_bytes()[:-100])  # neither whole nor known
    message = orch.refused(1, "predict", name, "--model", str(other), "--out", str(out))
    assert "cannot be loaded as a Keras model" in message
