"""refit, predict and replay, through the command."""

from __future__ import annotations

import hashlib
import json
import re
import struct
import zipfile
from pathlib import Path

import pytest
from conftest import Orch

from orchestrator.storage.database import Database


@pytest.fixture
def study(orch: Orch) -> str:
    """One study that all these tests read."""
    if "winner" not in orch.ok("list"):
        orch.ok("run", "digits", "--study", "winner", "--trials", "4", "--epochs", "3",
                "--workers", "2")  # fmt: skip
    return "winner"


def test_refit_trains_on_everything_and_saves_the_model_with_its_provenance(
    orch: Orch, study: str, tmp_path: Path
) -> None:
    import keras

    out = tmp_path / "model.keras"
    done = orch("refit", study, "--out", str(out))
    assert done.returncode == 0, done.stderr
    assert "Could not" not in done.stderr and "I0000" not in done.stderr, "no chatter"
    with zipfile.ZipFile(out) as archive:
        provenance = json.loads(archive.read("orch.json"))
    best = orch.report(study)["best"]
    assert provenance["trial"] == best["number"] and provenance["params"] == best["params"]
    assert provenance["data"]["sha256"] and provenance["versions"]["keras"]
    assert len(provenance["history"]["accuracy"]) == 3
    assert "trained on 1437 examples" in done.stdout and "360 examples" in done.stdout

    from orchestrator.training.data import load

    model = keras.models.load_model(out, safe_mode=True)
    data = load("digits")
    again = model.evaluate(data.x_test, data.y_test, verbose=0, return_dict=True)
    assert again["accuracy"] == pytest.approx(provenance["test"]["accuracy"], abs=1e-6)
    report = orch.report(study)
    kept = report["refit"]
    assert kept["test"] == provenance["test"] and kept["evaluations"] == 1
    assert (kept["number"], kept["seed"]) == (provenance["trial"], provenance["seed"])
    assert kept["model"] == "model.keras" and kept["params"] == provenance["params"]
    assert kept["sha256"] == hashlib.sha256(out.read_bytes()).hexdigest()
    shown = f"accuracy {provenance['test']['accuracy']:.5g}"
    sentence = next(each for each in report["verdict"] if "on the test set" in each)
    assert f"trial {kept['number']} has " in sentence and shown in sentence
    for form in ("text", "markdown", "html"):
        assert shown in " ".join(orch.ok("report", study, "--format", form).split())
    second = orch("refit", study, "--out", str(out))
    assert "evaluated 2 times" in second.stderr
    assert "The test set has been evaluated 2 times" in " ".join(orch.report(study)["verdict"])


def test_predict_draws_the_digits_and_says_which_are_wrong(
    orch: Orch, study: str, tmp_path: Path
) -> None:
    out = tmp_path / "digits.png"
    done = orch("predict", study, "--out", str(out), "--count", "7")
    lines = done.stdout.splitlines()
    assert re.search(r"the dashboard shows it in the artifacts of trial \d+", done.stderr), (
        done.stderr
    )
    assert len(lines) == 7 and all("right" in line or "wrong, it is" in line for line in lines)
    content = out.read_bytes()
    assert content.startswith(b"\x89PNG")
    width, height = struct.unpack(">II", content[16:24])
    assert width > 700 and height > 400, "two rows of five"


def test_refused_winner_commands_say_how_to_fix_it(orch: Orch, study: str, tmp_path: Path) -> None:
    assert "must end in .keras" in orch.refused(2, "refit", study, "--out", "model.h5")
    assert "no trial 99" in orch.refused(
        1, "refit", study, "--trial", "99", "--out", str(tmp_path / "m.keras")
    )
    broken = tmp_path / "broken.keras"
    broken.write_bytes(b"nonsense")
    message = orch.refused(
        1, "predict", study, "--model", str(broken), "--out", str(tmp_path / "d.png")
    )
    assert "cannot be loaded as a Keras model" in message
    orch.ok("run", "quadratic", "--study", "winnerless", "--trials", "1", "--workers", "1")
    assert "trains no model" in orch.refused(1, "refit", "winnerless", "--out", "m.keras")
    assert "no data set" in orch.refused(1, "predict", "winnerless", "--out", "d.png")


def test_replay_proves_every_value_of_a_complete_and_of_a_pruned_trial(
    orch: Orch, study: str
) -> None:
    trials = orch.report(study)["trials"]
    for state in ("COMPLETE", "PRUNED"):
        number = next((each["number"] for each in trials if each["state"] == state), None)
        if number is not None:
            assert "identical: " in orch.ok("replay", study, str(number))
    assert "no trial 77" in orch.refused(1, "replay", study, "77")


def test_replay_detects_a_changed_value(orch: Orch, name: str, database: Database) -> None:
    orch.ok("run", "quadratic", "--study", name, "--trials", "1", "--workers", "1")
    database.execute(
        "UPDATE trial_intermediate_values v SET intermediate_value = intermediate_value + 0.5 "
        "FROM trials t JOIN studies s USING (study_id) "
        "WHERE t.trial_id = v.trial_id AND v.step = 2 AND s.study_name = %(name)s",
        {"name": name},
    )
    message = orch.refused(1, "replay", name, "0")
    assert "a value differs by 0.5" in message
    assert "equal within 1" in orch.ok("replay", name, "0", "--tolerance", "1")


def test_refit_saves_an_estimator_as_joblib_with_its_provenance(
    orch: Orch, name: str, tmp_path: Path
) -> None:
    import joblib
    from estimators import Svm

    from orchestrator.training.base import Settings

    orch.ok("run", "estimators:Svm", "--study", name, "--trials", "3", "--workers", "1")
    out = tmp_path / "model.joblib"
    orch.ok("refit", name, "--out", str(out))
    provenance = json.loads((tmp_path / "model.joblib.json").read_text())
    _, _, x_test, y_test = Svm(Settings()).data()
    assert joblib.load(out).score(x_test, y_test) == provenance["test"]["score"]
