"""Trainings without Keras give the same by orch as without it, also where they were killed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from plain import COMMANDS, FOLDER, FUNCTIONS, ROOT, Plain
from plain_site import PlainSite, Result

# Sums in another order, by another number of threads.
ROUNDING = 1e-5
NOT_FUNCTIONS = {"kerastuner.py", "train.py"}  # KerasTuner's, and a command

_without_orch: dict[str, Result] = {}


def each(trainings: list[Plain]) -> list[Any]:
    """As parameters of a test, each with what it needs."""
    return [pytest.param(training, id=training.path.name, marks=_marks(training))
            for training in trainings]  # fmt: skip


def _marks(training: Plain) -> list[pytest.MarkDecorator]:
    missing = ", ".join(training.missing)
    marks = [
        pytest.mark.xdist_group(training.file),
        pytest.mark.skipif(bool(missing), reason=f"{missing} is not installed"),
    ]
    return marks if training.in_every_test_run else [*marks, pytest.mark.users]


@pytest.fixture
def site(home: Path, url: str, tmp_path: Path) -> PlainSite:
    return PlainSite(home, url, tmp_path)


def test_every_file_is_run() -> None:
    files = {training.path for training in [*FUNCTIONS, *COMMANDS]}
    examples = {path for path in (ROOT / "examples").glob("*.py") if path.name not in NOT_FUNCTIONS}
    own = [*(FOLDER / "functions").glob("*.py"), *(FOLDER / "commands").iterdir()]
    assert files == examples | set(own)


@pytest.mark.parametrize("plain", each([*FUNCTIONS, *COMMANDS]))
def test_it_has_the_value_that_it_has_without_orch(
    site: PlainSite, plain: Plain, name: str
) -> None:
    check(site.run(plain, name), without_orch(site, plain))


@pytest.mark.parametrize("plain", each([*FUNCTIONS, *COMMANDS]))
def test_killed_after_its_second_checkpoint_it_ends_with_the_same_value(
    site: PlainSite, plain: Plain, name: str
) -> None:
    expected = without_orch(site, plain)
    steps = sorted(expected.intermediate)
    check(site.run_and_kill(plain, name, steps[1]), expected)
    begun = steps[:2] if plain.metric else steps[:3]  # a function is held in its third
    assert site.trained(name, 0) == begun
    assert site.trained(name, 1) == (steps[2:] if plain.checkpoints else steps)


def without_orch(site: PlainSite, training: Plain) -> Result:
    """The training's result by plain Optuna or alone, run once in a process."""
    if training.file not in _without_orch:
        _without_orch[training.file] = site.without_orch(training)
    return _without_orch[training.file]


def check(result: Result, expected: Result) -> None:
    """The same steps, and the same values."""
    assert list(result.intermediate) == list(expected.intermediate)
    assert result.intermediate == pytest.approx(expected.intermediate, rel=ROUNDING)
    assert result.value == pytest.approx(expected.value, rel=ROUNDING)
