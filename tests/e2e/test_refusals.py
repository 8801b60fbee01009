"""Wrong use: one line with the mend, the documented exit code, nothing half done."""

from __future__ import annotations

from pathlib import Path

import pytest
from conftest import Orch


@pytest.mark.parametrize(
    ("code", "arguments", "words"),
    [
        (2, ["run", "quadratc"], ["unknown objective 'quadratc'", "did you mean 'quadratic'"]),
        (2, ["run", "user_objectives:condtional"], ["has no 'condtional'", "'conditional'"]),
        (2, ["run", "no_such_module:f"], ["cannot import no_such_module"]),
        (2, ["run", "user_objectives:not_callable"], ["cannot be called"]),
        (2, ["run", "quadratic", "--sampler", "tpee"], ["unknown sampler", "did you mean 'tpe'"]),
        (2, ["run", "quadratic", "--pruner", "hyperbnd"], ["unknown pruner", "'hyperband'"]),
        (
            2,
            ["run", "quadratic", "--sampler", "tpe", "--set", "sampler.n_startup=3"],
            ["n_startup"],
        ),
        (2, ["run", "quadratic", "--set", "pruner.max_resource='auto'"], ["max_resource", "auto"]),
        (2, ["run", "quadratic", "--set", "objective.steps=0"], ["objective.steps"]),
        (2, ["run", "quadratic", "--set", "objective.stepz=2"], ["stepz", "did you mean 'steps'"]),
        (2, ["run", "quadratic", "--set", "worker"], ["write SECTION.KEY=VALUE"]),
        (2, ["run", "quadratic", "--set", "epochs=3"], ["write SECTION.KEY=VALUE"]),
        (2, ["run", "quadratic", "--param", "z=1"], ["unknown parameter space.z"]),
        (2, ["run", "quadratic", "--param", "x={int=[9,1]}"], ["space.x", "swap them"]),
        (2, ["run", "quadratic", "--param", "x=abc"], ['space.x cannot be "abc"', "-10 to 10"]),
        (2, ["run", "quadratic", "--param", "x=11"], ["space.x cannot be 11", "choice = [11]"]),
        (2, ["run", "quadratic", "--param", "x=true"], ["space.x cannot be true"]),
        (2, ["run", "quadratic", "--param", 'x={choice=["a"]}'], ["must be a number", "-10 to 10"]),
        (2, ["run", "digits", "--param", "units=abc"], ['cannot be "abc"', "32 to 512, step 32"]),
        (2, ["run", "digits", "--param", "units=64.5"], ["cannot be 64.5", "32 to 512"]),
        (2, ["run", "digits", "--param", "units={float=[8,64]}"], ["must be a whole number"]),
        (
            2,
            ["run", "digits", "--param", "learning_rate=5"],
            ["cannot be 5", "0.0001 to 0.01, log"],
        ),
        (2, ["run", "digits", "--param", "activation=rlu"], ['"rlu"', "relu, tanh, sigmoid"]),
        (2, ["run", "digits", "--param", "activation={choice=[1,2]}"], ["must be a string"]),
        (2, ["run", "digits", "--param", "batch_size=512"], ["cannot be 512", "32, 64, 128, 256"]),
        (2, ["run", "digits", "--param", "normalisation=1"], ["cannot be 1", "false, true"]),
        (2, ["run", "digits", "--param", "epochs=99"], ["cannot be 99", "1 to 20"]),
        (2, ["run", "digits", "--metric", "foo"], ["unknown metric 'foo'", "val_accuracy"]),
        (2, ["run", "digits", "--metric", "val_acc"], ["did you mean 'val_accuracy'?", "val_loss"]),
        (2, ["run", "digits", "--metric", "loss", "--metric", "bar"], ["unknown metric 'bar'"]),
        (2, ["run", "quadratic", "--metric", "foo"], ["unknown metric 'foo'", "known are value"]),
        (2, ["run", "estimators:Svm", "--metric", "foo"], ["unknown metric 'foo'", "score"]),
        (
            2,
            ["run", "quadratic", "--sampler", "tpe", "--set", "sampler.n_startup_trials=few"],
            ["sampler.n_startup_trials must be a whole number, not 'few'"],
        ),
        (
            2,
            ["run", "quadratic", "--sampler", "tpe", "--set", "sampler.multivariate=1"],
            ["must be true or false"],
        ),
        (
            2,
            ["run", "quadratic", "--set", "sampler.multivariate=true"],
            ["auto has no options, but sampler.multivariate is set; name the sampler"],
        ),
        (
            2,
            ["run", "quadratic", "--pruner", "median", "--set", "pruner.n_warmup_steps=0.5"],
            ["pruner.n_warmup_steps must be a whole number"],
        ),
        (
            2,
            ["run", "quadratic", "--pruner", "percentile", "--set", "pruner.percentile=half"],
            ["pruner.percentile must be a number"],
        ),
        (2, ["run", "quadratic", "--trials", "0"], ["--trials"]),
        (2, ["run", "quadratic", "--trials", "many"], ["--trials"]),
        (2, ["run", "quadratic", "--study", "a/b"], ["study.name"]),
        (2, ["run", "no-such-file.toml"], ["cannot read no-such-file.toml"]),
        (2, ["run"], ["OBJECTIVE"]),
        (2, ["runn"], ["runn"]),
        (2, ["create", "x"], ["--objective"]),
        (2, ["resume", "x", "--trials", "3", "--add", "3"], ["one of them"]),
        (1, ["show", "never-made"], ["no study 'never-made'"]),
        (1, ["worker", "never-made"], ["no study 'never-made'"]),
        (2, ["worker", "never-made", "--processes", "0"], ["--processes"]),
        (1, ["run", "digits", "--set", "data.validation=99999"], ["data.validation 99999"]),
        (1, ["run", "digits", "--data", "gone.npz"], ["no file gone.npz"]),
    ],
)
def test_wrong_use_is_refused_in_one_line(
    orch: Orch, code: int, arguments: list[str], words: list[str]
) -> None:
    message = orch.refused(code, *arguments)
    for word in words:
        assert word in message


