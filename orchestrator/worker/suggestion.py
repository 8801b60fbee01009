"""Suggestions: a trial's parameters, checked against the database, the spec and the queue.

A function tells its own domains only as it runs: the spec's are held against what it suggests. In a
finite space, a trial draws a configuration that no other trial of its study has.
"""

from __future__ import annotations

import ast
import contextlib
import logging
import random
import re
import sys
import time
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from optuna.distributions import BaseDistribution, CategoricalDistribution
from optuna.samplers import BaseSampler
from optuna.trial import FrozenTrial

from orchestrator.base.optuna_internals import HookedTrial
from orchestrator.errors import FailedTrialError, UsageError, WrongUse, nearest_of_all
from orchestrator.search.plans import PLANS, is_planned
from orchestrator.search.samplers import hashes_choices, looks_at_choices
from orchestrator.search.space import (
    FiniteSpace,
    as_suggested,
    check_domain,
    check_type,
    fits,
    size,
)
from orchestrator.spec.choices import distinct, place_of, stored_form
from orchestrator.spec.domains import Domain
from orchestrator.storage.claims import Claims, Writes
from orchestrator.training.base import Objective
from orchestrator.worker.endings import LeaseLost, is_users
from orchestrator.worker.seeds import derive

if TYPE_CHECKING:
    from orchestrator.worker.study import WorkerStudy

_NAMES = "name the choices by strings, and look up what they stand for"
# Draws of the sampler, which may know better now; then of what is left, at random.
_SAMPLERS_DRAWS, _MOST_DRAWS = 3, 100
_AT_RANDOM = "random"


class ParameterError(FailedTrialError):
    """The objective's parameter cannot be searched, or not with what was enqueued for it."""


class SuggestingTrial(HookedTrial):
    """An :class:`optuna.Trial` that draws from the spec's domains where the spec has them.

    A draw that reads other trials waits for a database that is away; see ``WorkerStorage``.

    Args:
        study: the study with its sampler and space.
        trial: the claimed trial.

    Attributes:
        drawn_by: the name of the sampler, once it has drawn a parameter; None: all were queued, or
            drawn in an earlier attempt.
        draw_seconds: how long the sampler has thought about them.
        queued: the values that were enqueued.
        given: those that an earlier attempt has drawn, once the trial is drawn again.
    """

    study: WorkerStudy

    def __init__(self, study: WorkerStudy, trial: FrozenTrial) -> None:
        # Optuna's own part asks the sampler, which may fail: see _ask_sampler.
        self.study = study
        self.id, self.frozen = trial._trial_id, trial
        self._space, self._domains = study.space, study.domains
        self._conditions = study.conditions
        self._tried: Mapping[str, Any] = {}
        if self.number < len(study.first_tries):
            self._tried = study.first_tries[self.number]
        self._chosen: dict[str, Any] = {}  # the objective's own choices: a tuple, an enum
        self._ahead: set[str] = set()  # drawn because others depend on them; not asked for yet
        self.drawn_by: str | None = None
        self.draw_seconds = 0.0
        self.queued: dict[str, Any] = {}
        self.given: dict[str, Any] = {}

    def _ask_sampler(self) -> None:
        """Make Optuna's own part of the trial."""
        self.study.start_trial(self.number)
        super().__init__(self.study, self.id)
        self.queued = dict(self.fixed)

    def draw_again(
        self, given: Collection[str], place: int, sampler: str | None, values: Mapping[str, Any]
    ) -> None:
        """Forget what was drawn, and ask the sampler anew.

        Args:
            given: the parameters that an earlier attempt has drawn; they stay.
            place: which draw it is, from 1.
            sampler: the name of another sampler; None: the study's.
            values: in place of draws.
        """
        for name in self.frozen.distributions.keys() - given:
            del self.frozen.distributions[name], self.frozen.params[name]
        self.given = dict(self.frozen.params)
        self._chosen, self._ahead, self._tried = {}, set(), {}
        self.study.start_trial(self.number, place, sampler)
        super().__init__(self.study, self.id)
        self.fixed = {**values, **self.queued}
        self.drawn_by = self.study.chosen_sampler

    @property
    def params(self) -> dict[str, Any]:
        return super().params | self._chosen

    def suggest_space(self, objective: Objective) -> None:
        """Draw every active parameter of the objective's space, each after its parents."""
        if objective.space():
            for name, distribution in self._space.items():
                if objective.exists(name, self.params):
                    self.suggest(name, distribution)

    def check_names(self) -> None:
        """Look whether the objective knows every parameter of the spec.

        Raises:
            WrongUse: it does not.
        """
        asked = self.frozen.distributions.keys() - self._ahead
        params = self.params
        lacking = {name for name in self._conditions if not self._conditions.hold(name, params)}
        self._domains.check_names(asked, lacking)

    def lacks(self, name: str) -> bool:
        """Whether the condition of a parameter does not hold.

        A function may ask for a parameter before its parents, which are then drawn first.
        """
        if name not in self._conditions:
            return False
        for parent in self._conditions.parents(name):
            if self._domains.are_suggested and parent not in self.frozen.params:
                self.suggest(parent, self._space[parent])
                self._ahead.add(parent)
        return not self._conditions.hold(name, self.params)

    def latest(self) -> FrozenTrial:
        # Optuna copies the trial at each call, and reads its attributes from the storage.
        return self.frozen

    def suggest(self, name: str, distribution: BaseDistribution) -> Any:
        self._ahead.discard(name)
        if self.lacks(name):
            return None
        wanted = self._space.get(name, distribution)
        if wanted is not distribution:
            self._domains.check(name, distribution)
        if not isinstance(wanted, CategoricalDistribution):
            return as_suggested(self._draw(name, wanted), distribution)
        stored = storable(name, wanted, self.study.sampler)
        is_new = name not in self.frozen.distributions
        drawn = self._draw(name, stored)
        place = place_of(stored, drawn)
        # Optuna has stored the first choice that is equal: True for 1.
        if is_new and place != stored.to_internal_repr(drawn):
            self.storage.set_trial_param(self.id, name, place, stored)
        self._chosen[name] = wanted.choices[place]
        return as_suggested(self._chosen[name], distribution)

    def _draw(self, name: str, domain: BaseDistribution) -> Any:
        """The value of a parameter: enqueued, of an earlier attempt, or the sampler's.

        The first trials try what is expected to be good, whatever the sampler is.
        """
        if name in self.frozen.distributions:
            return super().suggest(name, domain)
        is_drawn = name not in self.fixed and not domain.single()
        if name in self._tried and name not in self.fixed and fits(self._tried[name], domain):
            self.fixed = {**self.fixed, name: self._tried[name]}
        if name in self.fixed:
            check_enqueued(name, self.fixed[name], domain)
        if is_drawn:
            self.drawn_by = self.study.chosen_sampler
        began = time.monotonic()
        try:
            return super().suggest(name, domain)
        finally:
            self.draw_seconds += time.monotonic() - began

    def check_domain(self, name: str, distribution: BaseDistribution) -> None:
        if name not in self._space:
            super().check_domain(name, distribution)


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
    name = type(sampler).__name__
    return f"Optuna's {name}" if type(sampler).__module__.startswith("optuna.") else name


