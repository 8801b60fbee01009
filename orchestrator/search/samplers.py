"""The samplers by name."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from orchestrator.errors import UsageError
from orchestrator.search.auto import AUTO, CHEAP, FIRST, MODEL
from orchestrator.search.plans import PLANS
from orchestrator.search.strategy import Strategy, choose
from orchestrator.spec.model import StudySpec

if TYPE_CHECKING:
    from optuna.samplers import BaseSampler

    from orchestrator.search.older_trials import OlderTrials

_MODULE = "optuna.samplers"
_SEED = frozenset({"seed"})

SAMPLERS = {
    # constant_liar: workers that ask at the same time do not all get the same answer.
    "tpe": Strategy("TPESampler", _MODULE, {"constant_liar": True}, _SEED),
    "mixed-gp": Strategy(
        "MixedGP", "orchestrator.search.mixed_gp", reserved=_SEED | {"prior", "warm_start", "cost"}
    ),
    "gp": Strategy("GPSampler", _MODULE, reserved=_SEED, package="torch", extra="gp"),
    "cmaes": Strategy(
        "CmaEsSampler",
        _MODULE,
        {"warn_independent_sampling": False},
        _SEED,
        package="cmaes",
        extra="cmaes",
    ),
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

# A plan's trials are queued with their values; a parameter that it does not name is drawn.
_PLANNED = Strategy("RandomSampler", _MODULE, reserved=_SEED)

# What auto begins with; no study can name it.
_DESIGN = Strategy("InitialDesign", "orchestrator.search.initial_design", reserved=_SEED)

# One sequence that all workers share; the others draw anew for each trial. mixed-gp begins with
# one, and later seeds each draw by the trial's number.
_ONE_SEQUENCE = {"qmc", FIRST, MODEL}

# These draw choices at random, whatever other trials had; the others compare them with theirs.
_BLIND_TO_CHOICES = {"RandomSampler", "CmaEsSampler"}


# These make use of ``sampler.cost``.
WEIGHING_COSTS = (AUTO, MODEL)

# These make use of a prior and of older trials after the first trials, too.
_INFORMED = {MODEL}


def build_sampler(
    spec: StudySpec,
    trial_seed: int | None = None,
    older: Sequence[OlderTrials] = (),
    chosen: str | None = None,
) -> BaseSampler:
    """The spec's sampler; a worker makes one for each trial.

    Args:
        spec: the study.
        trial_seed: seeds the draw of one trial, so that it depends on the study's seed, the
            trial's number and the trials seen, not on which worker draws. None: the study's seed.
        older: the trials of the studies with which it starts warm.
        chosen: the sampler's name where it is not the spec's; it has no options then.

    Raises:
        UsageError: unknown name or option, or an impossible value.
    """
    name, options = chosen or spec.sampler.name, spec.sampler.options
    if spec.sampler.name == AUTO and options:
        raise UsageError(
            f"auto has no options, but sampler.{min(options)} is set; name the sampler, or remove "
            "the key"
        )
    if name != spec.sampler.name:
        options = {}
    known = {AUTO: SAMPLERS[CHEAP], **SAMPLERS, **dict.fromkeys(PLANS, _PLANNED)}
    strategy = _DESIGN if chosen == FIRST else choose(known, "sampler", name)
    shared = trial_seed is None or name in _ONE_SEQUENCE
    filled: dict[str, Any] = {"seed": spec.training.seed if shared else trial_seed}
    if name in _INFORMED:
        filled |= {"prior": spec.priors, "warm_start": older, "cost": spec.sampler.cost}
    sampler: BaseSampler = strategy.build("sampler", {} if name in PLANS else options, **filled)
    return sampler


def looks_at_choices(sampler: BaseSampler) -> bool:
    """Whether a sampler compares a trial's choices with those stored of other trials."""
    return type(sampler).__name__ not in _BLIND_TO_CHOICES


def hashes_choices(sampler: BaseSampler) -> bool:
    """Whether a sampler looks choices up by their hash, which lists and dicts do not have."""
    return type(sampler).__name__ == "BruteForceSampler"
