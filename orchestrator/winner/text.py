"""What refit, replay and confirm print."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from orchestrator.report.confirmation import CLEAR_PROBABILITY, Confirmed
from orchestrator.report.formatting import number, params_line, percent
from orchestrator.report.listing import confirmed_table, table
from orchestrator.winner.replay import Replay, difference


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
    replay: Replay, metrics: Sequence[str], rounds: int, columns: int | None = None
) -> str:
    """A trial beside its replay, a line each value."""
    recorded, replayed = replay.recorded, replay.replayed
    head = "epoch" if rounds == 1 else "training"
    rows = [
        _row(step, recorded.get(step), replayed.get(step))
        for step in sorted(recorded.keys() | replayed.keys())
    ]
    again = replay.returned_again
    for place, (metric, value) in enumerate(zip(metrics, replay.returned, strict=False)):
        other = again[place] if place < len(again) else None
        rows.append(_row(f"returned {metric}", value, other))
    return table([head, "recorded", "replayed", "difference"], rows, columns)


def _row(place: int | str, recorded: float | None, replayed: float | None) -> tuple[object, ...]:
    def shown(value: float | None) -> str:
        return "-" if value is None else repr(value)

    if recorded is None or replayed is None:
        return place, shown(recorded), shown(replayed), "-"
    return place, shown(recorded), shown(replayed), f"{difference(recorded, replayed):.3g}"


def replay_verdict(replay: Replay, tolerance: float) -> str:
    """What was compared, and that it is equal."""
    count = len(replay.recorded)
    compared = [f"{count} of {count} values"] if count else []
    if replay.returned:
        compared.append(f"the returned value{'s' if len(replay.returned) > 1 else ''}")
    found = replay.largest_difference
    if found == 0:
        return f"identical: {' and '.join(compared)}"
    return f"equal within {tolerance:g}: the largest difference is {found:.3g}"


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
