"""Compare: studies side by side, several seeds of one strategy as a group, and what is noise."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import partial
from itertools import combinations
from pathlib import Path

import numpy as np
from pydantic import BaseModel

from orchestrator.base.printed import Printed, columns
from orchestrator.errors import UsageError
from orchestrator.report.numbers import counted, deviation, difference, mean, median, number, scaled
from orchestrator.report.section import Sections
from orchestrator.report.summary import Summary
from orchestrator.spec.eligibility import rank

_POINTS = 60  # of a curve


class Curve(BaseModel):
    """The best so far over what was spent: a line a group, with the range of its studies.

    Attributes:
        unit: ``"trials"``, ``"epochs"`` or ``"seconds"``.
        spent: how much was spent at each point.
        median: of the group's studies; None before each has a complete trial, and after their end.
        low: the lowest of them.
        high: the highest of them.
    """

    unit: str
    spent: list[float]
    median: list[float | None]
    low: list[float | None]
    high: list[float | None]


class Group(BaseModel):
    """The studies of one strategy: the same specification but for seed, name and note.

    Attributes:
        name: of the studies, as far as they share it; a study of its own has its own name.
        studies: their names.
        seeds: their seeds, in the same order.
        best: their best values, in the same order; None where no trial is complete.
        mean: of the best values.
        std: sample standard deviation (n - 1) of them; None of fewer than two.
        epochs: trained, on average.
        seconds: elapsed, on average.
    """

    name: str
    studies: list[str]
    seeds: list[int]
    best: list[float | None]
    mean: float | None
    std: float | None
    trials: float
    epochs: float
    seconds: float
    curves: list[Curve]

    @property
    def values(self) -> list[float]:
        """The best values that there are."""
        return [value for value in self.best if value is not None]


class Difference(BaseModel):
    """Two groups. ``p``: corrected; None where there are too few seeds to tell."""

    better: str
    worse: str
    difference: float
    p: float | None
    sentence: str


class Comparison(BaseModel, Printed):
    """Studies side by side; the groups in the order of their mean, the best first.

    Attributes:
        step: what the groups' and curves' ``epochs`` are of plain functions: ``"step"``.
        missing: what could not be worked out, by its key here, and a line that says why.
    """

    metric: str
    direction: str
    step: str
    test: str
    groups: list[Group]
    differences: list[Difference]
    verdict: list[str]
    missing: dict[str, str] = {}

    def write(self, path: Path | str | None = None, format: str = "text") -> str:
        """The comparison as ``"text"``, ``"json"`` or ``"html"``; also written, if a file is named.

        Raises:
            OrchError: the file cannot be written.
        """
        from orchestrator.report.render import render_comparison, write_file

        content = render_comparison(self, format, columns())
        if path is not None:
            write_file(content.encode(), Path(path))
        return content

    def __str__(self) -> str:
        return self.write().rstrip("\n")


@np.errstate(all="ignore")  # NumPy's error state here is that of the caller's process
def compare(summaries: Sequence[Summary]) -> Comparison:
    """Compare studies of one metric.

    Raises:
        UsageError: fewer than two, several metrics, or metrics that differ.
    """
    first = summaries[0]
    if len(summaries) < 2:
        raise UsageError("name two studies or more, as: orch compare tpe-0 random-0")
    for each in summaries:
        if each.is_multi_objective:
            raise UsageError(f"study '{each.study}' has several metrics; compare takes one")
        if (each.metric, each.direction) != (first.metric, first.direction):
            raise UsageError(
                f"study '{each.study}' is about {each.metric} ({each.direction}), and "
                f"'{first.study}' about {first.metric} ({first.direction}); compare like with like"
            )
    maximize = first.maximize
    ends, grouped, sections = _ends(summaries), _grouped(summaries), Sections()
    curves = sections.make(
        "curves", "The curves over what was spent", partial(_curves, grouped, ends, maximize)
    ) or [[] for _ in grouped]
    groups = [_group(*each) for each in zip(grouped, curves, strict=True)]
    groups.sort(key=lambda group: rank(group.mean, maximize))
    with_values = [group for group in groups if group.values]
    differences = (
        sections.make("differences", "The differences", partial(_differences, with_values)) or []
    )
    return Comparison(
        metric=first.metrics[0],
        direction=first.directions[0],
        step=_step(summaries),
        test="exact permutation test of the mean best value, two-sided, Holm's correction",
        groups=groups,
        differences=differences,
        verdict=_verdict(groups, differences, summaries, sections.missing),
        missing=sections.missing,
    )


def _step(summaries: Sequence[Summary]) -> str:
    units = {each.unit for each in summaries}
    return units.pop() if len(units) == 1 else "epoch"


def _grouped(summaries: Sequence[Summary]) -> list[list[Summary]]:
    groups: dict[str, list[Summary]] = {}
    for each in summaries:
        groups.setdefault(strategy(each), []).append(each)
    return list(groups.values())


def strategy(summary: Summary) -> str:
    """What the studies of one group have in common: all of the specification but the seeds."""
    spec = {section: dict(values) for section, values in summary.spec.items()}
    for key in ("name", "note"):
        spec["study"].pop(key, None)
    for section in ("training", "sampler"):
        spec.get(section, {}).pop("seed", None)
    return repr(sorted((section, sorted(values.items())) for section, values in spec.items()))


def group_name(names: Sequence[str]) -> str:
    """What the names share, without the separator at its end; else the first name and a count."""
    if len(names) == 1:
        return names[0]
    shared = names[0]
    for name in names[1:]:
        length = next(
            (at for at, pair in enumerate(zip(shared, name, strict=False)) if pair[0] != pair[1]),
            min(len(shared), len(name)),
        )
        shared = shared[:length]
    shared = shared.removesuffix("seed").rstrip("-_.")
    return shared or f"{names[0]} and {len(names) - 1} more"


def _group(members: Sequence[Summary], curves: list[Curve]) -> Group:
    best = [each.best.value if each.best else None for each in members]
    values = [value for value in best if value is not None]
    return Group(
        name=group_name([each.study for each in members]),
        studies=[each.study for each in members],
        seeds=[int(each.spec["training"]["seed"]) for each in members],
        best=best,
        mean=mean(values) if values else None,
        std=deviation(values, ddof=1) if len(values) > 1 else None,
        trials=float(np.mean([each.states.complete + each.states.pruned for each in members])),
        epochs=float(np.mean([each.epochs.trained for each in members])),
        seconds=float(np.mean([each.elapsed_seconds for each in members])),
        curves=curves,
    )


def spending(summary: Summary) -> dict[str, list[tuple[float, float]]]:
    """The best so far by what was spent until then: ``(spent, best)`` by unit.

    Trials and epochs count in the order in which trials ended.
    """
    ended = [t for t in summary.trials if t.state in ("COMPLETE", "PRUNED", "FAIL")]
    ended.sort(key=lambda trial: (trial.ended_seconds or 0.0, trial.number))
    # Folds and repeats report once a training, so values are scaled to the epochs that they cost.
    values = sum(len(trial.intermediate) for trial in ended)
    epochs_of_a_value = summary.epochs.trained / values if values else 0.0
    found: dict[str, list[tuple[float, float]]] = {"trials": [], "epochs": [], "seconds": []}
    trials, epochs = 0, 0.0
    best: float | None = None
    for trial in ended:
        trials += trial.state != "FAIL"
        epochs += len(trial.intermediate) * epochs_of_a_value
        value = trial.value if trial.may_win else None
        if value is not None and rank(value, summary.maximize) < rank(best, summary.maximize):
            best = value
            found["trials"].append((trials, value))
            found["epochs"].append((epochs, value))
            found["seconds"].append((trial.ended_seconds or 0.0, value))
    return found


def _ends(summaries: Sequence[Summary]) -> dict[str, float]:
    trials = max(each.states.complete + each.states.pruned for each in summaries)
    return {
        "trials": float(trials),
        "epochs": float(max(each.epochs.trained for each in summaries)),
        "seconds": max(each.elapsed_seconds for each in summaries),
    }


def _curves(
    grouped: Sequence[Sequence[Summary]], ends: Mapping[str, float], maximize: bool
) -> list[list[Curve]]:
    """Of each group, a curve for each unit."""
    return [
        [_curve(members, unit, end, maximize) for unit, end in ends.items()] for members in grouped
    ]


def _curve(members: Sequence[Summary], unit: str, end: float, maximize: bool) -> Curve:
    own_end = _ends(members)[unit]
    spent = [float(each) for each in np.linspace(0, end, _POINTS + 1)[1:]]
    lines = [_at(spending(each)[unit], spent) for each in members]
    middle: list[float | None] = []
    low: list[float | None] = []
    high: list[float | None] = []
    for at, *values in zip(spent, *lines, strict=True):
        known = [value for value in values if value is not None]
        # What nobody has spent says nothing.
        whole = len(known) == len(values) and at <= own_end + end / _POINTS
        middle.append(median(known) if whole else None)
        low.append(min(known) if whole else None)
        high.append(max(known) if whole else None)
    return Curve(unit=unit, spent=spent, median=middle, low=low, high=high)


def _at(steps: Sequence[tuple[float, float]], spent: Sequence[float]) -> list[float | None]:
    places = np.searchsorted([at for at, _ in steps], np.array(spent) + 1e-9, side="right")
    return [steps[place - 1][1] if place else None for place in places]


def _differences(groups: Sequence[Group]) -> list[Difference]:
    """Every pair, the better one first; the p values corrected by Holm's method."""
    pairs = list(combinations(groups, 2))
    raw = [permutation_p(first.values, second.values) for first, second in pairs]
    corrected = holm(raw)
    return [
        Difference(
            better=first.name,
            worse=second.name,
            difference=abs((first.mean or 0.0) - (second.mean or 0.0)),
            p=p,
            sentence=_sentence(first, second, p),
        )
        for (first, second), p in zip(pairs, corrected, strict=True)
    ]