def test_a_spec_file_is_checked_against_the_objectives_domains(
    orch: Orch, name: str, tmp_path: Path
) -> None:
    file = tmp_path / "study.toml"
    study = f'[study]\nname = "{name}"\nobjective = "digits"\n'
    for space, word in (
        ("units = 8", "cannot be 8"),
        ("unit = 64", "did you mean 'units'"),
        ('dropout = "much"', 'cannot be "much"'),
    ):
        file.write_text(f"{study}[space]\n{space}\n")
        assert word in orch.refused(2, "run", str(file))
    assert name not in orch.ok("list")


def test_a_spec_may_widen_the_objectives_domain(orch: Orch, name: str) -> None:
    orch.ok(
        "create", name, "--objective", "digits", "--param", "learning_rate={float=[1e-6,1.0]}",
        "--param", "units={choice=[8,1024]}", "--param", "batch_size={int=[16,512]}",
        "--param", 'activation={choice=["relu","gelu"]}', "--param", "dropout=0",
    )  # fmt: skip
    assert "1e-06 to 1" in orch.ok("space", name)


def test_creating_a_study_twice_is_refused(orch: Orch, name: str) -> None:
    orch.ok("create", name, "--objective", "quadratic")
    assert f"orch resume {name}" in orch.refused(2, "create", name, "--objective", "quadratic")


def test_a_failing_module_is_named_with_its_own_error(orch: Orch) -> None:
    message = orch.refused(2, "run", "broken_module:f")
    assert "cannot import broken_module" in message and "ModuleNotFoundError" in message


def test_debug_shows_the_traceback(orch: Orch) -> None:
    ended = orch("--debug", "show", "never-made")
    assert "Traceback" in ended.stderr and ended.returncode == 1


def test_wrong_use_found_by_a_worker_stops_the_study_and_names_what_exists(
    orch: Orch, name: str
) -> None:
    unsaid = orch(
        "create", name, "--objective", "kt:hypermodels:build_model", "--data", "digits",
        "--metric", "val_acuracy",
    )  # fmt: skip
    assert unsaid.returncode == 2 and "did you mean 'val_accuracy'?" in unsaid.stderr
    ended = orch(
        "run", "kt:hypermodels:build_model", "--study", name, "--data", "digits", "--epochs", "1",
        "--trials", "20", "--workers", "2", "--metric", "val_acuracy", "--direction", "maximize",
    )  # fmt: skip
    assert ended.returncode == 2
    told = [line for line in ended.stderr.splitlines() if line.startswith("orch: ")]
    assert len(told) == 1 and "'val_acuracy'; did you mean 'val_accuracy'? known are" in told[0]
    whole = orch.report(name)
    states = whole["states"]
    assert states["failed"] == states["running"] == 0 and not any(
        trial["intermediate"] for trial in whole["trials"]
    )
    reason = "the model reports no metric 'val_acuracy'"
    assert reason in whole["failed_because"] and reason in " ".join(whole["verdict"])
    assert reason in orch.ok("show", name) and reason in orch.ok("list")
    again = orch("resume", name, "--workers", "1")
    assert again.returncode == 2 and reason in again.stderr, "nothing is corrected yet"
    right = (
        "run", "kt:hypermodels:build_model", "--study", f"{name}-right", "--data", "digits",
        "--epochs", "1", "--trials", "1", "--workers", "1", "--metric", "val_accuracy",
    )  # fmt: skip
    orch.ok(*right)
    assert orch.report(f"{name}-right")["failed_because"] is None
