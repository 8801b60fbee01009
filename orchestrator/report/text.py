"""The report as text for a terminal of 80 columns."""

from __future__ import annotations

from textwrap import wrap

from orchestrator.errors import printable
from orchestrator.report.document import Summary
from orchestrator.report.plots import Plot, sparkline
from orchestrator.report.ranges import value_range
from orchestrator.report.words import clip, counted, duration, number, params_line, percent, retries

_BAR_WIDTH = 30
_MOST_TRIALS = 5
_MOST_NAME = 36
_PLOT_COLUMNS, _PLOT_ROWS = 66, 8


def render(summary: Summary) -> str:
    """The whole report, a section a paragraph."""
    sections = [
        _head(summary),
        _verdict(summary),
        _best(summary),
        _trials(summary),
        _history(summary),
        _curves(summary),
        _rungs(summary),
        _importances(summary),
        _workers(summary),
    ]
    return printable("\n\n".join(section for section in sections if section) + "\n")


def _head(summary: Summary) -> str:
    states = summary.states
    done = states.complete + states.pruned
    objective = f"{summary.objective}, " if summary.can_run else ""
    lines = [
        f"Study {summary.study}: {objective}{_metrics(summary)}, {summary.strategy}",
        f"Trials {done} of {summary.budget}: {states.complete} complete, {states.pruned} pruned"
        f", {states.failed} failed, {states.running} running, {states.waiting} waiting"
        f"{retries(summary.retries)}",
    ]
    reason = summary.failure_beside_success()
    if reason:
        lines.append(f"Failed {reason}")
    if summary.data:
        data = summary.data
        lines.append(
            f"Data   {data['name']}: {data['train']} training, {data['validation']} validation, "
            f"{data['test']} test; SHA-256 {data['sha256'][:12]}"
        )
    lines += [f"Mixed  software on {mismatch}" for mismatch in summary.mismatches]
    return "\n".join("\n".join(wrap(line, 80, subsequent_indent=" " * 7)) for line in lines)


def _verdict(summary: Summary) -> str:
    return "\n".join(line for each in summary.verdict for line in wrap(each, 80))


def _history(summary: Summary) -> str:
    """The values in the trials' order, with the best so far as a line."""
    ended = [t for t in summary.trials if t.value is not None]
    ranked = summary.ranked()
    if summary.is_multi_objective or len(ended) < 3 or not ranked:
        return ""
    values = [trial.value or 0.0 for trial in ended]
    low, high = value_range(values, summary.maximize)
    plot = Plot(low, high, _PLOT_COLUMNS, _PLOT_ROWS)
    last = max(1, ended[-1].number)
    for trial in ended:
        plot.dot(trial.number / last, trial.value or 0.0)
    plot.steps([(each / last, value) for each, value in summary.best_so_far()])
    return "\n".join([f"{summary.metrics[0]} of the trials; the line is the best", *plot.lines()])


def _curves(summary: Summary) -> str:
    """The reported values of the best trials, a character each."""
    ranked = [t for t in summary.ranked() if len(t.intermediate) > 1][:_MOST_TRIALS]
    if summary.is_multi_objective or not ranked:
        return ""
    found = [v for t in ranked for v in t.intermediate.values() if v is not None]
    if not found:
        return ""
    low, high = min(found), max(found)
    lines = [f"values reported by the best trials, from {number(low)} to {number(high)}"]
    for trial in ranked:
        values = list(trial.intermediate.values())
        every = max(1, -(-len(values) // 60))
        lines.append(f"{trial.number:>5}  {sparkline(values[::every], low, high)}".rstrip())
    return "\n".join(lines)


def _metrics(summary: Summary) -> str:
    pairs = zip(summary.metrics, summary.directions, strict=True)
    return " and ".join(f"{metric} ({direction})" for metric, direction in pairs)


def _best(summary: Summary) -> str:
    best = summary.best
    if summary.is_multi_objective:
        return _pareto(summary)
    if best is None:  # the verdict says why
        return ""
    several = (summary.has_epochs and best.epochs > 0) or (summary.rounds == 1 and best.epochs > 1)
    after = f" after {counted(best.epochs, summary.unit)}" if several else ""
    lines = [f"Best   {summary.metrics[0]} {number(best.value)} in trial {best.number}{after}"]
    if best.std is not None:
        lines.append(
            f"       (mean of {best.trainings} trainings, standard deviation {number(best.std)}, "
            f"standard error {number(best.standard_error)})"
        )
    elif summary.has_epochs and summary.can_run:
        lines.append("       (one training)")
    width = max((len(name) for name in best.params), default=0)
    lines += [f"       {name:<{width}}  {number(value)}" for name, value in best.params.items()]
    return "\n".join(lines)


def _trials(summary: Summary) -> str:
    ranked = summary.ranked()
    if not ranked or summary.is_multi_objective:
        return ""
    noisy = summary.rounds > 1
    error_head = f"  {'± error':>8}" if noisy else ""
    lines = [f"{'trial':>5}  {summary.metrics[0]:>12}{error_head}  {'seconds':>7}  parameters"]
    shown = summary.shown_params()
    for trial in ranked[:_MOST_TRIALS]:
        seconds = "-" if trial.seconds is None else f"{trial.seconds:.1f}"
        error = "-" if trial.standard_error is None else number(trial.standard_error)
        shown_error = f"  {error:>8}" if noisy else ""
        head = f"{trial.number:>5}  {number(trial.value):>12}{shown_error}  {seconds:>7}  "
        params = {name: value for name, value in trial.params.items() if name in shown}
        lines.append(head + clip(params_line(params), 80 - len(head)))
    return "\n".join(lines)


def _pareto(summary: Summary) -> str:
    by_number = {trial.number: trial for trial in summary.trials}
    if not summary.pareto:
        return ""
    front = sorted(summary.pareto, key=lambda each: (by_number[each].values or [0.0])[0])
    lines = [f"Pareto front: {counted(len(front), 'trial')} that no other beats in every metric"]
    lines.append(f"{'trial':>5}" + "".join(f"  {metric:>12}" for metric in summary.metrics))
    for each in front:
        trial = by_number[each]
        values = "".join(f"  {number(value):>12}" for value in trial.values or [])
        head = f"{trial.number:>5}{values}  "
        lines.append(head + clip(params_line(trial.params), max(10, 80 - len(head))))
    return "\n".join(lines)


def _rungs(summary: Summary) -> str:
    if not summary.rungs:
        return ""
    unit = f"{summary.step}s"
    lines = [f"bracket  {unit:>6}  reached  passed"]
    lines += [
        f"{rung.bracket:>7}  {rung.resource:>{max(6, len(unit))}}  {rung.reached:>7}"
        f"  {rung.passed:>6}"
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
    width = max(6, *(min(len(worker.id), _MOST_NAME) for worker in seen))
    lines = [f"{'worker':<{width}}  trials  busy   last seen"]
    lines += [
        f"{clip(worker.id, _MOST_NAME):<{width}}  {worker.trials:>6}"
        f"  {percent(worker.busy_ratio):>5}  {duration(worker.last_seen_seconds)} ago"
        for worker in seen
    ]
    return "\n".join(lines)