_log = logging.getLogger("orch")

# Where a format string has its values.
_FIELD = re.compile(r"\{[^}]*\}|%[sdrif]")
_WORD = re.compile(r"\w+")


class SpecDomains:
    """The domains of ``[space]``; one object for all trials of a worker.

    Args:
        domains: the spec's.
        are_suggested: the objective is a function, so that its names show only as it suggests them.
    """

    def __init__(self, domains: Mapping[str, Domain], are_suggested: bool) -> None:
        self._domains = domains
        self.are_suggested = are_suggested
        self._waiting = set(domains) if are_suggested else set()
        self._said: set[str] = set()

    def check(self, name: str, own: BaseDistribution) -> None:
        """Check the spec's domain of a parameter, if it has one, at the function's suggestion.

        Raises:
            WrongUse: the function cannot take it.
        """
        if name in self._domains:
            try:
                check_domain(name, self._domains[name], own)
            except UsageError as error:
                raise WrongUse(str(error)) from None

    def check_names(self, suggested: Collection[str], lacking: Collection[str] = ()) -> None:
        """Look whether a trial has suggested every parameter of ``[space]``.

        A function may suggest some of its parameters in some of its trials alone, so a name counts
        as unknown where the user's code cannot make it; of others a warning is said, once.

        Args:
            suggested: what the trial has drawn when it reports its first value or ends.
            lacking: what it cannot have, because of a condition.

        Raises:
            WrongUse: there is no parameter of a name.
        """
        self._waiting -= set(suggested)
        new = sorted(self._waiting - self._said - set(lacking))
        if not new:
            return
        self._said.update(new)
        words = Words(_sources())
        reads_all = all(map(words.can_make, suggested))
        for name in new:
            known = nearest_of_all(name, suggested)
            if reads_all and not words.can_make(name):
                raise WrongUse(f"unknown parameter space.{name}; {known}")
            _log.warning("space.%s has not been suggested so far; %s", name, known)


