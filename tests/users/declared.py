"""What a training file declares of itself, read without running it."""

from __future__ import annotations

import ast
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent / "trainings"


@dataclass(frozen=True)
class Training:
    """A training as its user wrote it: a module of the folder ``trainings``.

    Attributes:
        name: of the module.
        metric: what the study looks at (METRIC).
        params: one whole configuration (PARAMS).
        epochs: of a training (EPOCHS).
        exact: whether the seeds fix the values, else how far they may be apart (EXACT).
        fast: whether orch's compiled loop can take it (FAST).
        checkpoints: whether a killed training can continue (CHECKPOINTS).
        direction: where Keras does not know it (DIRECTION).
        target: the function of ``hp`` or the HyperModel (TARGET).
        data: a data set of orch's, where the module has no data function (DATA).
        trials: of the study (TRIALS).
        fails: a configuration that the model refuses (FAILS).
        needs: a package (NEEDS).
        peer: what runs it beside orch: KerasTuner, or plain Keras where KerasTuner fails (PEER).
    """

    name: str
    metric: str
    params: dict[str, Any]
    epochs: int
    exact: bool | float
    fast: bool
    checkpoints: bool
    direction: str | None = None
    target: str = "build_model"
    data: str | None = None
    trials: int = 3
    fails: dict[str, Any] = field(default_factory=dict)
    needs: str | None = None
    peer: str = "keras_tuner"

    @classmethod
    def of(cls, name: str) -> Training:
        """The training of a module's name."""
        known = {each.upper(): each for each in cls.__dataclass_fields__ if each != "name"}
        said = {
            known[constant]: value
            for constant, value in _constants(FOLDER / f"{name}.py").items()
            if constant in known
        }
        return cls(name, **said)


def names() -> list[str]:
    """Every training's module name, in order."""
    return sorted(path.stem for path in FOLDER.glob("*.py"))


def _constants(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for node in ast.parse(path.read_text()).body:
        if not isinstance(node, ast.Assign):
            continue
        target, value = node.targets[0], node.value
        pairs = [(target, value)]
        if isinstance(target, ast.Tuple) and isinstance(value, ast.Tuple):
            pairs = list(zip(target.elts, value.elts, strict=True))
        for left, right in pairs:
            if isinstance(left, ast.Name) and left.id.isupper():
                found[left.id] = ast.literal_eval(right) if _is_literal(right) else None
    return found


def _is_literal(node: ast.expr) -> bool:
    return not any(isinstance(each, ast.Call | ast.Name | ast.Attribute) for each in ast.walk(node))
