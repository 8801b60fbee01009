"""orch import kerastuner: a project's folder becomes a study, whatever a killed search left."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from conftest import Orch

_SPACE = [
    {"class_name": "Int", "config": {"name": "units", "default": None, "conditions": [],
                                     "min_value": 16, "max_value": 256, "step": 16,
                                     "sampling": "linear"}},
    {"class_name": "Choice", "config": {"name": "activation", "default": "relu", "conditions": [],
                                        "values": ["relu", "tanh"], "ordered": False}},
]  # fmt: skip


class Project:
    """A project's folder, written as KerasTuner 1.4 does."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()
        self.write_oracle({})
        self._trials = 0

    def write_oracle(self, more: dict[str, Any]) -> None:
        whole = {"ongoing_trials": {}, "seed": 7, "tried_so_far": [], **more}
        (self.folder / "oracle.json").write_text(json.dumps(whole))

    def add(
        self,
        score: float | None,
        status: str = "COMPLETED",
        step: int = 1,
        message: str | None = None,
        **values: Any,
    ) -> Path:
        """Write a trial; its file. NaN is written as KerasTuner does."""
        number = f"{self._trials:04d}"
        self._trials += 1
        observed: list[dict[str, Any]] = [] if score is None else [{"value": [score], "step": step}]
        metrics = {
            "val_accuracy": {"direction": "max", "observations": observed},
            "val_loss": {
                "direction": "min",
                "observations": [{**each, "value": [2 * each["value"][0]]} for each in observed],
            },
        }
        document: dict[str, Any] = {
            "trial_id": number,
            "hyperparameters": {
                "space": _SPACE,
                "values": {"units": 32 * (self._trials % 8 or 8), "activation": "relu", **values},
            },
            "metrics": {"metrics": metrics if observed else {}},
            "score": score,
            "best_step": step,
            "status": status,
            "message": message,
        }
        path = self.folder / f"trial_{number}" / "trial.json"
        path.parent.mkdir()
        path.write_text(json.dumps(document))
        return path


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(tmp_path / "project")


def imported(orch: Orch, name: str, project: Project) -> dict[str, Any]:
    orch.ok("import", "kerastuner", str(project.folder), name)
    return orch.report(name)


@pytest.mark.parametrize(
    "left",
    ["", "{", "[]", "{}", '{"trial_id": "0001", "status": "COMPLETED"}', "\ufeff",
     '{"trial_id": "0001", "status": "COMPLETED", "hyperparameters": {"space": [{"class_name": '
     '"Int", "config": {"name": "x"}}], "values": {}}}'],
)  # fmt: skip
def test_a_damaged_trial_is_left_out_with_a_warning(
    orch: Orch, name: str, project: Project, left: str
) -> None:
    project.add(0.81)
    damaged = project.add(0.82)
    damaged.write_text(left)
    project.add(0.84)
    project.add(0.79)
    done = orch("import", "kerastuner", str(project.folder), name)
    assert done.returncode == 0
    warning, _ = done.stderr.splitlines()
    assert warning.startswith(f"warning: {damaged} is damaged, so that trial is left out")
    whole = orch.report(name)
    assert [trial["value"] for trial in whole["trials"]] == [0.81, 0.84, 0.79]
    assert whole["best"]["number"] == 1


def test_a_diverged_training_is_imported_as_failed(orch: Orch, name: str, project: Project) -> None:
    for score in (0.5, float("nan"), 0.7, float("nan"), 0.6):
        project.add(score)
    whole = imported(orch, name, project)
    assert whole["metric"] == "val_accuracy" and whole["best"]["value"] == 0.7
    assert [trial["state"] for trial in whole["trials"]] == [
        "COMPLETE", "FAIL", "COMPLETE", "FAIL", "COMPLETE",
    ]  # fmt: skip
    assert whole["trials"][1]["reason"] == "its score is NaN"


def test_a_trial_that_did_not_complete_says_why(orch: Orch, name: str, project: Project) -> None:
    project.add(0.5)
    project.add(None, "FAILED", message="Traceback:\n  line 3\nValueError: no such layer\n")
    project.add(None, "INVALID")
    project.add(None, "RUNNING")
    project.add(None)
    reasons = [trial["reason"] for trial in imported(orch, name, project)["trials"]]
    assert reasons == [
        None,
        "ValueError: no such layer",
        "KerasTuner ended it as INVALID",
        "end unknown: it was running when the study was imported",
        "it has no score",
    ]


def test_a_project_without_a_score_is_refused(orch: Orch, name: str, project: Project) -> None:
    project.add(None)
    project.add(float("nan"))
    message = orch.refused(2, "import", "kerastuner", str(project.folder), name)
    assert "no trial has a score" in message
    project.add(0.5)
    message = orch.refused(
        2, "import", "kerastuner", str(project.folder), name, "--metric", "val_acuracy"
    )
    assert "did you mean 'val_accuracy'" in message


def test_hyperbands_epochs_and_promotions_are_read(orch: Orch, name: str, project: Project) -> None:
    project.write_oracle({"max_epochs": 9, "factor": 3, "hyperband_iterations": 1})
    tuner: dict[str, Any] = {
        "tuner/epochs": 3,
        "tuner/initial_epoch": 0,
        "tuner/bracket": 1,
        "tuner/round": 0,
    }
    again: dict[str, Any] = {"tuner/epochs": 9, "tuner/initial_epoch": 3, "tuner/round": 1}
    project.add(0.7, step=2, **tuner)
    project.add(0.74, step=1, **tuner)
    project.add(0.8, step=7, **(tuner | again | {"tuner/trial_id": "0001"}))
    project.add(None, "FAILED", **(tuner | {"tuner/epochs": 9}))
    whole = imported(orch, name, project)
    assert whole["epochs"] == {"trained": 12, "without_pruning": 0, "saved_ratio": None}
    assert whole["best"]["epochs"] == 9 and whole["spec"]["training"]["epochs"] == 9
    promoted = whole["trials"][2]
    assert promoted["attributes"]["kerastuner:continues"] == 1
    assert promoted["intermediate"] == {"8": 0.8}
    assert promoted["params"] == {"units": 96, "activation": "relu"}
    text = orch.ok("report", name)
    assert "12 epochs trained." in text and "after 9 epochs" in text


def test_times_that_keras_tuner_does_not_store_are_unknown(
    orch: Orch, name: str, project: Project
) -> None:
    for score in (0.5, 0.6, 0.7):
        project.add(score)
    whole = imported(orch, name, project)
    for trial in whole["trials"]:
        assert trial["seconds"] is trial["started_seconds"] is trial["ended_seconds"] is None
    text = orch.ok("report", name)
    assert " 0.0 s" not in text and "epochs trained" not in text