def _sentence(better: Group, worse: Group, p: float | None) -> str:
    if better.mean == worse.mean:
        return f"{better.name} and {worse.name} are equal: {number(better.mean)}."
    lead = difference(better.mean, worse.mean)
    if p is None:
        if len(better.values) == len(worse.values) == 1:
            return (
                f"{better.name} leads {worse.name} by {lead}; one seed each tells nothing: "
                "four each are the least."
            )
        seeds = f"{len(better.values)} and {len(worse.values)} seeds"
        return (
            f"{better.name} leads {worse.name} by {lead}; {seeds} are too few to tell that "
            "from noise: four each are the least."
        )
    if p < LEVEL:
        return f"{better.name} is better than {worse.name} by {lead}, more than noise (p {p:.2g})."
    return f"{better.name} leads {worse.name} by {lead}, which may be noise (p {p:.2g})."


def _verdict(
    groups: Sequence[Group],
    differences: Sequence[Difference],
    summaries: Sequence[Summary],
    missing: Mapping[str, str],
) -> list[str]:
    if "differences" in missing:
        return [missing["differences"]]
    if not differences:
        if len(groups) == 1:
            only = groups[0]
            mean = "no best value yet" if only.mean is None else f"mean best {number(only.mean)}"
            return [
                f"All are one strategy, {only.name}, with {counted(len(only.studies), 'seed')}: "
                f"{mean}."
            ]
        return ["Too few studies have a complete trial to compare them."]
    lines = [each.sentence for each in differences if each.better == groups[0].name]
    repeated = [group.name for group in groups if len(set(group.seeds)) < len(group.seeds)]
    if repeated:
        lines.append(
            f"A seed occurs twice in {', '.join(repeated)}: that is no independent sample. Give "
            "each study a --seed of its own."
        )
    epochs = [each.epochs.trained for each in summaries]
    if min(epochs) > 0 and max(epochs) > 1.5 * min(epochs):
        lines.append(
            f"They did not spend the same: see the curves over {_step(summaries)}s and time."
        )
    return lines


