"""Progress: where a running study stands, from a few cheap queries."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from orchestrator.report.numbers import counted, duration, number, params_line, values_line
from orchestrator.report.pruning import EpochCounter
from orchestrator.report.section import section
from orchestrator.storage.database import Database, Row
from orchestrator.storage.studies import StoredStudy


@dataclass(frozen=True)
class Progress:
    """One look at a study. Counts are trials; ``values`` are epochs that pruned ones have reported.

    ``best_of_metrics`` has the best trial and value of each metric where there are several; the
    other ``best`` are of the first metric.
    """

    budget: int
    state: str
    complete: int
    pruned: int
    failed: int
    running: int
    workers: int
    values: int
    best_number: int | None = None
    best_value: float | None = None
    best_params: dict[str, Any] = field(default_factory=dict)
    best_of_metrics: list[tuple[int, float]] = field(default_factory=list)

    @property
    def done(self) -> int:
        return self.complete + self.pruned


class ProgressReader:
    """Reads one study's progress again and again.

    Args:
        database: where the study is.
        study: the study.
        counter: counts what pruning saved.
    """

    def __init__(self, database: Database, study: StoredStudy, counter: EpochCounter) -> None:
        self._database = database
        self._study = study
        self._counter = counter
        self._known: list[int] = [row["trial_id"] for row in self._ended()]
        self._started = time.monotonic()
        self._done_before: int | None = None
        self._best: tuple[int, dict[str, Any]] | None = None
        self._told_of_log = False

    def read(self) -> Progress:
        """Where the study stands now."""
        study_id = self._study.study_id
        row = self._database.row("progress", study_id=study_id)
        assert row is not None
        live = self._database.row(
            "count_live_workers",
            study_id=study_id,
            grace_seconds=self._study.spec.worker.grace_seconds,
        )
        best = self._database.row(
            "best_trial",
            study_id=study_id,
            maximize=self._study.spec.study.maximize,
        )
        progress = Progress(
            budget=row["budget"],
            state=row["state"],
            complete=row["complete"],
            pruned=row["pruned"],
            failed=row["failed"],
            running=row["running"],
            workers=live["live"] if live else 0,
            values=row["values_of_pruned"],
            best_number=best["number"] if best else None,
            best_value=best["value"] if best else None,
            best_params=section(
                "The best parameters", partial(self._params, best), lambda line: {}
            ),
            best_of_metrics=self._best_of_metrics(),
        )
        if self._done_before is None:
            self._done_before = progress.done
        return progress

    def news(self) -> list[str]:
        """A line for each trial that has ended since the last call."""
        rows = self._ended()
        self._known.extend(row["trial_id"] for row in rows)
        return [section(f"Trial {row['number']}", partial(self._line, row), str) for row in rows]

    def seconds_left(self, progress: Progress) -> float | None:
        """An estimate from the pace since the reader started; None before a trial has ended."""
        done = progress.done - (self._done_before or 0)
        if done <= 0:
            return None
        pace = (time.monotonic() - self._started) / done
        return pace * max(0, progress.budget - progress.done)

    def saved(self, progress: Progress) -> int | None:
        """The epochs, or of a function the steps, that pruning has saved so far.

        None where each trial has its own number, or none: a function may report nothing.
        """
        spec = self._study.spec
        searched = "epochs" in spec.space or "epochs" in (progress.best_params or {})
        if searched or not progress.values or self._counter.is_assumed:
            return None
        values = max(0, progress.pruned * self._counter.steps - progress.values)
        is_training = spec.training.rounds > 1 and self._counter.has_epochs
        return values * spec.training.epochs if is_training else values

    def headline(self, progress: Progress) -> str:
        """The whole state in one line."""
        parts = [
            f"{progress.done}/{progress.budget} trials",
            f"{progress.pruned} pruned",
            counted(progress.workers, "worker"),
        ]
        saved = self.saved(progress)
        if saved:
            parts.insert(2, f"{counted(saved, self._counter.unit)} saved")
        if progress.failed:
            parts.insert(2, f"{progress.failed} failed")
        left = self.seconds_left(progress)
        if left is not None and progress.done < progress.budget:
            # A guess to a tenth of a second would be too good.
            rough = f"{left:.0f} s" if left < 59.5 else duration(left)
            parts.append(f"about {rough} left")
        return ", ".join(parts)

    def best_line(self, progress: Progress) -> str:
        """The best trial so far with its parameters, or that there is none."""
        return section("The best trial", partial(self._describe_best, progress), str)

    def _describe_best(self, progress: Progress) -> str:
        if progress.best_value is None:
            complete = progress.done - progress.pruned
            if complete <= 0:
                return "no trial complete yet"
            return f"none of {counted(complete, 'complete trial')} may win so far"
        if progress.best_of_metrics:
            pairs = zip(self._study.spec.study.metrics, progress.best_of_metrics, strict=True)
            return "best " + ", ".join(
                f"{metric} {number(value)} (trial {trial})" for metric, (trial, value) in pairs
            )
        return (
            f"best {self._study.spec.study.metrics[0]} {number(progress.best_value)} "
            f"(trial {progress.best_number}: {params_line(progress.best_params)})"
        )

    def _ended(self) -> list[Row]:
        known = getattr(self, "_known", [])
        return self._database.rows("ended_since", study_id=self._study.study_id, known=known)

    def _line(self, row: Row) -> str:
        metrics, values = self._study.spec.study.metrics, row["values"]
        value = f" {number(values[0])}" if values else ""
        if len(values) == len(metrics) > 1:
            value = f" {values_line(metrics, values)}"
        reason = f" ({json.loads(row['reason'])})" if row["reason"] else ""
        return f"trial {row['number']} {row['state']}{value}{reason}{self._of_log(row)}"

    def _of_log(self, row: Row) -> str:
        """Where the whole traceback is, with the first failure alone: all have one."""
        # Of a worker that was lost, nothing is known.
        known = row["state"] == "FAIL" and row["reason"] and "lost: " not in row["reason"]
        if not known or self._told_of_log:
            return ""
        self._told_of_log = True
        return "; its traceback, or what it wrote last, is its attribute 'log' in: orch dashboard"

    def _best_of_metrics(self) -> list[tuple[int, float]]:
        if len(self._study.spec.study.metrics) == 1:
            return []
        rows = self._database.rows("best_of_metrics", study_id=self._study.study_id)
        return [(row["number"], row["value"]) for row in rows]

    def _params(self, best: Row | None) -> dict[str, Any]:
        if best is None:
            return {}
        if self._best is None or self._best[0] != best["trial_id"]:
            from orchestrator.spec.choices import read_domain

            rows = self._database.rows("params_of_trial", trial_id=best["trial_id"])
            self._best = (
                best["trial_id"],
                {
                    row["param_name"]: read_domain(row["distribution_json"]).to_external_repr(
                        row["param_value"]
                    )
                    for row in rows
                },
            )
        return self._best[1]
