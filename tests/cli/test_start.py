"""The command starts at once: help loads nothing heavy."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest
from conftest import Orch

HEAVY = {"tensorflow", "keras", "optuna", "sqlalchemy", "psycopg2", "numpy", "pydantic", "sklearn"}


@pytest.mark.parametrize("option", ["--help", "--version"])
def test_help_and_version_import_neither_tensorflow_nor_optuna(option: str) -> None:
    code = (
        "import sys; from orchestrator.cli.main import app\n"
        f"try: app(['{option}'], standalone_mode=False)\n"
        "finally: print('\\nLOADED', *{name.split('.')[0] for name in sys.modules})"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.rsplit("LOADED", 1)[1].split())
    assert "typer" in loaded
    assert not loaded & HEAVY


@pytest.mark.parametrize("verb", ["list", "report", "show", "space"])
def test_reading_verbs_import_neither_tensorflow_nor_scipy(
    orch: Orch, name: str, verb: str
) -> None:
    orch.ok("create", name, "--objective", "digits")
    arguments = [verb] if verb == "list" else [verb, name]
    code = (
        "import sys; from orchestrator.cli.main import app\n"
        f"app({arguments!r}, standalone_mode=False)\n"
        "assert 'orchestrator' in sys.modules\n"
        "assert not {'tensorflow', 'keras', 'scipy'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], env=orch.environment, check=True)


@pytest.mark.parametrize("module", ["worker.worker", "report.reader"])
def test_workers_and_reports_import_only_what_they_use(module: str) -> None:
    code = (
        f"import sys, orchestrator.{module}\n"
        "unused = {'sqlalchemy', 'alembic', 'boto3', 'google.cloud', 'grpc', 'jinja2'}\n"
        "assert not unused & set(sys.modules), unused & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


VERBS = [
    "run", "create", "resume", "worker", "stop", "delete", "list", "show", "report", "best",
    "space", "dashboard", "doctor", "db start", "db stop", "db status", "db url", "db init",
    "enqueue", "compare", "confirm", "replay", "tensorboard", "launch slurm", "import optuna",
]  # fmt: skip


@pytest.mark.parametrize("verb", VERBS)
def test_the_help_of_every_verb_has_an_example(orch: Orch, verb: str) -> None:
    page = orch.ok(*verb.split(), "--help")
    assert f"orch {verb}" in page.split("Example:", 1)[1]
    python = re.findall(r"^  --\S+ .*<(?:int|float|str|path|list).*", page, re.M)
    assert python == [], "an option says what it takes in the user's words"


def test_help_and_python_m_are_the_same_command(orch: Orch) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "orchestrator", "--help"],
        env=orch.environment, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert "Create or resume a study" in done.stdout
    assert "Create or resume a study" in orch.ok("--help")


def test_space_prints_the_parameters_the_size_and_the_cost(orch: Orch) -> None:
    page = orch.ok("space", "digits", "--param", "dropout=0.1", "--param", "learning_rate=0.001")
    assert "32 to 512, step 32" in page and "relu, tanh, sigmoid" in page
    # 3 activations, 16 widths, 8 widths thrice, 4 batch sizes
    assert f"size: {3 * 16 * 8**3 * 4:,} configurations" in page
    assert "20 trials of at most 8 epochs: 160 epochs" in page
    shallow = orch.ok("space", "digits", "--param", "layers=2", "--param", "epochs=3")
    assert "units_2" in shallow and not re.search(r"^units_3 .* 8$", shallow, re.M)
    assert "size: infinitely many configurations (dropout is continuous)" in shallow
    function = orch.ok("space", "user_objectives:broken")
    assert function.endswith("cost: 20 trials\n"), "it has no epochs"


def test_doctor_prints_ok_or_a_fix_for_each_check(
    orch: Orch, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ORCH_MNIST", "gone.npz")
    ended = orch("doctor")
    lines = ended.stdout.strip().splitlines()
    assert all(line.startswith(("ok", "MEND", "note  mnist ")) for line in lines)
    assert any("gone.npz" in line for line in lines), "who wants no MNIST need not mend it"
    checked = {line.split()[1] for line in lines}
    assert {"storage", "clock", "disk", "cores", "digits", "TensorFlow"} <= checked
    assert ended.returncode == (1 if any(line.startswith("MEND") for line in lines) else 0)


def test_doctor_says_how_to_fix_a_storage_that_is_down(orch: Orch) -> None:
    ended = orch("doctor", "--storage", "postgresql://u:secret@127.0.0.1:1/db")
    assert ended.returncode == 1
    assert "MEND  storage" in ended.stdout and "secret" not in ended.stdout
