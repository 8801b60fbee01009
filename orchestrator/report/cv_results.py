"""The trials as a table with the columns of scikit-learn's ``cv_results_``: CSV or parquet."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from orchestrator.base.extras import require
from orchestrator.report.numbers import deviation
from orchestrator.report.section import section
from orchestrator.report.summary import Summary, TrialSummary

_FRESH = ("confirmed_mean", "confirmed_std", "confirmed_seeds")


Row = dict[str, Any]


def render(summary: Summary) -> str:
    """The columns of :func:`table`, and ``last_*``: the last value of all that the trials log."""
    header, rows = table(summary)
    names = logged_names(summary)
    for trial in summary.trials:
        if trial.number in rows:
            last = {f"last_{name}": list(curve.values())[-1] for name, curve in trial.logs.items()}
            rows[trial.number] |= last
    output = io.StringIO()
    lines = csv.DictWriter(output, [*header, *(f"last_{n}" for n in names)], lineterminator="\n")
    lines.writeheader()
    lines.writerows(rows.values())
    return output.getvalue()


def render_logs(summary: Summary) -> str:
    """What the trials log: a line each step of a trial, and a column ``log_*`` each name."""
    names = logged_names(summary)
    output = io.StringIO()
    lines = csv.writer(output, lineterminator="\n")
    # The prefix keeps them apart from the first two, and from what a spreadsheet would calculate.
    lines.writerow(["number", "step", *(f"log_{name}" for name in names)])
    for trial in summary.trials:
        for step in sorted({int(step) for curve in trial.logs.values() for step in curve}):
            values = (trial.logs.get(name, {}).get(str(step)) for name in names)
            lines.writerow([trial.number, step, *values])
    return output.getvalue()


def logged_names(summary: Summary) -> list[str]:
    """The names that the trials log with."""
    return list(dict.fromkeys(name for trial in summary.trials for name in trial.logs))


def table(summary: Summary) -> tuple[list[str], dict[int, Row]]:
    """The names of the columns, and the rows by the trials' numbers.

    ``param_*``, ``split*_test_score``, ``mean_``, ``std_`` and ``rank_test_score``.

    As in scikit-learn, a split is one fold or repeat, ``std_test_score`` is the population's
    standard deviation over them (n, not n - 1), and equal means share the better rank. The mean is
    the trial's value; a pruned or failed trial has no rank. Retried attempts are left out: their
    retry stands for them. Trials that orch confirm has run again have three columns more, with the
    sample standard deviation (n - 1).
    """
    names = list(dict.fromkeys(name for trial in summary.trials for name in trial.params))
    splits = [f"split{index}_test_score" for index in range(summary.rounds)]
    others = [f"value_{metric}" for metric in summary.metrics[1:]]
    fresh = {each.number: each for each in summary.confirmed.results} if summary.confirmed else {}
    header = [
        "number", "state", *(f"param_{name}" for name in names), "params", *splits,
        "mean_test_score", "std_test_score", "rank_test_score", *others, "seconds",
        *(_FRESH if fresh else ()),
    ]  # fmt: skip
    retried = _retried(summary)
    ranks = _ranks(summary)
    rows: dict[int, Row] = {}
    for trial in summary.trials:
        if trial.number not in retried:
            line = section(
                f"Trial {trial.number}",
                partial(_line, trial, summary, splits, others, ranks.get(trial.number)),
                partial(_without_values, trial),
            )
            confirmed = fresh.get(trial.number)
            if confirmed is not None:
                told = (confirmed.mean, confirmed.std, len(confirmed.values))
                line |= dict(zip(_FRESH, told, strict=True))
            rows[trial.number] = line
    return header, rows


def _line(
    trial: TrialSummary, summary: Summary, splits: list[str], others: list[str], rank: int | None
) -> dict[str, Any]:
    complete = trial.state == "COMPLETE"
    scores = list(trial.intermediate.values()) if summary.rounds > 1 else [trial.value]
    if summary.rounds == 1 and not complete:
        scores = []
    known = [score for score in scores if score is not None]
    return {
        "number": trial.number,
        "state": trial.state,
        **{f"param_{name}": value for name, value in trial.params.items()},
        "params": json.dumps(trial.params),
        **dict(zip(splits, scores, strict=False)),
        "mean_test_score": trial.value if complete else None,
        "std_test_score": deviation(known, ddof=0) if complete and known else None,
        "rank_test_score": rank,
        **dict(zip(others, (trial.values or [])[1:], strict=False)),
        "seconds": trial.seconds,
    }


def _without_values(trial: TrialSummary, line: str) -> dict[str, Any]:
    return {"number": trial.number, "state": trial.state, "params": line}


def _ranks(summary: Summary) -> dict[int, int]:
    ranked = summary.ranked()
    ranks: dict[int, int] = {}
    for place, trial in enumerate(ranked, start=1):
        before = ranked[place - 2] if place > 1 else None
        tied = before is not None and before.value == trial.value
        ranks[trial.number] = ranks[before.number] if tied and before else place
    return ranks


def _retried(summary: Summary) -> set[int]:
    """The attempts that another trial stands for: all but the last of each configuration."""
    last: dict[int, int] = {}
    for trial in summary.trials:
        first = trial.number if trial.retry_of is None else trial.retry_of
        last[first] = max(trial.number, last.get(first, trial.number))
    return {trial.number for trial in summary.trials} - set(last.values())


def render_parquet(summary: Summary) -> bytes:
    """A row each trial, with the columns of :func:`table` and two lists.

    ``intermediate`` has what a trial reported, ``{step, value}``, and ``logs`` what it logged,
    ``{step, name, value}``. A value that was not a number is null.

    Raises:
        UsageError: pyarrow is missing.
    """
    require("pyarrow", "parquet", "a report as parquet")
    import pyarrow as pa
    import pyarrow.parquet as pq

    header, rows = table(summary)
    columns = {name: _column([row.get(name) for row in rows.values()]) for name in header}
    shown = [trial for trial in summary.trials if trial.number in rows]
    value, step = pa.field("value", pa.float64()), pa.field("step", pa.int64())
    columns["intermediate"] = pa.array(
        [_points(trial.intermediate) for trial in shown], pa.list_(pa.struct([step, value]))
    )
    columns["logs"] = pa.array(
        [
            [
                {"name": name, **point}
                for name, curve in trial.logs.items()
                for point in _points(curve)
            ]
            for trial in shown
        ],
        pa.list_(pa.struct([step, pa.field("name", pa.string()), value])),
    )
    file = io.BytesIO()
    pq.write_table(pa.table(columns), file)
    return file.getvalue()


def _points(curve: Mapping[str, float | None]) -> list[dict[str, Any]]:
    return [{"step": int(step), "value": value} for step, value in curve.items()]


def _column(values: Sequence[Any]) -> Any:
    """The values in a type that holds all of them; where there is none, as JSON."""
    import pyarrow as pa

    try:
        return pa.array(values)
    except (pa.ArrowException, OverflowError):
        return pa.array([None if each is None else json.dumps(each) for each in values])
