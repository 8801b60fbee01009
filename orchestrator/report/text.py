"""The report as text for a terminal of 80 columns."""

from __future__ import annotations

from orchestrator.report.summary import Summary, TrialSummary
from orchestrator.report.words import duration, number, params_line, percent

_BAR_WIDTH = 30
_MOST_TRIALS = 5


def render(summary: Summary) -> str:
    """The whole report, a section a paragraph."""
    sections = [
        _head(summary),
        _best(summary),
        _trials(summary),
        _rungs(summary),
        _importances(summary),
        _workers(summary),
    ]
    return "\n\n".join(section for section in sections if section) + "\n"


def _head(summary: Summary) -> str:
    states = summary.states
    done = states.complete + states.pruned
    lines = [
        f"Study {summary.study}: {summary.objective}, {summary.metric} ({summary.direction}), "
        f"{summary.sampler} with {summary.pruner}",
        f"Trials {done} of {summary.budget}: {states.complete} complete, {states.pruned} pruned"
        f", {states.failed} failed, {states.running} running, {states.waiting} waiting"
        f"; {summary.retries} retries",
        f"Epochs {summary.epochs.trained} trained of {summary.epochs.without_pruning}"
        f" without pruning ({percent(summary.epochs.saved_ratio)} saved)"
        f" in {duration(summary.elapsed_seconds)}",
    ]
    if summary.data:
        data = summary.data
        lines.append(
            f"Data   {data['name']}: {data['train']} training, {data['validation']} validation, "
            f"{data['test']} test; SHA-256 {data['sha256'][:12]}"
        )
    return "\n".join(lines)


def _best(summary: Summary) -> str:
    best = summary.best
    if best is None:
        return "Best   no trial is complete yet"
    spread = "one training" if best.std is None else f"± {number(best.std)}"
    lines = [
        f"Best   {summary.metric} {number(best.value)} in trial {best.number}"
        f" after {best.epochs} epochs ({spread})"
    ]
    width = max((len(name) for name in best.params), default=0)
    lines += [f"       {name:<{width}}  {number(value)}" for name, value in best.params.items()]
    return "\n".join(lines)


def _trials(summary: Summary) -> str:
    complete = [t for t in summary.trials if t.state == "COMPLETE" and t.value is not None]
    if not complete:
        return ""
    sign = -1 if summary.direction == "maximize" else 1

    def rank(trial: TrialSummary) -> tuple[float, int]:
        return (sign * (trial.value or 0.0), trial.number)

    lines = [f"{'trial':>5}  {summary.metric:>12}  {'seconds':>7}  parameters"]
    for trial in sorted(complete, key=rank)[:_MOST_TRIALS]:
        seconds = "-" if trial.seconds is None else f"{trial.seconds:.1f}"
        head = f"{trial.number:>5}  {number(trial.value):>12}  {seconds:>7}  "
        lines.append(head + _cut(params_line(trial.params), 80 - len(head)))
    return "\n".join(lines)


def _rungs(summary: Summary) -> str:
    if not summary.rungs:
        return ""
    lines = ["bracket  epochs  reached  passed"]
    lines += [
        f"{rung.bracket:>7}  {rung.resource:>6}  {rung.reached:>7}  {rung.passed:>6}"
        for rung in summary.rungs
    ]
    return "\n".join(lines)


def _importances(summary: Summary) -> str:
    if not summary.importances:
        return ""
    width = max(len(name) for name in summary.importances)
    lines = ["Importance (PED-ANOVA, shares of 1)"]
    for name, share in summary.importances.items():
        bar = "█" * round(share * _BAR_WIDTH)
        lines.append(f"  {name:<{width}}  {share:4.2f}  {bar}".rstrip())
    return "\n".join(lines)


def _workers(summary: Summary) -> str:
    seen = [worker for worker in summary.workers if worker.trials]
    if not seen:
        return ""
    width = max(6, *(len(worker.id) for worker in seen))
    lines = [f"{'worker':<{width}}  trials  busy   last seen"]
    lines += [
        f"{worker.id:<{width}}  {worker.trials:>6}  {percent(worker.busy_ratio):>5}"
        f"  {duration(worker.last_seen_seconds)} ago"
        for worker in seen
    ]
    return "\n".join(lines)


def _cut(text: str, width: int) -> str:
    return text if len(text) <= width else text[: width - 1] + "…"
