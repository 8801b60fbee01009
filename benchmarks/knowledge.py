"""What is known before a search, rightly or wrongly: priors and older studies."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import optuna

from benchmarks.problems import DEVELOPMENT, Function, Table, problem, table
from orchestrator.search.mixed_gp import MixedGP
from orchestrator.search.older_trials import OlderTrials

NONE = "none"
PRIORS = (NONE, "right", "wrong")
OLDER = (NONE, "helpful", "unrelated", "reversed")

_OFF = 0.05  # of a right prior's numbers from the best, as a share of their range
_OLDER_TRIALS = 40


def domains(name: str) -> dict[str, dict[str, Any]]:
    """The space of a problem as a spec writes it."""
    searched = problem(name)
    if isinstance(searched, Function):
        return {key: dict(each) for key, each in searched.domains.items()}
    return {key: {"choice": list(choices)} for key, choices in searched.choices.items()}


def with_prior(name: str, kind: str, seed: int) -> dict[str, dict[str, Any]]:
    """The space of a problem with a prior for each parameter: near the best, or far from it."""
    if kind == NONE:
        return {}
    rng = np.random.default_rng([seed, 1])
    best = problem(name).best
    return {
        key: {**domain, "prior": _expected(domain, best[key], kind, rng)} if key in best else domain
        for key, domain in domains(name).items()
    }


def _expected(domain: dict[str, Any], best: Any, kind: str, rng: np.random.Generator) -> Any:
    if "choice" in domain:
        choices = domain["choice"]
        place = choices.index(best)
        is_ordered = not isinstance(best, str | bool)
        if kind == "right":  # every third ordered one is a step off
            off = int(rng.integers(-1, 2)) * int(rng.random() < 0.5) if is_ordered else 0
            return choices[min(max(place + off, 0), len(choices) - 1)]
        return choices[(place + (len(choices) + 1) // 2) % len(choices)]
    low, high = domain["float"]
    scale = np.log if domain.get("log") else float
    start, size = scale(low), scale(high) - scale(low)
    unit = (scale(best) - start) / size
    step = _OFF * rng.standard_normal() if kind == "right" else (0.5 if unit < 0.5 else -0.5)
    value = start + size * min(max(unit + step, 0.0), 1.0)
    return float(min(max(np.exp(value) if domain.get("log") else value, low), high))


@cache
def older_trials(name: str, kind: str, seed: int) -> list[OlderTrials]:
    """The trials of an older study of a problem that is much like this one, or not at all.

    A helpful one is of the same function, moved a little and with noise, or of another data set of
    the table's family, else of the same with the noise of one repeat. An unrelated one is of the
    same kind of landscape, of which the axes are mixed up. A reversed one has the helpful one's
    values with the other sign.
    """
    if kind == NONE:
        return []
    searched, rng = problem(name), np.random.default_rng([seed, 2])
    value = (
        _of_function(searched, kind, rng)
        if isinstance(searched, Function)
        else _of_table(name, searched, kind, rng)
    )
    study = optuna.create_study(sampler=MixedGP(seed=10_000 + seed))
    study.optimize(lambda trial: value(searched.suggest(trial)), n_trials=_OLDER_TRIALS)
    sign = -1 if kind == "reversed" else 1
    trials = [_signed(each, sign) for each in study.trials]
    return [OlderTrials.of(trials, maximize=False)]


def _signed(trial: optuna.trial.FrozenTrial, sign: int) -> optuna.trial.FrozenTrial:
    trial.value = sign * (trial.value or 0.0)
    return trial


def _of_function(searched: Function, kind: str, rng: np.random.Generator) -> Any:
    if kind == "unrelated":
        return searched.unrelated
    return searched.moved(rng.uniform(-_OFF, _OFF, size=8))


def _of_table(name: str, searched: Table, kind: str, rng: np.random.Generator) -> Any:
    if kind == "unrelated":
        shape = tuple(map(len, searched.choices.values()))
        values = searched.means.reshape(shape)
        for axis, size in enumerate(shape):
            values = np.take(values, rng.permutation(size), axis=axis)
        mixed = values.ravel()
        return lambda row: float(mixed[row])
    family = [each for each in DEVELOPMENT if DEVELOPMENT[each][0] == DEVELOPMENT[name][0]]
    other = family[(family.index(name) + 1) % len(family)]
    if other != name:
        means = table(other).means
        return lambda row: float(means[row])
    return lambda row: searched.measure(row, rng, one_repeat=True).value
