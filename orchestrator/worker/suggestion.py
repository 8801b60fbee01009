"""Suggestions: what is held against the database and the queue before Optuna draws a value."""

from __future__ import annotations

from optuna.distributions import BaseDistribution, CategoricalDistribution
from optuna.samplers import BaseSampler

from orchestrator.errors import FailedTrialError, UsageError
from orchestrator.search.samplers import hashes_choices, looks_at_choices
from orchestrator.search.space import check_type
from orchestrator.spec.choices import distinct, stored_form

_NAMES = "name the choices by strings, and look up what they stand for"


class ParameterError(FailedTrialError):
    """The objective's parameter cannot be searched, or not with what was enqueued for it."""


def check_enqueued(name: str, value: object, domain: BaseDistribution) -> None:
    """Refuse an enqueued value that is not of the kind that the objective suggests.

    Raises:
        ParameterError: it is not, and would not be in a retry.
    """
    try:
        check_type(name, value, domain)
    except UsageError as error:
        raise ParameterError(f"enqueued {error}") from None


def storable(
    name: str, domain: CategoricalDistribution, sampler: BaseSampler
) -> CategoricalDistribution:
    """A domain of choices in the form in which the study's other trials have it.

    As Optuna's own storage in a database has it: JSON. A sampler that looks at the choices of other
    trials finds a list where the objective has a tuple, so that it cannot compare them.

    Raises:
        ParameterError: a choice cannot be stored, or this sampler cannot search the choices.
    """
    try:
        stored = stored_form(domain)
    except TypeError as error:
        raise ParameterError(
            f"the choices of {name} cannot be stored: {error}; use None, booleans, numbers, "
            "strings, and lists or dicts of them"
        ) from None
    if hashes_choices(sampler) and any(isinstance(each, list | dict) for each in stored.choices):
        raise ParameterError(
            f"{_name(sampler)} cannot search lists or dicts, as {name} has; {_NAMES}"
        )
    if stored is not domain and stored != domain:
        _check_changed(name, domain, stored, sampler)
    return stored


def _check_changed(
    name: str,
    domain: CategoricalDistribution,
    stored: CategoricalDistribution,
    sampler: BaseSampler,
) -> None:
    pairs = zip(domain.choices, stored.choices, strict=True)
    own, returned = next(
        (own, each) for own, each in pairs if own != each and not isinstance(own, float)
    )
    if looks_at_choices(sampler):
        raise ParameterError(
            f"{_name(sampler)} cannot search the choices of {name}: the database gives {own!r} "
            f"back as {returned!r}; {_NAMES}, or take --sampler random"
        )
    if len(set(map(distinct, stored.choices))) < len(set(map(repr, domain.choices))):
        raise ParameterError(
            f"the database cannot tell the choices of {name} apart: it gives {own!r} back as "
            f"{returned!r}; {_NAMES}"
        )


def _name(sampler: BaseSampler) -> str:
    return f"Optuna's {type(sampler).__name__}"
