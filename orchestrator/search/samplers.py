"""The samplers by name."""

from __future__ import annotations

from typing import TYPE_CHECKING

from orchestrator.search.strategy import Strategy, choose
from orchestrator.spec import StudySpec

if TYPE_CHECKING:
    from optuna.samplers import BaseSampler

_MODULE = "optuna.samplers"
_SEED = frozenset({"seed"})

SAMPLERS = {
    # constant_liar: workers that ask at the same time do not all get the same answer.
    "tpe": Strategy("TPESampler", _MODULE, {"constant_liar": True}, _SEED),
    "gp": Strategy("GPSampler", _MODULE, reserved=_SEED),
    "cmaes": Strategy("CmaEsSampler", _MODULE, {"warn_independent_sampling": False}, _SEED),
    "random": Strategy("RandomSampler", _MODULE, reserved=_SEED),
    "qmc": Strategy(
        "QMCSampler",
        _MODULE,
        {"warn_independent_sampling": False, "warn_asynchronous_seeding": False},
        _SEED,
    ),
    "nsga2": Strategy("NSGAIISampler", _MODULE, reserved=_SEED),
    "bruteforce": Strategy("BruteForceSampler", _MODULE, reserved=_SEED),
}

# One sequence that all workers share; the others draw anew for each trial.
_ONE_SEQUENCE = {"qmc"}


def build_sampler(spec: StudySpec, trial_seed: int | None = None) -> BaseSampler:
    """The spec's sampler.

    Args:
        spec: the study.
        trial_seed: seeds the draw of one trial, so that it depends on the study's seed, the
            trial's number and the trials seen, not on which worker draws. None: the study's seed.

    Raises:
        UsageError: unknown name or option, or an impossible value.
    """
    name = spec.sampler.name
    strategy = choose(SAMPLERS, "sampler", name)
    shared = trial_seed is None or name in _ONE_SEQUENCE
    seed = spec.training.seed if shared else trial_seed
    sampler: BaseSampler = strategy.build("sampler", spec.sampler.options, seed=seed)
    return sampler
