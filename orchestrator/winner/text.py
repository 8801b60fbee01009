"""What refit, replay and confirm print."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from orchestrator.report.confirmation import CLEAR_PROBABILITY, Confirmed
from orchestrator.report.listing import confirmed_table, table
from orchestrator.report.words import number, params_line, percent


def refit_page(provenance: Mapping[str, Any], columns: int | None = None) -> str:
    """A refit: its trial, each epoch's metrics, and the figures on the test set."""
    history: dict[str, list[float]] = provenance["history"]
    epochs = max(map(len, history.values()), default=0)
    rows = [
        [epoch + 1, *(number(values[epoch]) for values in history.values())]
        for epoch in range(epochs)
    ]
    lines = [
        f"trial {provenance['trial']}: {params_line(provenance['params'])}",
        f"trained on {provenance['data']['train'] + provenance['data']['validation']} examples, "
        f"validation included, with seed {provenance['seed']}",
        *([table(["epoch", *history], rows, columns)] if history else []),
    ]
    if not provenance["test"]:
        return "\n".join(lines)
    shown = ", ".join(f"{name} {number(value)}" for name, value in provenance["test"].items())
    lines.append(f"test set ({provenance['data']['test']} examples, evaluated once): {shown}")
    return "\n".join(lines)


def replay_page(
    recorded: Mapping[int, float],
    replayed: Mapping[int, float],
    rounds: int,
    columns: int | None = None,
) -> str:
    """A trial beside its replay, a line each value."""
    steps = sorted(recorded.keys() | replayed.keys())
    head = "epoch" if rounds == 1 else "training"

    def shown(values: Mapping[int, float], step: int) -> str:
        return repr(values[step]) if step in values else "-"

    rows = [
        (
            step,
            shown(recorded, step),
            shown(replayed, step),
            f"{abs(recorded[step] - replayed[step]):.3g}"
            if step in recorded and step in replayed
            else "-",
        )
        for step in steps
    ]
    return table([head, "recorded", "replayed", "difference"], rows, columns)


def confirm_page(metric: str, found: Sequence[Confirmed], columns: int | None = None) -> str:
    """The confirmed trials, the best mean first, and a verdict in a sentence."""
    return f"{table(*confirmed_table(metric, found), columns)}\n{_verdict(found)}"


def _verdict(found: Sequence[Confirmed]) -> str:
    if not found or found[0].probability_best is None:
        return "too few values to say which is best"
    best = found[0]
    certain = (
        "is the best beyond reasonable doubt"
        if (best.probability_best or 0) >= CLEAR_PROBABILITY
        else "leads, and the others are not ruled out; more seeds would tell"
    )
    return f"trial {best.number} {certain} (probability {percent(best.probability_best)})"
