"""The report as parquet: a row each trial, with all that it has reported and logged."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from typing import Any

from orchestrator.base.extras import require
from orchestrator.report.cv_results import table
from orchestrator.report.summary import Summary


def content(summary: Summary) -> bytes:
    """The columns of the CSV, and two lists.

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