# Significance: is the difference of two groups of best values more than noise?
#
# The test is the exact two-sided permutation test of the difference of the groups' mean best
# values (R. A. Fisher, "The Design of Experiments", 1935, section 21), with Holm's correction
# where more than two groups are compared. It supposes nothing about how best values are spread.
# Its smallest possible p with n seeds against m is 2 / C(n + m, n): with fewer than four against
# four it cannot reach 0.05, and then it is said that there are too few seeds.

LEVEL = 0.05  # a smaller p is more than noise
_MOST_PERMUTATIONS = 20_000


def permutation_p(first: Sequence[float], second: Sequence[float]) -> float | None:
    """The p of the difference of the means; None where it could not get below 0.05."""
    if not first or not second:
        return None
    if 2 / math.comb(len(first) + len(second), len(first)) > LEVEL:
        return None
    from scipy import stats  # half of a short command's time, if each loaded it

    parts, _ = scaled([*first, *second])
    found = stats.permutation_test(
        (parts[: len(first)], parts[len(first) :]),
        lambda a, b: np.mean(a) - np.mean(b),
        n_resamples=_MOST_PERMUTATIONS,
        rng=np.random.default_rng(0),
    )
    return float(found.pvalue)


def holm(values: Sequence[float | None]) -> list[float | None]:
    """S. Holm, "A Simple Sequentially Rejective Multiple Test Procedure" (1979)."""
    told = sorted((value, place) for place, value in enumerate(values) if value is not None)
    corrected: list[float | None] = [None] * len(values)
    highest = 0.0
    for before, (value, place) in enumerate(told):
        highest = max(highest, min(1.0, value * (len(told) - before)))
        corrected[place] = highest
    return corrected
