"""KerasTuner's way: a hypermodel unchanged, its space, its finished projects."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest
from conftest import Orch

HAS_KERAS_TUNER = importlib.util.find_spec("keras_tuner") is not None


def test_a_hypermodel_runs_unchanged_and_its_trials_store_the_active_parameters(
    orch: Orch, name: str
) -> None:
    orch.ok("run", "kt:hypermodels:build_model", "--study", name, "--data", "digits",
            "--trials", "5", "--epochs", "2", "--workers", "2", "--pruner", "none",
            "--sampler", "random")  # fmt: skip
    trials = orch.report(name)["trials"]
    assert len(trials) == 5 and all(trial["state"] == "COMPLETE" for trial in trials)
    always = {"units", "kind", "head/dropout", "learning_rate"}
    for trial in trials:
        own = {"mlp": "second", "wide": "wide"}[trial["params"]["kind"]]
        assert set(trial["params"]) == always | {own}
        assert list(trial["intermediate"]) == ["1", "2"]
    assert {trial["params"]["kind"] for trial in trials} == {"mlp", "wide"}
    number = str(trials[0]["number"])
    assert "identical: 2 of 2 values" in orch.ok("replay", name, number)


def test_a_hypermodels_own_fit_may_return_any_supported_result(orch: Orch, name: str) -> None:
    target = "is_keras_tuners" if HAS_KERAS_TUNER else "build_model"
    orch.ok("run", f"kt:hypermodels:{target}", "--study", name, "--data", "digits",
            "--trials", "1", "--epochs", "1", "--workers", "1")  # fmt: skip
    own = f"{name}-fit"
    orch.ok("run", "kt:hypermodels:WithFit", "--study", own, "--data", "digits",
            "--trials", "2", "--epochs", "2", "--workers", "1", "--pruner", "none")  # fmt: skip
    for trial in orch.report(own)["trials"]:
        assert trial["params"]["batch_size"] in (64, 128)
        assert trial["value"] == pytest.approx(max(trial["intermediate"].values()))


def test_a_model_without_an_input_resumes_from_its_checkpoint(orch: Orch, name: str) -> None:
    orch.ok(
        "run", "kt:hypermodels:without_input", "--study", name, "--data", "digits",
        "--trials", "5", "--epochs", "4", "--workers", "1", "--set", "pruner.promote=true",
    )  # fmt: skip
    trials = orch.report(name)["trials"]
    assert {len(trial["intermediate"]) for trial in trials} == {2, 4}
    promoted = next(str(trial["number"]) for trial in trials if len(trial["intermediate"]) == 4)
    assert "identical: 4 of 4 values" in orch.ok("replay", name, promoted)


def test_the_space_of_a_hypermodel_has_the_parameters_of_every_condition(orch: Orch) -> None:
    page = orch.ok("space", "kt:hypermodels:build_model", "--param", 'kind="mlp"')
    for line in ("units          8 to 64, step 8", "kind           mlp (fixed)",
                 "head/dropout   0 to 0.4, step 0.1", "second         8 to 32, log",
                 "wide           64, 128", "learning_rate  0.001 to 0.01, log"):  # fmt: skip
        assert line in page, page


def test_the_articles_hypermodel_has_the_articles_space(orch: Orch) -> None:
    ours, article = (
        orch.ok("space", "mnist"),
        orch.ok("space", "kt:examples.kerastuner:build_model"),
    )
    for line in ours.splitlines()[1:8]:
        assert line.split() in [each.split() for each in article.splitlines()], line


def test_an_invalid_hypermodel_is_refused_in_one_line(orch: Orch, name: str) -> None:
    assert "did you mean 'build_model'" in orch.refused(2, "create", name, "--objective",
                                                        "kt:hypermodels:build_modell")  # fmt: skip
    ended = orch("run", "kt:hypermodels:uncompiled", "--study", name, "--data", "digits",
                 "--trials", "3", "--workers", "1", "--set", "worker.max_retries=0",
                 "--set", "worker.max_failures=1")  # fmt: skip
    assert ended.returncode == 1 and "compile" in orch.report(name)["trials"][0]["reason"]


@pytest.mark.skipif(not HAS_KERAS_TUNER, reason="keras-tuner is not installed")
def test_a_finished_keras_tuner_project_is_imported_as_a_study(
    orch: Orch, name: str, tmp_path: Path
) -> None:
    import hypermodels
    import keras_tuner
    from sklearn.datasets import load_digits

    x, y = load_digits().images / 16.0, load_digits().target
    tuner = keras_tuner.RandomSearch(
        hypermodels.build_model, objective="val_accuracy", max_trials=3, seed=1,
        directory=str(tmp_path), project_name="digits",
    )  # fmt: skip
    tuner.search(x[:400], y[:400], epochs=2, validation_data=(x[400:600], y[400:600]), verbose=0)
    orch.ok("import", "kerastuner", str(tmp_path / "digits"), name)
    whole = orch.report(name)
    assert (whole["metric"], whole["direction"]) == ("val_accuracy", "maximize")
    theirs = {each.trial_id: each for each in tuner.oracle.get_best_trials(3)}
    assert len(whole["trials"]) == 3
    for trial in whole["trials"]:
        other = theirs[trial["attributes"]["kerastuner:trial_id"]]
        assert trial["value"] == other.score
        assert trial["params"] == other.hyperparameters.values
    assert whole["best"]["value"] == max(each.score for each in theirs.values())
    assert "name it" in orch.refused(
        2, "import", "kerastuner", str(tmp_path / "digits"), f"{name}x", "--data", "digits"
    )
    on = orch("import", "kerastuner", str(tmp_path / "digits"), f"{name}y", "--data", "digits",
              "--objective", "kt:hypermodels:build_model", "--epochs", "2")  # fmt: skip
    assert "it goes on with digits and 2 epochs" in on.stderr
    shown = orch.ok("show", f"{name}y")
    assert "epochs = 2" in shown and "# data: name digits" in shown
    damaged = next((tmp_path / "digits").glob("trial_*/trial.json"))
    damaged.write_text(damaged.read_text()[:-50])
    left = orch("import", "kerastuner", str(tmp_path / "digits"), f"{name}x")
    assert left.returncode == 0 and f"{damaged} is damaged" in left.stderr
    assert len(orch.report(f"{name}x")["trials"]) == 2
    assert "no oracle.json" in orch.refused(2, "import", "kerastuner", str(tmp_path), f"{name}x")