class Words:
    """The texts in source code, and the names that it could make of them."""

    def __init__(self, sources: Iterable[str]) -> None:
        self._texts: set[str] = set()
        self._words: set[str] = set()  # of which the texts consist
        # Of texts that the code fills in, as f"units_{layer}".
        self._parts: set[str] = set()
        for source in sources:
            with contextlib.suppress(SyntaxError, ValueError):
                self._read(ast.parse(source))

    def can_make(self, name: str) -> bool:
        """Whether a name is in the code, or may be put together of what is."""
        return name in self._words or any(
            self._makes(name, text, text in self._parts) for text in self._texts | self._parts
        )

    def _makes(self, name: str, text: str, is_part: bool) -> bool:
        if not (name.startswith(text) or name.endswith(text)):
            return False
        rest = name.removeprefix(text) if name.startswith(text) else name.removesuffix(text)
        joined = len(rest) > 1 and rest.strip("_/.") in self._texts
        generated = joined or not any(map(str.isalpha, rest))
        return generated or (is_part and len(text) > 1)

    def _read(self, tree: ast.AST) -> None:
        prose = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
        for node in ast.walk(tree):
            if id(node) in prose:
                continue
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                self._texts.add(node.value)
                self._words |= {node.value, *_WORD.findall(node.value)}
                pieces = _FIELD.split(node.value)
                self._parts.update(pieces if len(pieces) > 1 else ())
            elif isinstance(node, ast.JoinedStr):
                self._parts.update(_strings(node.values))
            elif isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add | ast.Mod):
                self._parts.update(_strings([node.left, node.right]))
        self._texts.discard("")
        self._parts.discard("")


def _strings(nodes: Iterable[ast.AST]) -> Iterator[str]:
    for node in nodes:
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value


def _sources() -> Iterator[str]:
    """The source of the user's own modules, as far as they are imported here."""
    for module in list(sys.modules.values()):
        path = Path(getattr(module, "__file__", None) or "")
        if path.suffix == ".py" and is_users(path):
            with contextlib.suppress(OSError, UnicodeDecodeError):
                yield path.read_text(encoding="utf-8")


class Configurations:
    """Draws the trials of one study in a finite space.

    The server keeps each configuration for one trial, so no two workers draw the same at the same
    time. What was enqueued, and what an earlier attempt has drawn, is never refused.

    Args:
        study: the study.
        objective: its objective.
        claims: the worker's.
    """

    def __init__(self, study: WorkerStudy, objective: Objective, claims: Claims) -> None:
        self._study = study
        self._objective = objective
        self._claims = claims
        self._space = _finite_space(study, objective)
        if self._space is not None:
            self._tell(self._space)

    def draw(self, trial: SuggestingTrial) -> None:
        """Draw every parameter of the objective's space.

        Raises:
            LeaseLost: the trial is no longer this worker's.
        """
        if self._space is None:
            trial.suggest_space(self._objective)
            return
        given = frozenset(trial.frozen.distributions)  # by an earlier attempt
        for place in range(_MOST_DRAWS):
            if place:
                self._study.storage.sync()
                trial.draw_again(given, place, *self._another_way(self._space, trial, place))
            with self._study.storage.holding_params() as params:
                trial.suggest_space(self._objective)
            key = self._space.key(trial.params)
            if key is None:  # with an enqueued value of its own
                self._study.storage.send_params(params)
                return
            is_last = place == _MOST_DRAWS - 1 or trial.drawn_by is None
            held, is_new = self._claims.keep_configuration(
                trial.id, key, Writes(params=params), anyway=is_last
            )
            if not held:
                raise LeaseLost
            if is_new or is_last:
                return

    def _another_way(
        self, space: FiniteSpace, trial: SuggestingTrial, place: int
    ) -> tuple[str | None, dict[str, Any]]:
        """The sampler of a further draw, None for the study's own, and values in place of draws."""
        if place < _SAMPLERS_DRAWS or space.configurations is None:
            return (None if place < _SAMPLERS_DRAWS else _AT_RANDOM), {}
        tried = set(self._keys(space).values())
        left = [
            each
            for each in space.configurations
            if space.key(each) not in tried and _agrees(each, trial)
        ]
        if not left:
            return _AT_RANDOM, {}
        seed = derive(self._study.spec.training.seed, "configuration", trial.number, place)
        return _AT_RANDOM, random.Random(seed).choice(left)

    def _tell(self, space: FiniteSpace) -> None:
        # A study that promotes draws for trials that are queued; it ends with its budget.
        self._study.storage.sync()
        listed = space.configurations
        ends = listed is not None and not is_planned(self._study.spec)
        self._claims.list_configurations(len(listed or ()) if ends else None, self._keys(space))

    def _keys(self, space: FiniteSpace) -> dict[int, str]:
        """The configurations of the trials so far, by the trial's id."""
        trials: list[FrozenTrial] = self._study.storage.all_trials()
        keys = {each._trial_id: space.key(each.params) for each in trials}
        return {trial_id: key for trial_id, key in keys.items() if key is not None}


def _agrees(configuration: dict[str, Any], trial: SuggestingTrial) -> bool:
    """Whether a configuration has what was enqueued, and what an earlier attempt has drawn."""
    given = {**trial.queued, **trial.given}
    return all(configuration.get(name, value) == value for name, value in given.items())


def _finite_space(study: WorkerStudy, objective: Objective) -> FiniteSpace | None:
    """The space whose configurations are each tried once; None where they may be tried again."""
    section = study.spec.sampler
    # These see to it themselves.
    if section.duplicates or section.name in (*PLANS, "bruteforce"):
        return None
    if not objective.space() or size(study.space) is None:
        return None
    return FiniteSpace(study.space, objective.exists)
